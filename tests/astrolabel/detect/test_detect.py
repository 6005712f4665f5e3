from dataclasses import replace

import numpy as np
import pytest
from fits_files import SIGMA, gaussian, scene
from scipy import signal

from astrolabel.core import psf
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import DetectConfig, preset
from astrolabel.detect.detect import detect, sep_sources
from astrolabel.detect.image import detection_image
from astrolabel.detect.laplacian import laplacian_peaks


def coadd(image, variance=None, valid=None):
    image = np.atleast_3d(image.T).T.astype(np.float32)  # (H, W) is one band
    variance = np.full_like(image, SIGMA**2) if variance is None else variance
    return Coadd(
        name="test",
        bands=tuple("gri"[: len(image)]),
        image=image,
        variance=variance,
        valid=np.isfinite(image) if valid is None else valid,
        psfs=np.stack([psf.moffat(4.0)] * len(image)),
        zeropoints=(27.0,) * len(image),
    )


def found(c, config=None):
    config = config or DetectConfig()
    return detect(c, detection_image(c, config), config)


def unmatched(positions, peaks, radius=2.0):
    return [p for p in positions if np.hypot(*(peaks - p).T).min() > radius]


def test_every_bright_isolated_star_is_found_once():
    image, positions = scene((160, 160), n=20)
    peaks = found(coadd(image)).peaks
    assert len(peaks) == len(positions)
    assert unmatched(positions, peaks) == []


def test_the_noise_of_the_sum_is_the_root_of_the_summed_variances():
    rng = np.random.default_rng(0)
    sigmas = np.array([0.02, 0.03, 0.06], np.float32)
    image = rng.normal(0, 1, (3, 200, 200)).astype(np.float32) * sigmas[:, None, None]
    variance = np.broadcast_to(sigmas[:, None, None] ** 2, image.shape).astype(np.float32)
    di = detection_image(coadd(image, variance), DetectConfig())
    assert np.median(di.sky_sigma) == pytest.approx(np.hypot(np.hypot(0.02, 0.03), 0.06), rel=0.01)
    assert di.image.std() == pytest.approx(np.median(di.sky_sigma), rel=0.02)


def test_sky_noise_does_not_hold_the_photon_noise_of_sources():
    image, _ = scene((160, 160), n=20)
    variance = np.full(image.shape, SIGMA**2, np.float32)
    variance += 0.05 * np.maximum(image, 0)  # Poisson term, as survey variance planes have it
    di = detection_image(coadd(image, variance[None]), DetectConfig())
    np.testing.assert_allclose(di.sky_sigma, SIGMA, rtol=0.05)
    assert (di.sigma > 1.5 * SIGMA).any()


def test_a_step_of_depth_is_kept_in_the_sky_noise():
    rng = np.random.default_rng(2)
    variance = np.full((1, 256, 256), SIGMA**2, np.float32)
    variance[:, :, 128:] *= 4
    image = (rng.normal(0, 1, variance.shape) * np.sqrt(variance)).astype(np.float32)
    sky = detection_image(coadd(image, variance), DetectConfig()).sky_sigma
    assert np.median(sky[:, :64]) == pytest.approx(SIGMA, rel=0.03)
    assert np.median(sky[:, 192:]) == pytest.approx(2 * SIGMA, rel=0.03)


def test_laplacian_peaks_part_what_multithresholding_cannot():
    shape = (64, 64)
    # 1.5 FWHM apart and 2.5 magnitudes fainter: a shoulder, not a second maximum.
    image = gaussian(shape, 32, 29, SIGMA * 20000) + gaussian(shape, 32, 35, SIGMA * 2000)
    image += np.random.default_rng(3).normal(0, SIGMA, shape)
    c = coadd(image)
    di = detection_image(c, preset("paper").detect)
    only_sep, _ = sep_sources(di, preset("paper").detect)
    assert len(only_sep) == 1
    assert unmatched([(32, 29), (32, 35)], found(c).peaks) == []


def test_a_hot_pixel_is_no_laplacian_peak():
    image = np.random.default_rng(4).normal(0, SIGMA, (64, 64))
    image[20, 30] += 12 * SIGMA
    c = coadd(image)
    assert len(laplacian_peaks(c, detection_image(c, DetectConfig()), DetectConfig())) == 0


def disc_edge_on(shape=(120, 120), tilt=0.7):
    """A bright exponential disc behind the seeing of `coadd`, seen at 82 degrees."""
    light = np.zeros(shape)
    for dy, dx in np.ndindex(3, 3):  # a pixel is wider than the disc is thick
        gy, gx = np.indices(shape) - 60 + (np.array([dy, dx]) - 1)[:, None, None] / 3
        along = np.cos(tilt) * gx + np.sin(tilt) * gy
        across = np.cos(tilt) * gy - np.sin(tilt) * gx
        light += np.exp(-np.hypot(along, across / 0.15) / 10) / 9
    return SIGMA * 400 * signal.fftconvolve(light, psf.moffat(4.0), mode="same")


def observed(light, seed):
    """With noise, of the sky and of the photons."""
    variance = (SIGMA**2 + 0.04 * SIGMA * light).astype(np.float32)
    noise = np.random.default_rng(seed).normal(0, 1, light.shape) * np.sqrt(variance)
    return coadd(light + noise, variance[None])


def test_the_ridge_of_a_disc_seen_edge_on_is_one_source_and_a_star_on_it_another():
    plain, strict = DetectConfig(source_probability=0.0, log_ridge=0.0), DetectConfig()
    disc, counts = disc_edge_on(), []
    star = np.zeros(disc.shape)
    star[74, 77] = SIGMA * 1500
    star = signal.fftconvolve(star, psf.moffat(4.0), mode="same")
    for seed in range(6):
        alone = observed(disc, seed)
        counts.append([len(found(alone, c).peaks) for c in (plain, strict)])
        peaks = found(observed(disc + star, seed)).peaks
        assert unmatched([(60, 60), (74, 77)], peaks) == []
    assert np.mean(counts, axis=0)[1] <= 1.2
    assert np.mean(counts, axis=0)[0] > 1.5


def test_a_source_too_faint_for_a_mask_is_found_beside_a_brighter_one():
    rng = np.random.default_rng(4)
    image = gaussian((96, 96), 48, 48, SIGMA * 1000) + gaussian((96, 96), 48, 57, SIGMA * 60)
    c = coadd(image + rng.normal(0, SIGMA, image.shape))
    faint = detection_image(c, DetectConfig())
    assert faint.image[48, 57] < 4.5 * faint.sky_sigma[48, 57]
    assert unmatched([(48, 48), (48, 57)], found(c).peaks) == []


def test_pure_noise_has_no_sources():
    image = np.random.default_rng(5).normal(0, SIGMA, (300, 300))
    assert len(found(coadd(image)).peaks) == 0


@pytest.mark.parametrize("name", ["default", "paper"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_make_no_source_and_lose_none(name, bad):
    image, positions = scene((160, 160), n=16)
    image[3:6, 3:6] = bad
    image[100, :] = np.where(np.arange(160) % 50 == 0, bad, image[100])
    away = [p for p in positions if abs(p[0] - 100) > 8]
    peaks = found(coadd(image), preset(name).detect).peaks
    assert unmatched(away, peaks) == []
    for y, x in peaks:
        assert np.isfinite(image[int(y), int(x)])


@pytest.mark.parametrize("dtype", [">f4", ">f8", "<f8", "f2"])
def test_any_byte_order_and_float_is_taken(dtype):
    image, positions = scene((96, 96), n=5)
    c = coadd(image.astype(dtype)[:, ::-1][:, ::-1])
    assert unmatched(positions, found(c).peaks) == []


def test_a_field_that_overflows_seps_limits_is_searched_all_the_same():
    y, x = np.mgrid[:512, :512]
    # 4096 peaks on one pedestal: one footprint of every pixel, more than sep's 1024
    # sub-objects and, at 512x512, nearly its 300,000 pixels.
    image = 10 * SIGMA + 40 * SIGMA * (np.sin(np.pi * y / 8) * np.sin(np.pi * x / 8)) ** 4
    c = coadd(image + np.random.default_rng(6).normal(0, SIGMA / 10, image.shape))
    config = DetectConfig(deblend_contrast=1e-6)  # each peak holds 1e-4 of the footprint
    peaks, segments = sep_sources(detection_image(c, config), config)
    assert len(peaks) > 3500
    assert (segments > 0).mean() > 0.9


def test_weighting_by_noise_finds_what_a_noisy_band_hides():
    rng = np.random.default_rng(7)
    sigmas = np.array([0.02, 0.02, 0.2])[:, None, None]
    image = rng.normal(0, 1, (3, 96, 96)) * sigmas
    source = gaussian((96, 96), 48, 48, 0.02 * 120)
    image += source
    variance = np.broadcast_to(sigmas**2, image.shape).astype(np.float32)
    c = coadd(image.astype(np.float32), variance)
    assert len(found(c, DetectConfig(combine="sum")).peaks) == 0
    assert unmatched([(48, 48)], found(c, DetectConfig(combine="weighted")).peaks) == []
    assert unmatched([(48, 48)], found(c, DetectConfig()).peaks) == []


def test_a_shallow_band_costs_no_depth_and_bands_alike_are_summed():
    image = np.zeros((3, 64, 64), np.float32)
    noise = np.array([0.02, 0.02, 0.2], np.float32)[:, None, None]
    shallow = detection_image(coadd(image, image + noise**2), DetectConfig())
    w, sigma = shallow.band_weights, float(np.median(shallow.sky_sigma))
    assert w.sum() / sigma >= 0.999 * 2 / (0.02 * 2**0.5)  # the ratio of the first two alone
    alike = detection_image(coadd(image, image + np.float32(4e-4)), DetectConfig())
    np.testing.assert_array_equal(alike.band_weights, 1)
    np.testing.assert_array_equal(
        detection_image(coadd(image, image + noise**2), preset("paper").detect).band_weights, 1
    )


def test_a_constant_image_has_no_sources_and_no_error():
    for name in ("default", "paper"):
        config = preset(name).detect
        c = coadd(np.zeros((64, 64), np.float32))
        assert len(found(c, config).peaks) == 0


def test_the_broken_top_of_a_saturated_star_is_one_source():
    rng = np.random.default_rng(8)
    shape = (96, 96)
    star = gaussian(shape, 48, 40, SIGMA * 3e5, fwhm=6)
    image = np.minimum(star, SIGMA * 2000) + gaussian(shape, 20, 70, SIGMA * 2000)
    saturated = star > SIGMA * 2000
    image[saturated] *= rng.uniform(0.2, 1.5, saturated.sum())  # what bleeding leaves
    c = coadd(image + rng.normal(0, SIGMA, shape))
    c = replace(c, mask=saturated[None].astype(np.int32) << 1, planes={"BAD": 0, "SAT": 1})
    peaks = found(c).peaks
    assert len(peaks) == 2
    assert unmatched([(48, 40), (20, 70)], peaks) == []
    assert len(found(c, DetectConfig(join_saturated=False)).peaks) > 4


def test_a_source_that_the_edge_cuts_has_one_peak():
    image = gaussian((64, 64), 32, 3, SIGMA * 1e5, fwhm=12)
    image += np.random.default_rng(9).normal(0, SIGMA, image.shape)
    assert len(found(coadd(image)).peaks) == 1


@pytest.mark.parametrize(("fwhm", "width"), [(4, 1), (4, 2), (4, 3), (9, 1), (9, 2)])
def test_a_bad_column_does_not_part_a_source(fwhm, width):
    for seed, first in enumerate((29, 31, 32, 34)):
        image = gaussian((64, 64), 30.3, 32.2, SIGMA * 1e3 * (fwhm / 4) ** 2, fwhm=fwhm)
        image += np.random.default_rng(seed).normal(0, SIGMA, image.shape)
        image[:, first : first + width] = np.nan
        c = coadd(image)
        peaks = found(c).peaks
        assert len(peaks) == 1
        assert unmatched([(30.3, 32.2)], peaks, radius=2.5) == []
        assert c.valid[0][tuple(peaks[0].astype(int))]


def test_most_knots_of_a_galaxy_beside_a_star_that_outshines_it_are_no_sources():
    shape, (y, x) = (180, 220), np.indices((180, 220))
    rng = np.random.default_rng(3)
    image = rng.normal(0, SIGMA, shape) + gaussian(shape, 90, 70, 900, 30)
    radius, angle = 26 * np.sqrt(rng.uniform(0.05, 1, 40)), rng.uniform(0, 2 * np.pi, 40)
    for r, a in zip(radius, angle, strict=True):
        image += gaussian(shape, 90 + r * np.sin(a), 70 + r * np.cos(a), 6.0)
    wings = (1 + ((y - 90) ** 2 + (x - 150) ** 2) / 16) ** -2.0
    image += 2000 * wings

    def in_galaxy(config):
        peaks = found(coadd(image), config).peaks
        return (np.hypot(*(peaks - (90, 70)).T) < 35).sum()

    everything = in_galaxy(DetectConfig(source_probability=0.0))
    assert everything > 30
    assert in_galaxy(DetectConfig()) < 0.4 * everything
