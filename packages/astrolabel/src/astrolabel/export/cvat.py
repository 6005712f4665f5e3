"""A zip that CVAT ("COCO 1.0") and Datumaro ("coco_instances") import: labels with images.

Both look for ``annotations/instances_<subset>.json`` and for the pictures under
``images/``, by the file name in the document.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from astrolabel.core.errors import InputError
from astrolabel.core.files import atomic_path, below
from astrolabel.io.coco import to_json
from astrolabel.io.pictures import check_picture

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""A zip's earliest date: with the files' own, equal datasets would give other bytes."""


def write_cvat(path: str | Path, doc: Mapping[str, Any], folder: str | Path) -> None:
    """Write labels and pictures as one zip, atomically.

    Parameters
    ----------
    folder : where the document's images lie.

    Raises
    ------
    InputError
        When an image is missing, or two have one name once their folders are gone.
    OutputError
        When the zip cannot be written.
    """
    seen: dict[str, str] = {}
    for image in doc["images"]:
        name = Path(image["file_name"]).name
        source = below(folder, image["file_name"], file=folder)  # a zip holds no other files
        if name in seen:
            raise InputError(
                f"{image['file_name']} and {seen[name]} have one name in a flat folder",
                remedy="rename one of them",
            )
        check_picture(source, remedy="keep the images beside the file")
        seen[name] = image["file_name"]
    images = [{**image, "file_name": Path(image["file_name"]).name} for image in doc["images"]]
    flat = {**doc, "images": images}
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        text = zipfile.ZipInfo("annotations/instances_default.json", _EPOCH)
        archive.writestr(text, to_json(flat), zipfile.ZIP_DEFLATED)
        for name, file_name in seen.items():
            # PNGs do not get smaller.
            picture = zipfile.ZipInfo(f"images/{name}", _EPOCH)
            archive.writestr(picture, (Path(folder) / file_name).read_bytes())
