"""A Croissant description of a dataset: what search engines and ML tools read of it.

JSON-LD in the vocabulary of MLCommons Croissant 1.0 (http://mlcommons.org/croissant/1.0):
the files with their hashes, and where images and annotations lie in the COCO document.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from astrolabel.core.errors import InputError
from astrolabel.core.files import file_hash
from astrolabel.io.coco import write_json

_TERMS = (
    "citeAs",
    "column",
    "equivalentProperty",
    "extract",
    "field",
    "fileProperty",
    "fileObject",
    "fileSet",
    "format",
    "includes",
    "isLiveDataset",
    "jsonPath",
    "key",
    "md5",
    "parentField",
    "path",
    "recordSet",
    "references",
    "regex",
    "repeated",
    "replace",
    "samplingRate",
    "separator",
    "source",
    "subField",
    "transform",
)
"""Croissant's own words; all others are schema.org's."""


def _context() -> dict[str, Any]:
    """The specification's JSON-LD context."""
    special: dict[str, Any] = {
        "conformsTo": "dct:conformsTo",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "examples": {"@id": "cr:examples", "@type": "@json"},
    }
    return {
        "@language": "en",
        "@vocab": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "dct": "http://purl.org/dc/terms/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "sc": "https://schema.org/",
        **{term: f"cr:{term}" for term in _TERMS},
        **special,
    }


def describe(coco_file: str | Path, doc: Mapping[str, Any]) -> dict[str, Any]:
    """The Croissant description of a COCO file and the images beside it.

    Parameters
    ----------
    coco_file : the document's file; its folder is the dataset.
    doc : what is in it.

    Raises
    ------
    InputError
        When the file cannot be read or is not JSON.
    """
    path = Path(coco_file)
    if path.suffix == ".parquet":
        raise InputError(
            "Croissant describes the COCO file, not its Parquet table",
            file=path,
            remedy="give coco.json; `astrolabel export --to coco` makes it again",
        )
    digest = file_hash(path)
    info = doc.get("info") or {}
    classes = ", ".join(c["name"] for c in doc["categories"])
    bands: list[str] = next((i["astro"]["bands"] for i in doc["images"] if i.get("astro")), [])
    text = (
        f"{info.get('description', 'Instance labels')}: {len(doc['annotations'])} masks "
        f"({classes}) in {len(doc['images'])} images"
        + (f" of the bands {', '.join(bands)}" if bands else "")
    )
    distribution = [
        {
            "@type": "cr:FileObject",
            "@id": "coco",
            "name": path.name,
            "description": "COCO detection labels",
            "contentUrl": path.name,
            "encodingFormat": "application/json",
            "sha256": digest,
        },
        _file_set("picture-files", "8-bit RGB pictures", "image/png", _folder_of(doc, "file_name")),
    ]
    cubes = _folder_of({"images": [i["astro"] for i in doc["images"] if i.get("astro")]}, "cube")
    if cubes:
        distribution.append(
            _file_set("cube-files", "float32 pixels, one plane per band", "application/fits", cubes)
        )
    out = {
        "@context": _context(),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        # Not the folder's name: the same labels are the same bytes wherever they are made.
        "name": f"labels-{digest[:8]}",
        "description": text,
        "distribution": distribution,
        "recordSet": [_annotations(), _categories(doc), _pictures()],
    }
    licences = [item["url"] for item in doc.get("licenses") or () if item.get("url")]
    if licences:
        out["license"] = licences[0] if len(licences) == 1 else licences
    if info.get("version"):
        out["version"] = str(info["version"])
    return out


def write_croissant(coco_file: str | Path, doc: Mapping[str, Any]) -> Path:
    """Write ``croissant.json`` beside `coco_file` (see `describe`), atomically; its path.

    Raises
    ------
    InputError, OutputError
        When one cannot be read or the other written.
    """
    path = Path(coco_file).with_name("croissant.json")
    write_json(path, describe(coco_file, doc))
    return path


def _folder_of(doc: Mapping[str, Any], key: str) -> list[str]:
    """Patterns of the files that the images name, one per folder and kind."""
    files = [Path(image[key]) for image in doc["images"] if image.get(key)]
    return sorted({(f.parent / f"*{f.suffix}").as_posix() for f in files})


def _file_set(name: str, what: str, kind: str, patterns: list[str]) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "description": what,
        "encodingFormat": kind,
        "includes": patterns[0] if len(patterns) == 1 else patterns,
    }


def _record_set(name: str, fields: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "field": [
            {"@type": "cr:Field", "@id": f"{name}/{key}", "name": key, **field}
            for key, field in fields.items()
        ],
    }


def _annotations() -> dict[str, Any]:
    """One record per annotation, read from the COCO document."""
    kinds = {"id": "Integer", "image_id": "Integer", "category_id": "Integer", "area": "Float"}

    def field(key: str, kind: str) -> dict[str, Any]:
        source = {"fileObject": {"@id": "coco"}, "extract": {"jsonPath": f"$.annotations[*].{key}"}}
        return {"dataType": f"sc:{kind}", "source": source}

    return _record_set("annotations", {key: field(key, kind) for key, kind in kinds.items()})


def _categories(doc: Mapping[str, Any]) -> dict[str, Any]:
    """The classes, written out: readers take one list of a JSON file and no more."""
    records = _record_set(
        "categories", {"id": {"dataType": "sc:Integer"}, "name": {"dataType": "sc:Text"}}
    )
    records["data"] = [
        {"categories/id": c["id"], "categories/name": c["name"]} for c in doc["categories"]
    ]
    return records


def _pictures() -> dict[str, Any]:
    """One record per picture: the path that ``images[].file_name`` ends in, and its pixels."""

    def field(kind: str, what: str) -> dict[str, Any]:
        source = {"fileSet": {"@id": "picture-files"}, "extract": {"fileProperty": what}}
        return {"dataType": f"sc:{kind}", "source": source}

    return _record_set(
        "pictures", {"file": field("Text", "filename"), "picture": field("ImageObject", "content")}
    )
