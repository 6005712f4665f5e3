"""Noise, PSF, background and defects of a simulated sky: each has what its setting asks for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from astrolabel.cli.main import main
from astrolabel.core.config.simulate import (
    BackgroundConfig,
    DefectsConfig,
    MorphologyConfig,
    NoiseConfig,
    PsfConfig,
    SimulateConfig,
    smooth,
)
from astrolabel.io import coco
from astrolabel.simulate import draw_bodies, draw_scene
from astrolabel.simulate.defects import nebulosity, smooth_field
from astrolabel.simulate.noise import draw_noise
from astrolabel.simulate.planes import BITS
from astrolabel.simulate.population import Body, Sky, draw_system
from astrolabel.simulate.profiles import Grid, Moffat, sersic

FLAT = smooth(SimulateConfig(size=256, seed=3))


def empty(**changes):
    return draw_bodies(replace(FLAT, **changes), [])


def star(mag, config, y=128.0, x=128.0):
    spec = config.spec
    flux = np.full(len(spec.bands), spec.counts(mag))
    return Body(y, x, mag, np.full(len(spec.bands), mag), flux)


# ---- profiles --------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize(("radius", "fine"), [(0.35, 8), (1.0, 4), (3.0, 2)])
def test_sersic_profiles_are_galsims(index, radius, fine):
    galsim = pytest.importorskip("galsim", reason="the standard that profiles are compared with")
    grid = Grid((81, 81), (39.8, 40.3), fine)
    light = sersic(grid, index, radius, 0.4, 0.6)
    psf = Moffat(4.0, 3.0, (0.01, 0.02)).on(Grid((81, 81), (40, 40), fine)) / fine**2
    shape = tuple(2 * n - 1 for n in light.shape)
    both = np.fft.irfft2(np.fft.rfft2(light, shape) * np.fft.rfft2(psf, shape), shape)
    middle = [n // 2 for n in psf.shape]
    seen = both[middle[0] : middle[0] + light.shape[0], middle[1] : middle[1] + light.shape[1]]
    profile = galsim.Sersic(index, radius).shear(q=0.4, beta=0.6 * galsim.radians)
    kernel = galsim.Moffat(beta=3.0, fwhm=4.0).shear(g1=0.01, g2=0.02)
    image = galsim.Convolve(profile, kernel).drawImage(
        nx=81, ny=81, scale=1.0, offset=(0.3, -0.2), method="no_pixel", dtype=float
    )
    assert np.abs(seen[::fine, ::fine] - image.array).max() < 0.012 * image.array.max()


# ---- noise -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "along", "diagonal"),
    [
        (NoiseConfig("white"), 0.0, 0.0),
        (NoiseConfig("lanczos"), 0.15, 0.022),
        (NoiseConfig("lanczos", lanczos_order=3), 0.11, 0.012),
        # A Gaussian of sigma s has the autocorrelation exp(-d^2 / 4 s^2).
        (NoiseConfig("gaussian"), np.exp(-1 / 9), np.exp(-2 / 9)),
        # In blocks of 4 pixels 3 neighbours of 4 are in the same block.
        (NoiseConfig("blocks"), 0.75, 0.5625),
    ],
    ids=lambda v: v.kind if isinstance(v, NoiseConfig) else None,
)
def test_noise_has_unit_variance_and_the_correlation_of_its_kind(config, along, diagonal):
    noise = draw_noise(config, np.random.default_rng(1), (1, 600, 600))[0]
    assert noise.std() == pytest.approx(1, abs=0.03)
    assert (noise[:, 1:] * noise[:, :-1]).mean() == pytest.approx(along, abs=0.02)
    assert (noise[1:] * noise[:-1]).mean() == pytest.approx(along, abs=0.02)
    assert (noise[1:, 1:] * noise[:-1, :-1]).mean() == pytest.approx(diagonal, abs=0.03)


def test_default_noise_is_correlated_as_coadds_have_it():
    image = draw_bodies(SimulateConfig(size=400), []).image[1]
    image = image - image.mean()
    lag = (image[:, 1:] * image[:, :-1]).mean() / image.var()
    assert 0.1 < lag < 0.2


def test_variance_plane_can_lie():
    honest, wrong = empty(), empty(noise=NoiseConfig("white", variance_factor=2.0))
    np.testing.assert_array_equal(honest.image, wrong.image)
    np.testing.assert_allclose(wrong.variance, 2 * honest.variance)


# ---- PSF -------------------------------------------------------------------------------


def test_wings_hold_their_part_of_the_light():
    config = replace(FLAT, psf=PsfConfig(wing_fraction=0.05))
    plain, winged = (draw_bodies(c, [star(19.0, FLAT)]).model[2] for c in (FLAT, config))
    rows, columns = np.indices(plain.shape)
    r = np.hypot(rows - 128, columns - 128) * config.spec.pixel_scale_arcsec
    # Beyond r the wings have (1 + r^2 / a^2)^(1 - beta), the core of beta 3 next to nothing.
    ring = (r > 3) & (r < 5.5)
    expected = 0.05 * ((1 + (3 / 2.1) ** 2) ** -0.7 - (1 + (5.5 / 2.1) ** 2) ** -0.7)
    extra = (winged[ring].sum() - 0.95 * plain[ring].sum()) / config.spec.counts(19.0)
    assert extra == pytest.approx(expected, rel=0.03)


def test_claimed_psf_is_as_much_too_wide_and_the_true_one_stays():
    config = replace(FLAT, psf=replace(FLAT.psf, claimed_fwhm_ratio=1.3))
    body = [star(20.0, FLAT)]
    honest, wrong = draw_bodies(FLAT, body), draw_bodies(config, body)
    np.testing.assert_array_equal(honest.model, wrong.model)
    area = [1 / (s.psfs[2].astype(float) ** 2).sum() for s in (honest, wrong)]
    # The stamps' edges cut the wider one's wings.
    assert np.sqrt(area[1] / area[0]) == pytest.approx(1.3, rel=0.03)


# ---- background ------------------------------------------------------------------------


def test_level_and_gradient_are_in_sky_sigma_of_each_band():
    plain = empty()
    added = empty(background=BackgroundConfig(2.0, 3.0, 0.0)).image - plain.image
    sigma = plain.sky_sigma
    np.testing.assert_allclose(added.mean((1, 2)), 2 * sigma, rtol=0.01)
    np.testing.assert_allclose(added[:, -1, -1] - added[:, 0, 0], 3 * sigma, rtol=0.01)


def test_residual_sky_has_its_scatter_and_scale():
    field = smooth_field(np.random.default_rng(2), (1200, 1200), 20.0)
    assert field.std() == pytest.approx(1, abs=0.1)
    # The autocorrelation of noise under a Gaussian of sigma s is exp(-d^2 / 4 s^2).
    lag = (field[:, 40:] * field[:, :-40]).mean() / field.var()
    assert lag == pytest.approx(np.exp(-1), abs=0.08)
    added = empty(background=BackgroundConfig(residual_sigma=0.5, residual_px=8)).image
    added = (added - empty().image) / empty().sky_sigma[:, None, None]
    np.testing.assert_allclose(added.std((1, 2)), 0.5, rtol=0.15)


def test_nebulosity_has_its_peak_is_blue_and_filamentary():
    cloud = nebulosity(np.random.default_rng(1), (256, 256), 60.0)
    assert cloud.max() == pytest.approx(1)
    assert cloud.min() >= 0
    step = np.abs(np.diff(cloud, axis=0)).max()
    assert 0.02 < step < 0.3  # edges, but none sharper than the seeing
    scene = empty(background=BackgroundConfig(residual_sigma=0.0, nebulosity_sigma=8.0))
    added = (scene.image - empty().image) / scene.sky_sigma[:, None, None]
    np.testing.assert_allclose(added.max((1, 2)), [8.0, 7.2, 6.0], rtol=0.02)


# ---- defects ---------------------------------------------------------------------------


def test_trail_is_a_straight_line_of_its_brightness_in_one_band():
    scene = empty(defects=DefectsConfig(trails=1, trail_sigma=10.0))
    added = (scene.image - empty().image) / scene.sky_sigma[:, None, None]
    bands = [n for n in range(3) if np.abs(added[n]).max() > 1]
    assert len(bands) == 1
    light = added[bands[0]]
    assert light.max() == pytest.approx(10, rel=0.03)
    y, x = np.nonzero(light > 5)
    points = np.stack([y, x]) - np.mean([y, x], axis=1)[:, None]
    across, along = np.linalg.svd(points, full_matrices=False)[1][::-1] / np.sqrt(len(y))
    assert along > 40
    # Half the brightness is within 1.18 sigma: a uniform strip of that has 1.18 * 2 / sqrt(3).
    assert across == pytest.approx(2 * 1.18 / np.sqrt(3), rel=0.1)


def test_cosmic_rays_come_at_their_rate_each_in_one_band():
    scene = empty(size=512, defects=DefectsConfig(cosmic_rays_per_mpx=300.0))
    added = (scene.image - empty(size=512).image) / scene.sky_sigma[:, None, None]
    hit = added > 1
    assert np.median(added[hit]) == pytest.approx(40, rel=0.3)
    from scipy import ndimage

    counts = [ndimage.label(plane, np.ones((3, 3)))[1] for plane in hit]
    expected = 300 * 512**2 / 1e6
    assert np.mean(counts) == pytest.approx(expected, rel=0.2)
    assert (hit.sum(0) > 1).sum() < 0.05 * hit.any(0).sum()
    assert scene.labelled == ()


def test_cluster_has_its_stars_half_of_them_within_its_radius():
    # One source is drawn beside the cluster.
    defects = DefectsConfig(star_clusters=1, cluster_stars=200, cluster_arcsec=5.0)
    config = replace(FLAT, size=400, density_per_arcmin2=1.0, defects=defects)
    stars = [s.body for s in draw_scene(config).sources if s.body.is_star]
    assert len(stars) >= 190  # some are beyond the image
    places = np.array([(b.y, b.x) for b in stars])
    r = np.hypot(*(places - np.median(places, axis=0)).T) * config.spec.pixel_scale_arcsec
    assert np.median(r) == pytest.approx(5.0, rel=0.25)


@pytest.mark.parametrize(("fill", "value"), [("nan", np.nan), ("zero", 0.0), ("sentinel", -999.0)])
def test_border_holds_what_it_is_filled_with_and_no_truth(fill, value):
    defects = DefectsConfig(border_px=20, border_fill=fill)
    config = replace(FLAT, defects=defects)
    scene = draw_bodies(config, [star(23.0, FLAT, y=8.0), star(20.0, FLAT)])
    edge = np.ones((256, 256), bool)
    edge[20:-20, 20:-20] = False
    assert np.array_equal(scene.image[:, edge], np.full((3, edge.sum()), value), equal_nan=True)
    assert np.isfinite(scene.image[:, ~edge]).all()
    missing = (scene.mask & (1 << BITS["NO_DATA"])) != 0
    assert missing[:, edge].all() == (fill == "nan")
    assert not missing[:, ~edge].any()
    assert [s.body.y for s in scene.labelled] == [128.0]


# ---- substructure ----------------------------------------------------------------------


def asymmetry(source):
    """Light that a turn by half a turn moves, over twice the light, in the reddest band."""
    light = source.stamp[-1].astype(float)
    y, x = source.body.y - source.box.y0, source.body.x - source.box.x0
    reach = int(min(y, x, light.shape[0] - 1 - y, light.shape[1] - 1 - x))
    cut = light[round(y) - reach : round(y) + reach + 1, round(x) - reach : round(x) + reach + 1]
    return np.abs(cut - cut[::-1, ::-1]).sum() / (2 * cut.sum())


def discs(mag_low, mag_high, config, count=24):
    """Structured galaxies alone in the middle of an image, on a pixel's centre."""
    rng, found = np.random.default_rng(5), []
    while len(found) < count:
        for body in draw_system(rng, Sky(config)):
            if body.structure is not None and mag_low < body.i_mag < mag_high:
                found.append(replace(body, y=128.0, x=128.0))
    return [draw_bodies(config, [body]).sources[0] for body in found[:count]]


@pytest.mark.parametrize(("low", "high"), [(18.0, 21.0), (22.0, 24.0)])
def test_discs_are_lopsided_by_some_per_cent_at_every_magnitude(low, high):
    config = SimulateConfig(size=256)
    structured = np.median([asymmetry(s) for s in discs(low, high, config)])
    even = replace(config, morphology=replace(config.morphology, lopsided_min=0, lopsided_max=0))
    assert 0.05 < structured < 0.2
    assert structured > 1.15 * np.median([asymmetry(s) for s in discs(low, high, even)])


def test_no_galaxy_is_structured_where_none_is_asked_for():
    sky = Sky(SimulateConfig(morphology=MorphologyConfig(structured_fraction=0.0)))
    rng = np.random.default_rng(1)
    assert all(b.structure is None for _ in range(300) for b in draw_system(rng, sky))


# ---- command line ----------------------------------------------------------------------


def test_every_setting_is_an_option_and_is_recorded(tmp_path, capsys):
    words = ["--size", "64", "--noise.kind", "white", "--defects.trails", "2", "--seeing", "1.1"]
    words += ["--bands", "r"]
    assert main(["simulate", str(tmp_path), *words]) == 0
    config = coco.read(tmp_path / "truth.json")["info"]["config"]
    assert config["noise"]["kind"] == "white"
    assert config["defects"]["trails"] == 2
    assert config["seeing_arcsec"] == 1.1
    assert coco.read(tmp_path / "truth.json")["images"][0]["astro"]["bands"] == ["r"]
    capsys.readouterr()
    assert main(["simulate", "--print-config"]) == 0
    assert "cosmic_rays_per_mpx" in capsys.readouterr().out
    assert main(["simulate", str(tmp_path), "--noise.knd", "white"]) == 2
    assert "--noise.kind" in capsys.readouterr().err
