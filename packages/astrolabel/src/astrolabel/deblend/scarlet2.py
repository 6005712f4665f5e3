"""The scarlet authors' second deblender (scarlet2, on JAX), where it is installed.

scarlet2 compiles anew for every shape, number and place of sources. So every blend is put
on one of a few square frames with one of a few numbers of sources (the spare ones dark),
and every source may use the whole frame: what differs from blend to blend is numbers
only, and a fit is compiled once per frame. Scene, components, PSF matching and likelihood
are scarlet2's; the steps are Adam's, as in its `Scene.fit`.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from astrolabel.core.box import Box
from astrolabel.deblend import adapter
from astrolabel.deblend.adapter import Alone, Look, Task
from astrolabel.deblend.convolve import Image

Array = NDArray[np.float32]

SIDES = (49, 81, 145, 209, 337, 465, 593)
"""Sides of the frames, odd as scarlet2's profiles want them. With a PSF stamp of 43 pixels
the first four just fit into the transform lengths that it chooses."""
COUNTS = (1, 2, 4, 8, 16, 40)
"""Numbers of sources that are compiled for."""
STEPS = 150
"""Steps of a fit; their lengths fall to nothing along a cosine."""
STEP_LENGTHS = {"point": 0.05, "centre": 0.02, "spectrum": 0.05, "shape": 0.1}
"""First steps: of the logarithms of the spectra of points and of shapes, of a point's
centre in pixels, and of the logit of a shape's pixels (scarlet2's quickstart: 0.1)."""
PEAK = 0.8
"""Of a shape at its start; its pixels stay between zero and one."""
FLOOR = 1e-6
"""Least value of a shape's pixel at its start (scarlet2's own)."""
WINDOW_SIGMA = 4.0
MIN_WINDOW_PX = 8.0
"""Radius within which a source's pixels are free: so many sigma of its first look, at
least an HSC seeing disc's."""
NEIGHBOUR_FRACTION = 0.25
"""A source starts no wider (sigma) than this part of the way to its nearest neighbour,
whose light made it look wide. Free pixels share light as their starts do: on a simulated
Deep scene the median mask IoU of blended sources was 0.40 without, 0.64 with 0.4, 0.72
with 0.25."""
DARK = -46.0
"""Logarithm of the light of what is not there."""


def library() -> Any:
    """The package."""
    found = adapter.imported("scarlet2", "pip install 'astrolabel[scarlet2]'")
    found.set_validation(False)  # it prints, and knows nothing that `blend_fit` does not
    return found


class Scarlet2Deblender(adapter.Adapter):
    """scarlet2; see the module's description."""

    name = "scarlet2"
    library = staticmethod(library)

    def fitted(self, task: Task, sigma: float) -> tuple[list[Alone], int, bool]:
        found, chi2 = _fitted(task, sigma)
        late = chi2[-STEPS // 10 :]
        return found, STEPS, bool(abs(late[0] - late[-1]) < self.config.tolerance * abs(late[-1]))


def next_size(wanted: int, sizes: tuple[int, ...]) -> int:
    """The smallest of `sizes` that holds `wanted`; beyond them, steps as long as the last."""
    for size in sizes:
        if wanted <= size:
            return size
    step = sizes[-1] - sizes[-2]
    return sizes[-1] + step * -(-(wanted - sizes[-1]) // step)


def _fitted(task: Task, sigma: float) -> tuple[list[Alone], Array]:
    """Every source alone, and chi2 by step."""
    bands, height, width = task.image.shape
    side = next_size(max(height, width), SIDES)
    frame = Box((side - height) // 2, (side - width) // 2, height, width)
    unit = float(np.sqrt(np.median(task.weights[task.weights > 0])))  # 1 / noise
    planes = np.zeros((2, bands, side, side), np.float32)
    planes[0][(slice(None), *frame.slices)] = task.image * unit
    planes[1][(slice(None), *frame.slices)] = task.weights / unit**2
    looks = adapter.first_looks(task)
    start = _start(looks, frame, side, sigma)
    program = _program(bands, side, len(start.points), task.psfs.shape[-1])
    observation = program.observe(planes[0], planes[1], task.psfs, np.float32(sigma))
    templates = np.asarray(program.render(observation, start.shapes))
    flux = _least_squares(templates[: len(looks), :, *frame.slices], task, unit)
    values, free = _parameters(start, flux)
    models, totals, chi2 = program.fit(observation, np.float32(sigma), values, free)
    models, totals = np.asarray(models) / unit, np.asarray(totals, float) / unit
    whole = Box(-frame.y0, -frame.x0, side, side)
    found = [
        Alone(whole, models[n], totals[n], "extended" if look.extended else "point")
        for n, look in enumerate(looks)
    ]
    return found, np.asarray(chi2)


@dataclass(frozen=True, eq=False)
class Start:
    """What a fit begins with, on a square frame and with spare sources.

    Attributes
    ----------
    shapes : (N, S, S) float32, each source in the model frame, its peak at `PEAK`.
    centres : (N, 2) float32 in the frame's pixels.
    points : (N,) bool.
    free : (N, S, S) bool, pixels that the fit may change: none of a point.
    """

    shapes: Array
    centres: Array
    points: NDArray[np.bool_]
    free: NDArray[np.bool_]


def _start(looks: list[Look], frame: Box, side: int, sigma: float) -> Start:
    count = next_size(len(looks), COUNTS)
    shapes = np.full((count, side, side), FLOOR, np.float32)
    free = np.zeros((count, side, side), bool)
    points = np.ones(count, bool)
    centres = np.full((count, 2), side // 2, np.float32)
    y, x = np.mgrid[:side, :side]
    for n, look in enumerate(looks):
        cy, cx = look.centre[0] + frame.y0, look.centre[1] + frame.x0
        # scarlet2 integrates its profiles over pixels, which adds their variance of 1/12.
        intrinsic = min(look.sigma, NEIGHBOUR_FRACTION * _nearest(looks, n))
        width = float(np.sqrt(intrinsic**2 + sigma**2 + 1 / 12))
        drawn = _gaussian((side, side), cy, cx, width)
        shapes[n] = np.maximum(PEAK * drawn / drawn.max(), FLOOR)
        centres[n], points[n] = (cy, cx), not look.extended
        radius = max(WINDOW_SIGMA * width, MIN_WINDOW_PX)
        free[n] = look.extended & (np.hypot(y - cy, x - cx) <= radius)
    return Start(shapes, centres, points, free)


def _nearest(looks: list[Look], n: int) -> float:
    """Distance of source n to its nearest neighbour, pixels; infinite where it has none."""
    others = [look.centre for m, look in enumerate(looks) if m != n]
    return min((float(np.hypot(*np.subtract(c, looks[n].centre))) for c in others), default=np.inf)


def _least_squares(templates: Array, task: Task, unit: float) -> NDArray[np.float64]:
    """(M, B) how much of each template the image holds, none negative."""
    root = np.sqrt(task.weights)
    out = np.zeros(templates.shape[:2])
    for band in range(templates.shape[1]):
        design = (templates[:, band] * root[band] / unit).reshape(len(templates), -1)
        data = (task.image[band] * root[band]).ravel()
        matrix, vector = design @ design.T, design @ data
        # Small: the normal equations, their diagonal raised by what single precision loses.
        matrix[np.diag_indices_from(matrix)] *= 1 + 1e-5
        out[:, band], _ = scipy.optimize.nnls(matrix.astype(float), vector.astype(float))
    return out


def _parameters(start: Start, flux: NDArray[np.float64]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values of all parameters, and by the same names whether they are free (0 or 1)."""
    count, bands = len(start.points), flux.shape[1]
    spectra = np.full((count, bands), DARK, np.float32)
    # A band that starts at nothing can still grow.
    spectra[: len(flux)] = np.log(np.maximum(flux, 0.01))
    total = start.shapes.sum(axis=(1, 2))[:, None]
    extended = ~start.points[:, None]
    there = np.arange(count)[:, None] < len(flux)
    values = {
        "point": np.where(extended, DARK, spectra + np.log(total)),
        "centre": start.centres,
        "spectrum": np.where(extended, spectra, DARK),
        "shape": np.log(start.shapes / (1 - start.shapes)),
    }
    free = {
        "point": ~extended & there & np.ones(bands, bool),
        "centre": ~extended & there & np.ones(2, bool),
        "spectrum": extended & there & np.ones(bands, bool),
        "shape": start.free,
    }
    return (
        {name: np.asarray(value, np.float32) for name, value in values.items()},
        {name: np.asarray(value, np.float32) for name, value in free.items()},
    )


@dataclass(frozen=True, eq=False)
class Program:
    """Compiled for one number of bands, side, number of sources and size of PSF.

    Attributes
    ----------
    observe : (data, weights, psfs, sigma) to an observation matched to the model frame.
    render : (observation, shapes (N, S, S)) to (N, B, S, S), each of a flat spectrum.
    fit : (observation, sigma, values, free) to the sources' models (N, B, S, S) as
        observed, their fluxes (N, B), and chi2 by step.
    """

    observe: Callable[..., Any]
    render: Callable[..., Any]
    fit: Callable[..., Any]


@functools.cache
def _program(bands: int, side: int, count: int, psf_size: int) -> Program:
    eqx: Any = importlib.import_module("equinox")
    jax: Any = importlib.import_module("jax")
    jnp = jax.numpy
    scarlet2 = library()
    box = scarlet2.Box((bands, side, side))
    channels = list(range(bands))
    wcs = scarlet2.Frame(box, channels=channels).wcs  # one for all, or JAX compiles again
    scene = _dark_scene(scarlet2, jnp, scarlet2.Frame(box, wcs=wcs, channels=channels), count)

    def observe(data: Any, weights: Any, psfs: Any, sigma: Any) -> Any:
        made = scarlet2.Observation(data, weights=weights, psf=psfs, wcs=wcs, channels=channels)
        psf = scarlet2.GaussianMorphology(sigma, shape=(psf_size, psf_size))()
        model_psf = scarlet2.ArrayPSF(psf)
        made.match(scarlet2.Frame(box, psf=model_psf, wcs=wcs, channels=channels))
        return made

    def render(observation: Any, shapes: Any) -> Any:
        flat = jnp.broadcast_to(shapes[:, None], (count, bands, side, side))
        return jax.vmap(observation.render)(flat)

    def filled(sigma: Any, values: dict[str, Any]) -> Any:
        return eqx.tree_at(_leaves, scene, _filling(jax, sigma, values))

    def fit(observation: Any, sigma: Any, values: Any, free: Any) -> Any:
        def loss(values: Any) -> Any:
            return -observation.log_likelihood(filled(sigma, values)())

        values, losses = _descended(jax, loss, values, free)
        done = filled(sigma, values)
        models = jnp.stack([done.evaluate_source(s) for s in done.sources])
        models = models[:count] + models[count:]
        return jax.vmap(observation.render)(models), models.sum(axis=(2, 3)), losses

    return Program(observe, eqx.filter_jit(render), eqx.filter_jit(fit))


def _descended(jax: Any, loss: Callable[..., Any], values: Any, free: Any) -> tuple[Any, Any]:
    """`STEPS` steps of Adam down `loss` in what is free; the values, and the loss by step."""
    adam = importlib.import_module("optax").scale_by_adam()

    def step(carry: Any, at: Any) -> Any:
        values, state = carry
        value, slope = jax.value_and_grad(loss)(values)
        update, state = adam.update(slope, state)
        rate = 0.5 * (1 + jax.numpy.cos(jax.numpy.pi * at / STEPS))
        values = {
            name: values[name] - rate * length * free[name] * update[name]
            for name, length in STEP_LENGTHS.items()
        }
        return (values, state), value

    steps = jax.numpy.arange(STEPS)
    (values, _), losses = jax.lax.scan(step, (values, adam.init(values)), steps)
    return values, losses


def _leaves(scene: Any) -> list[Any]:
    """What `_filling` fills of a scene of `_dark_scene`, in its order."""
    half = len(scene.sources) // 2
    points, shapes = scene.sources[:half], scene.sources[half:]
    return [
        *(leaf for s in points for leaf in (s.spectrum, s.center, s.morphology.size)),
        *(leaf for s in shapes for leaf in (s.spectrum, s.morphology)),
    ]


def _filling(jax: Any, sigma: Any, values: dict[str, Any]) -> list[Any]:
    """The constrained values: spectra are positive, pixels between zero and one."""
    point, spectrum = jax.numpy.exp(values["point"]), jax.numpy.exp(values["spectrum"])
    shape, every = jax.nn.sigmoid(values["shape"]), range(len(values["shape"]))
    return [
        *(leaf for n in every for leaf in (point[n], values["centre"][n], sigma)),
        *(leaf for n in every for leaf in (spectrum[n], shape[n])),
    ]


def _dark_scene(scarlet2: Any, jnp: Any, frame: Any, count: int) -> Any:
    """`count` points, then as many free-form models, to be filled with values.

    Every source is given both, and one of them stays dark: a scarlet2 source of several
    components cannot be evaluated (0.5.1).
    """
    bands, side, _ = frame.bbox.shape
    middle = jnp.full(2, side // 2, float)
    with scarlet2.Scene(frame) as scene:
        for _ in range(count):
            point = scarlet2.GaussianMorphology(jnp.ones(()), shape=(side, side))
            scarlet2.Source(middle, jnp.zeros(bands), point)
        for _ in range(count):
            scarlet2.Source(middle, jnp.zeros(bands), jnp.zeros((side, side)))
    return scene


def _gaussian(shape: tuple[int, int], y: float, x: float, sigma: float) -> Image:
    """A Gaussian of unit integral sampled at pixel centres."""
    gy = np.exp(-0.5 * ((np.arange(shape[0]) - y) / sigma) ** 2)
    gx = np.exp(-0.5 * ((np.arange(shape[1]) - x) / sigma) ** 2)
    return (gy[:, None] * gx[None, :] / (2 * np.pi * sigma**2)).astype(np.float32)
