"""Simulated scenes: what is written is what was drawn, and looks like the survey's."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from PIL import Image

from astrolabel.cli.main import main
from astrolabel.core.box import Box
from astrolabel.core.config import smooth, surveys
from astrolabel.core.errors import InputError, OutputError
from astrolabel.io import coco
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.prepare.read import characterise, read
from astrolabel.simulate import (
    SimulateConfig,
    draw_bodies,
    draw_scene,
    simulate,
    truth_document,
    write_scene,
)
from astrolabel.simulate import catalogs as simulated_catalogs
from astrolabel.simulate.artist import MASK_SIGMA
from astrolabel.simulate.planes import BITS
from astrolabel.simulate.population import Body, Component, Sky, draw_system

SPEC = surveys.HSC_DEEP


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("hsc"), SimulateConfig(size=400, seed=7))


@pytest.fixture(scope="module")
def decam(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("decam"), SimulateConfig(survey="decam", size=300))


def star(y: float, x: float, mag: float, spec: surveys.SurveySpec = SPEC) -> Body:
    """A star of equal magnitude in all bands."""
    n = len(spec.bands)
    return Body(y, x, mag, np.full(n, mag), np.full(n, spec.counts(mag)))


def galaxy(y: float, x: float, mag: float, radius_arcsec: float = 0.6) -> Body:
    body = star(y, x, mag)
    return replace(body, components=(Component(1.0, radius_arcsec, 0.7, 0.5, body.flux),))


def full(source, shape):
    out = np.zeros(shape, bool)
    out[source.box.slices] = source.mask
    return out


# ---- files -----------------------------------------------------------------------------


def test_coadd_has_the_layout_of_a_masked_image(made):
    for band in SPEC.bands:
        path = made.files[band.name]
        assert path.name == f"calexp-{band.filter}-9813-4,5.fits"
        with fits.open(path) as hdus:
            assert hdus[0].data is None
            assert 2.5 * np.log10(hdus[0].header["FLUXMAG0"]) == pytest.approx(27.0)
            kinds = [h.header["EXTTYPE"] for h in hdus[1:4]]
            assert kinds == ["IMAGE", "MASK", "VARIANCE"]
            assert [h.header["BITPIX"] for h in hdus[1:4]] == [-32, 32, -32]
            planes = {k[3:]: v for k, v in hdus[2].header.items() if k.startswith("MP_")}
            assert planes == BITS
            for hdu in hdus[1:4]:
                assert hdu.shape == (400, 400)
                # Both ways of giving the place in the tract say the same.
                assert (hdu.header["LTV1"], hdu.header["LTV2"]) == (-15900, -19900)
                assert (hdu.header["CRVAL1A"], hdu.header["CRVAL2A"]) == (15900, 19900)


def test_file_wcs_puts_the_truth_on_its_pixels(made):
    truth = json.loads(made.files["truth"].read_text())
    with fits.open(made.files["i"]) as hdus:
        wcs = WCS(hdus[1].header)
    by_id = {str(s.object_id): s.body for s in made.scene.sources}
    for item in truth["annotations"]:
        found = item["attributes"]
        x, y = wcs.all_world2pix(found["ra"], found["dec"], 0)
        body = by_id[found["object_id"]]
        assert np.hypot(x - body.x, y - body.y) < 0.01


def test_patch_lies_where_the_survey_has_it():
    # The centre of patch 4,5 of tract 9813 in the survey's own list of patches; the
    # file's first pixel is 100 pixels of overlap and 2000 more from it.
    scene = draw_bodies(SimulateConfig(size=64), [])
    ra, dec = scene.wcs.all_pix2world(2099.5, 2099.5, 0)
    assert float(ra) == pytest.approx(150.24791053, abs=0.01 * 0.168 / 3600)
    assert float(dec) == pytest.approx(2.41809429799, abs=0.01 * 0.168 / 3600)


def test_reader_gives_back_what_was_drawn(made):
    (files,) = find_coadds(Inputs(paths=(made.files["truth"].parent,)))
    assert files.bands == ("g", "r", "i")
    coadd = read(files, characterise(files))
    np.testing.assert_array_equal(coadd.image, made.scene.image)
    np.testing.assert_array_equal(coadd.variance, made.scene.variance)
    np.testing.assert_allclose(coadd.psfs, made.scene.psfs, rtol=1e-5)
    assert coadd.zeropoints == pytest.approx((27.0,) * 3)
    assert coadd.origin == SPEC.origin
    assert coadd.planes["NO_DATA"] == 8


def test_psf_stamps_sum_to_one_and_have_the_seeing(made):
    for n, band in enumerate(SPEC.bands):
        stamp = fits.getdata(made.files[f"psf_{band.name}"]).astype(float)
        assert stamp.shape == (43, 43)
        assert stamp.sum() == pytest.approx(1, abs=1e-5)
        assert np.unravel_index(stamp.argmax(), stamp.shape) == (21, 21)
        above = np.count_nonzero(stamp > stamp.max() / 2)
        fwhm = 2 * np.sqrt(above / np.pi) * SPEC.pixel_scale_arcsec
        assert fwhm == pytest.approx(band.fwhm_arcsec, rel=0.15), n


def test_decam_is_plain_images_of_three_bands(decam):
    for band in "grz":
        with fits.open(decam.files[band]) as hdus:
            assert len(hdus) == 1
            np.testing.assert_array_equal(
                hdus[0].data, decam.scene.image[decam.scene.spec.band_names.index(band)]
            )
            scale = WCS(hdus[0].header).proj_plane_pixel_area().to_value("arcsec2") ** 0.5
            assert scale == pytest.approx(0.262)
    given = tuple(((b,), decam.files[b]) for b in "grz")
    (files,) = find_coadds(Inputs(band_files=given))
    coadd = read(files, characterise(files))
    assert coadd.zeropoints == (22.5,) * 3
    assert coadd.shape == (300, 300)


# ---- pixels ----------------------------------------------------------------------------


@pytest.mark.parametrize("survey", ["hsc-deep", "decam"])
def test_sky_noise_has_the_survey_depth(survey):
    # Optimal photometry with the PSF on empty sky must scatter by a fifth of the flux at
    # the 5-sigma depth: this ties noise, PSF and depth together.
    scene = draw_bodies(smooth(SimulateConfig(survey=survey, size=512)), [])
    for n, band in enumerate(scene.spec.bands):
        psf = scene.psfs[n].astype(float)
        fourier = np.fft.rfft2(scene.image[n]) * np.conj(np.fft.rfft2(psf, scene.shape))
        flux = np.fft.irfft2(fourier, scene.shape) / (psf**2).sum()
        depth = scene.spec.zeropoint - 2.5 * np.log10(5 * flux.std())
        assert depth == pytest.approx(band.depth_mag, abs=0.05)
        assert abs(scene.image[n].mean()) < 4 * scene.sky_sigma[n] / 512


def test_noise_agrees_with_the_variance_plane(made):
    scene = made.scene
    unsaturated = (scene.mask & (1 << BITS["SAT"])) == 0
    pull = (scene.image - scene.model) / np.sqrt(scene.variance)
    for n in range(3):
        dark = scene.model[n] < 0.1 * scene.sky_sigma[n]
        bright = (scene.model[n] > 20 * scene.sky_sigma[n]) & unsaturated[n]
        assert np.std(pull[n][dark]) == pytest.approx(1, abs=0.015)
        assert bright.sum() > 200
        assert np.std(pull[n][bright]) == pytest.approx(1, abs=0.15)


def test_source_light_adds_poisson_noise():
    scene = draw_bodies(SimulateConfig(size=64), [galaxy(32, 32, 18.0)])
    gain = np.array([b.electrons_per_count for b in SPEC.bands])
    extra = scene.variance[:, 32, 32] - scene.sky_sigma**2
    np.testing.assert_allclose(extra, scene.model[:, 32, 32] / gain, rtol=1e-3)


def test_apertures_hold_the_magnitudes_of_the_truth(made):
    # All light within 3 seeing discs and 4 half-light radii, of sources alone in there.
    scene = made.scene
    rows, columns = np.mgrid[:400, :400]
    checked = 0
    for source in scene.labelled:
        body = source.body
        if body.i_mag > 22.5 or source.saturated or source.blendedness > 0.02:
            continue
        radius = 3 * 0.83 / 0.168 + 4 * body.half_light_arcsec / 0.168
        if min(body.y, body.x, 399 - body.y, 399 - body.x) < radius:
            continue
        aperture = (rows - body.y) ** 2 + (columns - body.x) ** 2 < radius**2
        own = np.zeros(scene.model.shape)
        own[(slice(None), *source.box.slices)] = source.stamp
        measured = (scene.image - (scene.model - own))[:, aperture].sum(1)
        # Correlated noise, the sky's residual, and 3 % of the light in wings partly beyond.
        n = aperture.sum()
        noise = scene.sky_sigma * np.hypot(1.25 * np.sqrt(n), 0.03 * n)
        assert (np.abs(measured - body.flux) < 0.03 * body.flux + 3 * noise).all()
        checked += 1
    assert checked >= 3


def test_stamps_add_up_to_the_model_and_lie_in_the_image(made):
    scene = made.scene
    total = np.zeros_like(scene.model)
    for source in scene.sources:
        assert source.box & Box(0, 0, 400, 400) == source.box
        assert source.stamp.shape == (3, *source.box.shape)
        total[(slice(None), *source.box.slices)] += source.stamp
    np.testing.assert_array_equal(total, scene.model)


def test_saturated_star_is_clipped_and_marked():
    scene = draw_bodies(SimulateConfig(size=200), [star(100.2, 99.7, 16.6)])
    for n, band in enumerate(SPEC.bands):
        core = (scene.mask[n] & (1 << BITS["SAT"])) != 0
        assert core[100, 100]
        np.testing.assert_array_equal(core, scene.model[n] > band.saturation_counts)
        assert scene.image[n].max() <= band.saturation_counts * 1.05
        interpolated = (scene.mask[n] & (1 << BITS["INTRP"])) != 0
        assert np.all(interpolated[core])
        assert interpolated.sum() > core.sum()
        assert (scene.mask[n] & (1 << BITS["BRIGHT_OBJECT"]))[100, 100]
    assert scene.sources[0].saturated
    # Its light is all there, spikes included: along one there is more than beside it. The
    # wings beyond the image have (1 + 100^2 / 12.5^2)^-0.7 of their 3 %.
    assert scene.sources[0].stamp[2].sum() == pytest.approx(SPEC.counts(16.6), rel=0.02)
    assert scene.model[2, 121, 121] > 1.4 * scene.model[2, 100, 130]


def test_missing_corner_has_no_data_and_no_labels(tmp_path):
    config = SimulateConfig(size=128, no_data_fraction=0.2)
    scene = draw_bodies(config, [star(120, 120, 21.0), star(20, 20, 21.0)])
    missing = (scene.mask & (1 << BITS["NO_DATA"])) != 0
    assert missing.mean() == pytest.approx(0.2, abs=0.01)
    assert missing[:, 127, 127].all()
    np.testing.assert_array_equal(np.isnan(scene.image), missing)
    assert not np.isfinite(scene.variance[missing]).any()
    assert [s.body.y for s in scene.labelled] == [20]
    files = write_scene(scene, tmp_path)
    with Image.open(files["picture"]) as drawn:
        assert np.asarray(drawn)[127, 127].max() == 0
    assert len(Table.read(files["catalog_hsc"])) == 1


# ---- truth -----------------------------------------------------------------------------


def test_star_mask_has_the_analytic_radius():
    # A Moffat's area above a level, by its formula, against the drawn mask's.
    scene = draw_bodies(SimulateConfig(size=100), [star(50, 50, 21.0)])
    rows, columns = np.mgrid[:100, :100]
    r2 = ((rows - 50) ** 2 + (columns - 50) ** 2) * SPEC.pixel_scale_arcsec**2
    light = 0.0
    for band in SPEC.bands:
        beta = SPEC.moffat_beta
        alpha2 = band.fwhm_arcsec**2 / 4 / (2 ** (1 / beta) - 1)
        peak = SPEC.counts(21.0) * (beta - 1) / np.pi / alpha2 * SPEC.pixel_scale_arcsec**2
        core = peak * (1 + r2 / alpha2) ** -beta
        # And the wings: of core radius 2.1 arcsec, falling as the radius to the -3.4.
        wings = SPEC.counts(21.0) * 0.7 / np.pi / 2.1**2 * SPEC.pixel_scale_arcsec**2
        light = light + 0.97 * core + 0.03 * wings * (1 + r2 / 2.1**2) ** -1.7
    expected = light > scene.threshold
    drawn = full(scene.labelled[0], scene.shape)
    # The shear of the PSF (about 1 %) moves the rim by a fifth of a pixel.
    radius = np.sqrt(drawn.sum() / np.pi)
    assert radius == pytest.approx(np.sqrt(expected.sum() / np.pi), abs=0.2)


def test_threshold_is_five_sigma_of_the_summed_sky():
    scene = draw_bodies(SimulateConfig(size=256), [])
    assert scene.threshold == pytest.approx(5 * scene.image.sum(0).std(), rel=0.01)


def test_truth_masks_are_the_noiseless_light_above_threshold(made):
    truth = json.loads(made.files["truth"].read_text())
    drawn = {str(s.object_id): s for s in made.scene.sources}
    listed = set()
    for item in truth["annotations"]:
        source = drawn[item["attributes"]["object_id"]]
        light = np.zeros(made.scene.shape)
        light[source.box.slices] = source.stamp.sum(0)
        expected = light > made.scene.threshold
        decoded = coco.decode(item["segmentation"])
        np.testing.assert_array_equal(decoded, expected)
        rows, columns = np.nonzero(decoded)
        x, y = columns.min(), rows.min()
        assert item["bbox"] == [x, y, columns.max() - x + 1, rows.max() - y + 1]
        assert item["area"] == decoded.sum()
        assert item["category_id"] == (2 if source.body.is_star else 1)
        listed.add(source.object_id)
    for source in made.scene.sources:
        if source.object_id not in listed:
            assert (source.stamp.sum(0) > made.scene.threshold).sum() < 5


def test_sources_too_faint_for_a_mask_are_ignore_regions_when_asked():
    config = SimulateConfig(size=96, seed=4, keep_small=True)
    scene = draw_scene(config)
    truth = truth_document(scene)
    labels = [a for a in truth["annotations"] if not a["iscrowd"]]
    plain = truth_document(draw_scene(replace(config, keep_small=False)))["annotations"]
    assert [{**a, "id": 0} for a in labels] == [{**a, "id": 0} for a in plain]
    regions = [a for a in truth["annotations"] if a["iscrowd"]]
    sigma = scene.threshold / MASK_SIGMA
    faint = [s for s in scene.sources if not s.has_mask and s.stamp.sum(0).max() > sigma]
    assert len(regions) == len(faint) > 10
    for region, source in zip(regions, faint, strict=True):
        light = source.stamp.sum(0)
        own = np.zeros(scene.shape, bool)
        own[source.box.slices] = light >= 0.5 * light.max()
        assert np.array_equal(coco.decode(region["segmentation"]), own)
        assert region["attributes"]["y"] == source.body.y


def test_stamps_reach_beyond_every_mask(made):
    for source in made.scene.labelled:
        box, mask = source.box, source.mask
        assert box.y0 == 0 or not mask[0].any()
        assert box.x0 == 0 or not mask[:, 0].any()
        assert box.y1 == 400 or not mask[-1].any()
        assert box.x1 == 400 or not mask[:, -1].any()


def test_blendedness_and_groups_follow_the_overlap():
    bodies = [galaxy(40, 40, 21), galaxy(40, 47, 23), star(40, 100, 21), galaxy(100, 60, 24)]
    scene = draw_bodies(SimulateConfig(size=128), bodies)
    bright, faint, lone, other = scene.sources
    assert (bright.n_blended, faint.n_blended, lone.n_blended) == (2, 2, 1)
    assert bright.group == faint.group != lone.group
    assert lone.blendedness < 0.01
    assert other.blendedness < 0.01
    assert bright.blendedness < 0.3 < faint.blendedness < 1


def test_source_cut_by_the_edge_is_labelled_by_what_is_inside():
    scene = draw_bodies(SimulateConfig(size=64), [star(-1.5, 30, 20), star(-60, 30, 25)])
    (source,) = scene.labelled
    assert source.box.y0 == 0
    assert source.mask[0].any()


# pycocotools' own use of numpy.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_truth_is_sound_for_every_tool(made):
    folder = made.files["truth"].parent
    document = coco.read(made.files["truth"])
    assert coco.validate(document, folder) == ()
    pycocotools = pytest.importorskip("pycocotools.coco")
    loaded = pycocotools.COCO(str(made.files["truth"]))
    assert {c["name"] for c in loaded.dataset["categories"]} == {"galaxy", "star"}
    for item in loaded.dataset["annotations"]:
        assert loaded.annToMask(item).sum() == item["area"]
    astro = document["images"][0]["astro"]
    assert (astro["bands"], astro["tract"], astro["patch"]) == (["g", "r", "i"], "9813", "4,5")
    with Image.open(folder / document["images"][0]["file_name"]) as picture:
        assert (picture.mode, picture.size) == ("RGB", (400, 400))


def test_object_ids_would_not_survive_a_float(made):
    ids = {
        item["attributes"]["object_id"] for item in coco.read(made.files["truth"])["annotations"]
    }
    assert len(ids) == len(made.scene.labelled)
    assert len({float(i) for i in ids}) < len(ids)


# ---- population ------------------------------------------------------------------------


def test_density_blending_and_stars_are_those_of_a_deep_field(made):
    scene = made.scene
    area = (400 * SPEC.pixel_scale_arcsec / 60) ** 2
    assert len(scene.labelled) / area == pytest.approx(100, rel=0.05)
    assert np.mean([s.n_blended > 1 for s in scene.labelled]) >= 1 / 3
    assert 0.07 <= np.mean([s.body.is_star for s in scene.labelled]) <= 0.2


def test_near_neighbours_for_all_galaxies_blend_half_of_the_sources(tmp_path, capsys):
    def paired(fraction):
        """Part of the galaxies too faint for satellites that are drawn with a neighbour."""
        sky, rng = Sky(SimulateConfig(pair_fraction=fraction)), np.random.default_rng(1)
        systems = [draw_system(rng, sky) for _ in range(2000)]
        faint = [s for s in systems if not s[0].is_star and s[0].i_mag > SPEC.faint_mag - 2.5]
        return np.mean([len(s) > 1 for s in faint])

    assert paired(0.0) == 0
    assert paired(0.5) == pytest.approx(0.5, abs=0.05)
    assert paired(1.0) == 1
    configs = [SimulateConfig(size=300, seed=s, pair_fraction=1.0) for s in (5, 6, 7)]
    blended = [s.n_blended > 1 for c in configs for s in draw_scene(c).labelled]
    assert np.mean(blended) == pytest.approx(0.5, abs=0.1)
    assert main(["simulate", str(tmp_path), "--size", "64", "--seed", "5", "--pairs", "1"]) == 0
    assert (
        json.loads((tmp_path / "truth.json").read_text())["info"]["config"]["pair_fraction"] == 1.0
    )


def test_density_asked_for_is_reached(decam):
    asked = SimulateConfig(size=128, density_per_arcmin2=40.0)
    assert 0 <= len(draw_scene(asked).labelled) - asked.n_masked <= 5
    assert 0 <= len(decam.scene.labelled) - decam.scene.config.n_masked <= 5
    # 150 objects in 512 x 512.
    assert SimulateConfig(survey="decam").n_masked == pytest.approx(150, abs=1)


def test_counts_rise_sizes_shrink_and_faint_galaxies_are_blue():
    rng = np.random.default_rng(3)
    bodies = [b for _ in range(4000) for b in draw_system(rng, Sky(SimulateConfig()))]
    galaxies = [b for b in bodies if not b.is_star]
    mag = np.array([b.i_mag for b in galaxies])
    counts = np.histogram(mag, np.arange(21, 26.1))[0]
    slope = np.polyfit(np.arange(5), np.log10(counts), 1)[0]
    assert 0.25 <= slope <= 0.4
    size = np.array([b.half_light_arcsec for b in galaxies])
    colour = np.array([b.mags[0] - b.mags[1] for b in galaxies])
    bright, faint = mag < 22, mag > 25
    assert np.median(size[bright]) > 1.7 * np.median(size[faint])
    assert np.median(colour[bright]) > np.median(colour[faint]) + 0.2


# ---- catalogs --------------------------------------------------------------------------


def test_extendedness_errs_as_the_survey_does():
    # Paper, 3.2 and 4.1, and the survey's papers: sound to i = 22.5; at 25 galaxies about
    # 90 % complete, stars slightly above 50 % complete and slightly above 40 % pure.
    rng = np.random.default_rng(1)
    scene = draw_bodies(SimulateConfig(size=64), [])
    bodies = [b for _ in range(8000) for b in draw_system(rng, Sky(SimulateConfig()))]
    sources = [_source_of(b) for b in bodies]
    wrong = simulated_catalogs.wrong_class_rate(scene, sources, band=2)
    mag = np.array([b.i_mag for b in bodies])
    is_star = np.array([b.is_star for b in bodies])
    assert wrong[mag < 22].mean() < 0.005
    at = np.abs(mag - 25) < 0.25
    right = 1 - wrong
    assert right[at & ~is_star].mean() == pytest.approx(0.92, abs=0.02)
    assert 0.50 < right[at & is_star].mean() < 0.58
    called_star = right[at & is_star].sum() + wrong[at & ~is_star].sum()
    assert right[at & is_star].sum() / called_star == pytest.approx(0.42, abs=0.03)


def _source_of(body):
    from astrolabel.simulate import Source

    empty = np.zeros((3, 1, 1), np.float32)
    return Source(1, body, Box(0, 0, 1, 1), empty, np.zeros((1, 1), bool))


def test_hsc_catalog_lists_the_sources_with_their_errors(made):
    table = Table.read(made.files["catalog_hsc"])
    assert table["object_id"].dtype.kind == "i"
    assert table["object_id"].dtype.itemsize == 8
    assert len(set(table["object_id"])) == len(table)
    primary = table[table["isprimary"]]
    assert len(primary) < len(table)  # parents of blends
    truth = {s.object_id: s for s in made.scene.sources}
    sources = [truth[i] for i in primary["object_id"]]
    x, y = made.scene.wcs.all_world2pix(primary["ra"], primary["dec"], 0)
    offset = np.hypot(x - [s.body.x for s in sources], y - [s.body.y for s in sources])
    assert np.median(offset) * SPEC.pixel_scale_arcsec < 0.1
    assert offset.max() * SPEC.pixel_scale_arcsec < 1.0
    mag = np.array([s.body.i_mag for s in sources])
    alone = np.array([s.blendedness < 0.02 for s in sources]) & (mag < 23)
    difference = np.asarray(primary["i_cmodel_mag"]) - mag
    assert np.nanmedian(np.abs(difference[alone])) < 0.05
    extended = np.asarray(primary["i_extendedness_value"])
    bright = (mag < 22) & np.isfinite(extended)
    is_star = np.array([s.body.is_star for s in sources])
    np.testing.assert_array_equal(extended[bright], ~is_star[bright])
    # Blends are only partly catalogued: some labelled sources inside are not there.
    catalogued = set(primary["object_id"])
    blended = [s for s in made.scene.labelled if s.n_blended > 1]
    missed = [s for s in blended if s.object_id not in catalogued]
    assert 0.02 < len(missed) / len(blended) < 0.5


def test_saturated_stars_have_nan_in_the_hsc_catalog():
    bodies = [star(100, 100, 16.6), *(galaxy(20 + 40 * n, 30, 22) for n in range(4))]
    table = simulated_catalogs.hsc_catalog(draw_bodies(SimulateConfig(size=200), bodies))
    row = table[table["i_pixelflags_saturatedcenter"]]
    assert len(row) == 1
    assert np.isnan(row["i_cmodel_mag"][0])
    assert np.isnan(row["i_extendedness_value"][0])
    assert row["i_cmodel_flag"][0]


def test_close_pair_is_one_entry_with_both_fluxes():
    bodies = [galaxy(50, 50, 21.5), galaxy(50, 50.3, 22.0)]
    table = simulated_catalogs.hsc_catalog(draw_bodies(SimulateConfig(size=100), bodies))
    assert len(table) == 1
    both = -2.5 * np.log10(10 ** (-0.4 * 21.5) + 10 ** (-0.4 * 22.0))
    # Its blendedness adds to the scatter of the magnitude: 0.2 mag here.
    assert table["i_cmodel_mag"][0] == pytest.approx(both, abs=0.5)


def test_hst_catalog_has_true_classes_and_fakes(made):
    table = Table.read(made.files["catalog_hst"])
    assert set(table["mu_class"]) == {1, 2, 3}
    assert np.mean(table["mu_class"] == 3) < 0.05
    x, y = made.scene.wcs.all_world2pix(table["ra"], table["dec"], 0)
    real = np.asarray(table["mu_class"]) != 3
    right = []
    for source in made.scene.labelled:
        near = np.hypot(x - source.body.x, y - source.body.y)
        near[~real] = np.inf
        if near.min() * SPEC.pixel_scale_arcsec < 0.15:
            right.append((table["mu_class"][near.argmin()] == 2) == source.body.is_star)
    assert len(right) > 0.9 * len(made.scene.labelled)
    assert np.mean(right) > 0.97


def test_catalogs_of_an_empty_sky_are_empty(tmp_path):
    files = write_scene(draw_bodies(SimulateConfig(size=64), []), tmp_path)
    assert len(Table.read(files["catalog_hsc"])) == 0
    assert coco.read(files["truth"])["annotations"] == []


# ---- behaviour -------------------------------------------------------------------------


def test_equal_configurations_give_equal_bytes_and_other_seeds_other_skies(tmp_path):
    config = SimulateConfig(size=96, seed=5)
    first = simulate(tmp_path / "a", config).files
    second = simulate(tmp_path / "b", config).files
    other = simulate(tmp_path / "c", replace(config, seed=6)).files
    for name, path in first.items():
        assert path.read_bytes() == second[name].read_bytes(), name
    assert first["i"].read_bytes() != other["i"].read_bytes()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(
        p.name for p in first.values()
    )


def test_progress_is_reported_up_to_the_number_wanted(tmp_path):
    seen = []
    config = SimulateConfig(size=64)
    simulate(tmp_path, config, progress=lambda done, wanted: seen.append((done, wanted)))
    assert seen[-1] == (config.n_masked, config.n_masked)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"survey": "sdss"}, "survey"),
        ({"size": 63}, "64"),
        ({"density_per_arcmin2": 0.0}, "density"),
        ({"density_per_arcmin2": float("nan")}, "density"),
        ({"pair_fraction": 1.1}, "pair_fraction.*<= 1"),
        ({"seed": -1}, "seed"),
        ({"no_data_fraction": 0.5}, "no_data_fraction.*< 0.5"),
        ({"bright": -1}, "bright.*>= 0"),
        ({"bright": 3, "size": 200}, "0 to 2"),
        ({"bands": ("u",)}, "g, r, i"),
        ({"seeing_arcsec": 0.0}, "seeing_arcsec"),
    ],
)
def test_impossible_configuration_is_refused_with_the_remedy(wrong, says):
    with pytest.raises(InputError, match=says):
        SimulateConfig(**wrong)


def test_folder_that_cannot_be_written_is_refused_before_drawing(tmp_path, monkeypatch):
    taken = tmp_path / "file"
    taken.write_text("")
    monkeypatch.setattr("astrolabel.simulate.draw_scene", lambda *_: pytest.fail("drew first"))
    with pytest.raises(OutputError, match="file"):
        simulate(Path(taken), SimulateConfig(size=64))


def test_drawing_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_scene(SimulateConfig(size=64, seed=11))
