"""Where an example of the report is: its id and place, and the link to it on the review page."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from astrolabel.core.celestial import to_icrs
from astrolabel.report.examples import Stamp
from astrolabel.report.labels import Labels

REVIEW = Path("review") / "index.html"
"""The review page beside a label file, as `astrolabel review` writes it."""


def review_of(labels: Path, report: Path) -> str | None:
    """Address of the review page from a report; None where there is no such page."""
    page = labels.parent / REVIEW
    if not page.is_file():
        return None
    return quote(Path(os.path.relpath(page, report.parent)).as_posix())


def place_of(labels: Labels, stamp: Stamp) -> str:
    """Id, pixel (from 0, of the image) and position of an example."""
    x, y = _centre(stamp)
    words = [] if stamp.row is None else [f"id {labels.ids[stamp.row]}"]
    words.append(f"x {x:.1f} y {y:.1f}")
    wcs = labels.wcs(stamp.image)
    if wcs is not None:
        ra, dec = to_icrs(wcs, x, y)
        words.append(f"{float(ra):.5f} {float(dec):+.5f}")
    return " · ".join(words)


def link_to(labels: Labels, stamp: Stamp, review: str) -> str:
    """Address of the example on the review page: by id, else by the place in the image."""
    x, y = _centre(stamp)
    image = labels.images[stamp.image]["file_name"]
    asked: dict[str, object] = {} if stamp.row is None else {"id": labels.ids[stamp.row]}
    return f"{review}#{urlencode({**asked, 'image': image, 'x': f'{x:.1f}', 'y': f'{y:.1f}'})}"


@dataclass(frozen=True)
class Link:
    """A cell of a table that leads to a place on the review page."""

    text: str
    href: str

    def __str__(self) -> str:
        return self.text


def flag_link(name: str, review: str | None) -> Link | str:
    """A flag, which opens the labels that have it; the name where there is no review page."""
    return name if review is None else Link(name, f"{review}#{urlencode({'flag': name})}")


def tile_link(name: str, review: str | None) -> Link | str:
    """A tile, which opens the whole of it; the name where there is no review page."""
    return name if review is None else Link(name, f"{review}#{urlencode({'image': name})}")


def _centre(stamp: Stamp) -> tuple[float, float]:
    """(x, y) of the middle of its box, pixel centres at whole numbers."""
    box = stamp.box
    return box.x0 + (box.width - 1) / 2, box.y0 + (box.height - 1) / 2
