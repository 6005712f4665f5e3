"""What a model finds in an image of any size: in tiles beyond the size it was trained on.

An image is read window by window, so memory holds a few tiles and the detections, not the
coadd. Every tile's detections are kept on disk until the image is done: a run that was
interrupted does no tile twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.wcs import WCS
from numpy.typing import NDArray

from astroseg.core.config import DataConfig, PredictConfig
from astroseg.core.errors import InputError
from astroseg.core.files import read_json, write_json
from astroseg.core.samples import Prediction
from astroseg.data.any_bands import SkyScaling
from astroseg.data.dataset import ImageRecord
from astroseg.data.images import Pixels
from astroseg.data.look import Look, clean
from astroseg.data.sky_noise import no_data
from astroseg.engines.base import Engine
from astroseg.inference.devices import Share
from astroseg.inference.sky import read_wcs
from astroseg.inference.tiling import Tile, join, shift, split
from astroseg.models.duplicates import largest_pieces, one_per_source


@dataclass(frozen=True, eq=False)
class Frame:
    """An image as a model reads it.

    Attributes
    ----------
    record, pixels : the image, mapped from disk where its format allows it.
    look : order of the bands and contrast, measured on the whole image.
    data : what to do with pixels that are not finite.
    """

    record: ImageRecord
    pixels: Pixels
    look: Look
    data: DataConfig

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.pixels.shape

    @cached_property
    def wcs(self) -> WCS | None:
        """Its celestial coordinates, None where it has none; read once."""
        return read_wcs(self.record)

    def flux(self, y0: int, x0: int, y1: int, x1: int) -> NDArray[np.float32]:
        """(C, y1 - y0, x1 - x0) of a window, bands in the model's order; less the sky where the
        contrast measures it."""
        window = self._clean(y0, x0, y1, x1)
        scaling = self.look.scaling
        return scaling.above_sky(window, y0, x0) if isinstance(scaling, SkyScaling) else window

    def seen(self, y0: int, x0: int, y1: int, x1: int) -> NDArray[np.float32]:
        """A window as the network sees it."""
        return np.ascontiguousarray(self.look(self._clean(y0, x0, y1, x1), y0, x0))

    def _clean(self, y0: int, x0: int, y1: int, x1: int) -> NDArray[np.float32]:
        window = self.pixels.crop(y0, x0, y1 - y0, x1 - x0, self.look.order)
        return clean(window, self.record, self.data)


def tiles_of(
    shape: tuple[int, int], config: PredictConfig, trained_on: int, step: int = 1
) -> tuple[Tile, ...]:
    """The tiles of an image (H, W), one where it is small enough to be predicted whole.

    Parameters
    ----------
    trained_on : side in px of the images that the model was trained on, 0 where unknown.
    step : px; tiles begin at multiples of it, so that the network's grid lies in each as in the
        whole image.

    Raises
    ------
    InputError : tiles that cannot overlap as asked for.
    """
    size = config.tile_size or side_of_tiles(config, trained_on)
    if max(shape) <= size:
        return split(shape, size, 0)
    # A small tile of the default overlap would be little else.
    overlap = config.overlap if config.tile_size else min(config.overlap, size // 4)
    if not 0 <= overlap < size:
        raise InputError(
            f"tiles of {size} px cannot overlap by {overlap} px",
            remedy="give an --overlap smaller than --tile-size",
        )
    if not config.tile_size and size > _trained(config, trained_on):
        size = _fitted(max(shape), size, overlap, step)
    return split(shape, size, overlap, step)


def side_of_tiles(config: PredictConfig, trained_on: int) -> int:
    """Largest side in px of an image predicted whole, where the configuration sets no tiles."""
    return max(config.least_tile, _trained(config, trained_on))


def _trained(config: PredictConfig, trained_on: int) -> int:
    return min(trained_on or config.tile_unknown, config.whole_up_to)


def _fitted(length: int, size: int, overlap: int, step: int) -> int:
    """Side of as many tiles without more overlap than asked for: what two tiles see is predicted
    twice."""
    count = -(-(length - overlap) // (size - overlap))
    apart = -(-(length - overlap) // count)
    return min(size, -(-apart // step) * step + overlap)


def norm_sample(frame: Frame, config: PredictConfig, trained_on: int) -> list[NDArray[np.float32]]:
    """(C, h, w) of an image for group norms: all of it where it would be predicted whole, else
    windows spread over it. Those without data in most of their pixels are left out.
    """
    if max(frame.shape) <= side_of_tiles(config, trained_on):
        return [frame.seen(0, 0, *frame.shape)]
    height, width = (min(config.norm_window, side) for side in frame.shape)
    rows, columns = (
        np.linspace(0, side - length, _windows(side, config)).astype(int).tolist()
        for side, length in zip(frame.shape, (height, width), strict=True)
    )
    windows = [(y, x, y + height, x + width) for y in rows for x in columns]
    full = [window for window in windows if _has_data(frame.flux(*window))]
    return [frame.seen(*window) for window in full or windows]


def _windows(side: int, config: PredictConfig) -> int:
    """Windows of the norms along a side of an image: together a sixteenth of it, but two at
    least."""
    wanted = min(max(2, side // (4 * config.norm_window)), config.norm_windows)
    return min(wanted, -(-side // config.norm_window))


def _has_data(flux: NDArray[np.float32]) -> bool:
    """Whether most pixels (bands, h, w) have data in all bands."""
    empty = no_data(flux)
    return empty is None or float(empty.any(axis=0).mean()) < 0.5


def predict_image(
    engine: Engine,
    model: torch.nn.Module,
    frame: Frame,
    config: PredictConfig,
    tiles: Sequence[Tile],
    **more: Any,
) -> Prediction:
    """What a model finds in an image. `more` is as of `predict_tiles`."""
    found = predict_tiles(engine, model, frame, config, tiles, **more)
    every = [found[number] for number in range(len(tiles))]
    if len(tiles) == 1:
        return one_per_source(every[0], config.source_iou, config.concentric)
    return join(tiles, every, config.seam_iou, config.source_iou, config.concentric)


def predict_tiles(
    engine: Engine,
    model: torch.nn.Module,
    frame: Frame,
    config: PredictConfig,
    tiles: Sequence[Tile],
    *,
    kept: Callable[[int], Path] | None = None,
    key: str = "",
    done: Callable[[int], Any] = lambda tiles: None,
    least_side: int = 0,
    sample: Callable[[], list[NDArray[np.float32]]] | None = None,
    share: Share = Share(),  # noqa: B008  frozen
) -> dict[int, Prediction]:
    """What a model finds in the tiles of an image, by their numbers.

    Parameters
    ----------
    kept : file of the detections of the tile of that number; None keeps none.
    key : of what the detections depend on; kept ones of another key are made anew.
    done : called with how many tiles have been finished.
    least_side : px; smaller windows are predicted in the middle of empty sky of that size.
    sample : of the image for group norms (`norm_sample`); None lets them see each tile alone.
    share : of the batches of tiles, where several processes predict the image.
    """
    batches = share.take(_batches(len(tiles), config.batch or _batch(model)))
    found: dict[int, Prediction] = {}
    if kept is not None:
        for number in (number for batch in batches for number in batch):
            if (stored := _read(kept(number), key)) is not None:
                found[number] = stored
    done(len(found))

    def predicted(group: list[int]) -> dict[int, Prediction]:
        """Detections of the tiles of a batch, in the image's frame and on disk."""
        windows = [_framed(frame.seen(*tiles[number].window), least_side) for number in group]
        made = {}
        predictions = engine.predict(model, [window for window, _ in windows])
        for number, (_, corner), prediction in zip(group, windows, predictions, strict=True):
            tile = tiles[number]
            at = tile.y0 - corner[0], tile.x0 - corner[1]
            whole = prediction if config.pieces == "all" else largest_pieces(prediction)
            made[number] = shift(whole, at, frame.shape)
            if kept is not None:
                _write(kept(number), key, made[number])
        return made

    left = [[number for number in batch if number not in found] for batch in batches]
    if not any(left):
        return found
    with nullcontext() if sample is None else engine.norms_held(model, sample):
        for made in _in_flight(predicted, filter(None, left), _lanes(model)):
            found |= made
            done(len(made))
    return found


def _framed(window: NDArray[np.float32], least: int) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """A window (C, H, W), amid zeros where it is smaller, and its corner (y, x) there."""
    missing = [max(0, least - side) for side in window.shape[1:]]
    before = missing[0] // 2, missing[1] // 2
    if any(missing):
        after = missing[0] - before[0], missing[1] - before[1]
        window = np.pad(window, ((0, 0), (before[0], after[0]), (before[1], after[1])))
    return window, before


def _batches(count: int, size: int) -> list[list[int]]:
    """Numbers of all tiles, those of one batch together."""
    return [list(range(start, min(count, start + size))) for start in range(0, count, size)]


def _batch(model: torch.nn.Module) -> int:
    """Tiles at once: four fill a GPU; on a CPU more than one only cost memory."""
    return 4 if next(model.parameters()).is_cuda else 1


def _lanes(model: torch.nn.Module) -> int:
    """Batches in flight: on a GPU one is read, drawn and written while the next is computed."""
    return 2 if next(model.parameters()).is_cuda else 1


def _in_flight(
    work: Callable[[list[int]], dict[int, Prediction]], groups: Iterable[list[int]], lanes: int
) -> Iterator[dict[int, Prediction]]:
    """Results of the groups in their order, computed in so many threads."""
    if lanes == 1:
        yield from map(work, groups)
        return
    with ThreadPoolExecutor(lanes) as pool:
        try:
            yield from pool.map(work, groups)
        finally:  # an error or Ctrl-C ends the others, too
            pool.shutdown(wait=False, cancel_futures=True)


def _write(path: Path, key: str, prediction: Prediction) -> None:
    value = {
        "key": key,
        "boxes": prediction.boxes,
        "scores": prediction.scores,
        "labels": prediction.labels,
        "masks": [dict(mask) for mask in prediction.masks],
        "limited": prediction.limited,
        **{name: _shaped(getattr(prediction, name)) for name in ("probabilities", "mixtures")},
    }
    write_json(path, value)


def _shaped(rows: NDArray[np.float32] | None) -> dict[str, Any] | None:
    """An array of several axes with its shape, which a list of no rows does not have."""
    return None if rows is None else {"shape": rows.shape, "values": rows.ravel()}


def _unshaped(stored: dict[str, Any] | None) -> NDArray[np.float32] | None:
    if stored is None:
        return None
    return np.array(stored["values"], np.float32).reshape(stored["shape"])


def _read(path: Path, key: str) -> Prediction | None:
    """A tile's detections, None where there are none of this key."""
    if not path.exists():
        return None
    value = read_json(path)
    if value.get("key") != key:
        return None
    return Prediction(
        np.array(value["boxes"], np.float32).reshape(-1, 4),
        np.array(value["scores"], np.float32),
        np.array(value["labels"], np.int64),
        tuple(value["masks"]),
        _unshaped(value["probabilities"]),
        bool(value["limited"]),
        mixtures=_unshaped(value["mixtures"]),
    )
