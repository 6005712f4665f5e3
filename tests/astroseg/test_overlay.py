"""Overlays show what a reader would call detections."""

from pathlib import Path

import numpy as np
from PIL import Image

from astroseg.overlay import COLOURS, write_overlay
from astroseg.rle import encode_at
from astroseg.samples import Prediction


def square(y: int, x: int) -> dict[str, object]:
    return dict(encode_at(np.ones((8, 8), bool), (y, x), (64, 64)))


def drawn(path: Path, **options: float) -> set[tuple[int, ...]]:
    prediction = Prediction(
        boxes=np.array([[8, 8, 16, 16], [40, 40, 48, 48]], np.float32),
        scores=np.array([0.9, 0.1], np.float32),
        labels=np.array([0, 1]),
        masks=(square(8, 8), square(40, 40)),
    )
    flux = np.random.default_rng(0).normal(0, 1, (3, 64, 64)).astype(np.float32)
    write_overlay(path, flux, prediction, pictures=False, **options)
    with Image.open(path) as image:
        return {tuple(int(v) for v in pixel) for pixel in np.asarray(image).reshape(-1, 3)}


def test_detections_below_the_score_are_not_drawn(tmp_path: Path) -> None:
    first, second = (tuple(int(v) for v in c) for c in COLOURS[:2])
    by_default = drawn(tmp_path / "a.png")
    assert first in by_default
    assert second not in by_default
    assert {first, second} <= drawn(tmp_path / "b.png", score=0.05)
