"""One review: a label file, the log of corrections beside it, and the labels as they are now."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from astrolabel.core.errors import InputError, OutputError
from astrolabel.io import coco
from astrolabel.io.any_coco import viewable
from astrolabel.io.frames import frames_of
from astrolabel.io.layers import open_fits
from astrolabel.io.polygons import mask_of
from astrolabel.io.trace import trace
from astrolabel.review import refit
from astrolabel.review.corrections import Applied, apply, check, read_corrections
from astrolabel.review.layers import places_of
from astrolabel.review.page import page_data, page_text
from astrolabel.review.pictures import upright
from astrolabel.review.source_view import pictures_of, view_source

CHANGES = "what corrections changed"
"""Stands in the page for them."""


def log_of(path: Path) -> Path:
    """The log of corrections beside a label file."""
    return path.with_name(f"{path.stem}.corrections.jsonl")


class Session:
    """Corrections are applied and appended to the log one after the other.

    Parameters
    ----------
    path : the label file, which stays as it is.
    images, predictions, truth : see `review.page.write_review`.
    folder : gets the page's pictures.

    Raises
    ------
    InputError
        When a file cannot be read, or the log holds what is no correction.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        images: Path | None = None,
        predictions: Path | None = None,
        truth: Path | None = None,
    ) -> None:
        self.path, self.folder = path, folder
        self._others = predictions, truth
        self._start = viewable(coco.read(path), path, images)
        self._lock = Lock()
        self._page: tuple[bytes, bytes] | None = None
        self._now = self._replayed().document

    @property
    def log(self) -> Path:
        return log_of(self.path)

    def _entries(self) -> list[dict[str, Any]]:
        return read_corrections(self.log) if self.log.exists() else []

    def _replayed(self) -> Applied:
        return apply(self._start, self._entries(), self.path.parent)

    def page(self) -> bytes:
        """The page of the labels as they are now.

        It is made once, of the labels as they are in the file; what corrections changed is put
        into it, so that a reload is quick.
        """
        with self._lock:
            if self._page is None:
                data = page_data(self._start, self.path, *self._others, self.folder)
                text = page_text(data | {"serve": CHANGES}).encode("utf-8")
                before, _, after = text.partition(json.dumps(CHANGES).encode("ascii"))
                self._page = before, after
            changes = json.dumps({"log": self.log.name, **self._changes()}).replace("</", "<\\/")
            return changes.encode("utf-8").join(self._page)

    def _changes(self) -> dict[str, Any]:
        """Ids of the file's labels that are no more as they were, and the labels that are new or
        in their place."""
        now = {item["id"]: item for item in self._now["annotations"]}
        kept = {a["id"] for a in self._start["annotations"] if now.get(a["id"]) == a}
        return {
            "gone": [a["id"] for a in self._start["annotations"] if a["id"] not in kept],
            "made": [self._shown(item) for key, item in now.items() if key not in kept],
        }

    def correct(self, entry: Any) -> dict[str, Any]:
        """Apply and log a correction; a split or a merge is fitted first.

        Returns
        -------
        dict
            ``made``: the labels of a split, a merge or an addition, for the page.

        Raises
        ------
        InputError
            When it is no correction, its label is not there, or the fit finds no source.
        OutputError
            When the log cannot be written.
        """
        check(entry, "the correction")
        with self._lock:
            note = ""
            if entry["action"] in ("split", "merge"):
                entry, note = self._fitted(entry)
            before = {item["id"] for item in self._now["annotations"]}
            applied = apply(self._now, [entry], self.path.parent)
            if applied.lost:
                raise InputError(applied.lost[0].partition(": ")[2])
            self._append(entry)
            self._now = applied.document
            answer: dict[str, Any] = {"note": note}
            if entry["action"] in ("split", "merge", "add"):
                changed = [
                    item
                    for item in self._now["annotations"]
                    if item["id"] not in before or item["id"] == entry.get("id")
                ]
                answer["made"] = [self._shown(item) for item in changed]
            return answer

    def undo(self, who: str) -> dict[str, Any]:
        """Take back the last correction; the log keeps both.

        Raises
        ------
        InputError
            When there is none.
        """
        with self._lock:
            if not self._entries():
                raise InputError("there is no correction to undo")
            self._append({"action": "undo", "who": who})
            self._now = self._replayed().document
            return {}

    def pixel(self, name: str, x: float, y: float) -> dict[str, float]:
        """Counts by band of the pixel of an image at a place (edges at whole numbers)."""
        image = next((i for i in self._now["images"] if i["file_name"] == name), None)
        astro = (image or {}).get("astro") or {}
        if image is None or not astro.get("cube"):
            return {}
        row, column = int(y), int(x)
        if not (0 <= row < image["height"] and 0 <= column < image["width"]):
            return {}
        with open_fits(self.path.parent / astro["cube"]) as hdus:
            values = np.asarray(hdus[0].section[:, row, column], float)
        return {
            band: float(f"{v:.4g}")
            for band, v in zip(astro["bands"], values, strict=True)
            if np.isfinite(v)
        }

    def source(self, ident: int) -> dict[str, Any]:
        """A label's own model and what the fit leaves, for the page.

        Returns
        -------
        dict
            ``pictures`` by name, ``data:`` addresses; ``attributes`` and ``state`` of the fit.

        Raises
        ------
        InputError
            When there is no such label, no float cube, or the fit finds no source.
        """
        now = self._now  # replaced, never changed, by a correction
        item = next((a for a in now["annotations"] if a["id"] == ident), None)
        if item is None:
            raise InputError(f"no label {ident}")
        image = next(i for i in now["images"] if i["id"] == item["image_id"])
        view = view_source(now, image, item, now["annotations"], self.path.parent)
        return {
            "pictures": pictures_of(view, image),
            "attributes": coco.plain(dict(view.attributes)),
            "state": view.state,
        }

    def _fitted(self, entry: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """The correction with what the deblender makes of it; and a note where it cannot."""
        from astrolabel.review.places import Places

        places = Places(self._now)
        spots = [places.find(p) for p in (entry, *(entry.get("with") or []))]
        labels = [None if s is None else places.label_at(s) for s in spots]
        found = [one for one in labels if one is not None]
        if len(found) < len(spots) or spots[0] is None:
            raise InputError("no label there")
        first, *rest = found
        image = spots[0].image
        try:
            near = refit.Neighbourhood.read(
                self._now, image, first, self._now["annotations"], self.path.parent, rest
            )
            if entry["action"] == "split":
                made = refit.split(near, first, tuple(entry["peak"]))
            else:
                made = [refit.merge(near, first, rest)]
        except InputError as error:
            if entry["action"] == "split":
                raise
            # Masks can be joined without pixels.
            return {**entry, "made": []}, f"joined without a fit: {error}"
        names = {c["id"]: str(c["name"]) for c in self._now["categories"]}
        kept = [
            {
                "segmentation": item["segmentation"],
                "class": names[item["category_id"]],
                "attributes": item["attributes"],
            }
            for item in made
        ]
        return {**entry, "made": kept}, ""

    def _append(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps({**coco.plain(entry), "saved": datetime.now(UTC).isoformat()})
        try:
            with self.log.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise OutputError(
                f"cannot be written ({error.strerror or error})", file=self.log
            ) from error

    def _shown(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """A label as the page draws it."""
        frames = frames_of(self._now["images"])
        at, image, dy, dx, shape = places_of(self._now, frames)[item["image_id"]]
        frame = list(frames.values())[at]
        pixels, box = mask_of(item["segmentation"], shape)
        box = box.shifted(dy, dx)
        corners, starts = trace(pixels)
        y0 = box.y0
        if upright(frame):
            corners[:, 1] = box.height - corners[:, 1]
            y0 = frame.shape[0] - box.y1
        order = [c["id"] for c in self._now["categories"]]
        return {
            "id": item["id"],
            "cat": order.index(item["category_id"]),
            "ignore": item.get("iscrowd", 0),
            "frame": at,
            "image": image,
            "area": item["area"],
            "box": [box.x0, y0, box.x1, y0 + box.height],
            "rings": [corners[a:b].ravel().tolist() for a, b in pairwise(starts)],
            "attr": coco.plain(item["attributes"]),
        }
