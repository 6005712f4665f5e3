import numpy as np
import pytest
from fits_files import SIGMA, gaussian

from astrolabel.core.config import ResidualConfig
from astrolabel.detect.close_pairs import Host, gain_of_second
from astrolabel.detect.residual_search import Sky, searched

SHAPE = (72, 72)
FWHM = 4.0
WIDTH = FWHM / 2.3548


def added(image, peaks, **config):
    """What the search for pairs adds alone: nothing stands out of the rest."""
    image = np.stack([image] * 2) + np.random.default_rng(1).normal(0, SIGMA, (2, *SHAPE))
    psfs = np.stack([gaussian((43, 43), 21, 21, 1.0, FWHM)] * 2).astype(np.float32)
    sky = Sky(image.astype(np.float32), np.full(image.shape, SIGMA**-2, np.float32), psfs, FWHM)
    return searched(
        sky,
        np.array(peaks, float),
        np.ones(SHAPE, bool),
        ResidualConfig(threshold_sigma=np.inf, **config),
    ).peaks[len(peaks) :]


def pair(apart):
    return gaussian(SHAPE, 36, 36, SIGMA * 1500, FWHM) + gaussian(
        SHAPE, 36, 36 + apart, SIGMA * 400, FWHM
    )


def test_a_neighbour_that_the_model_of_its_host_takes_in_is_found():
    assert len(added(pair(4.2), [(36, 36)], pair_gain=np.inf)) == 0
    new = added(pair(4.2), [(36, 36)])
    assert len(new) == 1
    assert np.hypot(*(new[0] - [36, 40.2])) <= 2


def test_what_a_neighbour_hides_does_not_keep_a_source_from_being_a_pair():
    hidden = gaussian(SHAPE, 31, 30, SIGMA * 1500, FWHM)
    image = pair(4.2) + gaussian(SHAPE, 36, 30, SIGMA * 3000, FWHM) + hidden
    new = added(image, [(36, 36), (36, 30)], rounds=1)
    for place in ([36, 40.2], [31, 30]):
        assert np.hypot(*(new - place).T).min() <= 2


def test_one_elongated_source_is_no_pair():
    y, x = np.indices(SHAPE) - 36
    spread = np.exp(-0.5 * ((y / WIDTH) ** 2 + (x / (1.6 * WIDTH)) ** 2))
    assert len(added(SIGMA * 1000 * spread / spread.sum(), [(36, 36)])) == 0


def test_a_pair_is_not_looked_for_where_it_is_not_allowed():
    assert len(added(pair(4.2), [(36, 36)], pair_snr=1e6)) == 0
    assert len(added(pair(4.2), [(36, 36)], pair_contrast=5.0)) == 0


@pytest.mark.parametrize("at", [(14, 18), (20, 20)])
def test_the_gain_is_that_of_both_sources_fitted_together(at):
    """The closed form beside a linear least-squares fit with and without the second source."""
    side, noise = 33, np.random.default_rng(3).normal(0, 1, (33, 33))
    psf_weights, psf_covariances = np.ones((1, 1)), np.array([[[WIDTH**2, 0.0, WIDTH**2]]])
    star = gaussian((side, side), 16, 16, 1.0, FWHM)
    second = gaussian((side, side), *at, 1.0, FWHM)
    weights = np.full((1, side, side), 0.25, np.float32)
    # A host of one point: it can change its flux and, as far as its prior lets it, move.
    host = Host(
        0,
        0,
        np.array([16.0, 16.0, 1.0, 0.0, 1.0]),
        np.array([[500.0]]),
        (noise + 60 * second)[None].astype(np.float32),
        weights,
    )
    everywhere = np.ones((side, side), bool)
    gain, flux = gain_of_second(host, everywhere, WIDTH, np.zeros(1), psf_weights, psf_covariances)
    y, x = np.indices((side, side)) - 16
    steps = [500 * star * y / WIDTH**2, 500 * star * x / WIDTH**2]
    basis = 0.5 * np.stack([star, *steps, second]).reshape(4, -1).T
    data = 0.5 * (noise + 60 * second).ravel()
    # The prior: half a pixel for each step.
    basis = np.vstack([basis, np.diag([0, 2.0, 2.0, 0])])
    data = np.append(data, np.zeros(4))
    both, chi2_both = np.linalg.lstsq(basis, data, rcond=None)[:2]
    chi2_alone = np.linalg.lstsq(basis[:, :3], data, rcond=None)[1]
    assert gain[at] == pytest.approx(float((chi2_alone - chi2_both)[0]), rel=0.03)
    assert flux[at] == pytest.approx(both[3], rel=0.03)


def test_a_band_without_data_around_a_source_is_left_out():
    image = (pair(4.2) + np.random.default_rng(1).normal(0, SIGMA, SHAPE)).astype(np.float32)
    psf = gaussian((43, 43), 21, 21, 1.0, FWHM).astype(np.float32)
    weights = np.full(SHAPE, SIGMA**-2, np.float32)
    found = [
        searched(
            Sky(np.stack(images), np.stack(w), np.stack([psf] * len(w)), FWHM),
            np.array([(36.0, 36.0)]), np.ones(SHAPE, bool), ResidualConfig(threshold_sigma=np.inf),
        ).peaks
        for images, w in (
            ((image, image * 0), (weights, weights * 0)), ((image,), (weights,)))
    ]  # fmt: skip
    np.testing.assert_array_equal(*found)
    assert len(found[0]) == 2
