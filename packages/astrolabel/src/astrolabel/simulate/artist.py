"""From a body to its noiseless stamp in every band."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from scipy.special import gamma

from astrolabel.core.box import Box
from astrolabel.core.config.surveys import SurveySpec
from astrolabel.simulate import disc, real
from astrolabel.simulate.disc import OVERSAMPLING
from astrolabel.simulate.glare import SPIKE_FLUX, add_glare, aureole_reach, spikes
from astrolabel.simulate.population import Body, Component, sersic_b

MASK_SIGMA = 5.0
"""A truth mask is where the noiseless band sum exceeds this many sky sigma of the sum."""
STAMP_EDGE_SIGMA = 0.1
"""Stamps reach to where a band falls below this many sky sigma a pixel: the step at
their edges drowns in the noise."""
MAX_STAMP_RADIUS_PX = 400
"""67 arcsec at HSC's scale: only a star far beyond saturation would reach farther."""


class Artist:
    """Draws bodies in a survey's bands; holds the PSFs and the noise they imply.

    Attributes
    ----------
    sky_sigma : (C,) float64 counts: the noise at which a point source of the depth's
        magnitude, measured with the PSF, has 5 sigma.
    threshold : counts of the band sum above which a pixel is in a source's mask.
    """

    def __init__(self, spec: SurveySpec) -> None:
        self.spec = spec
        self._galsim = real.require_galsim()
        self._psfs = [
            self._galsim.Moffat(beta=spec.moffat_beta, fwhm=b.fwhm_arcsec).shear(
                g1=b.shear[0], g2=b.shear[1]
            )
            for b in spec.bands
        ]
        stamps = self.psf_stamps().astype(np.float64)
        # The flux error of a fit with the PSF P is sigma / sqrt(sum P^2).
        flux_at_depth = np.array([spec.counts(b.depth_mag) for b in spec.bands])
        self.sky_sigma = flux_at_depth / 5 * np.sqrt((stamps**2).sum((1, 2)))
        self.threshold = MASK_SIGMA * float(np.sqrt((self.sky_sigma**2).sum()))
        self._peaks = stamps.max((1, 2))

    def psf_stamps(self) -> NDArray[np.float32]:
        """(C, P, P), each summing to one."""
        size = self.spec.psf_stamp_px
        stamps = np.stack([self._render(psf, (size, size), (0.0, 0.0)) for psf in self._psfs])
        stamps /= stamps.sum((1, 2), keepdims=True)
        return stamps.astype(np.float32)

    def radius(self, body: Body) -> int:
        """Half a stamp's side in pixels: where every band is below the edge's brightness."""
        scale = self.spec.pixel_scale_arcsec
        reach = 0.0
        for n, band in enumerate(self.spec.bands):
            edge = STAMP_EDGE_SIGMA * self.sky_sigma[n]
            fwhm = band.fwhm_arcsec / scale
            reach = max(reach, 1.5 * fwhm)
            reach = max(reach, _moffat_reach(body.flux[n], fwhm, self.spec.moffat_beta, edge))
            for c in body.components:
                reach_round = _sersic_reach(c.flux[n], c.index, c.radius_arcsec / scale, edge)
                major = reach_round / np.sqrt(c.axis_ratio)
                # The PSF spreads the profile: by the width of its core, in quadrature.
                reach = max(reach, float(np.hypot(major, fwhm)))
        if body.real is not None:
            picture = body.real.picture
            stretch = body.real.radius_arcsec / scale / picture.half_light_px
            reach = max(reach, stretch * picture.reach_px + 1.5 * fwhm)
        if body.glare is not None:
            edges = STAMP_EDGE_SIGMA * self.sky_sigma
            reach = max(reach, aureole_reach(body.glare, body.flux, edges))
        elif self._has_spikes(body):
            reach *= 1.6  # the spikes reach beyond the disc of the wings
        return min(int(np.ceil(reach)), MAX_STAMP_RADIUS_PX)

    def draw(self, body: Body, box: Box) -> NDArray[np.float32]:
        """(C, h, w) counts of a body in a box about its centre."""
        middle = (box.y0 + (box.height - 1) / 2, box.x0 + (box.width - 1) / 2)
        offset = (body.y - middle[0], body.x - middle[1])
        out = np.empty((len(self._psfs), *box.shape), np.float32)
        # A structured galaxy's last component is the disc, which is painted.
        smooth = body.components if body.structure is None else body.components[:-1]
        shape = self._shapes(smooth)
        if body.real is not None:
            return self._seen(self._paint_real(body.real, body, box), body.flux, box.shape)
        for n, psf in enumerate(self._psfs):
            if body.is_star:
                out[n] = self._render(psf, box.shape, offset) * body.flux[n]
                continue
            profile = self._galsim.Sum(
                [s.withFlux(c.flux[n]) for s, c in zip(shape, smooth, strict=True)]
            )
            out[n] = self._render(self._galsim.Convolve(profile, psf), box.shape, offset)
        if body.structure is not None:
            out += self._seen(self._paint_disc(body, box), body.components[-1].flux, box.shape)
        if body.glare is not None:
            limits = np.array([b.saturation_counts for b in self.spec.bands])
            out = add_glare(out, box, body.y, body.x, body.flux, limits, body.glare)
        elif self._has_spikes(body):
            shape_of_spikes = spikes(box, body.y, body.x)
            out *= 1 - SPIKE_FLUX
            out += SPIKE_FLUX * body.flux[:, None, None].astype(np.float32) * shape_of_spikes
        # What the FFT leaves below zero at the edges is no light.
        np.maximum(out, 0, out=out)
        return out

    def _paint_real(self, appearance: real.Appearance, body: Body, box: Box) -> NDArray[np.float64]:
        centre = (body.y - box.y0, body.x - box.x0)
        scale = self.spec.pixel_scale_arcsec
        return real.paint(appearance, len(self._psfs), centre, box.shape, scale)

    def _paint_disc(self, body: Body, box: Box) -> NDArray[np.float64]:
        """(C, h, w) counts of a structured disc under each band's PSF."""
        assert body.structure is not None
        scale, c = self.spec.pixel_scale_arcsec, body.components[-1]
        centre = (body.y - box.y0, body.x - box.x0)
        radius = c.radius_arcsec / scale
        return disc.paint(
            body.structure, radius, c.axis_ratio, c.angle_rad, centre, box.shape, scale
        )

    def _seen(
        self, light: NDArray[np.float64], flux: NDArray[np.float64], shape: tuple[int, int]
    ) -> NDArray[np.float32]:
        """(C, h, w) counts of light painted on half pixels, under each band's PSF."""
        scale = self.spec.pixel_scale_arcsec / OVERSAMPLING
        size = OVERSAMPLING * min(self.spec.psf_stamp_px, max(shape)) + 1  # odd: it has a middle
        out = np.empty((len(self._psfs), *shape), np.float32)
        for n, psf in enumerate(self._psfs):
            fine = self._render(psf, (size, size), (0.0, 0.0), scale)
            seen = fftconvolve(light[n], fine / fine.sum(), mode="same")
            out[n] = flux[n] * seen[::OVERSAMPLING, ::OVERSAMPLING]
        np.maximum(out, 0, out=out)
        return out

    def _shapes(self, components: tuple[Component, ...]) -> list[Any]:
        shapes = []
        for c in components:
            if c.index == 1.0:
                shape = self._galsim.Exponential(half_light_radius=c.radius_arcsec)
            else:
                shape = self._galsim.Sersic(n=c.index, half_light_radius=c.radius_arcsec)
            angle = c.angle_rad * self._galsim.radians
            shapes.append(shape.shear(q=c.axis_ratio, beta=angle))
        return shapes

    def _render(
        self,
        profile: Any,
        shape: tuple[int, int],
        offset: tuple[float, float],
        scale_arcsec: float | None = None,
    ) -> NDArray[np.float64]:
        """Counts at pixel centres: the PSF is the effective one, pixel included."""
        image = profile.drawImage(
            nx=shape[1],
            ny=shape[0],
            scale=scale_arcsec or self.spec.pixel_scale_arcsec,
            offset=(offset[1], offset[0]),
            method="no_pixel",
            dtype=np.float64,
        )
        values: NDArray[np.float64] = image.array
        return values

    def _has_spikes(self, body: Body) -> bool:
        if not body.is_star:
            return False
        limits = np.array([b.saturation_counts for b in self.spec.bands])
        return bool((body.flux * self._peaks > limits).any())


def _moffat_reach(flux: float, fwhm: float, beta: float, edge: float) -> float:
    """Radius in pixels at which a Moffat falls to `edge` counts a pixel."""
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    ratio = flux * (beta - 1) / (np.pi * alpha**2) / edge
    return float(alpha * np.sqrt(max(ratio ** (1 / beta) - 1, 0.0)))


def _sersic_reach(flux: float, index: float, radius: float, edge: float) -> float:
    """Radius in pixels at which a Sersic profile falls to `edge` counts a pixel."""
    if flux <= 0:
        return 0.0
    b = sersic_b(index)
    centre = flux * b ** (2 * index) / (2 * np.pi * index * gamma(2 * index) * radius**2)
    return float(radius * (max(np.log(centre / edge), 0.0) / b) ** index)
