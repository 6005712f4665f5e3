"""From a body to its noiseless stamp in every band."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fft, ifft, irfft, next_fast_len, rfft, rfft2

from astrolabel.core.box import Box
from astrolabel.core.config.simulate import SimulateConfig
from astrolabel.simulate import disc, real
from astrolabel.simulate.population import Body
from astrolabel.simulate.profiles import Grid, Moffat, sersic, sersic_reach
from astrolabel.simulate.star_artifacts import SPIKE_FLUX, add_artifacts, spikes

MASK_SIGMA = 5.0
"""A truth mask is where the noiseless band sum exceeds this many sky sigma of the sum."""
STAMP_EDGE_SIGMA = 0.1
"""Stamps reach to where a band falls below this many sky sigma a pixel: the step at
their edges drowns in the noise."""
MAX_STAMP_RADIUS_PX = 400
"""67 arcsec at HSC's scale: only a star far beyond saturation would reach farther."""
FINE_RADIUS = 2.5
"""The smallest half-light radius of a profile, in fine pixels: below it more of them are taken."""


class Artist:
    """Draws bodies in a survey's bands; holds the PSFs and the noise they imply.

    Attributes
    ----------
    sky_sigma : (C,) float64 counts: the noise at which a point source of the depth's
        magnitude, measured with the PSF, has 5 sigma.
    threshold : counts of the band sum above which a pixel is in a source's mask.
    """

    def __init__(self, config: SimulateConfig) -> None:
        self.config, self.spec = config, config.spec
        spec = self.spec
        scale = spec.pixel_scale_arcsec
        wings = config.psf.wing_fraction
        self._wing = Moffat(
            2 * np.sqrt(2 ** (1 / config.psf.wing_beta) - 1) * config.psf.wing_arcsec / scale,
            config.psf.wing_beta,
        )
        self._cores = [Moffat(b.fwhm_arcsec / scale, spec.moffat_beta, b.shear) for b in spec.bands]
        self._core_share, self._wing_share = 1 - wings, wings
        stamps = self.psf_stamps()
        # The flux error of a fit with the PSF P is sigma / sqrt(sum P^2), were pixels
        # independent, as depths and variance planes have it.
        flux_at_depth = np.array([spec.counts(b.depth_mag) for b in spec.bands])
        self.sky_sigma = flux_at_depth / 5 * np.sqrt((stamps**2).sum((1, 2)))
        self.threshold = MASK_SIGMA * float(np.sqrt((self.sky_sigma**2).sum()))
        self._peaks = stamps.max((1, 2))
        self._fourier = lru_cache(64)(self._transformed)

    def psf_stamps(self, fwhm_ratio: float = 1.0) -> NDArray[np.float64]:
        """(C, P, P), each summing to one, with the core that many times as wide."""
        size = self.spec.psf_stamp_px
        grid = Grid((size, size), (size // 2, size // 2), 1)
        stamps = []
        for core in self._cores:
            wider = Moffat(core.fwhm_px * fwhm_ratio, core.beta, core.shear)
            light = self._core_share * wider.on(grid) + self._wing_share * self._wing.on(grid)
            stamps.append(light / light.sum())
        return np.stack(stamps)

    def radius(self, body: Body) -> int:
        """Half a stamp's side in pixels: where every band is below the edge's brightness."""
        scale = self.spec.pixel_scale_arcsec
        edges = STAMP_EDGE_SIGMA * self.sky_sigma
        reach = 0.0
        for flux, edge, core in zip(body.flux, edges, self._cores, strict=True):
            reach = max(reach, 1.5 * core.fwhm_px, core.reach(flux, edge))
            reach = max(reach, self._wing.reach(flux * self._wing_share, edge))
        fwhm = max(core.fwhm_px for core in self._cores)
        for c in body.components:
            for flux, edge in zip(c.flux, edges, strict=True):
                round_ = sersic_reach(flux, c.index, c.radius_arcsec / scale, edge)
                # The PSF spreads the profile: by the width of its core, in quadrature.
                reach = max(reach, float(np.hypot(round_ / np.sqrt(c.axis_ratio), fwhm)))
        if body.real is not None:
            stretch = body.real.radius_arcsec / scale / body.real.picture.half_light_px
            reach = max(reach, stretch * body.real.picture.reach_px + 1.5 * fwhm)
        if body.artifacts is None and self._has_spikes(body):
            reach *= 1.6  # the spikes reach beyond the disc of the wings
        return min(int(np.ceil(reach)), MAX_STAMP_RADIUS_PX)

    def draw(self, body: Body, box: Box) -> NDArray[np.float32]:
        """(C, h, w) counts of a body in a box about its centre."""
        centre = (body.y - box.y0, body.x - box.x0)
        if body.is_star:
            grid = Grid(box.shape, centre, 1)
            out = np.stack([core.on(grid) for core in self._cores])
        else:
            out = self._galaxy(body, box.shape, centre)
        # The wings are far wider than galaxies: those of their light are a point's.
        wing = self._wing.on(Grid(box.shape, centre, 1))
        if self._wing_share:
            out = self._core_share * out + self._wing_share * wing
        stamp = (out * body.flux[:, None, None]).astype(np.float32)
        if body.artifacts is not None:
            limits = np.array([b.saturation_counts for b in self.spec.bands])
            stamp = add_artifacts(stamp, box, body.y, body.x, body.flux, limits, body.artifacts)
        elif self._has_spikes(body):
            stamp *= 1 - SPIKE_FLUX
            shape = spikes(box, body.y, body.x)
            stamp += SPIKE_FLUX * body.flux[:, None, None].astype(np.float32) * shape
        # What the FFT leaves below zero at the edges is no light.
        np.maximum(stamp, 0, out=stamp)
        return stamp

    def _galaxy(
        self, body: Body, shape: tuple[int, int], centre: tuple[float, float]
    ) -> NDArray[np.float64]:
        """(C, h, w) of a galaxy under the core of each band's PSF; a band's flux is one."""
        scale = self.spec.pixel_scale_arcsec
        radii = [c.radius_arcsec / scale for c in body.components]
        fine = 2
        while fine < 8 and radii and fine * min(radii) < FINE_RADIUS:
            fine *= 2
        grid = Grid(shape, centre, fine)
        n_bands = len(self._cores)
        if body.real is not None:
            return self._seen(real.paint(body.real, n_bands, grid, scale), grid)
        if len(body.components) == 1 and body.structure is None:
            [c] = body.components  # alike in all bands, so one transform does
            profile = sersic(grid, c.index, radii[0], c.axis_ratio, c.angle_rad)
            return self._seen(profile[None], grid)
        light = np.zeros((n_bands, *grid.fine_shape))
        for c, radius in zip(body.components, radii, strict=True):
            share = (c.flux / body.flux)[:, None, None]
            if c is body.components[-1] and body.structure is not None:
                light += share * disc.paint(body.structure, radius, c.axis_ratio, c.angle_rad, grid)
            else:
                light += share * sersic(grid, c.index, radius, c.axis_ratio, c.angle_rad)
        return self._seen(light, grid)

    def _seen(self, light: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
        """(C, h, w) of light on fine pixels, under the core of each band's PSF.

        One band of light is taken for all. Only the rows that hold light are transformed, and
        only those asked for transformed back: half the time of whole two-dimensional transforms.
        """
        reach = max(grid.shape) // 2 * grid.oversampling
        size = (
            next_fast_len(grid.fine_shape[0] + 2 * reach, True),
            next_fast_len(grid.fine_shape[1] + 2 * reach, True),
        )
        spectrum = fft(rfft(light, size[1]), size[0], axis=-2, overwrite_x=True)
        product = spectrum * self._fourier(reach, size, grid.oversampling)
        h, w = grid.fine_shape
        step = grid.oversampling
        rows = ifft(product, axis=-2, norm="forward", overwrite_x=True)[:, reach : reach + h : step]
        seen = irfft(rows, size[1], norm="forward")[..., reach : reach + w : step]
        return np.asarray(seen / (size[0] * size[1]))

    def _transformed(self, reach: int, size: tuple[int, int], fine: int) -> NDArray[np.complex128]:
        """Fourier transforms of the cores on fine pixels, to `reach` of them."""
        side = 2 * (reach // fine) + 1
        grid = Grid((side, side), (side // 2, side // 2), fine)
        kernels = np.stack([core.on(grid) for core in self._cores]) / fine**2
        return np.asarray(rfft2(kernels, size))

    def _has_spikes(self, body: Body) -> bool:
        if not body.is_star:
            return False
        limits = np.array([b.saturation_counts for b in self.spec.bands])
        return bool((body.flux * self._peaks > limits).any())
