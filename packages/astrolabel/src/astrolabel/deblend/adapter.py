"""Between a `Blend` and other people's deblenders: what they are given, what is believed.

An adapter fits the `Task` that `prepared` makes of a blend and hands each source's model
to `blend_fit`, which alone decides about states, whatever the library reports.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.core.config import DeblendConfig
from astrolabel.core.errors import InputError
from astrolabel.core.psf import sigma_px
from astrolabel.deblend.base import Blend, BlendFit, SourceFit
from astrolabel.deblend.convolve import Image
from astrolabel.deblend.cores import has_core

MODEL_SIGMA_OVER_PSF = 0.8
"""A model frame must be sharper than every band. Where a band's PSF is so narrow that
the configured width is not, the width becomes this fraction of it."""
MIN_MODEL_SIGMA_PX = 0.5
"""A sampled Gaussian narrower than this aliases: its sum depends on the sub-pixel phase
by more than one per cent."""
EDGE_MARGIN_PX = 6
"""A source whose peak is nearer to the cutout's edge than this (the radius of a model PSF)
is fitted on a cutout widened by as much, where there is no data."""
WIDER_THAN_PSF = 0.1
"""Excess of the windowed second moment over the PSF's from which a source is extended. A
galaxy with a third of the PSF's width has 0.1; stamps are known to some per cent."""
WIDER_BY_SIGMA = 2.0
"""And this many times its own noise, which is about 1 / (S/N)."""
WINDOW_STEPS = 6
"""Steps of the centroid under its window. Each takes the error of a star down by ten or
more, that of a galaxy twice as wide by two: a fiftieth of a pixel is left."""
WINDOW_RADIUS = 3.5
"""Radius of the window in its own sigmas: it holds 0.998 of a round Gaussian."""


@dataclass(frozen=True, eq=False)
class Task:
    """The part of a blend that can be fitted.

    Attributes
    ----------
    image, weights : (B, H, W) float32 of the bands that have data, `margin` pixels wider
        than the cutout on every side; both zero where there is no data.
    psfs : (B, P, P) float32.
    peaks : (M, 2) float64 of the sources with data on their core, in these pixels.
    bands : (B,) int64, which of the blend's bands.
    sources : (M,) int64, which of the blend's peaks.
    margin : pixels.
    trim_sigma : of `DeblendConfig`.
    """

    image: Image
    weights: Image
    psfs: Image
    peaks: NDArray[np.float64]
    bands: NDArray[np.int64]
    sources: NDArray[np.int64]
    margin: int
    trim_sigma: float


@dataclass(frozen=True)
class Look:
    """A source before any fit.

    Attributes
    ----------
    centre : (y, x) to a fraction of a pixel.
    extended : whether it is wider than the PSF.
    sigma : pixels; of the Gaussian that it would be before the PSF; zero for a point.
    """

    centre: tuple[float, float]
    extended: bool
    sigma: float


@dataclass(frozen=True, eq=False)
class Alone:
    """A source as the library fitted it.

    Attributes
    ----------
    box, model : in the task's pixels, perhaps beyond its edges; (B, h, w) counts, PSF
        included.
    flux : (B,) counts.
    kind : ``point`` or ``extended``.
    """

    box: Box
    model: Image
    flux: NDArray[np.float64]
    kind: str


def imported(name: str, remedy: str) -> Any:
    """A package of other people's.

    Raises
    ------
    InputError
        If it is not installed, or cannot be imported.
    """
    if importlib.util.find_spec(name) is None:
        raise InputError(f"the deblender {name} is not installed", remedy=remedy)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # escapes in docstrings, retired numpy names
            return importlib.import_module(name)
    except (ImportError, SyntaxError, AttributeError) as error:
        raise InputError(
            f"the installed package {name} cannot be imported ({error})", remedy=remedy
        ) from error


class Adapter(ABC):
    """Other people's deblender behind the `Deblender` protocol.

    Attributes
    ----------
    name : of the engine, and of the package.
    library : imports it, or says what to do; called when a deblender is made.
    """

    name: str

    def __init__(self, config: DeblendConfig) -> None:
        self.library()
        self.config = config

    @staticmethod
    @abstractmethod
    def library() -> Any: ...

    @abstractmethod
    def fitted(self, task: Task, sigma: float) -> tuple[Sequence[Alone | str], int, bool]:
        """Every source alone or why there is none, the iterations, and whether it converged.

        Parameters
        ----------
        sigma : of the model's PSF, pixels.
        """

    def fit(self, blend: Blend) -> BlendFit:
        """Fit all sources of a blend together; for the states see `blend_fit`."""
        task = prepared(blend, self.config)
        if len(task.sources) == 0:
            return blend_fit(blend, task, [], 0, False)
        sigma = model_sigma(task.psfs, self.config.model_psf_sigma_px)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return blend_fit(blend, task, *self.fitted(task, sigma))


def prepared(blend: Blend, config: DeblendConfig) -> Task:
    """The blend without what cannot be fitted; it may come out without any source."""
    good: NDArray[np.bool_] = np.isfinite(blend.image) & np.isfinite(blend.weights)
    good = good & (blend.weights > 0)
    known = np.asarray(good.any(axis=0), bool)
    image = np.where(good, blend.image, 0).astype(np.float32)
    weights = np.where(good, blend.weights, 0).astype(np.float32)
    bands = np.flatnonzero(good.any(axis=(1, 2)))
    shape = np.array(image.shape[1:])
    peaks = np.clip(np.asarray(blend.peaks, float).reshape(-1, 2), 0, shape - 1.0)
    # A saturated core is no missing one: the wings around it are the star's.
    core = known if blend.saturated is None else known | blend.saturated
    sources = np.flatnonzero(has_core(core, blend.psfs, peaks, config.min_core))
    peaks = peaks[sources]
    near = peaks.size > 0 and np.minimum(peaks, shape - 1 - peaks).min() < EDGE_MARGIN_PX
    margin = EDGE_MARGIN_PX if near else 0
    around = ((0, 0), (margin, margin), (margin, margin))
    return Task(
        np.pad(image[bands], around),
        np.pad(weights[bands], around),
        np.ascontiguousarray(blend.psfs[bands], np.float32),
        peaks + margin,
        bands.astype(np.int64),
        sources.astype(np.int64),
        margin,
        config.trim_sigma,
    )


def model_sigma(psfs: Image, wanted: float) -> float:
    """Width in pixels of the model frame's Gaussian PSF: `wanted`, or what the bands bear."""
    narrowest = min(sigma_px(p) for p in psfs)
    return max(min(wanted, MODEL_SIGMA_OVER_PSF * narrowest), MIN_MODEL_SIGMA_PX)


def first_looks(task: Task) -> list[Look]:
    """Centre and width of every source of a task, by moments under a window like the PSF.

    Neighbours make a source look wider than it is, never narrower: in doubt it is
    extended, which a fit can shrink. Pixels without data are taken from the other side of
    the peak.
    """
    total = task.weights.sum(axis=0)
    known = total > 0
    scale = np.where(known, total, 1)
    image = (task.weights * task.image).sum(axis=0) / scale
    mean = task.weights.mean(axis=(1, 2), dtype=float)
    psf = np.tensordot(mean, task.psfs, 1) / max(float(mean.sum()), 1e-30)
    width = sigma_px(psf)
    middle = psf.shape[0] // 2
    _, expected, _ = _moments(psf, (middle, middle), width)
    radius = int(np.ceil((WINDOW_RADIUS + 1) * width))
    planes = np.stack([image, np.where(known, 1 / scale, 0), known])
    planes = np.pad(planes, ((0, 0), (radius, radius), (radius, radius)))
    looks = []
    for y, x in np.rint(task.peaks).astype(int):
        stamp = planes[:, y : y + 2 * radius + 1, x : x + 2 * radius + 1]
        there = stamp[2] > 0
        light, noise, _ = np.where(there, stamp, stamp[:, ::-1, ::-1])
        extended, (dy, dx), sigma = _look(light, noise, width, expected)
        looks.append(Look((float(y - radius + dy), float(x - radius + dx)), extended, sigma))
    return looks


def _look(
    image: NDArray[np.float64], noise: NDArray[np.float64], width: float, expected: float
) -> tuple[bool, tuple[float, float], float]:
    """Whether extended, centre in the stamp, sigma before the PSF.

    Parameters
    ----------
    image, noise : (S, S) light and its variance around a peak in the middle.
    width, expected : the PSF's sigma, and its mean square radius under the window.
    """
    middle = (image.shape[0] // 2, image.shape[1] // 2)
    centre, moment, window = _moments(image, middle, width)
    if np.abs(np.subtract(centre, middle)).max() > width:  # drawn away by a neighbour
        centre, moment, window = _moments(image, middle, width, steps=0)
    light = float((window * image).sum())
    if light <= 0 or not np.isfinite(moment):
        return False, middle, 0.0
    snr = light / max(float(np.sqrt((window**2 * noise).sum())), 1e-30)
    ratio = moment / expected
    if ratio - 1 < max(WIDER_THAN_PSF, WIDER_BY_SIGMA / snr):
        return False, centre, 0.0
    # Of a Gaussian of variance s under a window of variance v: s v / (s + v). Twice the
    # PSF's moment would be a flat sky.
    ratio = min(ratio, 1.9)
    return True, centre, width * float(np.sqrt(ratio / (2 - ratio) - 1))


def _moments(
    image: NDArray[Any], start: tuple[float, float], width: float, steps: int = WINDOW_STEPS
) -> tuple[tuple[float, float], float, NDArray[np.float64]]:
    """Centre, mean square radius around it, and the window: a Gaussian of this width."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    cy, cx = float(start[0]), float(start[1])
    for step in range(steps + 1):
        square = (y - cy) ** 2 + (x - cx) ** 2
        window = np.exp(-0.5 * square / width**2) * (square < (WINDOW_RADIUS * width) ** 2)
        light = float((window * image).sum())
        if light <= 0:
            return (float(start[0]), float(start[1])), np.nan, window
        if step < steps:
            # A star under a window of its own width shows half of its offset.
            cy += float(np.clip(2 * (window * image * (y - cy)).sum() / light, -0.5, 0.5))
            cx += float(np.clip(2 * (window * image * (x - cx)).sum() / light, -0.5, 0.5))
    return (cy, cx), float((window * image * square).sum() / light), window


def blend_fit(
    blend: Blend,
    task: Task,
    found: Sequence[Alone | str],
    iterations: int,
    converged: bool,
) -> BlendFit:
    """The fit of the whole blend, each source with its state.

    Parameters
    ----------
    found : one per source of `task`: its model, or why there is none.

    Returns
    -------
    BlendFit
        States that are not ``ok``: ``failed:masked`` (no data on its core), ``failed:``
        with the reason given in `found`, ``failed:zero flux``, and ``failed:no better than
        nothing`` where chi2 is no higher without the source, or the whole fit is no better
        than the zero model. chi2 is that of the sources that are ``ok``.
    """
    bands = len(blend.image)
    frame = Box.of_shape(task.image.shape)
    reasons = ["masked"] * len(blend.peaks)
    kept: dict[int, tuple[Box, Image, Alone]] = {}
    for n, one in zip(task.sources.tolist(), found, strict=True):
        if isinstance(one, str):
            reasons[n] = one
        elif not np.isfinite(one.model).all() or not np.isfinite(one.flux).all():
            reasons[n] = "model not finite"
        elif one.flux.sum() <= 0 or (one.box & frame).area == 0:
            reasons[n] = "zero flux"
        else:
            box = one.box & frame
            model = one.model[(slice(None), *box.slices_in(one.box))].astype(np.float32)
            kept[n] = box, model, one
    chi2 = _drop_useless(task, kept, reasons)
    sources = []
    for n, peak in enumerate(blend.peaks):
        if n not in kept:
            sources.append(_failed(peak, blend.image.shape, reasons[n]))
            continue
        box, model, one = kept[n]
        flux = np.zeros(bands)
        flux[task.bands] = one.flux
        whole = np.zeros((bands, *box.shape), np.float32)
        whole[task.bands] = model
        sources.append(_cut(SourceFit(box, whole, flux, one.kind), task, blend, peak))
    pixels = max(int(np.count_nonzero(task.weights)), 1)
    return BlendFit(tuple(sources), chi2 / pixels, iterations, converged and bool(kept))


def _drop_useless(
    task: Task, kept: dict[int, tuple[Box, Image, Alone]], reasons: list[str]
) -> float:
    """Take out what does not lower chi2, the worst first; chi2 of what is left."""
    residual = task.image.astype(float)
    for box, model, _ in kept.values():
        residual[(slice(None), *box.slices)] -= model
    zero = float((task.weights * task.image.astype(float) ** 2).sum())
    chi2 = float((task.weights * residual**2).sum())
    while kept:
        rise = {}
        for n, (box, model, _) in kept.items():
            s = (slice(None), *box.slices)
            rise[n] = float((task.weights[s] * model * (model + 2 * residual[s])).sum())
        worst = min(rise, key=lambda n: rise[n])
        if rise[worst] > 0:
            break
        box, model, _ = kept.pop(worst)
        reasons[worst] = "no better than nothing"
        residual[(slice(None), *box.slices)] += model
        chi2 = float((task.weights * residual**2).sum())
    if kept and not chi2 < zero:
        for n in list(kept):
            reasons[n] = "no better than nothing"
            del kept[n]
    return chi2 if kept else zero


def _failed(peak: NDArray[np.float64], shape: tuple[int, ...], reason: str) -> SourceFit:
    """A source without light: its peak's pixel, all zero."""
    y, x = np.clip(np.rint(peak), 0, np.array(shape[1:]) - 1).astype(int)
    model = np.zeros((shape[0], 1, 1), np.float32)
    flux = np.zeros(shape[0])
    return SourceFit(Box(int(y), int(x), 1, 1), model, flux, "point", f"failed:{reason}")


def _cut(source: SourceFit, task: Task, blend: Blend, peak: NDArray[np.float64]) -> SourceFit:
    """A source in the cutout's own pixels, without the rows and columns that hold nothing."""
    inside = source.box.shifted(-task.margin, -task.margin) & Box.of_shape(blend.image.shape)
    own = source.box.shifted(-task.margin, -task.margin)
    model = source.model[(slice(None), *inside.slices_in(own))] if inside.area else None
    highest = np.zeros(len(blend.image), np.float32)
    highest[task.bands] = task.weights.max(axis=(1, 2))
    if model is not None:
        sigmas = np.max(np.abs(model) * np.sqrt(highest)[:, None, None], axis=0)
        bright = np.asarray(sigmas > task.trim_sigma)
        rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    if model is None or rows.size == 0:
        dark = _failed(peak, blend.image.shape, "")
        return SourceFit(dark.box, dark.model, source.flux, source.kind)
    part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    y0, x0 = inside.y0 + int(rows[0]), inside.x0 + int(columns[0])
    cut = np.ascontiguousarray(model[(slice(None), *part)])
    return SourceFit(Box(y0, x0, cut.shape[1], cut.shape[2]), cut, source.flux, source.kind)
