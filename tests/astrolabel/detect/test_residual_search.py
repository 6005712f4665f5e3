import numpy as np
import pytest
from fits_files import SIGMA, gaussian

from astrolabel.core import psf
from astrolabel.core.config import ResidualConfig
from astrolabel.detect import mog
from astrolabel.detect.psf_mog import mixture
from astrolabel.detect.residual_search import Sky, searched

SHAPE = (72, 72)
FWHM = 4.0


def sky(image, seed=1):
    image = np.stack([image] * 2) + np.random.default_rng(seed).normal(0, SIGMA, (2, *SHAPE))
    psfs = np.stack([gaussian((43, 43), 21, 21, 1.0, FWHM)] * 2).astype(np.float32)
    weights = np.full(image.shape, SIGMA**-2, np.float32)
    return Sky(image.astype(np.float32), weights, psfs, FWHM)


def added(image, peaks, **config):
    everywhere = np.ones(SHAPE, bool)
    models = searched(sky(image), np.array(peaks, float), everywhere, ResidualConfig(**config))
    return models.peaks[len(peaks) :]


def disc(y, x, flux, radius, ratio):
    """An exponential disc, as wide as it is because of the seeing too."""
    gy, gx = np.indices(SHAPE)
    light = np.exp(-1.68 * np.hypot((gy - y) / ratio, gx - x) / radius)
    smooth = sum(
        np.roll(light, (dy, dx), (0, 1)) * gaussian((15, 15), 7, 7, 1.0, FWHM)[dy + 7, dx + 7]
        for dy in range(-7, 8)
        for dx in range(-7, 8)
    )
    return flux * smooth / smooth.sum()


def test_a_faint_neighbour_on_the_shoulder_of_a_star_is_found():
    image = gaussian(SHAPE, 36, 36, SIGMA * 8000) + gaussian(SHAPE, 36, 42, SIGMA * 600)
    new = added(image, [(36, 36)])
    assert len(new) == 1
    assert np.hypot(*(new[0] - [36, 42])) <= 1.5


def test_a_neighbour_in_a_galaxys_disc_is_the_first_that_is_found():
    galaxy = disc(36.3, 35.8, SIGMA * 20000, 5.0, 0.5)
    new = added(galaxy + gaussian(SHAPE, 41, 42, SIGMA * 1500), [(36, 36)], contrast=0.03)
    assert np.hypot(*(new[0] - [41, 42])) <= 1.5


def test_noise_hides_nothing():
    assert len(added(gaussian(SHAPE, 36, 36, SIGMA * 2000), [(36, 36)])) == 0


def test_nothing_is_added_where_it_is_not_possible():
    image = gaussian(SHAPE, 36, 36, SIGMA * 8000) + gaussian(SHAPE, 36, 46, SIGMA * 600)
    nowhere = np.zeros(SHAPE, bool)
    models = searched(sky(image), np.array([[36.0, 36.0]]), nowhere, ResidualConfig())
    assert models.peaks.tolist() == [[36.0, 36.0]]


def test_fits_tell_what_a_source_is_worth_and_how_much_of_the_light_is_its_own():
    image = gaussian(SHAPE, 36, 36, SIGMA * 8000) + gaussian(SHAPE, 36, 42, SIGMA * 600)
    peaks = np.array([[36.0, 36.0], [36.0, 42.0], [60.0, 60.0]])
    fits = searched(sky(image), peaks, np.zeros(SHAPE, bool), ResidualConfig()).fits()
    assert fits.gain[0] > fits.gain[1] > 100 > fits.gain[2]
    assert fits.part[0] == pytest.approx(1, abs=0.05)
    assert fits.flux[:2].tolist() == pytest.approx([SIGMA * 16000, SIGMA * 1200], rel=0.15)
    assert (fits.host_flux[:2] == fits.flux[0]).all()


def test_what_is_left_is_only_added_above_its_contrast():
    image = gaussian(SHAPE, 36, 36, SIGMA * 60000) + gaussian(SHAPE, 36, 42, SIGMA * 3000)
    assert len(added(image, [(36, 36)], contrast=0.03)) == 1
    assert len(added(image, [(36, 36)], contrast=0.9, pair_gain=np.inf)) == 0


@pytest.mark.parametrize("q", [1.0, 0.8])
def test_four_gaussians_are_a_moffat_to_a_percent(q):
    stamp = psf.moffat(4.5, q=q, theta=0.6)
    mixed = mixture(stamp[None])
    assert mixed.weights.sum() == pytest.approx(1)
    templates = np.zeros((1, 1, 43, 43), np.float32)
    slopes = np.zeros((1, mog.SHAPE, 0, 0), np.float32)
    shape = np.array([21.0, 21.0, 1.0, 0.0, 1.0])
    one = np.ones((1, 1))
    mog.render(0, 0, shape, one, np.zeros(1), mixed.weights, mixed.covariances, templates, slopes)
    assert np.abs(templates[0, 0] - stamp).max() < 0.015 * stamp.max()


def test_the_slopes_of_a_source_are_its_derivatives():
    mixed = mixture(psf.moffat(4.5)[None])
    widths, amplitudes = np.array([0.0, 0.5, 1.0]), np.array([[3.0, 5.0, 7.0]])
    shape = np.array([14.7, 16.2, 6.0, 1.5, 9.0])

    def drawn(shape):
        templates = np.zeros((1, 3, 31, 31), np.float32)
        slopes = np.zeros((1, mog.SHAPE, 31, 31), np.float32)
        mog.render(
            0, 0, shape, amplitudes, widths, mixed.weights, mixed.covariances, templates, slopes
        )
        return np.tensordot(amplitudes[0], templates[0].astype(float), 1), slopes[0]

    slopes = drawn(shape)[1]
    for p in range(mog.SHAPE):
        step = np.zeros(mog.SHAPE)
        step[p] = 0.02
        numeric = (drawn(shape + step)[0] - drawn(shape - step)[0]) / 0.04
        np.testing.assert_allclose(slopes[p], numeric, atol=0.01 * np.abs(numeric).max())
