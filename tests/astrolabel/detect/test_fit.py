import numpy as np
import pytest
from scipy import optimize

from astrolabel.core.config import FitConfig
from astrolabel.detect import fit, mog


def rendered(shape, width, side):
    templates = np.empty((1, 1, side, side), np.float32)
    none = np.empty((1, mog.SHAPE, 0, 0), np.float32)
    psf = np.array([[[2.5, 0.4, 3.0]]])
    one = np.ones((1, 1))
    mog.render(0, 0, shape, one, np.array([width]), one, psf, templates, none)
    return templates[0, 0]


@pytest.mark.parametrize("centre", [(20.3, 18.8), (-3.2, 11.0), (44.0, 41.5)])
@pytest.mark.parametrize("covariance", [(1.0, 0.0, 1.0), (60.0, 38.0, 30.0), (3.0, -9.0, 40.0)])
def test_a_gaussian_by_running_products_is_one_by_exponentials(centre, covariance):
    yy, yx, xx = np.add(covariance, [2.5, 0.4, 3.0]).tolist()
    inverse = np.linalg.inv([[yy, yx], [yx, xx]])
    y, x = np.indices((41, 41)) - np.array(centre)[:, None, None]
    q = inverse[0, 0] * y * y + 2 * inverse[0, 1] * y * x + inverse[1, 1] * x * x
    top = np.sqrt(np.linalg.det(inverse)) / (2 * np.pi)
    drawn = rendered(np.array([*centre, *covariance]), 1.0, 41)
    np.testing.assert_allclose(drawn, top * np.exp(-0.5 * q), atol=1e-6 * top)


@pytest.mark.parametrize("seed", range(20))
def test_amplitudes_are_the_non_negative_least_squares(seed):
    rng = np.random.default_rng(seed)
    basis = 100 * rng.normal(1, 0.5, (30, 6))
    basis[:, 3] = basis[:, 2] + rng.normal(0, 2, 30)  # two that are nearly alike
    data = rng.normal(0, 100, 30) + basis @ rng.normal(0, 1, 6)
    _, norm = optimize.nnls(basis, data)
    begin = np.where(rng.random(6) < 0.5, 1.0, 0.0)[None]
    found = fit.best_amplitudes((basis.T @ basis)[None], (basis.T @ data)[None], begin, 0.1)[0]
    assert (found >= 0).all()
    assert ((basis @ found - data) ** 2).sum() == pytest.approx(norm**2, rel=1e-3)


def test_an_amplitude_whose_image_is_not_seen_is_zero():
    own = np.diag([4.0, 0.0])[None]
    found = fit.best_amplitudes(own, np.array([[8.0, 0.0]]), np.ones((1, 2)), 0.1)
    assert found.tolist() == [[pytest.approx(2.0), 0.0]]


def test_sweeps_bring_two_overlapping_sources_to_what_they_are():
    widths, one = np.array([0.0, 0.5, 1.0]), np.ones((1, 1))
    psf = np.array([[[3.0, 0.0, 3.0]]])
    truth = np.array([[20.3, 18.6, 2.0, 0.5, 3.0], [22.1, 27.2, 5.0, -1.0, 4.0]])
    image = np.zeros((1, 44, 44), np.float32)
    light = np.empty_like(image)
    for shape, flux in zip(truth, (3000.0, 9000.0), strict=True):
        mog.light_of(0, 0, shape, np.array([[0.0, 0.0, flux]]), widths, one, psf, light)
        image += light
    residual, weights = image.copy(), np.ones_like(image)
    peaks = np.array([[20.0, 19.0], [22.0, 27.0]])
    shapes = np.column_stack([peaks, np.tile([1.0, 0.0, 1.0], (2, 1))])
    amplitudes, radii = np.zeros((2, 1, 3)), np.full(2, 12)
    limits = fit.limits(FitConfig())
    for turn in range(12):
        fit.one_pass(np.array([1, 0]), turn > 0, residual, weights, np.ones(1), peaks, shapes,
                     amplitudes, radii, widths, one, psf, limits)  # fmt: skip
    assert np.abs(residual).max() < 0.01 * image.max()
    np.testing.assert_allclose(shapes, truth, atol=0.4)
    np.testing.assert_allclose(amplitudes.sum(axis=(1, 2)), [3000, 9000], rtol=0.02)
