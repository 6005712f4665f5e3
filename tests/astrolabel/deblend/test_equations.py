import numpy as np
import pytest

from astrolabel.core.psf import FWHM_PER_SIGMA
from astrolabel.deblend import equations
from astrolabel.deblend.initialize import radii_at

BANDS, FRAME = 2, (14, 15)
BOXES = np.array([[0, 0, 9, 8], [4, 3, 10, 12], [0, 9, 4, 6]])
COUNTS = np.array([7, 3, 7])
SHARED = np.array([[0.0, 0.3], [0.3, 0.0]])


@pytest.fixture
def scene():
    rng = np.random.default_rng(5)
    images = [
        rng.normal(0, 1, (p, BANDS, h, w)).astype(np.float32)
        for p, (_, _, h, w) in zip(COUNTS, BOXES, strict=True)
    ]
    starts = np.concatenate([[0], np.cumsum([i.size for i in images])])
    flat = np.concatenate([i.ravel() for i in images])
    weights = rng.uniform(0, 2, (BANDS, *FRAME)).astype(np.float32)
    residual = rng.normal(0, 1, (BANDS, *FRAME)).astype(np.float32)
    fluxes = rng.uniform(1, 5, (3, BANDS))
    return images, (flat, starts, COUNTS, BOXES, fluxes), residual, weights


def columns(images, fluxes):
    """(parameters, C, H, W): what each parameter adds to the image."""
    out = []
    for part, (y, x, h, w), flux in zip(images, BOXES, fluxes, strict=True):
        whole = np.zeros((len(part), BANDS, *FRAME))
        whole[:, :, y : y + h, x : x + w] = part
        for c in range(BANDS):
            out.append(np.where(np.arange(BANDS)[:, None, None] == c, whole[0], 0))
        out.extend(flux[:, None, None] * image for image in whole[1:])
    return np.array(out)


def test_normal_equations_are_those_of_all_parameters_at_once(scene):
    images, parts, residual, weights = scene
    design = columns(images, parts[-1])
    matrix, vector = equations.normal_equations(*parts, residual, weights)
    np.testing.assert_allclose(
        matrix, np.einsum("pcyx,cyx,qcyx->pq", design, weights, design), rtol=1e-4, atol=1e-3
    )
    np.testing.assert_allclose(
        vector, np.einsum("pcyx,cyx->p", design, weights * residual), rtol=1e-4, atol=1e-3
    )
    assert equations.places(COUNTS, BANDS).tolist() == [0, 8, 12, 20]


def test_noise_that_bands_share_couples_them_alone(scene):
    images, parts, _, weights = scene
    design = columns(images, parts[-1]) * np.sqrt(weights)
    expected = np.einsum("pcyx,cd,qdyx->pq", design, SHARED, design)
    found = equations.shared_noise(*parts, weights, SHARED)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    assert not equations.shared_noise(*parts, weights, 0 * SHARED).any()


def test_a_step_is_smaller_with_damping_and_with_a_prior():
    matrix, vector = np.diag([2.0, 4.0, 8.0]), np.array([1.0, 4.0, 4.0])
    nothing = np.zeros(0)
    free = equations.damped_step(matrix.copy(), vector.copy(), 1, nothing, nothing, 0.0)
    np.testing.assert_allclose(free, [1.0, 0.5], rtol=1e-6)
    damped = equations.damped_step(matrix.copy(), vector.copy(), 1, nothing, nothing, 1.0)
    np.testing.assert_allclose(damped, [0.5, 0.25], rtol=1e-6)
    held = equations.damped_step(matrix, vector, 1, np.array([4.0, 0.0]), np.array([0.5, 9.0]), 0.0)
    np.testing.assert_allclose(held, [0.25, 0.5], rtol=1e-6)


def test_half_width_does_not_see_a_neighbour_nor_a_masked_pixel() -> None:
    y, x = np.mgrid[:41, :41]
    own = 100 * np.exp(-0.5 * ((y - 20) ** 2 + (x - 20) ** 2) / 9)
    image = (own + 80 * np.exp(-0.5 * ((y - 20) ** 2 + (x - 31) ** 2) / 9)).astype(np.float32)
    known = np.ones(image.shape, bool)
    known[20, 21] = known[18, 20] = False
    image[~known] = 0
    (half,) = radii_at(image, known, np.array([(20, 20)]), np.array([0.5]), 20)
    assert half == pytest.approx(0.5 * FWHM_PER_SIGMA * 3, rel=0.05)
    (least,) = radii_at(image, known, np.array([(20, 20)]), np.array([0.5]), 3)
    assert least == 3
