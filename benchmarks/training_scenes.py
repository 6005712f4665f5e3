"""Scenes of known truth that the source probability is trained on: real galaxies, crowds, clusters.

A real galaxy is a cutout whose neighbours are masked. It is turned, made smaller, seen through
the PSF of a scene and added to it: everything on it but its main peak is substructure, and what
else was drawn is a source. Seeds of the benchmarks are not used here, nor their galaxies
(training_galaxies.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import fftconvolve
from training_galaxies import drawn

from astrolabel.core.coadd import Coadd
from astrolabel.simulate import SimulateConfig
from astrolabel.simulate.draw import draw_scene
from astrolabel.simulate.planes import BITS

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Truth:
    """(N,) what was drawn: positions, height of the brightest pixel of the band sum in sigma, and
    counts of it. `clouds`: whether the scene has nebulosity, which is no source."""

    at: Array
    peak_sigma: Array
    height: Array
    clouds: bool = False


@dataclass(frozen=True, eq=False)
class TrainingScene:
    """Pixels and truth; `kind` names how it was drawn."""

    kind: str
    coadd: Coadd
    truth: Truth


class Canvas:
    """A scene that is being drawn: image and variance with noise, and the truth."""

    def __init__(self, image: Array, variance: Array, psfs: Array, gain: float) -> None:
        self.image, self.variance, self.psfs = image.astype(float), variance.astype(float), psfs
        self.sky = np.sqrt(np.array([np.median(v[np.isfinite(v)]) for v in variance]))
        self.gain = gain
        self.mask: NDArray[np.int32] | None = None
        self.clouds = False
        self.known_psfs = psfs
        self.at: list[tuple[float, float]] = []
        self.height: list[float] = []
        self.stamps: list[tuple[slice, slice]] = []

    @property
    def shape(self) -> tuple[int, int]:
        return self.image.shape[1], self.image.shape[2]

    def add(self, rng: np.random.Generator, light: Array, y: float, x: float) -> None:
        """Put (C, h, w) counts with their middle at a pixel, with their photons' noise."""
        h, w = light.shape[1:]
        y0, x0 = round(y) - h // 2, round(x) - w // 2
        a, b = max(y0, 0), max(x0, 0)
        c, d = min(y0 + h, self.shape[0]), min(x0 + w, self.shape[1])
        if c <= a or d <= b:
            return
        part = light[:, a - y0 : c - y0, b - x0 : d - x0]
        box = (slice(None), slice(a, c), slice(b, d))
        extra = part / self.gain
        self.image[box] += part + rng.normal(size=part.shape) * np.sqrt(extra)
        self.variance[box] += extra
        total = ndimage.gaussian_filter(light.sum(axis=0), 1.0)
        ty, tx = np.unravel_index(int(total.argmax()), total.shape)
        self.at.append((y0 + float(ty), x0 + float(tx)))
        self.height.append(float(light.sum(axis=0).max()))

    def star(self, rng: np.random.Generator, flux: Array, y: float, x: float) -> None:
        """A point source of (C,) counts."""
        shift = np.array([y - round(y), x - round(x)])
        psfs = np.stack([ndimage.shift(p, shift, order=3) for p in self.psfs])
        self.add(rng, np.maximum(psfs, 0) * flux[:, None, None], y, x)
        self.at[-1] = (y, x)

    def done(self, kind: str, bands: int | None = None) -> TrainingScene:
        """The scene, of its first `bands` bands."""
        image, variance = (a.astype(np.float32)[:bands] for a in (self.image, self.variance))
        valid = np.isfinite(image) & np.isfinite(variance) & (variance > 0)
        n = len(image)
        noise = float(np.sqrt((self.sky[:bands] ** 2).sum()))
        height = np.array(self.height) * (n / len(self.image))
        coadd = Coadd(
            name=kind, bands=tuple("grizy")[:n], image=image, variance=variance, valid=valid,
            psfs=self.known_psfs[:n].astype(np.float32), zeropoints=(27.0,) * n, planes=BITS,
            mask=self.mask if self.mask is None else self.mask[:n],
        )  # fmt: skip
        at = np.array(self.at, float).reshape(-1, 2)
        return TrainingScene(kind, coadd, Truth(at, height / noise, height, self.clouds))


def moffat(fwhm: float, beta: float, half: int = 20) -> Array:
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
    alpha = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    out = (1 + (y * y + x * x) / alpha**2) ** -beta
    return np.asarray(out / out.sum(), float)


def blank(rng: np.random.Generator, size: int, bands: int) -> Canvas:
    """Empty sky of unit noise, of some seeing, in half of the cases correlated as warps make it.

    In a third of the cases the PSF that is known is a guess: 10 % off in width, its wings others.
    """
    fwhm = rng.uniform(2.3, 6.5)
    shapes = [(fwhm * rng.uniform(0.93, 1.07), rng.uniform(2.0, 4.5)) for _ in range(bands)]
    psfs = np.stack([moffat(*shape) for shape in shapes])
    noise = rng.normal(size=(bands, size, size))
    if rng.uniform() < 0.5:
        sigma = rng.uniform(0.35, 0.6)
        noise = np.stack([ndimage.gaussian_filter(n, sigma) for n in noise])
        noise /= noise.std()
    out = Canvas(noise, np.ones_like(noise), psfs, float(10 ** rng.uniform(0.5, 4.0)))
    if rng.uniform() < 1 / 3:
        off = np.exp(rng.normal(0, 0.1))
        out.known_psfs = np.stack([moffat(off * width, 3.0) for width, _ in shapes])
    return out


def simulated(config: SimulateConfig) -> Canvas:
    """A scene of `astrolabel simulate`; its sources are the truth."""
    scene = draw_scene(config)
    out = Canvas(
        scene.image, scene.variance, scene.psfs, float(scene.spec.bands[1].electrons_per_count)
    )
    out.mask = scene.mask
    for s in scene.sources:
        out.at.append((s.body.y, s.body.x))
        out.height.append(float(s.stamp.sum(axis=0).max()) if s.stamp.size else 0.0)
    return out


def add_galaxies(
    rng: np.random.Generator, canvas: Canvas, pool: list[tuple[str, Array]], count: int,
    largest: float = 50.0,
) -> None:  # fmt: skip
    """Real galaxies of all sizes and brightnesses that the sky's noise allows to see."""
    noise = float(np.sqrt((canvas.sky**2).sum()))
    colour = np.exp(rng.normal(0, 0.4, len(canvas.image)))
    for _ in range(count):
        shares = {"cosmos": 0.25, "hdf": 0.55, "sdss": 0.2}
        kinds = sorted({k for k, _ in pool} & shares.keys())
        part = np.array([shares[k] for k in kinds])
        kind = kinds[int(rng.choice(len(kinds), p=part / part.sum()))]
        choices = [t for k, t in pool if k == kind]
        template = choices[int(rng.integers(len(choices)))]
        # Faint stamps are not enlarged much, nor made much brighter: their noise is no knots.
        radius = 10 ** (rng.uniform(0.3, 0.9) if kind == "cosmos" else
                        rng.uniform(0.4, np.log10(largest)))  # fmt: skip
        radius = min(radius, 0.2 * canvas.shape[0])
        # mean surface brightness within the half-light radius, in sigma of a pixel
        bright = 10 ** rng.uniform(0.3, 1.4 if kind == "cosmos" else 2.7)
        flux = 2 * np.pi * radius**2 * bright * noise
        light = drawn(rng, template, canvas.psfs, radius, colour) * flux
        edge = 0.15 * canvas.shape[0]
        canvas.add(rng, light, *rng.uniform(edge, canvas.shape[0] - edge, 2))


def add_sersic(rng: np.random.Generator, canvas: Canvas, count: int, largest: float) -> None:
    """Smooth galaxies: discs and early types, well resolved ones among them."""
    noise = float(np.sqrt((canvas.sky**2).sum()))
    for _ in range(count):
        radius = 10 ** rng.uniform(0.2, np.log10(largest))
        index = rng.choice([0.5, 1.0, 1.0, 2.5, 4.0])
        q, turn = rng.uniform(0.15, 1), rng.uniform(0, 3.2)
        half = int(min(6 * radius + 10, canvas.shape[0]))
        y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
        u = x * np.cos(turn) + y * np.sin(turn)
        v = (y * np.cos(turn) - x * np.sin(turn)) / q
        r = np.sqrt(u * u + v * v + 0.1) / radius
        body = np.exp(-(2 * index - 1 / 3) * (r ** (1 / index) - 1))
        light = np.stack([fftconvolve(body, p, mode="same") for p in canvas.psfs])
        colour = np.exp(rng.normal(0, 0.3, len(canvas.psfs)))
        light = np.maximum(light, 0) * colour[:, None, None]
        bright = 10 ** rng.uniform(0.0, 2.3)
        light *= 2 * np.pi * radius**2 * q * bright * noise / light.sum()
        canvas.add(rng, light, *rng.uniform(0.1, 0.9, 2) * canvas.shape[0])


def add_stars(
    rng: np.random.Generator, canvas: Canvas, count: int, low: float, high: float,
    places: Array | None = None,
) -> None:  # fmt: skip
    """Stars of a power law of peaks between `low` and `high` sigma."""
    noise = float(np.sqrt((canvas.sky**2).sum()))
    if places is None:
        places = rng.uniform(3, canvas.shape[0] - 3, (count, 2))
    top = float(canvas.psfs.max(axis=(1, 2)).mean())
    slope = rng.uniform(0.5, 0.9)
    for y, x in places:
        peak = (low**-slope + rng.uniform() * (high**-slope - low**-slope)) ** (-1 / slope)
        colour = np.exp(rng.normal(0, 0.3, len(canvas.psfs)))
        canvas.star(rng, colour / colour.sum() * peak * noise / top, float(y), float(x))


def knotty(rng: np.random.Generator, radius: float) -> Array:
    """(h, w) a made galaxy of knots on arms, on a ring or anywhere on a disc with a bulge."""
    half = int(4.5 * radius + 8)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
    q, turn = rng.uniform(0.3, 1), rng.uniform(0, 3.2)

    def placed(a: Array, b: Array) -> tuple[Array, Array]:
        b = q * b
        return a * np.sin(turn) + b * np.cos(turn), a * np.cos(turn) - b * np.sin(turn)

    u = x * np.cos(turn) + y * np.sin(turn)
    v = (y * np.cos(turn) - x * np.sin(turn)) / q
    r, angle = np.hypot(u, v) + 0.5, np.arctan2(v, u)
    pitch, arms = rng.uniform(1.2, 4.0), int(rng.integers(1, 5))
    depth = rng.uniform(0, 0.9)
    light = np.exp(-r / (0.6 * radius))
    light *= 1 + depth * np.cos(arms * (angle - pitch * np.log(r)))
    light += 10 ** rng.uniform(-1, 1) * np.exp(-r / (rng.uniform(0.05, 0.25) * radius))
    light /= light.sum()
    count = int(10 ** rng.uniform(0.5, 2.0))
    far = np.minimum(rng.exponential(0.8 * radius, count), 3.5 * radius) + 0.1 * radius
    where = pitch * np.log(far + 0.5) + 2 * np.pi * rng.integers(0, arms, count) / arms
    where = where + rng.normal(0, rng.choice([0.15, 0.4, 3.0]), count)
    flux = rng.uniform(size=count) ** -rng.uniform(0.3, 0.9)
    flux *= rng.uniform(0.02, 0.5) / flux.sum()
    knots = np.zeros_like(light)
    ky, kx = placed(far * np.cos(where), far * np.sin(where))
    at = (np.clip(np.rint(k + half).astype(int), 0, 2 * half) for k in (ky, kx))
    np.add.at(knots, tuple(at), flux)
    return light + ndimage.gaussian_filter(knots, rng.choice([0.3, 0.8, 1.5]))


def add_knotty(rng: np.random.Generator, canvas: Canvas, count: int) -> None:
    """Made galaxies with knots, of all sizes and brightnesses."""
    for _ in range(count):
        add_spiral(rng, canvas, min(10 ** rng.uniform(0.4, 1.7), 0.15 * canvas.shape[0]))


def add_spiral(rng: np.random.Generator, canvas: Canvas, radius: float) -> None:
    """A made galaxy of a half-light radius in pixels."""
    noise = float(np.sqrt((canvas.sky**2).sum()))
    colour = np.exp(rng.normal(0, 0.3, len(canvas.psfs)))
    light = drawn(rng, knotty(rng, radius)[None], canvas.psfs, radius, colour)
    light *= 2 * np.pi * radius**2 * 10 ** rng.uniform(0.3, 2.7) * noise
    edge = 0.2 * canvas.shape[0]
    canvas.add(rng, light, *rng.uniform(edge, canvas.shape[0] - edge, 2))


def cluster(rng: np.random.Generator, bands: int) -> Canvas:
    """A globular cluster, a Plummer sphere of stars."""
    size = int(rng.integers(200, 340))
    canvas = blank(rng, size, bands)
    scale = rng.uniform(0.06, 0.3) * size
    count = int(10 ** rng.uniform(2.2, 3.2))
    far = scale * np.sqrt(1 / (1 - rng.uniform(0, 0.93, count)) - 1)
    turn = rng.uniform(0, 2 * np.pi, count)
    places = size / 2 + far[:, None] * np.stack([np.sin(turn), np.cos(turn)], axis=1)
    places = places[((places > 3) & (places < size - 3)).all(axis=1)]
    add_stars(rng, canvas, 0, 3.0, 10 ** rng.uniform(2.5, 3.5), places)
    return canvas


def open_cluster(rng: np.random.Generator, bands: int) -> Canvas:
    """Bright stars close to one another, among faint ones."""
    canvas = blank(rng, 260, bands)
    add_stars(rng, canvas, int(rng.integers(5, 60)), 4.0, 300.0)
    for _ in range(int(rng.integers(1, 4))):
        middle, scale = rng.uniform(50, 210, 2), 10 ** rng.uniform(0.5, 1.5)
        places = middle + rng.normal(0, scale, (int(rng.integers(3, 25)), 2))
        places = places[((places > 3) & (places < 257)).all(axis=1)]
        add_stars(rng, canvas, 0, 30.0, 10 ** rng.uniform(2.5, 4.0), places)
    return canvas


def outskirts(rng: np.random.Generator, bands: int, pool: list[tuple[str, Array]]) -> Canvas:
    """A large galaxy, with bright point sources on and around it."""
    size = int(rng.integers(180, 380))
    canvas = blank(rng, size, bands)
    which = rng.integers(3)
    if which == 0:
        add_galaxies(rng, canvas, [t for t in pool if t[0] != "cosmos"], 1)
    elif which == 1:
        add_spiral(rng, canvas, rng.uniform(0.05, 0.18) * size)
    else:
        add_sersic(rng, canvas, 1, 0.15 * size)
    far = rng.uniform(0.05, 0.5) * size * np.sqrt(rng.uniform(size=int(rng.integers(1, 20))))
    turn = rng.uniform(0, 2 * np.pi, len(far))
    places = np.array(canvas.at[0]) + far[:, None] * np.stack([np.sin(turn), np.cos(turn)], axis=1)
    places = places[((places > 3) & (places < size - 3)).all(axis=1)]
    add_stars(rng, canvas, 0, 8.0, 10 ** rng.uniform(2.0, 3.5), places)
    return canvas


def spiral(rng: np.random.Generator, bands: int) -> Canvas:
    """A galaxy that fills much of the image, in half of the cases without a single star."""
    size = int(rng.integers(160, 440))
    canvas = blank(rng, size, bands)
    add_spiral(rng, canvas, rng.uniform(0.08, 0.22) * size)
    add_stars(rng, canvas, int(rng.integers(2)) * int(rng.integers(1, 10)), 4.0, 300.0)
    return canvas


def giant(rng: np.random.Generator, bands: int, pool: list[tuple[str, Array]]) -> Canvas:
    """A real spiral, most of the image, in a third of the cases without a star on or beside it."""
    size = int(rng.integers(200, 440))
    canvas = blank(rng, size, bands)
    templates = [t for kind, t in pool if kind == "giant"]
    template = templates[int(rng.integers(len(templates)))]
    radius = rng.uniform(0.08, 0.3) * size
    colour = np.exp(rng.normal(0, 0.3, bands))
    light = drawn(rng, template, canvas.psfs, radius, colour)
    noise = float(np.sqrt((canvas.sky**2).sum()))
    light *= 2 * np.pi * radius**2 * 10 ** rng.uniform(0.5, 2.7) * noise
    canvas.add(rng, light, *(size / 2 + rng.uniform(-0.15, 0.15, 2) * size))
    if rng.integers(3):
        add_stars(rng, canvas, int(rng.integers(1, 25)), 6.0, 10 ** rng.uniform(2.0, 3.7))
    return canvas


def edge_on(rng: np.random.Generator, bands: int) -> Canvas:
    """Thin discs, with stars in front of them and beside them."""
    size = int(rng.integers(120, 260))
    canvas = blank(rng, size, bands)
    noise = float(np.sqrt((canvas.sky**2).sum()))
    y, x = np.mgrid[-size : size + 1, -size : size + 1].astype(float)
    turn, radius = rng.uniform(0, 3.2), rng.uniform(0.04, 0.16) * size
    u = x * np.cos(turn) + y * np.sin(turn)
    v = (y * np.cos(turn) - x * np.sin(turn)) / rng.uniform(0.03, 0.2)
    body = np.exp(-np.hypot(u, v) / radius)
    light = np.stack([np.maximum(fftconvolve(body, p, mode="same"), 0) for p in canvas.psfs])
    light *= np.exp(rng.normal(0, 0.3, bands))[:, None, None]
    light *= 10 ** rng.uniform(0.7, 2.7) * noise / light.sum(axis=0).max()
    middle = size / 2 + rng.uniform(-0.15, 0.15, 2) * size
    canvas.add(rng, light, *middle)
    along = rng.uniform(-3, 3, int(rng.integers(0, 6))) * radius
    places = np.array(canvas.at[0]) + along[:, None] * np.array([np.sin(turn), np.cos(turn)])
    places += rng.normal(0, 1.5, places.shape)
    places = places[((places > 3) & (places < size - 3)).all(axis=1)]
    add_stars(rng, canvas, 0, 10.0, 10 ** rng.uniform(2.0, 3.5), places)
    return canvas


def nebula(rng: np.random.Generator, bands: int) -> Canvas:
    """Stars on bright clouds."""
    size = int(rng.integers(200, 400))
    canvas = blank(rng, size, bands)
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    k[0, 0] = 1
    wave = np.fft.fft2(rng.normal(0, 1, (size, size))) / k ** rng.uniform(1.4, 2.4)
    wave[0, 0] = 0
    cloud = np.real(np.fft.ifft2(wave))
    cloud = ndimage.gaussian_filter(np.exp(rng.uniform(0.5, 1.3) * cloud / cloud.std()), 2)
    cloud *= 10 ** rng.uniform(0.3, 1.7) / np.median(cloud)
    clouds = cloud * np.exp(rng.normal(0, 0.3, bands))[:, None, None]
    photons = clouds / canvas.gain
    canvas.clouds = True
    canvas.image += clouds + rng.normal(size=clouds.shape) * np.sqrt(photons)
    canvas.variance += photons
    add_stars(rng, canvas, int(10 ** rng.uniform(0.8, 2.2)), 8.0, 10 ** rng.uniform(2.0, 3.5))
    return canvas


def plate(rng: np.random.Generator) -> Canvas:
    """Stars of one band around saturated ones without spikes, cut off or compressed; the mask
    tells the saturated pixels or is absent."""
    canvas = blank(rng, 260, 1)
    add_stars(rng, canvas, int(rng.integers(40, 160)), 6.0, 10 ** rng.uniform(2.3, 3.0))
    y, x = np.indices(canvas.shape)
    full = 10 ** rng.uniform(2.2, 3.5)
    fwhm = 1 / np.sqrt(float(canvas.psfs[0].max()))
    for _ in range(int(rng.integers(1, 5))):
        cy, cx = rng.uniform(0, 260, 2)
        beta = rng.uniform(1.4, 2.5)
        far2 = ((y - cy) ** 2 + (x - cx) ** 2) / (0.6 * fwhm) ** 2
        canvas.image[0] += full * 10 ** rng.uniform(0.5, 3.0) * (1 + far2) ** -beta
        canvas.at.append((cy, cx))
        canvas.height.append(full)
    canvas.variance += np.maximum(canvas.image, 0) / canvas.gain
    core = canvas.image > full
    if rng.integers(2):
        canvas.image = np.minimum(canvas.image, full)
    else:
        canvas.image = full * (1 - np.exp(-canvas.image / full))
        canvas.image += rng.normal(size=canvas.image.shape)  # none is left on the flat tops
    if rng.integers(2):
        canvas.mask = np.where(core, 1 << BITS["SAT"], 0).astype(np.int32)
    return canvas


KINDS = {
    "deep": 60, "crowd": 32, "bright": 7, "decam": 12, "decam-bright": 9, "alone": 560,
    "among": 90, "field": 24, "smooth": 40, "cluster": 15, "knotty": 280, "nebula": 70,
    "plate": 18, "spiral": 52, "outskirts": 52, "open": 15, "giant": 60,
    "edge-on": 200, "small": 160,
}  # fmt: skip
"""Scenes of each kind."""


def scene(kind: str, seed: int, pool: list[tuple[str, Array]]) -> TrainingScene:
    """A scene, decided by its kind and seed."""
    rng = np.random.default_rng([seed, *kind.encode()])
    bands = int(rng.choice([1, 2, 3, 3, 3]))
    if kind == "deep":
        config = SimulateConfig(seed=seed, size=350, pair_fraction=rng.uniform(0.3, 1))
        return simulated(config).done(kind, bands)
    if kind == "crowd":
        part = rng.uniform(0.5, 1)
        config = SimulateConfig(seed=seed, size=300, density_per_arcmin2=200.0, pair_fraction=part)
        return simulated(config).done(kind, bands)
    if kind == "bright":
        return simulated(SimulateConfig(seed=seed, size=450, bright=4)).done(kind, bands)
    if kind == "decam":
        return simulated(SimulateConfig(survey="decam", seed=seed, size=400)).done(kind, bands)
    if kind == "decam-bright":
        return simulated(SimulateConfig(survey="decam", seed=seed, size=400, bright=5)).done(kind)
    if kind == "alone":
        canvas = blank(rng, int(rng.integers(120, 260)), bands)
        add_galaxies(rng, canvas, pool, 1)
        add_stars(rng, canvas, int(rng.integers(0, 8)), 4.0, 200.0)
        return canvas.done(kind)
    if kind == "knotty":
        canvas = blank(rng, int(rng.integers(140, 330)), bands)
        add_knotty(rng, canvas, 1)
        add_stars(rng, canvas, int(rng.integers(0, 12)), 4.0, 300.0)
        return canvas.done(kind)
    if kind == "among":
        survey = str(rng.choice(["hsc-deep", "decam"]))
        density = rng.uniform(30, 100) if survey == "hsc-deep" else rng.uniform(15, 40)
        canvas = simulated(SimulateConfig(survey=survey, seed=seed, size=320,
                                          density_per_arcmin2=density))  # fmt: skip
        add_galaxies(rng, canvas, pool, int(rng.integers(1, 5)))
        return canvas.done(kind, bands)
    if kind == "small":
        density, pairs = rng.uniform(10, 35), rng.uniform(0.1, 0.5)
        canvas = simulated(SimulateConfig(survey="decam", seed=seed, size=320,
                                          density_per_arcmin2=density,
                                          pair_fraction=pairs))  # fmt: skip
        add_galaxies(rng, canvas, pool, int(rng.integers(3, 9)), 12.0)
        return canvas.done(kind, bands)
    if kind == "field":
        canvas = blank(rng, 320, bands)
        small = [t for t in pool if t[0] == "cosmos"]
        noise = float(np.sqrt(bands))
        for _ in range(int(rng.integers(60, 140))):
            template = small[int(rng.integers(len(small)))][1]
            radius = 10 ** rng.uniform(0.1, 0.7)
            flux = 2 * np.pi * (radius**2 + 2) * 10 ** rng.uniform(-0.3, 1.1) * noise
            colour = np.exp(rng.normal(0, 0.4, bands))
            light = drawn(rng, template, canvas.psfs, radius, colour) * flux
            canvas.add(rng, light, *rng.uniform(5, 315, 2))
        return canvas.done(kind)
    if kind == "smooth":
        canvas = blank(rng, 320, bands)
        add_sersic(rng, canvas, int(rng.integers(1, 8)), 50.0)
        add_stars(rng, canvas, int(rng.integers(2, 30)), 4.0, 500.0)
        return canvas.done(kind)
    of_pool = {"outskirts": outskirts, "giant": giant}
    if kind in of_pool:
        return of_pool[kind](rng, bands, pool).done(kind)
    made = {"cluster": cluster, "nebula": nebula, "spiral": spiral, "open": open_cluster,
            "edge-on": edge_on}  # fmt: skip
    return made[kind](rng, bands).done(kind) if kind in made else plate(rng).done(kind)
