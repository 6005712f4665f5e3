"""What files claim, compared with their pixels: each kind of wrong file read right."""

import numpy as np
import pytest
from astropy.io import fits
from fits_files import FWHM_PX, SIGMA, gaussian, scene, tan_wcs, write_plain
from scipy import ndimage

from astrolabel.core import psf
from astrolabel.core.celestial import to_icrs
from astrolabel.core.config import PrepareConfig, SimulateConfig
from astrolabel.core.config.prepare import ArtifactConfig, NoiseConfig, SkyConfig, StarConfig
from astrolabel.core.config.simulate import PsfConfig as SimulatedPsf
from astrolabel.core.errors import InputError
from astrolabel.core.notes import DOUBT
from astrolabel.io.files import check
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.io.layers import read_wcs
from astrolabel.prepare.describe import describe
from astrolabel.prepare.read import characterise, read
from astrolabel.prepare.trails import find_trails
from astrolabel.simulate import draw_scene, write_scene

SHAPE = (256, 256)


def stars(seed=1):
    return scene(SHAPE, n=25, seed=seed)[0]


def files_of(folder, image, noise=None, kind="variance", **cards):
    science = write_plain(folder / "g.fits", image, tan_wcs(image.shape), **cards)
    extra = {}
    if noise is not None:
        extra = {kind: {"g": write_plain(folder / "noise.fits", noise.astype(np.float32))}}
    (files,) = find_coadds(Inputs(band_files=((("g",), science),), **extra))
    return files


def both(files, config=None):
    known = characterise(files, config)
    return known, read(files, known, config=config)


def sky_of(coadd):
    """Median and sigma of what is not bright."""
    values = coadd.image[0][coadd.valid[0] & (coadd.image[0] < 3 * SIGMA)]
    return float(np.median(values)), float(np.sqrt(np.median(coadd.variance[0])))


def doubts(known):
    return [str(n) for n in known.notes if n.severity == DOUBT]


@pytest.mark.parametrize("level", [20.0, -5.0])
def test_a_sky_left_in_is_subtracted_though_noise_is_given(tmp_path, level):
    variance = np.full(SHAPE, SIGMA**2)
    known, coadd = both(files_of(tmp_path, stars() + np.float32(level * SIGMA), variance))
    middle, sigma = sky_of(coadd)
    assert abs(middle) < 0.15 * SIGMA
    assert sigma == pytest.approx(SIGMA, rel=0.01)
    assert any("level of" in text and "subtracted" in text for text in doubts(known))


def test_a_gradient_is_subtracted(tmp_path):
    slope = np.linspace(0, 3 * SIGMA, SHAPE[1], dtype=np.float32)
    _, coadd = both(files_of(tmp_path, stars() + slope, np.full(SHAPE, SIGMA**2)))
    left, right = coadd.image[0][:, :60], coadd.image[0][:, -60:]
    assert abs(np.median(left) - np.median(right)) < 0.25 * SIGMA


@pytest.mark.parametrize("sigmas", [5, 50])
def test_a_vignette_is_subtracted(tmp_path, sigmas):
    shape = (384, 384)
    y, x = np.indices(shape) - 191.5
    vignette = np.cos(0.6 * np.hypot(y, x) / 271) ** 4
    image, _ = scene(shape, n=30)
    uneven = vignette * sigmas * SIGMA / np.ptp(vignette)
    _, coadd = both(files_of(tmp_path, (image + uneven).astype(np.float32)))
    left = coadd.image[0] - image
    assert np.sqrt(np.mean(left**2)) < 0.25 * SIGMA
    assert abs(left[:30, :30].mean()) < 0.25 * SIGMA
    assert np.sqrt(np.median(coadd.variance)) == pytest.approx(SIGMA, rel=0.05)


def test_a_disc_that_fills_the_frame_is_no_vignette(tmp_path):
    y, x = np.indices((400, 400)) - 199.5
    disc = 20 * np.exp(-np.hypot(y, x / 0.7) / 80)
    noise = np.random.default_rng(0).normal(0, 1, disc.shape)
    _, coadd = both(files_of(tmp_path, (disc + noise + 10).astype(np.float32)))
    lost = (disc + noise - coadd.image[0])[160:240, 160:240].mean()
    assert abs(lost) < 1  # of 13


def test_a_sky_that_is_darker_than_the_level_is_a_doubt(tmp_path):
    image, (y, x) = stars(), np.indices(SHAPE) - 127.5
    image -= np.float32(40 * SIGMA) * (np.hypot(y, x) > 140)  # a step is no vignette
    known = characterise(files_of(tmp_path, image))
    assert any("darker than the level" in text for text in doubts(known))


def test_a_sky_that_is_zero_is_left_as_it_is(tmp_path):
    image = stars()
    known, coadd = both(files_of(tmp_path, image, np.full(SHAPE, SIGMA**2)))
    np.testing.assert_array_equal(coadd.image[0], image)
    assert not doubts(known)


def test_a_large_galaxy_does_not_bend_the_sky(tmp_path):
    y, x = np.indices(SHAPE) - 128.0
    galaxy = 100 * SIGMA * np.exp(-np.hypot(y, x) / 18)
    _, coadd = both(files_of(tmp_path, (stars() + galaxy + 5).astype(np.float32)))
    lost = (stars() + galaxy)[120:136, 120:136] - coadd.image[0][120:136, 120:136]
    assert abs(np.median(lost)) < 0.5 * SIGMA


@pytest.mark.parametrize("factor", [0.03, 0.5, 2.0, 1500.0])
def test_noise_that_is_not_the_scatter_is_rescaled(tmp_path, factor):
    known, coadd = both(files_of(tmp_path, stars(), np.full(SHAPE, factor * SIGMA**2)))
    assert sky_of(coadd)[1] == pytest.approx(SIGMA, rel=0.06)
    assert any("rescaled" in text for text in doubts(known))


def test_noise_that_is_nearly_the_scatter_is_taken_as_given(tmp_path):
    _, coadd = both(files_of(tmp_path, stars(), np.full(SHAPE, 1.1 * SIGMA**2)))
    np.testing.assert_allclose(coadd.variance, 1.1 * SIGMA**2, rtol=1e-6)


def test_noise_that_does_not_follow_the_scatter_is_not_used(tmp_path):
    variance = np.full(SHAPE, SIGMA**2)
    variance[:, :128] *= 100
    known, coadd = both(files_of(tmp_path, stars(), variance))
    assert any("not used" in text for text in doubts(known))
    assert np.ptp(np.sqrt(coadd.variance)) < SIGMA


def test_files_can_be_trusted_by_setting(tmp_path):
    config = PrepareConfig(sky=SkyConfig(subtract="never"), noise=NoiseConfig(trust="files"))
    image = stars() + np.float32(20 * SIGMA)
    _, coadd = both(files_of(tmp_path, image, np.full(SHAPE, 9 * SIGMA**2)), config)
    np.testing.assert_array_equal(coadd.image[0], image)
    np.testing.assert_allclose(coadd.variance, 9 * SIGMA**2, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, -999.0, 1e30, -1e30])
def test_fill_values_are_no_data(tmp_path, value):
    image = stars() + np.float32(5)
    y, x = np.indices(SHAPE)
    empty = (y < 40) | (x + y > 430)
    image[empty] = value
    _, coadd = both(files_of(tmp_path, image))
    assert not coadd.valid[0][empty].any()
    assert coadd.valid[0][~empty].mean() > 0.999
    assert sky_of(coadd)[1] == pytest.approx(SIGMA, rel=0.06)


@pytest.mark.parametrize("bad", [np.nan, 0.0, -1.0])
def test_noise_that_is_none_is_no_data(tmp_path, bad):
    variance = np.full(SHAPE, SIGMA**2)
    variance[100:120] = bad
    _, coadd = both(files_of(tmp_path, stars(), variance))
    assert not coadd.valid[0, 100:120].any()
    assert coadd.valid[0, :100].all()


@pytest.mark.parametrize("level", [0.0, 17.0])
def test_a_fill_less_a_model_of_the_sky_is_no_data(tmp_path, level):
    image, (y, x) = stars() + np.float32(level * SIGMA), np.indices(SHAPE)
    empty = (x < 60) | (x + y > 440)
    image[empty] = 0
    model = SIGMA * (level + 0.1) * (1 + 1e-3 * x + 7e-4 * y)
    known, coadd = both(files_of(tmp_path, (image - model).astype(np.float32)))
    assert not coadd.valid[0][empty].any()
    assert coadd.valid[0][~ndimage.binary_dilation(empty, np.ones((5, 5)))].all()
    assert "without noise" in known.note("mask", "g")


def test_smooth_light_and_its_bright_core_are_data(tmp_path):
    y, x = np.indices(SHAPE) - 128
    image = 1e4 * np.exp(-np.hypot(y, x) / 40) + np.random.default_rng(0).normal(0, 1, SHAPE)
    image[120:136, 120:136] = 2e4 + 0.001 * x[120:136, 120:136] ** 2  # a smooth saturated core
    _, coadd = both(files_of(tmp_path, image.astype(np.float32)))
    assert coadd.valid.all()


def test_doubled_pixels_are_no_fill(tmp_path):
    image = np.kron(np.random.default_rng(0).normal(0, 1, (64, 64)), np.ones((4, 4)))
    _, coadd = both(files_of(tmp_path, image.astype(np.float32)))
    assert coadd.valid.all()


@pytest.mark.parametrize(("sigma", "heeded"), [(0.0, False), (1.5, True)])
def test_correlated_noise_is_measured(tmp_path, sigma, heeded):
    white = np.random.default_rng(1).normal(0, 1, SHAPE)
    noise = ndimage.gaussian_filter(white, sigma, mode="wrap")
    known, coadd = both(files_of(tmp_path, (noise / noise.std()).astype(np.float32)))
    assert float(np.sqrt(np.median(coadd.variance))) == pytest.approx(1, rel=0.06)
    assert (known.noise_correlation is not None) == heeded
    if heeded:
        two_px = np.exp(-4 / (4 * sigma**2))
        assert coadd.noise_correlation[0, 6, 8] == pytest.approx(two_px, abs=0.08)


def test_counts_of_few_photons_have_a_long_tail(tmp_path):
    counts = np.random.default_rng(0).poisson(0.1, SHAPE).astype(np.float32)
    _, coadd = both(files_of(tmp_path, counts))
    assert np.mean(coadd.image[0]) == pytest.approx(0, abs=0.02)
    assert (coadd.image[0] > 5 * np.sqrt(coadd.variance[0])).sum() <= 1


@pytest.mark.parametrize("factor", [1e-21, 1e-12, 1e20])
def test_units_beyond_float32_are_scaled_and_fluxes_stay_right(tmp_path, factor):
    image = stars().astype(np.float64)
    zeropoint = 20 + 2.5 * np.log10(factor)
    files = files_of(tmp_path, image * factor, MAGZERO=zeropoint)
    known, coadd = both(files)
    assert 1e-3 < np.sqrt(np.median(coadd.variance)) < 1e3
    flux = (coadd.image[0] * 10 ** (-0.4 * coadd.zeropoints[0])).astype(np.float64)
    true = (image - np.median(image)) * factor * 10 ** (-0.4 * zeropoint)
    bright = image > 20 * SIGMA
    np.testing.assert_allclose(flux[bright], true[bright], rtol=0.1)
    assert any("multiplied" in note.text for note in known.notes)


def rays(rng):
    hit = np.zeros(SHAPE, bool)
    for _ in range(60):
        y, x = rng.integers(5, 245, 2)
        dy, dx = rng.integers(-1, 2, 2)
        for k in range(rng.integers(1, 6)):
            hit[y + k * dy, x + k * dx] = True
    return hit


@pytest.mark.parametrize("widths", [(), (FWHM_PX,), (13.0, 9.0)])
def test_cosmic_rays_are_no_data_and_no_photon_noise_where_stars_are_few(tmp_path, widths):
    rng = np.random.default_rng(3)
    light = np.zeros(SHAPE)
    for k, width in enumerate(widths):
        light += gaussian(SHAPE, 90 + 60 * k, 120, 5000 * SIGMA, fwhm=width)
    image, hit = light + rng.normal(0, SIGMA, SHAPE), rays(rng)
    image[hit] += rng.uniform(30, 1000, hit.sum()) * SIGMA
    known, coadd = both(files_of(tmp_path, image.astype(np.float32)))
    dark = light < 3 * SIGMA
    assert not known.measured_psf[0]
    assert (~coadd.valid[0])[hit & dark].mean() > 0.95
    assert (~coadd.valid[0])[~ndimage.binary_dilation(hit, np.ones((5, 5)))].mean() < 1e-3
    assert np.percentile(coadd.variance[0][coadd.valid[0]], 99.9) < 2 * SIGMA**2


def test_cosmic_rays_are_no_stars_and_no_data(tmp_path):
    image, rng = stars(), np.random.default_rng(3)
    hit = rays(rng)
    clean = image < 3 * SIGMA
    image[hit] += rng.uniform(30, 1000, hit.sum()).astype(np.float32) * SIGMA
    known, coadd = both(files_of(tmp_path, image))
    assert psf.fwhm_px(known.psfs[0]) == pytest.approx(FWHM_PX, rel=0.1)
    assert (~coadd.valid[0])[hit & clean].mean() > 0.95
    assert (~coadd.valid[0])[~ndimage.binary_dilation(hit, np.ones((5, 5)))].mean() < 1e-3


@pytest.mark.parametrize("fwhm", [2.2, 3.0, 6.0])
def test_stars_of_any_width_are_no_cosmic_rays(tmp_path, fwhm):
    rng = np.random.default_rng(0)
    image = rng.normal(0, SIGMA, SHAPE)
    for y in range(20, 240, 44):
        for x in range(20, 240, 44):
            dy, dx = rng.uniform(-0.5, 0.5, 2)
            image += gaussian(SHAPE, y + dy, x + dx, SIGMA * 10 ** rng.uniform(2.5, 4.5), fwhm)
    _, coadd = both(files_of(tmp_path, image.astype(np.float32)))
    assert not coadd.plane("COSMIC_RAY").any()


def test_hot_pixels_in_fours_are_no_stars_and_no_data(tmp_path):
    image, rng = stars(), np.random.default_rng(3)
    clean, hit = image < 3 * SIGMA, np.zeros(SHAPE, bool)
    for y, x in rng.integers(5, 245, (25, 2)):
        hit[y : y + 2, x : x + 2] = True
        image[y : y + 2, x : x + 2] += rng.uniform(70, 400) * SIGMA
    known, coadd = both(files_of(tmp_path, image))
    assert psf.fwhm_px(known.psfs[0]) == pytest.approx(FWHM_PX, rel=0.1)
    assert (~coadd.valid[0])[hit & clean].mean() > 0.9


def test_a_trail_is_no_data_and_said(tmp_path):
    y, x = np.indices(SHAPE)
    across = (x - 2 * y + 120) / np.sqrt(5)
    trail = 20 * SIGMA * np.exp(-(across**2) / 8)
    known, coadd = both(files_of(tmp_path, (stars() + trail).astype(np.float32)))
    assert coadd.plane("TRAIL")[0][np.abs(across) < 3].all()
    assert coadd.plane("TRAIL")[0].mean() < 0.15
    assert any("trail" in text for text in doubts(known))


def test_trails_that_cross_in_a_dense_field_are_as_wide_as_they_are(tmp_path):
    y, x = np.indices(SHAPE)
    rng = np.random.default_rng(8)
    light = ndimage.gaussian_filter(rng.exponential(1, SHAPE) ** 4, FWHM_PX / 2.3548)
    light *= 0.6 * SIGMA / np.median(light)  # of no pixel is the sky dark
    one, other = (np.abs(x - 2 * y + 120) / np.sqrt(5), np.abs(3 * x + y - 500) / np.sqrt(10))
    trails = 20 * SIGMA * (np.exp(-(one**2) / 8) + np.exp(-(other**2) / 8))
    image = light + trails + rng.normal(0, SIGMA, SHAPE)
    _, coadd = both(files_of(tmp_path, image.astype(np.float32), np.full(SHAPE, SIGMA**2)))
    found = coadd.plane("TRAIL")[0]
    assert found[(one < 3) | (other < 3)].all()
    assert not found[(one > 12) & (other > 12)].any()


def test_lines_within_bright_extended_light_are_no_trails():
    binned = np.random.default_rng(1).normal(0, 0.25, (100, 100)).astype(np.float32)
    binned[:, 50:] = 5 + 4 * binned[:, 50:]
    trail = binned.copy()
    trail[:, 20:22] += 5
    known = np.ones(binned.shape, bool)
    assert find_trails(binned, known, (400, 400), ArtifactConfig()) == ()
    (found,) = find_trails(trail, known, (400, 400), ArtifactConfig())
    assert found.x == pytest.approx(4 * 21 - 0.5, abs=4)


def test_a_border_without_data_makes_no_cosmic_rays(tmp_path):
    image = np.random.default_rng(2).normal(0, SIGMA, SHAPE)
    for y in range(20, 240, 30):  # bright stars that the border cuts
        image += gaussian(SHAPE, y, 40.2, 3000 * SIGMA, FWHM_PX)
        image += gaussian(SHAPE, y, 150, 3000 * SIGMA, FWHM_PX)
    image[:, :40] = np.nan
    _, coadd = both(files_of(tmp_path, image.astype(np.float32)))
    assert not coadd.plane("COSMIC_RAY").any()


@pytest.mark.parametrize("marked", [False, True])
def test_cosmic_rays_are_looked_for_where_the_mask_marks_none(tmp_path, marked):
    image = stars()
    bits = np.zeros(SHAPE, np.int32)
    image[100, 30:34] += 500 * SIGMA
    bits[200, 200] = 8 if marked else 0
    cards = fits.Header({"HIERARCH MP_NO_DATA": 8, "MP_CR": 3})
    mask = tmp_path / "mask.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(bits, cards)]).writeto(mask)
    science = write_plain(tmp_path / "g.fits", image, tan_wcs(SHAPE))
    (files,) = find_coadds(Inputs(band_files=((("g",), science),), mask={"g": mask}))
    _, coadd = both(files)
    assert coadd.valid[0][100, 30:34].all() == marked


def test_a_disc_seen_edge_on_is_no_trail(tmp_path):
    y, x = np.indices(SHAPE) - 128.0
    disc = 100 * SIGMA * np.exp(-np.abs(x) / 30 - np.abs(y) / 2)
    _, coadd = both(files_of(tmp_path, (stars() + disc).astype(np.float32)))
    assert not coadd.plane("TRAIL").any()


def test_knots_are_no_stars(tmp_path):
    rng = np.random.default_rng(2)
    y, x = np.indices(SHAPE) - 128.0
    image = rng.normal(0, SIGMA, SHAPE) + 60 * SIGMA * np.exp(-np.hypot(y, x) / 35)
    for _ in range(25):
        a, r = rng.uniform(0, 2 * np.pi), rng.uniform(10, 60)
        place = 128 + r * np.sin(a), 128 + r * np.cos(a)
        image += gaussian(SHAPE, *place, SIGMA * 3000, rng.uniform(5, 12))
    known, _ = both(files_of(tmp_path, image.astype(np.float32)))
    assert "guess" in known.note("psf", "g")


@pytest.mark.parametrize(
    ("value", "comment", "expected"),
    [(3.7, "Median FWHM in pixels", 3.7), (0.7, "[arcsec] seeing", 0.7 / 0.168), (4.1, "", 4.1)],
)
def test_a_seeing_card_is_read_in_its_unit(tmp_path, value, comment, expected):
    image = np.random.default_rng(0).normal(0, 1, SHAPE).astype(np.float32)
    files = files_of(tmp_path, image)
    with fits.open(files.layers[0].path, mode="update") as hdus:
        hdus[0].header["FWHM"] = (value, comment)
    assert psf.fwhm_px(characterise(files).psfs[0]) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("pedestal", "side", "said"), [(0, 41, False), (1e-3, 41, True), (0, 5, True)]
)
def test_a_given_psf_with_a_level_or_cut_off_is_doubted(tmp_path, pedestal, side, said):
    stamp = write_plain(tmp_path / "p.fits", psf.moffat(FWHM_PX, size=side) + np.float32(pedestal))
    science = write_plain(tmp_path / "g.fits", stars())
    (files,) = find_coadds(Inputs(band_files=((("g",), science),), psf={"g": stamp}))
    assert any("border of the stamp" in text for text in doubts(characterise(files))) == said


def test_a_seeing_card_wider_than_a_star_is_not_believed(tmp_path):
    image = np.random.default_rng(0).normal(0, SIGMA, SHAPE)
    image += gaussian(SHAPE, 90, 120, 3000 * SIGMA)
    known, _ = both(files_of(tmp_path, image.astype(np.float32), FWHM=(4.0, "arcsec")))
    assert psf.fwhm_px(known.psfs[0]) == pytest.approx(FWHM_PX, rel=0.07)
    assert any("4 arcsec is wider than 1 star(s)" in text for text in doubts(known))


def test_a_given_psf_that_is_not_the_stars_is_doubted(tmp_path):
    stamp = write_plain(tmp_path / "p.fits", psf.moffat(7.0))
    science = write_plain(tmp_path / "g.fits", stars())
    inputs = Inputs(band_files=((("g",), science),), psf={"g": stamp})
    (files,) = find_coadds(inputs)
    assert any("stars have" in text for text in doubts(characterise(files)))


def test_a_card_that_is_not_a_number_is_left_out_and_named(tmp_path):
    files = files_of(tmp_path, stars())
    path = files.layers[0].path
    raw = bytearray(path.read_bytes())
    end = raw.find(b"END" + b" " * 77)
    raw[end : end + 80] = b"SEEING  =                  nan / no stars".ljust(80)
    raw[end + 80 : end + 160] = b"END".ljust(80)
    path.write_bytes(raw)
    assert any("SEEING" in text for text in doubts(characterise(files)))


def test_a_band_that_covers_less_is_said(tmp_path):
    short = stars()
    short[:, 192:] = np.nan
    paths = write_plain(tmp_path / "g.fits", stars()), write_plain(tmp_path / "r.fits", short)
    (files,) = find_coadds(Inputs(band_files=((("g",), paths[0]), (("r",), paths[1]))))
    known = characterise(files)
    assert known.coverage == (1.0, 0.75)
    assert any(text.startswith("r coverage: data in 75 %") for text in doubts(known))


def test_doubts_refuse_a_coadd_when_strict(tmp_path):
    files = files_of(tmp_path, stars(), np.full(SHAPE, 9 * SIGMA**2))
    with pytest.raises(InputError, match=r"variance plane is 3.* times the scatter"):
        characterise(files, PrepareConfig(strict=True))


def test_several_images_of_a_file_are_coadds_of_their_own(tmp_path):
    chips = [fits.ImageHDU(stars(k), name="SCI", ver=k + 1) for k in range(3)]
    errors = [fits.ImageHDU(np.full(SHAPE, SIGMA), name="ERR", ver=k + 1) for k in range(3)]
    fits.HDUList([fits.PrimaryHDU(), *chips, *errors]).writeto(tmp_path / "g.fits")
    found = find_coadds(Inputs(band_files=((("g",), tmp_path / "g.fits"),)))
    assert [files.name for files in found] == ["g-image1", "g-image2", "g-image3"]
    for k, files in enumerate(found):
        np.testing.assert_array_equal(both(files)[1].image[0], stars(k))


def test_describe_says_what_is_assumed_and_doubted(tmp_path):
    files = files_of(tmp_path, stars() + 1, np.full(SHAPE, 9 * SIGMA**2), MAGZERO=99.0)
    text = describe([files])
    for word in ("256x256", "ra 150.1", "read as variance", "MAGZERO = 99 stands for none",
                 "doubt: sky", "doubt: noise"):  # fmt: skip
        assert word in text


def plain_header():
    return fits.Header({
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 20.5,
        "CRPIX2": 20.5, "CD1_1": -5e-5, "CD2_2": 5e-5,
    })  # fmt: skip


@pytest.mark.parametrize(
    "cards",
    [
        {},
        {"CRVAL1": " 150.0", "CD1_1": "-5e-5"},
        {"PC1_1": 1.0, "PC2_2": 1.0, "CDELT1": -5e-5, "CDELT2": 5e-5},
    ],
)
@pytest.mark.parametrize("place", ["image", "file"])
def test_a_wcs_is_read_from_numbers_as_text_double_cards_and_the_first_header(
    tmp_path, cards, place
):
    header = plain_header()
    header.update(cards)
    own = header if place == "image" else None
    first = fits.PrimaryHDU(header=None if own else header)
    hdus = [first, fits.ImageHDU(np.zeros((40, 40), np.float32), own, name="SCI")]
    fits.HDUList(hdus).writeto(tmp_path / "g.fits")
    (files,) = find_coadds(Inputs(band_files=((("g",), tmp_path / "g.fits"),)))
    ra, dec = to_icrs(read_wcs(files.layers[0]), [19.5, 19.5], [19.5, 29.5])
    np.testing.assert_allclose([ra, dec], [[150, 150], [2, 2 + 5e-4]], atol=1e-8)


@pytest.mark.parametrize(
    ("cards", "fault"),
    [
        ({"CD1_1": 0.0, "CD2_2": 0.0}, "matrix is singular"),
        ({"CTYPE1": "RA---XXX", "CTYPE2": "DEC--XXX"}, "Unrecognized projection code"),
        ({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": "x"}, "text for a number"),
        ({"CRVAL1": "10:00:00"}, "CRVAL1 is the text"),
        ({"CRVAL1": None}, "no number in CRVAL1"),
        ({"CRPIX2": None}, "no number in CRPIX2"),
        ({"CD1_1": None, "CD2_2": None}, "no number in CDELT1, CDELT2"),
        ({"PC1_1": 1.0, "PC2_2": 1.0}, "CD and PC cards differ"),
    ],
)
def test_an_unusable_wcs_is_refused_in_plain_words(tmp_path, cards, fault):
    image = np.zeros((40, 40), np.float32)
    header = plain_header()
    header.update(cards)
    for card, value in cards.items():
        if value is None:
            del header[card]
    fits.writeto(tmp_path / "g.fits", image, header)
    (files,) = find_coadds(Inputs(band_files=((("g",), tmp_path / "g.fits"),)))
    with pytest.raises(InputError, match=fault) as refused:
        characterise(files)
    assert "wcslib" not in str(refused.value)
    assert "remove CTYPE1" in str(refused.value)


def curved(height):
    """A sky that is higher in its middle, by so many sigma."""
    y, x = (np.indices((320, 320)) - 159.5) / 160
    return (height * SIGMA * (1 - (x**2 + y**2) / 2)).astype(np.float32)


@pytest.mark.parametrize(
    "sky", [curved(15), -curved(15), np.tile(np.linspace(0, 60, 320) * SIGMA, (320, 1))]
)
@pytest.mark.parametrize("given", [True, False])
def test_a_steep_or_curved_sky_is_subtracted_and_is_no_noise(tmp_path, sky, given):
    image, _ = scene(sky.shape, n=40)
    noise = np.full(sky.shape, SIGMA**2) if given else None
    known, coadd = both(files_of(tmp_path, (image + sky).astype(np.float32), noise))
    np.testing.assert_allclose(np.median(coadd.variance), SIGMA**2, rtol=0.25)
    left = ndimage.gaussian_filter(coadd.image[0] - image, 8)
    assert np.abs(left).max() < 1.5 * SIGMA
    assert np.abs(left)[40:-40, 40:-40].mean() < 0.3 * SIGMA
    assert "follow" not in known.note("noise", "g")


def test_a_galaxy_beside_the_frames_middle_is_no_curved_sky(tmp_path):
    y, x = np.indices((320, 320)) - 130.0
    galaxy = 40 * SIGMA * np.exp(-np.hypot(y, x) / 30)
    image = np.random.default_rng(1).normal(0, SIGMA, galaxy.shape) + galaxy
    _, coadd = both(files_of(tmp_path, image.astype(np.float32)))
    lost = (image - coadd.image[0])[np.hypot(y, x) < 60]
    assert np.abs(lost).max() < 0.8 * SIGMA


@pytest.mark.parametrize("value", [65535.0, 99999.0])
def test_a_bright_fill_is_no_data_and_a_saturated_star_is(tmp_path, value):
    image = stars() + np.float32(5)
    y, x = np.indices(SHAPE)
    empty = x + y > 400
    star = gaussian(SHAPE, 90, 80, 1e4 * value, 6.0)
    image = np.minimum(image + star.astype(np.float32), value)
    image[60:120, 79:82] = value  # charge that bleeds
    image[empty] = value
    _, coadd = both(files_of(tmp_path, image))
    assert not coadd.valid[0][empty].any()
    assert coadd.valid[0, 85:95, 75:85].all()
    assert coadd.plane("SAT")[0, 90, 80]


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.0])
@pytest.mark.parametrize("level", [0, 300])
def test_noise_of_coarse_integers_is_theirs(tmp_path, sigma, level):
    image, _ = scene(SHAPE, n=25, sigma=sigma)
    whole = np.rint(image + level)
    true = np.hypot(sigma, 1 / np.sqrt(12))
    known, coadd = both(files_of(tmp_path, whole.astype(np.float32)))
    assert np.sqrt(np.median(coadd.variance)) == pytest.approx(true, rel=0.08)
    variance = np.full(SHAPE, true**2)
    (tmp_path / "given").mkdir()
    known, _ = both(files_of(tmp_path / "given", whole.astype(np.float32), variance))
    assert not any("noise" in text for text in doubts(known))


def test_counts_have_the_noise_of_their_photons(tmp_path):
    rng = np.random.default_rng(0)
    light = 0.1 + sum(gaussian(SHAPE, y, x, 400) for y in (60, 180) for x in (50, 120, 200))
    known, _ = both(files_of(tmp_path, (rng.poisson(light) / 1500).astype(np.float32)))
    assert known.bands[0].electrons == pytest.approx(1500)


@pytest.mark.parametrize("mean", [0.03, 0.3, 1.0])
def test_counts_over_an_exposure_have_the_noise_of_counts(tmp_path, mean):
    rng, (y, x) = np.random.default_rng(1), np.indices(SHAPE)
    exposure = (1500 - 2 * np.hypot(y - 128, x - 128)).astype(np.float32)
    counts = rng.poisson(mean, SHAPE).astype(np.float32)
    typical = float(np.median(exposure))
    known, _ = both(files_of(tmp_path, counts / exposure))
    whole, _ = both(files_of(tmp_path, counts))
    rms, tail = (float(np.median(k.bands[0].rms.values)) for k in (known, whole))
    assert rms == pytest.approx(tail / typical, rel=0.15)
    assert known.bands[0].electrons == pytest.approx(typical, rel=0.15)


@pytest.mark.parametrize("mean", [0.03, 0.1, 1.0])
def test_counts_of_few_photons_are_not_correlated(tmp_path, mean):
    counts = np.random.default_rng(1).poisson(mean, SHAPE)
    known, _ = both(files_of(tmp_path, counts.astype(np.float32)))
    assert known.noise_correlation is None


def test_stars_are_measured_where_another_band_has_no_data(tmp_path):
    short = stars(2)
    short[:, 60:] = np.nan
    paths = write_plain(tmp_path / "g.fits", stars()), write_plain(tmp_path / "r.fits", short)
    (files,) = find_coadds(Inputs(band_files=((("g",), paths[0]), (("r",), paths[1]))))
    known = characterise(files)
    assert "fitted to" in known.note("psf", "g")
    assert psf.fwhm_px(known.psfs[0]) == pytest.approx(FWHM_PX, rel=0.1)


def test_a_zero_point_that_no_sky_has_is_not_used(tmp_path):
    known, coadd = both(files_of(tmp_path, stars() * 100, MAGZERO=0.0))
    assert np.isnan(coadd.zeropoints[0])
    assert any("makes the sky's noise" in text for text in doubts(known))


@pytest.mark.parametrize("unit", ["mag/arcsec2", "log(counts)", "sqrt(e-)", "mag"])
def test_pixels_that_are_no_linear_flux_are_refused(tmp_path, unit):
    with pytest.raises(InputError, match="not linear in flux"):
        check(files_of(tmp_path, stars(), BUNIT=unit))


@pytest.mark.parametrize("cards", [{"BSOFTEN": 2.0}, {"BSOFTEN": "none", "BOFFSET": 0.5}])
def test_asinh_pixels_whose_cards_do_not_undo_them_are_refused(tmp_path, cards):
    with pytest.raises(InputError, match="asinh of the flux"):
        check(files_of(tmp_path, stars(), **cards))


@pytest.mark.parametrize(("ratio", "rescaled"), [(1.0, False), (1.1, False), (1.3, True)])
def test_a_given_psf_wider_than_sources_is_rescaled(tmp_path, ratio, rescaled):
    scene_config = SimulateConfig(size=300, seed=3, psf=SimulatedPsf(claimed_fwhm_ratio=ratio))
    write_scene(draw_scene(scene_config), tmp_path)
    (files,) = find_coadds(Inputs((tmp_path,)))
    known = characterise(files)
    true = [psf.fwhm_px(stamp) for stamp in draw_scene(SimulateConfig(size=64, seed=3)).psfs]
    widths = np.array([psf.fwhm_px(stamp) for stamp in known.psfs])
    np.testing.assert_allclose(widths / true, 1 if rescaled else ratio, atol=0.08)
    assert any("rescaled" in text for text in doubts(known)) == rescaled
    np.testing.assert_allclose(known.psfs.sum(axis=(1, 2)), 1, rtol=1e-5)


@pytest.mark.parametrize("width", [2.9, 5.3])
def test_a_given_psf_is_rescaled_to_many_stars_unless_files_are_trusted(tmp_path, width):
    stamp = write_plain(tmp_path / "p.fits", psf.moffat(width))
    science = write_plain(tmp_path / "g.fits", stars())
    (files,) = find_coadds(Inputs(band_files=((("g",), science),), psf={"g": stamp}))
    known = characterise(files)
    assert psf.fwhm_px(known.psfs[0]) == pytest.approx(FWHM_PX, rel=0.07)
    config = PrepareConfig(stars=StarConfig(trust="files"))
    assert psf.fwhm_px(characterise(files, config).psfs[0]) == pytest.approx(width, rel=0.02)


def test_cosmic_rays_are_no_sign_of_a_narrower_psf(tmp_path):
    rng = np.random.default_rng(5)
    image = stars()
    hits = tuple(rng.integers(5, 250, (2, 60)))
    image[hits] += rng.uniform(30, 1000, 60).astype(np.float32) * SIGMA
    stamp = write_plain(tmp_path / "p.fits", psf.moffat(FWHM_PX))
    science = write_plain(tmp_path / "g.fits", image)
    (files,) = find_coadds(Inputs(band_files=((("g",), science),), psf={"g": stamp}))
    assert not doubts(characterise(files))


def test_an_image_of_one_value_has_no_data(tmp_path):
    known, coadd = both(files_of(tmp_path, np.full(SHAPE, 7, np.float32)))
    assert not coadd.valid.any()
    assert "no pixel with data" in known.note("coverage", "g")


def test_a_galaxy_alone_is_no_psf_where_the_survey_is_known(tmp_path):
    image = np.random.default_rng(5).normal(0, SIGMA, SHAPE)
    image += gaussian(SHAPE, 128, 128, 10_000 * SIGMA, fwhm=13)
    known, _ = both(files_of(tmp_path, image.astype(np.float32)))
    assert psf.fwhm_px(known.psfs[0]) == pytest.approx(13, rel=0.05)  # for want of anything else
    known, _ = both(files_of(tmp_path, image.astype(np.float32), INSTRUME="MegaPrime"))
    assert psf.fwhm_px(known.psfs[0]) == pytest.approx(0.7 / 0.168, rel=0.05)
    assert any("too few stars: what is usual for CFHT" in text for text in doubts(known))


@pytest.mark.parametrize("given", [False, True])
def test_stars_are_as_wide_where_the_noise_is_that_of_their_photons(tmp_path, given):
    rng = np.random.default_rng(2)
    places = np.array([(y, x) for y in range(20, 240, 50) for x in range(20, 240, 50)])
    light = sum(
        gaussian(SHAPE, y, x, SIGMA * 10 ** rng.uniform(2.7, 4))
        for y, x in places + rng.uniform(-3, 3, places.shape)
    )
    variance = SIGMA**2 + light * SIGMA
    image = light + rng.normal(0, 1, SHAPE) * np.sqrt(variance)
    science = write_plain(tmp_path / "g.fits", image.astype(np.float32))
    noise = write_plain(tmp_path / "v.fits", variance.astype(np.float32))
    stamp = write_plain(tmp_path / "p.fits", psf.moffat(FWHM_PX, beta=8))
    extra = {"psf": {"g": stamp}} if given else {}
    (files,) = find_coadds(Inputs(band_files=((("g",), science),), variance={"g": noise}, **extra))
    known = characterise(files)
    assert psf.fwhm_px(known.psfs[0]) == pytest.approx(FWHM_PX, rel=0.07)
    assert not doubts(known)


def moffats(seed=1):
    """Stars on a sky of unit noise, 20 times as bright at the most as the faintest."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 1, (400, 400))
    stamp = psf.moffat(4.0)
    half = stamp.shape[0] // 2
    for k, flux in enumerate(rng.permutation(np.geomspace(1000, 20000, 36))):
        y, x = np.array(divmod(k, 6)) * 62 + 44
        part = (slice(y - half, y + half + 1), slice(x - half, x + half + 1))
        image[part] += flux * stamp
    return image


NOT_LINEAR = {
    "root": lambda flux: np.sign(flux) * np.sqrt(np.abs(flux)),
    "root of a sky and more": lambda flux: np.sqrt(flux + 100),
    "asinh": lambda flux: np.arcsinh(flux / 20),
    "narrow asinh": lambda flux: np.arcsinh(flux / 2),
    "logarithm": lambda flux: np.log10(flux + 100),
}


@pytest.mark.parametrize("kind", NOT_LINEAR)
def test_pixels_that_are_no_linear_flux_are_a_doubt(tmp_path, kind):
    pixels = NOT_LINEAR[kind](moffats()).astype(np.float32)
    assert any(
        "no linear flux" in text for text in doubts(characterise(files_of(tmp_path, pixels)))
    )


@pytest.mark.parametrize("seed", range(3))
def test_linear_stars_and_galaxies_are_none(tmp_path, seed):
    image = moffats(seed)
    for k, radius in enumerate(np.linspace(2, 8, 9)):  # those of low surface brightness are wide
        y, x = np.array(divmod(k, 3)) * 120 + 75
        image += 40 * np.exp(-np.hypot(*(np.indices(image.shape) - [[[y]], [[x]]])) / radius)
    known = characterise(files_of(tmp_path, image.astype(np.float32)))
    assert not any("no linear flux" in text for text in doubts(known))


@pytest.mark.parametrize("step", [0.0, 0.1])
def test_faint_values_that_were_cut_off_are_a_doubt(tmp_path, step):
    image = stars() / np.float32(SIGMA)
    image = np.rint(image / step) * step if step else image
    whole = characterise(files_of(tmp_path, (image + 10).astype(np.float32)))
    cut = characterise(files_of(tmp_path, np.maximum(image, 0).astype(np.float32)))
    assert not any("cut off" in text for text in doubts(whole))
    assert any("cut off" in text for text in doubts(cut))


def test_photons_of_which_most_pixels_have_none_were_not_cut_off(tmp_path):
    photons = np.random.default_rng(1).poisson(0.2, SHAPE).astype(np.float32)
    assert not any("cut off" in text for text in doubts(characterise(files_of(tmp_path, photons))))


def test_a_band_without_data_is_not_covered_by_others_where_there_are_none(tmp_path):
    found = doubts(characterise(files_of(tmp_path, np.full(SHAPE, 7, np.float32))))
    assert any("no pixel with data" in text for text in found)
    assert not any("by other bands" in text for text in found)


@pytest.mark.parametrize(("radius", "fills"), [(8, False), (40, True)])
def test_a_source_that_fills_the_frame_is_a_doubt(tmp_path, radius, fills):
    y, x = np.indices((150, 150)) - 75
    galaxy = 100 * np.exp(-np.hypot(y, x / 0.7) / radius)
    image = galaxy + np.random.default_rng(0).normal(0, 1, galaxy.shape)
    known = characterise(files_of(tmp_path, image.astype(np.float32)))
    assert any("small parts" in text for text in doubts(known)) == fills


@pytest.mark.parametrize("width", [1.0, 2.5, 3.0])
def test_smoothed_noise_is_a_sky(tmp_path, width):
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 1, SHAPE), width)
    known = characterise(files_of(tmp_path, (noise / noise.std()).astype(np.float32)))
    assert not any("small parts" in text for text in doubts(known))
