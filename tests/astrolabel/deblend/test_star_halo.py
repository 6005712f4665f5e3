import numpy as np
import pytest
from fits_files import FWHM_PX, SIGMA

from astrolabel.core import psf
from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import DeblendConfig, HaloConfig, LabelConfig, preset
from astrolabel.deblend import make_deblender
from astrolabel.deblend.star_halo import Halo, measure_halo, take_halos, typical_sigma
from astrolabel.detect.image import detection_image
from astrolabel.label.tile import deblend

SHAPE = (181, 181)
STAR = np.array([88.3, 92.6])
FLUX = 3e6 * SIGMA
PSF = psf.moffat(FWHM_PX, size=101)
STAMP = PSF[29:72, 29:72] / PSF[29:72, 29:72].sum()


def point(at, flux):
    r2 = ((np.indices(SHAPE) - np.asarray(at)[:, None, None]) ** 2).sum(axis=0)
    beta = psf.MOFFAT_BETA
    alpha2 = FWHM_PX**2 / (4 * (2 ** (1 / beta) - 1))
    return flux * (beta - 1) / (np.pi * alpha2) * (1 + r2 / alpha2) ** -beta


def starlight(halo=True, at=STAR):
    """(light, saturated) of a star: its PSF, and an aureole and four spikes."""
    rows, columns = np.indices(SHAPE) - np.asarray(at)[:, None, None]
    r = np.hypot(rows, columns)
    light = point(at, FLUX)
    if halo:
        light += 1500 * SIGMA * (1 + (r / 8) ** 2) ** -1.7
        for along, across in ((rows + columns, rows - columns), (rows - columns, rows + columns)):
            light += 1e5 * SIGMA * np.exp(-((across / 2) ** 2)) / np.maximum(abs(along), 8) ** 2
    trail = (np.abs(columns) < 1) & (np.abs(rows) < 14)
    return light, (r < 5) | trail


def observed(light, seed=1):
    noise = np.random.default_rng(seed).normal(0, SIGMA, SHAPE)
    return (light + noise)[None].astype(np.float32)


def measured(image, saturated, peak=STAR, reach=20):
    weights = np.full(image.shape, SIGMA**-2, np.float32)
    broken = np.where(saturated, 5.0 * SIGMA, image).astype(np.float32)  # nothing is known there
    sigma = typical_sigma(weights)
    return measure_halo(
        broken, weights, sigma, saturated, STAMP[None], np.asarray(peak), HaloConfig(reach)
    )


def whole(halo):
    out = np.zeros(SHAPE)
    out[halo.box.slices] = halo.light[0]
    return out


def test_a_halo_and_the_psf_are_the_light_of_the_star():
    light, saturated = starlight()
    psf_alone, _ = starlight(halo=False)
    halo = measured(observed(light), saturated)
    shown = (light > 5 * SIGMA) & ~saturated
    both = (whole(halo) + psf_alone > 5 * SIGMA) & ~saturated
    assert (both & shown).sum() > 0.9 * (both | shown).sum()
    bright = shown & (light > 20 * SIGMA)
    off = np.abs((whole(halo) + psf_alone)[bright] / light[bright] - 1)
    assert np.median(off) < 0.05
    assert np.quantile(off, 0.9) < 0.25
    assert whole(halo)[saturated].max() == 0
    np.testing.assert_array_equal(halo.full, saturated[halo.box.slices])


def test_spikes_are_in_the_halo_and_what_lies_between_them_is_not():
    light, saturated = starlight()
    halo = whole(measured(observed(light), saturated))
    y, x = np.rint(STAR).astype(int)
    for d in (18, 24):
        on = [halo[y + d * s, x + d * t] for s in (1, -1) for t in (1, -1)]
        between = [halo[y + round(1.4 * d) * s, x] for s in (1, -1)]
        assert min(on) > 1.5 * max(between)


def test_a_star_that_is_its_psf_has_next_to_no_halo():
    light, saturated = starlight(halo=False)
    halo = whole(measured(observed(light), saturated))
    assert halo.sum() < 0.02 * FLUX
    shown = (light > 20 * SIGMA) & ~saturated
    assert np.quantile(halo[shown] / light[shown], 0.9) < 0.2


@pytest.mark.parametrize("at", [(0, 26), (-18, -18), (30, 12)])
def test_a_neighbour_keeps_its_light_even_on_a_spike(at):
    light, saturated = starlight()
    place = STAR + at
    neighbour = point(place, 1500 * SIGMA)
    alone = whole(measured(observed(light), saturated))
    beside = whole(measured(observed(light + neighbour), saturated))
    near = np.hypot(*(np.indices(SHAPE) - place[:, None, None])) < 2 * FWHM_PX
    assert abs((beside - alone)[near].sum()) < 0.1 * neighbour.sum()


def test_the_middle_of_the_star_is_found_where_the_saturated_region_is_not_about_it():
    light, saturated = starlight()
    image = observed(light)
    halos = [whole(measured(image, saturated, STAR + off)) for off in ((0, 0), (3, -2))]
    assert (np.abs(halos[0] - halos[1]) < 0.02 * light + SIGMA).all()


@pytest.mark.parametrize("edge", [(0.0, 92.0), (4.0, 176.0)])
def test_a_star_at_the_edge_has_the_halo_that_is_seen(edge):
    light, saturated = starlight(at=edge)
    halo = whole(measured(observed(light), saturated, edge))
    shown = (light > 10 * SIGMA) & ~saturated
    assert np.isfinite(halo).all()
    assert np.median(halo[shown] / light[shown]) > 0.3


def test_halos_are_taken_out_of_the_image_and_only_where_stars_are_saturated():
    light, saturated = starlight()
    image = observed(light)
    weights = np.full(image.shape, SIGMA**-2, np.float32)
    peaks = np.array([[20.0, 20.0], STAR])
    before = image.copy()
    none = np.zeros(SHAPE, bool)
    assert take_halos(image, weights, none, lambda y, x: STAMP[None], peaks, HaloConfig(20)) == {}
    assert (
        take_halos(image, weights, saturated, lambda y, x: STAMP[None], peaks, HaloConfig(0)) == {}
    )
    np.testing.assert_array_equal(image, before)
    halos = take_halos(image, weights, saturated, lambda y, x: STAMP[None], peaks, HaloConfig(20))
    assert list(halos) == [1]
    np.testing.assert_allclose(image[0], before[0] - whole(halos[1]), atol=1e-6)


def test_star_and_halo_are_joined_in_one_box():
    halo = Halo(Box(0, 0, 4, 4), np.ones((1, 4, 4), np.float32), np.eye(4, dtype=bool))
    box, light, full = halo.joined(Box(2, 3, 4, 4), np.full((1, 4, 4), 2, np.float32))
    assert box == Box(0, 0, 6, 7)
    assert light[0, 0, 0] == 1
    assert light[0, 3, 3] == 3
    assert light[0, 5, 6] == 2
    np.testing.assert_array_equal(full[:4, :4], np.eye(4, dtype=bool))
    assert full.sum() == 4


def deblended(image, variance, saturated, config):
    """Sources and chi2 per pixel."""
    coadd = Coadd(
        name="test",
        bands=("i",),
        image=np.where(saturated, 3000 * SIGMA, image).astype(np.float32),
        variance=variance.astype(np.float32),
        valid=np.ones(image.shape, bool),
        psfs=STAMP[None],
        zeropoints=(27.0,),
        planes={"SAT": 0},
        mask=saturated[None].astype(np.int32),
    )
    found = detection_image(coadd, config.detect)
    frame = Box.of_shape(SHAPE)
    sources, chi2, _ = deblend(coadd, found, frame, config, make_deblender(config.deblend))
    return sources, chi2


def labelled(config):
    """The star's source and those of two neighbours, 30 px right and 26 px down."""
    light, saturated = starlight()
    light += point(places()[1], 1500 * SIGMA)
    light += point(places()[2], 2500 * SIGMA)
    image = observed(light)
    variance = SIGMA**2 + SIGMA * np.maximum(image, 0) / 30
    sources, _ = deblended(image, variance, saturated, config)
    near = [min(sources, key=lambda s: np.hypot(s.y - p[0], s.x - p[1])) for p in places()]
    return near, (light > 5 * SIGMA) | saturated


def places():
    return STAR, STAR + np.array([0, 30]), STAR + np.array([26, -8])


def test_a_saturated_stars_mask_holds_its_halo_and_its_neighbours_keep_their_own():
    (star, right, below), truth = labelled(LabelConfig())
    mask = np.zeros(SHAPE, bool)
    mask[star.mask.box.slices] = star.mask.pixels
    assert (mask & truth).sum() > 0.85 * (mask | truth).sum()
    for source, place, flux in ((right, places()[1], 1500), (below, places()[2], 2500)):
        assert source.state == "ok"
        assert np.hypot(*(np.array(source.centre) - place)) < 1.5
        assert source.flux[0] == pytest.approx(flux * SIGMA, rel=0.15)


def test_the_papers_recipe_measures_no_halos():
    assert preset("paper").deblend.halo.reach_fwhm == 0


@pytest.mark.parametrize("at", [(88.3, 92.6), (1.7, 90.4), (179.9, 92.5), (60.4, 0.2)])
def test_a_star_that_is_its_psf_is_fitted_as_well_as_without_halos(at):
    """Beside neighbours and at the edge too."""
    at = np.asarray(at)
    light = point(at, 3e4 * SIGMA)
    saturated = np.hypot(*(np.indices(SHAPE) - at[:, None, None])) < 2.5
    for off, flux in (((9, 13), 400), ((-14, 4), 600), ((7, -16), 300)):
        light += point(at + off, flux * SIGMA)
    variance = SIGMA**2 + SIGMA * light / 30
    image = np.random.default_rng(2).normal(light, np.sqrt(variance))[None]
    without = DeblendConfig(halo=HaloConfig(reach_fwhm=0))
    _, with_halo = deblended(image, variance[None], saturated, LabelConfig())
    _, alone = deblended(image, variance[None], saturated, LabelConfig(deblend=without))
    assert with_halo < 1.05 * alone
