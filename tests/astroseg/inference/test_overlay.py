"""Overlays show what a reader would call detections, and the sky the way DS9 does."""

import io
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from astroseg.core.rle import encode_at
from astroseg.core.samples import Prediction
from astroseg.data.dataset import ImageRecord
from astroseg.evaluation import pictures, plots
from astroseg.evaluation.metrics import objects
from astroseg.inference.overlay import COLOURS, write_overlay

WCS = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}
SIDE = 64


def square(y: int, x: int) -> dict[str, object]:
    return dict(encode_at(np.ones((8, 8), bool), (y, x), (SIDE, SIDE)))


def found() -> Prediction:
    return Prediction(
        boxes=np.array([[8, 8, 16, 16], [40, 40, 48, 48]], np.float32),
        scores=np.array([0.9, 0.1], np.float32),
        labels=np.array([0, 1]),
        masks=(square(8, 8), square(40, 40)),
    )


def drawn(path: Path, **options: float) -> set[tuple[int, ...]]:
    flux = np.random.default_rng(0).normal(0, 1, (3, SIDE, SIDE)).astype(np.float32)
    write_overlay(path, flux, found(), pictures=False, upwards=True, **options)
    with Image.open(path) as image:
        return {tuple(int(v) for v in pixel) for pixel in np.asarray(image).reshape(-1, 3)}


def test_detections_below_the_score_are_not_drawn(tmp_path: Path) -> None:
    first, second = (tuple(int(v) for v in c) for c in COLOURS[:2])
    by_default = drawn(tmp_path / "a.png")
    assert first in by_default
    assert second not in by_default
    assert {first, second} <= drawn(tmp_path / "b.png", score=0.05)


@pytest.mark.parametrize(
    ("name", "wcs", "upwards"),
    [("a.fits", None, True), ("a.png", WCS, True), ("a.npy", None, True), ("a.png", None, False)],
)
def test_the_first_row_is_at_the_bottom_but_of_bare_pictures(
    tmp_path: Path, name: str, wcs: dict[str, str] | None, upwards: bool
) -> None:
    flux = np.zeros((3, SIDE, SIDE), np.float32)
    flux[:, 30, 7] = 100_000
    record = ImageRecord(1, name, (tmp_path / name,), SIDE, SIDE, wcs=wcs)
    for of_eight_bits in (True, False):
        path = tmp_path / f"{of_eight_bits}.png"
        write_overlay(path, flux, found(), pictures=of_eight_bits, upwards=record.upwards)
        with Image.open(path) as opened:
            image = np.asarray(opened)
        scale = image.shape[0] // SIDE
        white = np.argwhere((image == image[..., :1]).all(axis=-1) & (image[..., 0] > 200))
        outline = np.argwhere((image == COLOURS[0]).all(axis=-1))
        row, top = (SIDE - 1 - 30, SIDE - 8 - 8) if upwards else (30, 8)
        assert (white // scale == (row, 7)).all()
        assert len(white) == scale**2
        assert (outline.min(axis=0) // scale).tolist() == [top, 8]


@pytest.mark.parametrize(
    ("name", "astro", "upwards"),
    [
        ("a.png", {"wcs": WCS}, True),
        ("a.png", {"cube": "a.fits"}, True),
        ("a.png", {"files": ["g.fits", "r.fits"]}, True),
        ("a.fits", {}, True),
        ("a.png", {}, False),
    ],
)
def test_the_pages_pictures_are_the_same_way_up(
    name: str, astro: dict[str, object], upwards: bool
) -> None:
    image = objects.Image(1, name, SIDE, SIDE, astro)
    rgb = np.zeros((SIDE, SIDE, 3), np.uint8)
    rgb[8:12, 16:20] = 255
    made = plots.figure(3, 3, fitted=False)
    axes = made.add_axes((0, 0, 1, 1))
    pictures.show(axes, image, rgb, pictures.whole(image))
    with Image.open(io.BytesIO(b64decode(plots.encode(made).split(",")[1]))) as opened:
        white = np.argwhere(np.asarray(opened.convert("L")) > 128).mean(axis=0) / opened.size
    assert white == pytest.approx([1 - 10 / SIDE if upwards else 10 / SIDE, 18 / SIDE], abs=0.02)
