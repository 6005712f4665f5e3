import numpy as np
import pytest
from fits_files import FWHM_PX, SIGMA, gaussian, scene

from astrolabel.core import background, psf
from astrolabel.core.config.prepare import SkyConfig, StarConfig
from astrolabel.core.errors import InputError
from astrolabel.prepare import sky
from astrolabel.prepare.psf import alike, fit_stars

MIDDLE = np.array([(127.5, 127.5)])


def source_free_sky(image, valid):
    (found,) = sky.measure([image], [valid], SkyConfig(), 2.9e-7)
    return background.Sky(found.level.whole, found.rms.whole)


def stars_of(images):
    config = StarConfig()
    fits = fit_stars(images / np.float32(SIGMA), np.isfinite(images), config)
    return tuple(alike(of_band, config) for of_band in fits)


def crowded(shape=(256, 256), n=160, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.normal(0, SIGMA, shape)
    for y, x in rng.uniform(0, 256, (n, 2)):
        image += gaussian(shape, y, x, SIGMA * 10 ** rng.uniform(2, 3.5), fwhm=7)
    return image.astype(np.float32)


def test_crowding_inflates_seps_noise_and_not_the_source_free_one():
    image = crowded()
    valid = np.isfinite(image)
    assert np.median(background.sep_sky(image, valid).rms) > 1.2 * SIGMA
    free = source_free_sky(image, valid)
    assert np.median(free.rms) == pytest.approx(SIGMA, rel=0.1)
    assert abs(np.median(free.level)) < 0.5 * SIGMA


@pytest.mark.parametrize("shape", [(256, 300), (150, 130), (127, 65)])
@pytest.mark.parametrize("measure", [background.sep_sky, source_free_sky])
def test_noise_beside_a_bright_object_is_that_of_the_sky_and_never_below_zero(shape, measure):
    image = np.random.default_rng(2).normal(0, SIGMA, shape).astype(np.float32)
    image[:110, :60] *= 300  # fills boxes of the mesh, whose spline dips beside them
    sky = measure(image, np.ones(shape, bool))
    assert sky.rms.min() > 0.8 * SIGMA


def test_a_pedestal_is_found_as_the_level():
    image, _ = scene((200, 200), n=10)
    sky = source_free_sky(image + 5, np.ones(image.shape, bool))
    np.testing.assert_allclose(sky.level, 5, atol=0.2 * SIGMA)


@pytest.mark.parametrize("shape", [(20, 20), (40, 300), (7, 64)])
def test_small_images_have_a_sky_too(shape):
    image = np.random.default_rng(1).normal(2, SIGMA, shape).astype(np.float32)
    sky = source_free_sky(image, np.ones(shape, bool))
    assert np.median(sky.rms) == pytest.approx(SIGMA, rel=0.3)
    assert np.median(sky.level) == pytest.approx(2, abs=SIGMA)


def test_an_image_without_a_valid_pixel_gives_no_error():
    image = np.full((64, 64), np.nan, np.float32)
    sky = source_free_sky(image, np.isfinite(image))
    assert sky.rms.shape == image.shape


def test_psf_of_stars_is_that_of_the_image():
    image, _ = scene((256, 256), n=40)
    (found,) = stars_of(image[None])
    assert found.agree
    stamp, note = found.stamps(MIDDLE)[0], found.text()
    assert psf.fwhm_px(stamp) == pytest.approx(FWHM_PX, rel=0.05)
    assert "stars" in note
    assert stamp.sum() == pytest.approx(1, abs=1e-6)


def stars_over(shape, fwhm_at, n=60, seed=4):
    """Stars of a width that changes with place."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, SIGMA, shape).astype(np.float32)
    for y, x in rng.uniform(30, np.array(shape) - 30, (n, 2)):
        flux = SIGMA * 10 ** rng.uniform(3, 3.8)
        v, u = np.mgrid[int(y) - 25 : int(y) + 26, int(x) - 25 : int(x) + 26]
        alpha = fwhm_at(y, x) / (2 * np.sqrt(2 ** (1 / 3) - 1))
        star = (1 + ((v - y) ** 2 + (u - x) ** 2) / alpha**2) ** -3
        image[v, u] += flux * star / star.sum()
    return image


@pytest.mark.parametrize(("across", "bent"), [(0.4, 0), (0.25, 0.15)])
def test_psf_that_varies_over_an_image_is_followed(across, bent):
    shape = (1200, 1600)

    def fwhm_at(y, x):
        u, v = 2 * x / shape[1] - 1, 2 * y / shape[0] - 1
        return 4.5 * (1 + 0.5 * across * u + bent * (v**2 - 0.5))

    (found,) = stars_of(stars_over(shape, fwhm_at)[None])
    assert len(found.fits) > 25
    grid = found.grid(shape, 512)
    assert grid is not None
    assert len(grid.stamps) == 3 * 4
    for place, stamp in zip(grid.positions, grid.stamps, strict=True):
        assert psf.fwhm_px(stamp) == pytest.approx(fwhm_at(*place), rel=0.05)
    assert " to " in found.text()


def test_psf_that_does_not_vary_is_the_same_everywhere_to_a_few_per_cent():
    shape = (1200, 1600)
    (found,) = stars_of(stars_over(shape, lambda y, x: 4.5)[None])
    grid = found.grid(shape, 512)
    stamps = found.stamps(MIDDLE) if grid is None else grid.stamps
    assert [psf.fwhm_px(s) for s in stamps] == pytest.approx([4.5] * len(stamps), rel=0.03)


def test_a_few_stars_give_one_psf():
    fits = np.array([(10.0 * k, 7.0 * k % 50, 4 + 0.1 * k, 3, 0, 0) for k in range(5)])
    found = alike(fits, StarConfig())
    assert found.agree
    assert found.grid((2000, 2000), 512) is None


def test_bands_have_their_own_psf_of_the_same_stars():
    rng = np.random.default_rng(3)
    images = rng.normal(0, SIGMA, (2, 256, 256)).astype(np.float32)
    for y in range(20, 240, 40):
        for x in range(20, 240, 40):
            dy, dx = rng.uniform(-0.5, 0.5, 2)
            flux = SIGMA * 10 ** rng.uniform(3, 4)
            for image, fwhm in zip(images, (3.5, 5.0), strict=True):
                image += gaussian(image.shape, y + dy, x + dx, flux, fwhm)
    narrow, wide = stars_of(images)
    assert psf.fwhm_px(narrow.stamps(MIDDLE)[0]) == pytest.approx(3.5, rel=0.05)
    assert psf.fwhm_px(wide.stamps(MIDDLE)[0]) == pytest.approx(5.0, rel=0.05)


def test_too_few_stars_give_none():
    image = np.random.default_rng(0).normal(0, SIGMA, (100, 100)).astype(np.float32)
    assert not stars_of(image[None])[0].agree


@pytest.mark.parametrize("fwhm", [2.5, 4.0, 7.0])
def test_a_moffat_has_the_width_it_is_asked_for(fwhm):
    stamp = psf.moffat(fwhm)
    assert stamp.shape == (psf.STAMP_PX, psf.STAMP_PX)
    assert psf.fwhm_px(stamp) == pytest.approx(fwhm, rel=0.05)


def test_an_elliptical_moffat_is_longer_along_its_angle():
    stamp = psf.moffat(6, q=0.6, theta=0)
    middle = stamp.shape[0] // 2
    assert (stamp[middle] > stamp.max() / 2).sum() > (stamp[:, middle] > stamp.max() / 2).sum()


def test_stamps_are_centred_made_odd_and_normalised():
    stamp = np.zeros((20, 24))
    stamp[9, 12] = 3
    stamp[9, 13] = 1
    ready = psf.normalise(stamp, "p.fits")
    assert ready.shape == (19, 19)
    assert ready[9, 9] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("stamp", "problem"),
    [
        (np.zeros((9, 9)), "no flux"),
        (np.full((9, 9), np.nan), "not finite"),
        (np.ones(9), "shape"),
        (np.ones((5, 5)), "far from the middle"),
        (np.eye(30)[::-1] * 0 + np.pad([[1.0]], ((1, 28), (1, 28))), "far from the middle"),
    ],
)
def test_unusable_stamps_are_refused(stamp, problem):
    with pytest.raises(InputError, match=rf"p\.fits: .*{problem}"):
        psf.normalise(stamp, "p.fits")


@pytest.mark.parametrize("factor", [1 / 3, 0.8, 1.3])
def test_a_rescaled_stamp_is_the_psf_of_that_width(factor):
    out = psf.rescaled(psf.moffat(4 / factor, size=61), factor)
    np.testing.assert_allclose(out, psf.moffat(4, size=61), atol=0.02 * out.max())
    assert out[:11].sum() < 0.01


def test_stamps_of_different_sizes_are_padded():
    stack = psf.common_size([psf.moffat(4, size=21), psf.moffat(4, size=43)])
    assert stack.shape == (2, 43, 43)
    np.testing.assert_allclose(stack.sum(axis=(1, 2)), 1, rtol=1e-5)


@pytest.mark.parametrize("fwhm", [0.95, 1.3])
def test_stars_as_narrow_as_a_pixel_are_measured(fwhm):
    rng = np.random.default_rng(4)
    image = rng.normal(0, SIGMA, (256, 256))
    for y, x in np.argwhere(np.ones((8, 8))) * 30 + 20 + rng.uniform(-0.5, 0.5, (64, 2)):
        radius2 = sum((np.indices(image.shape)[k] - at) ** 2 for k, at in enumerate((y, x)))
        alpha2 = (fwhm / 2) ** 2 / (2 ** (1 / 3) - 1)
        image += SIGMA * 10 ** rng.uniform(2, 3) * (1 + radius2 / alpha2) ** -3
    (found,) = stars_of(image[None].astype(np.float32))
    assert found.agree
    assert found.fwhm_px == pytest.approx(fwhm, rel=0.05)


def test_light_beyond_float32_is_no_star_and_no_error():
    image = np.random.default_rng(0).normal(0, 1, (64, 64)).astype(np.float32)
    image[30:34, 30:34] = 3e38  # where the noise is all but zero
    (fits,) = fit_stars(image[None], np.ones((1, 64, 64), bool), StarConfig())
    assert len(fits) == 0


@pytest.mark.parametrize("mean", [0.1, 0.3, 3.0])
def test_stars_on_few_photons_are_as_wide_as_they_are(mean):
    rng = np.random.default_rng(3)
    image = np.full((256, 256), mean)
    for k, flux in enumerate(np.geomspace(300, 8000, 16)):
        y, x = np.array(divmod(k, 4)) * 60 + 35 + rng.uniform(-3, 3, 2)
        image += gaussian(image.shape, y, x, flux)
    photons = rng.poisson(image).astype(np.float32)
    relative = (photons - np.float32(mean)) / np.float32(mean**0.5)
    (fits,) = fit_stars(relative[None], np.isfinite(photons)[None], StarConfig(), [mean**-0.5])
    found = alike(fits, StarConfig())
    assert found.agree
    assert found.fwhm_px == pytest.approx(FWHM_PX, rel=0.05)  # Gaussians fitted by Moffats
