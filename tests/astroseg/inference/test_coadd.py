"""Whole coadds in tiles: isolated sources on seams are found once each, after any interruption."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from astroseg.core.config import DataConfig, PredictConfig
from astroseg.core.errors import InputError
from astroseg.core.rle import decode_tight, encode_at
from astroseg.core.samples import Prediction
from astroseg.data.dataset import ImageRecord
from astroseg.data.look import look_at, read_record
from astroseg.inference import coadd
from astroseg.inference.coadd import Frame, norm_sample, predict_image, tiles_of

SIDE, TILE, OVERLAP = 1600, 256, 64
CONFIG = PredictConfig(tile_size=TILE, overlap=OVERLAP)


class Thresholds:
    """Finds what is brighter than a threshold that differs from tile to tile.

    So two tiles outline a source by up to a pixel otherwise, as networks do.
    """

    def __init__(self, stop_after: int = -1) -> None:
        self.rng, self.calls, self.left = np.random.default_rng(0), 0, stop_after

    def predict(self, model: Any, batch: Any) -> list[Prediction]:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.calls += len(batch)
        return [self._one(image[0]) for image in batch]

    def _one(self, image: NDArray[np.float32]) -> Prediction:
        regions, _ = ndimage.label(image > self.rng.uniform(0.5, 2))
        boxes, masks = [], []
        for number, where in enumerate(ndimage.find_objects(regions), 1):
            y, x = (part.start for part in where)
            bitmap = regions[where] == number
            boxes.append([x, y, x + bitmap.shape[1], y + bitmap.shape[0]])
            masks.append(encode_at(bitmap, (y, x), image.shape))
        scores = self.rng.uniform(0.5, 1, len(boxes)).astype(np.float32)
        shaped = np.array(boxes, np.float32).reshape(-1, 4)
        return Prediction(shaped, scores, np.zeros(len(boxes), np.int64), tuple(masks))


def on_seams(count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(1, SIDE, SIDE) with sources of many sizes within 3 px of the cores' borders."""
    rng = np.random.default_rng(1)
    borders = sorted({t.core[1] for t in tiles_of((SIDE, SIDE), CONFIG, 0)} - {0})
    image = np.zeros((1, SIDE, SIDE), np.float32)
    free = np.ones((SIDE, SIDE), bool)
    centres: list[list[int]] = []
    while len(centres) < count:
        seam = int(rng.choice(borders)) + int(rng.integers(-3, 4))
        along = int(rng.integers(20, SIDE - 20))
        y, x = (seam, along) if rng.random() < 0.5 else (along, seam)
        width = rng.uniform(1, 3)
        reach = 14
        window = np.s_[y - reach : y + reach + 1, x - reach : x + reach + 1]
        if not free[window].all():
            continue
        free[window] = False
        yy, xx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        image[0][window] += 30 * np.exp(-(yy**2 + xx**2) / (2 * width**2))
        centres.append([y, x])
    return image, np.array(centres)


def frame_of(image: NDArray[np.float32], folder: Path) -> Frame:
    np.save(folder / "a.npy", image)
    record = ImageRecord(1, "a.npy", (folder / "a.npy",), *image.shape[1:])
    pixels = read_record(record)
    data = DataConfig(contrast="none")
    return Frame(record, pixels, look_at(record, pixels, (), len(image), data), data)


def found_in(frame: Frame, engine: Any, **more: Any) -> Prediction:
    tiles = tiles_of(frame.shape, CONFIG, 0)
    return predict_image(engine, torch.nn.Linear(1, 1), frame, CONFIG, tiles, **more)


def test_of_500_isolated_sources_on_seams_none_is_lost_and_none_doubled(tmp_path: Path) -> None:
    image, centres = on_seams(500)
    found = found_in(frame_of(image, tmp_path), Thresholds())
    hits = np.zeros(len(centres), int)
    for mask in found.masks:
        bitmap, (y, x) = decode_tight(mask)
        inside = (centres >= [y, x]) & (centres < [y + bitmap.shape[0], x + bitmap.shape[1]])
        hits += inside.all(axis=1)
    assert hits.tolist() == [1] * 500
    assert len(found.scores) == 500


class Steady(Thresholds):
    """The same threshold in all tiles, whatever their order and thread."""

    def _one(self, image: NDArray[np.float32]) -> Prediction:
        return Thresholds()._one(image)


def test_batches_in_flight_change_nothing_and_an_error_ends_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = frame_of(on_seams(60)[0][:, :700, :700], tmp_path)
    one = found_in(frame, Steady())
    monkeypatch.setattr(coadd, "_lanes", lambda model: 2)
    done: list[int] = []
    two = found_in(frame, Steady(), done=done.append)
    tiles = len(tiles_of(frame.shape, CONFIG, 0))
    assert sum(done) == tiles
    assert np.array_equal(one.boxes, two.boxes)
    assert one.masks == two.masks
    broken = Steady(stop_after=3)
    with pytest.raises(KeyboardInterrupt):
        found_in(frame, broken)
    assert broken.calls < tiles - 1


def test_an_interrupted_coadd_goes_on_with_the_tiles_it_lacks(tmp_path: Path) -> None:
    frame = frame_of(on_seams(60)[0][:, :700, :700], tmp_path)
    whole = found_in(frame, Thresholds())
    kept: dict[str, Any] = {"kept": lambda n: tmp_path / "parts" / f"{n}.json", "key": "same"}
    first = Thresholds(stop_after=5)
    with pytest.raises(KeyboardInterrupt):
        found_in(frame, first, **kept)
    told: list[int] = []
    second = Thresholds()
    second.rng = first.rng
    again = found_in(frame, second, done=told.append, **kept)
    assert (first.calls, told[0], sum(told)) == (5, 5, 5 + second.calls)
    assert again.boxes.tolist() == whole.boxes.tolist()
    assert again.masks == whole.masks
    other = Thresholds()
    found_in(frame, other, kept=kept["kept"], key="other")
    assert other.calls == sum(told)


def test_probabilities_and_mixtures_cross_tiles_and_interruptions_some_tiles_empty(
    tmp_path: Path,
) -> None:
    class Telling(Thresholds):
        """Tells the brightness of each source in two targets and two classes."""

        def _one(self, image: NDArray[np.float32]) -> Prediction:
            plain = super()._one(image)
            corners = [corner for _, corner in map(decode_tight, plain.masks)]
            told = np.array([image[y : y + 5, x : x + 5].max() for y, x in corners], np.float32)
            return dataclasses.replace(
                plain,
                probabilities=np.tile(told[:, None], (1, 2)) / 100,
                mixtures=np.tile(told[:, None, None, None], (1, 2, 3, 4)),
            )

    image = on_seams(60)[0][:, :700, :700]
    image[:, :, 350:] = 0  # half of the tiles find nothing
    frame = frame_of(image, tmp_path)
    whole = found_in(frame, Telling())
    kept: dict[str, Any] = {"kept": lambda n: tmp_path / "parts" / f"{n}.json", "key": "same"}
    found_in(frame, Telling(), **kept)
    again = found_in(frame, Telling(stop_after=0), **kept)
    assert len(whole.scores) > 0
    for prediction in (whole, again):
        assert prediction.mixtures is not None
        assert prediction.probabilities is not None
        assert prediction.mixtures.shape == (len(whole.scores), 2, 3, 4)
        for row, mask in zip(prediction.mixtures, prediction.masks, strict=True):
            _, (y, x) = decode_tight(mask)
            assert row[0, 0, 0] == pytest.approx(image[0, y : y + 5, x : x + 5].max(), rel=0.5)
    assert np.array_equal(whole.mixtures, again.mixtures)
    assert np.array_equal(whole.probabilities, again.probabilities)


def test_tiles_have_the_side_of_the_training_images_within_limits() -> None:
    def sides(shape: tuple[int, int], trained_on: int, step: int = 1, **changes: Any) -> set[int]:
        config = dataclasses.replace(PredictConfig(), **changes)
        return {tile.y1 - tile.y0 for tile in tiles_of(shape, config, trained_on, step)}

    assert sides((1000, 1000), 1000) == {1000}
    assert sides((4200, 4200), 1000) == {1000}
    assert sides((600, 600), 64) == {600}
    # Two tiles of 614 px that overlap by 128 px cover 1100 px.
    assert sides((1100, 1100), 64) == {614}
    assert sides((1100, 1100), 64, least_tile=512) == {(1100 + 2 * 128) // 3}
    # Of as many that begin at multiples of 32 px the last ends with the image.
    assert sides((1110, 1110), 64, step=32) == {128 + 512, 1110 - 480}
    assert sides((5000, 5000), 4000) == {1536}
    assert sides((5000, 5000), 0) == {1024}
    assert sides((300, 300), 64, tile_size=100, overlap=20) == {100}
    with pytest.raises(InputError, match="overlap by 128 px"):
        sides((300, 300), 64, tile_size=100)


def test_group_norms_are_measured_on_windows_with_data_whatever_the_tiles(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(1, 700, 1500)).astype(np.float32)
    image[:, :, 900:] = 0  # not observed
    frame = frame_of(image, tmp_path)
    config = PredictConfig(norm_window=100)
    sample = norm_sample(frame, config, 64)
    corners = [(y, x) for y in (0, 600) for x in (0, 700)]  # of the third column none has data
    expected = [image[:, y : y + 100, x : x + 100] for y, x in corners]
    assert np.array_equal(sample, expected)
    other = dataclasses.replace(config, tile_size=300, overlap=50)
    assert np.array_equal(norm_sample(frame, other, 64), sample)
    # Images no larger than those of the training are seen whole.
    assert np.array_equal(norm_sample(frame, config, 1500), [image])


def test_an_image_without_data_is_measured_all_the_same(tmp_path: Path) -> None:
    frame = frame_of(np.zeros((1, 700, 700), np.float32), tmp_path)
    assert [w.shape for w in norm_sample(frame, PredictConfig(), 64)] == 4 * [(1, 256, 256)]
