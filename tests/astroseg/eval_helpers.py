"""Synthetic truth and predictions for the tests and benchmarks of the metrics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as rle

Entry = dict[str, Any]

CLASSES = ("galaxy", "star")


@dataclass(frozen=True)
class Ellipse:
    """A source's mask: centre, semi-axes in pixels, angle in radians."""

    x: float
    y: float
    a: float
    b: float
    angle: float = 0.0

    def moved(self, rng: np.random.Generator, spread: float) -> Ellipse:
        """As a detection has it: shifted and resized by a fraction of its size."""
        dx, dy, da, db = rng.normal(0, spread, 4)
        return Ellipse(
            self.x + dx * self.a,
            self.y + dy * self.b,
            max(self.a * (1 + da), 1),
            max(self.b * (1 + db), 1),
            self.angle,
        )


def ellipse_mask(shape: tuple[int, int], e: Ellipse) -> NDArray[np.uint8]:
    """(H, W) uint8 Fortran-ordered mask of the pixels whose centre is inside."""
    mask = np.zeros(shape, np.uint8, order="F")
    r = int(np.ceil(e.a)) + 1
    y0, y1 = max(int(e.y) - r, 0), min(int(e.y) + r + 2, shape[0])
    x0, x1 = max(int(e.x) - r, 0), min(int(e.x) + r + 2, shape[1])
    y, x = np.mgrid[y0:y1, x0:x1]
    c, s = np.cos(e.angle), np.sin(e.angle)
    u = ((x - e.x) * c + (y - e.y) * s) / e.a
    v = (-(x - e.x) * s + (y - e.y) * c) / e.b
    mask[y0:y1, x0:x1] = u**2 + v**2 <= 1
    return mask


def ellipse_rle(shape: tuple[int, int], e: Ellipse) -> Entry:
    """Compressed RLE with text counts, as files hold it."""
    code = rle.encode(ellipse_mask(shape, e))
    return {"size": list(shape), "counts": code["counts"].decode("ascii")}


def box_of(code: Entry) -> list[float]:
    """Tight XYWH box of an RLE."""
    return [float(v) for v in rle.toBbox(code)]


@dataclass(frozen=True)
class Scene:
    """A truth document and COCO results for it."""

    truth: Entry
    predictions: list[Entry]

    def save(self, folder: Path) -> tuple[Path, Path]:
        truth, predictions = folder / "truth.json", folder / "predictions.json"
        truth.write_text(json.dumps(self.truth))
        predictions.write_text(json.dumps(self.predictions))
        return truth, predictions


def scene(
    *,
    seed: int = 0,
    images: int = 3,
    shape: tuple[int, int] = (128, 128),
    truths: int = 30,
    missed: float = 0.1,
    false: float = 0.1,
    duplicates: float = 0.1,
    confused: float = 0.1,
    spread: float = 0.12,
    crowds: int = 0,
    scale: float = 1.0,
    image_ids: Sequence[int] | None = None,
    category_ids: Sequence[int] = (1, 2),
) -> Scene:
    """Elliptical sources, found with the given fractions of errors.

    Every image has `truths` sources; a fraction `missed` of them has no detection,
    `duplicates` a second one of lower score, `confused` the wrong class; detections of
    nothing are added as a fraction `false`.
    """
    rng = np.random.default_rng(seed)
    ids = list(image_ids or range(1, images + 1))
    annotations: list[Entry] = []
    predictions: list[Entry] = []
    for image_id in ids:
        sources = [_source(rng, shape, scale) for _ in range(truths)]
        for source, magnitude in sources:
            kind = int(rng.random() < 0.3)
            annotations.append(_annotation(source, magnitude, kind, shape, image_id, rng))
            annotations[-1]["id"] = len(annotations)
            annotations[-1]["category_id"] = category_ids[kind]
            if rng.random() >= missed:
                given = 1 - kind if rng.random() < confused else kind
                n = 2 if rng.random() < duplicates else 1
                for _ in range(n):
                    found = source.moved(rng, spread)
                    predictions.append(_result(found, shape, image_id, category_ids[given], rng))
        for _ in range(round(false * truths)):
            source, _ = _source(rng, shape, scale)
            kind = int(rng.random() < 0.3)
            predictions.append(_result(source, shape, image_id, category_ids[kind], rng))
        for source, magnitude in (_source(rng, shape, scale) for _ in range(crowds)):
            big = Ellipse(source.x, source.y, 15, 12)
            annotations.append(_annotation(big, magnitude, 0, shape, image_id, rng))
            annotations[-1] |= {
                "id": len(annotations), "category_id": category_ids[0], "iscrowd": 1
            }  # fmt: skip
    truth = {
        "info": {"description": "synthetic"},
        "images": [
            {"id": i, "file_name": f"tile_{i}.png", "height": shape[0], "width": shape[1]}
            for i in ids
        ],
        "categories": [
            {"id": k, "name": name} for k, name in zip(category_ids, CLASSES, strict=True)
        ],
        "annotations": annotations,
    }
    return Scene(truth, predictions)


def _source(
    rng: np.random.Generator, shape: tuple[int, int], scale: float
) -> tuple[Ellipse, float]:
    magnitude = 25.5 - rng.exponential(1.5)
    a = scale * (2.5 + 1.2 * (25.5 - magnitude) + rng.random())
    h, w = shape
    return (
        Ellipse(
            x=rng.uniform(3, w - 4),
            y=rng.uniform(3, h - 4),
            a=a,
            b=a * rng.uniform(0.6, 1),
            angle=rng.uniform(0, np.pi),
        ),
        magnitude,
    )


def _annotation(
    source: Ellipse,
    magnitude: float,
    kind: int,
    shape: tuple[int, int],
    image_id: int,
    rng: np.random.Generator,
) -> Entry:
    code = ellipse_rle(shape, source)
    return {
        "image_id": image_id,
        "segmentation": code,
        "bbox": box_of(code),
        "area": int(rle.area(code)),
        "iscrowd": 0,
        "attributes": {
            "mag_i": magnitude,
            "mag_g": magnitude + 0.5 + 0.2 * kind,
            "snr": float(5 * 10 ** (0.4 * (25.5 - magnitude))),
            "n_blended": int(rng.geometric(0.6)),
        },
    }


def _result(
    source: Ellipse,
    shape: tuple[int, int],
    image_id: int,
    category_id: int,
    rng: np.random.Generator,
) -> Entry:
    code = ellipse_rle(shape, source)
    return {
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": code,
        "bbox": box_of(code),
        "score": float(rng.random()),
    }


def draw_images(truth: Entry, folder: Path, seed: int = 0) -> None:
    """8-bit RGB pictures of a scene's sources, bluish and reddish, on noise."""
    rng = np.random.default_rng(seed)
    for image in truth["images"]:
        h, w = image["height"], image["width"]
        rgb = rng.normal(0, 1, (h, w, 3))
        y, x = np.mgrid[:h, :w]
        for item in truth["annotations"]:
            if item["image_id"] == image["id"] and not item["iscrowd"]:
                x0, y0, a, b = item["bbox"]
                flux = 10 ** (0.3 * (27 - item["attributes"]["mag_i"]))
                colour = rng.uniform(0.5, 1.2, 3)
                u, v = (x - x0 - a / 2 + 0.5) / a, (y - y0 - b / 2 + 0.5) / b
                rgb += flux * np.exp(-7 * (u**2 + v**2))[..., None] * colour
        scaled = np.arcsinh(rgb / 2) / np.arcsinh(60 / 2)
        pixels = (255 * np.clip(0.1 + scaled, 0, 1)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / image["file_name"])
