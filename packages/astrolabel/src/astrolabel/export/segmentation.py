"""Segmentation maps as FITS, as SExtractor and photutils write them, with the overlaps."""

from __future__ import annotations

from pathlib import Path

from astropy.io import fits

from astrolabel.core.files import atomic_path
from astrolabel.io.coco import Document
from astrolabel.io.frames import frames_of, place_in_frames
from astrolabel.io.segmentation import segmentation_map


def write_segmentation(folder: Path, doc: Document) -> list[Path]:
    """One file a coadd: int32 ids in the primary HDU, the next label in ``OVERLAP``.

    The values are the annotations' ids, 0 for the sky. In a pixel of several masks the map
    holds the label with the smallest, the overlap plane the next (see
    `astrolabel.io.segmentation`). Tiles of one coadd are laid side by side.

    Raises
    ------
    OutputError
        When the folder cannot be written.
    """
    frames = frames_of(doc["images"])
    placed = place_in_frames(frames, doc["annotations"])
    written = []
    for name, frame in frames.items():
        header = fits.Header() if frame.wcs is None else frame.wcs.to_header(relax=True)
        header["BUNIT"] = ("", "id of the annotation; 0: none")
        planes = segmentation_map(placed[name], frame.shape)
        hdus = fits.HDUList(
            [fits.PrimaryHDU(planes[0], header), fits.ImageHDU(planes[1], header, "OVERLAP")]
        )
        path = folder / f"{Path(name).name.rpartition('.png')[0] or Path(name).name}.fits"
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            hdus.writeto(stream)
        written.append(path)
    return written
