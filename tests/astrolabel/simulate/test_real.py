"""Real galaxies on simulated skies: their light, shape and neighbours are what was asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from astrolabel.core.config import smooth
from astrolabel.core.errors import InputError
from astrolabel.simulate import SimulateConfig, draw_bodies, draw_scene
from astrolabel.simulate.population import Body, photometry
from astrolabel.simulate.profiles import Grid
from astrolabel.simulate.real import Appearance, make_picture, paint, read_catalog


def disc(shape, y, x, scale, ratio=0.6, flux=1000.0):
    rows, columns = np.indices(shape)
    r = np.hypot((rows - y) / ratio, columns - x) / scale
    return flux / (2 * np.pi * scale**2 * ratio) * np.exp(-r)


def observed(light, sigma=0.02, seed=0):
    return light + sigma * np.random.default_rng(seed).standard_normal(light.shape)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """Six galaxies as GalSim's RealGalaxyCatalog: even rows round, odd rows flat."""
    folder = tmp_path_factory.mktemp("catalog")
    images = [fits.PrimaryHDU()]
    for n in range(6):
        light = disc((61, 61), 30, 30, 4.0, ratio=0.95 if n % 2 == 0 else 0.35)
        images.append(fits.ImageHDU(observed(light, seed=n).astype(np.float32)))
    fits.HDUList(images).writeto(folder / "images.fits")
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones((3, 3)))]).writeto(folder / "psf.fits")
    names = {
        "IDENT": np.arange(6), "MAG": np.full(6, 22.0), "BAND": np.full(6, "F814W"),
        "WEIGHT": np.ones(6), "GAL_FILENAME": np.full(6, "images.fits"),
        "PSF_FILENAME": np.full(6, "psf.fits"), "GAL_HDU": np.arange(1, 7),
        "PSF_HDU": np.ones(6, int), "PIXEL_SCALE": np.full(6, 0.03),
        "NOISE_MEAN": np.zeros(6), "NOISE_VARIANCE": np.full(6, 0.02**2),
        "NOISE_FILENAME": np.full(6, "none.fits"), "stamp_flux": np.full(6, 1000.0),
    }  # fmt: skip
    fits.BinTableHDU.from_columns(
        [
            fits.Column(name, {"i": "K", "f": "D", "U": "16A"}[np.asarray(v).dtype.kind], array=v)
            for name, v in names.items()
        ]
    ).writeto(folder / "real_galaxy_catalog_test.fits")
    return folder


def flatness(light):
    """Minor over major axis of second moments."""
    rows, columns = np.indices(light.shape)
    weight = light / light.sum()
    dy, dx = rows - (rows * weight).sum(), columns - (columns * weight).sum()
    xy = (dy * dx * weight).sum()
    moments = np.array([[(dy**2 * weight).sum(), xy], [xy, (dx**2 * weight).sum()]])
    low, high = np.linalg.eigvalsh(moments)
    return np.sqrt(low / high)


def test_picture_has_the_galaxy_without_noise_and_neighbour():
    own = disc((81, 81), 40, 40, 5.0)
    image = observed(own + disc((81, 81), 20, 62, 1.5, 1.0, 150))
    found = make_picture("one", image)
    assert np.hypot(found.centre[0] - 40, found.centre[1] - 40) < 1.5
    assert found.light.sum() == pytest.approx(1, abs=1e-5)
    assert found.light.min() >= 0
    assert found.light[0, 18:23, 60:65].max() < 1e-5
    # 1.678 scale lengths, circularised by counting light along circles.
    truth = own / own.sum()
    inside = truth > 0.02 * truth.max()
    np.testing.assert_allclose(found.light[0][inside], truth[inside], atol=0.1 * truth.max())
    assert found.light[0][inside].sum() == pytest.approx(truth[inside].sum(), abs=0.05)


def test_early_type_loses_what_stands_on_it_and_late_type_keeps_its_knots():
    knot = disc((81, 81), 40, 49, 1.0, 1.0, 25)
    image = observed(disc((81, 81), 40, 40, 5.0) + knot)
    kept = make_picture("late", image)
    lost = make_picture("early", image, smooth=True)
    ratio = [p.light[0, 40, 49] / p.light[0, 40, 31] for p in (kept, lost)]
    assert ratio[0] > 1.8
    assert ratio[1] < 1.3


def test_missing_pixels_are_filled_from_the_other_side():
    image = observed(disc((81, 81), 40, 40, 5.0, 0.9))
    image[44:48, 44:48] = np.nan
    light = make_picture("one", image).light[0]
    assert light[44:48, 44:48].mean() == pytest.approx(light[33:37, 33:37].mean(), rel=0.2)


def test_image_without_a_galaxy_is_refused():
    with pytest.raises(InputError, match="no galaxy"):
        make_picture("empty", np.zeros((40, 40)))


@pytest.mark.parametrize("angle", [0.0, 0.7])
@pytest.mark.parametrize("radius_arcsec", [0.4, 1.5])
def test_painted_picture_has_the_radius_and_angle_asked_for(angle, radius_arcsec):
    picture = make_picture("one", observed(disc((81, 81), 40, 40, 5.0, 0.5)))
    look = Appearance(picture, radius_arcsec, angle)
    (light,) = paint(look, 1, Grid((121, 121), (60.0, 60.0)), 0.168)[:, ::2, ::2]
    assert light.sum() == pytest.approx(1, rel=0.02)
    rows, columns = np.indices(light.shape)
    distance = np.hypot(rows - 60, columns - 60)
    order = np.argsort(distance.ravel())
    half = np.searchsorted(np.cumsum(light.ravel()[order]) / light.sum(), 0.5)
    assert distance.ravel()[order][half] * 0.168 == pytest.approx(radius_arcsec, rel=0.08)
    dy, dx = rows - 60, columns - 60
    xy, xx, yy = (np.average(v, weights=light) for v in (dy * dx, dx**2, dy**2))
    # The disc is long along x; it is turned from +x to +y.
    assert 0.5 * np.arctan2(2 * xy, xx - yy) == pytest.approx(angle, abs=0.05)


def test_drawn_galaxy_keeps_flux_and_the_knots_of_one_band_are_bluer():
    knot = disc((81, 81), 40, 52, 1.5, 1.0, 60)
    picture = make_picture("one", observed(disc((81, 81), 40, 40, 6.0) + knot), None, 1.0)
    config = SimulateConfig(size=200)
    mags, flux = photometry(config.spec, 19.0, 0.6, 0.3, 0.2)
    body = Body(100, 100, 19.0, mags, flux, real=Appearance(picture, 3.0))
    assert not body.is_star
    (source,) = draw_bodies(config, [body]).sources
    np.testing.assert_allclose(source.stamp.sum((1, 2)), flux, rtol=0.02)
    middle = (100 - source.box.y0, 100 - source.box.x0)
    along = round(12 * 3.0 / 0.168 / picture.half_light_px)
    there, opposite = (source.stamp[:, middle[0], middle[1] + d] for d in (along, -along))
    assert there[0] / there[2] > 1.05 * opposite[0] / opposite[2]


def test_training_and_test_galaxies_are_apart(catalog):
    everything, train, test = (read_catalog(catalog, s) for s in ("all", "train", "test"))
    assert [len(g) for g in (everything, train, test)] == [6, 3, 3]
    shapes = [
        [flatness(g.picture(n).light[0]) for n in range(len(g))] for g in (everything, train, test)
    ]
    assert min(shapes[1]) > 0.8
    assert max(shapes[2]) < 0.6
    np.testing.assert_allclose(shapes[0][::2], shapes[1])


def test_scene_is_drawn_from_the_catalog(catalog):
    config = SimulateConfig(size=128, seed=2, galaxies=str(catalog), galaxy_subset="test")
    scene = draw_scene(config)
    bodies = [s.body for s in scene.sources]
    assert all(b.is_star != (b.real is not None) for b in bodies)
    used = {b.real.picture.name[-3:] for b in bodies if b.real is not None}
    assert used == {"[1]", "[3]", "[5]"}
    np.testing.assert_array_equal(scene.image, draw_scene(config).image)
    assert not np.array_equal(scene.image, draw_scene(replace(config, seed=3)).image)


def test_folder_without_a_catalog_is_refused(tmp_path):
    with pytest.raises(InputError, match="no GalSim galaxy catalog"):
        draw_scene(SimulateConfig(size=64, galaxies=str(tmp_path)))


def test_seeing_depth_and_pixels_are_those_asked_for():
    config = SimulateConfig(size=300, seeing_arcsec=1.2, depth_mag=25.0, pixel_scale_arcsec=0.3)
    scene = draw_bodies(smooth(config), [])
    stamp = scene.psfs[-1].astype(float)
    above = np.count_nonzero(stamp > stamp.max() / 2)
    assert 2 * np.sqrt(above / np.pi) * 0.3 == pytest.approx(1.2, rel=0.15)
    noise = scene.image[-1].std() / np.sqrt((stamp**2).sum())
    assert scene.spec.zeropoint - 2.5 * np.log10(5 * noise) == pytest.approx(25.0, abs=0.1)
    scale = scene.wcs.proj_plane_pixel_area().to_value("arcsec2") ** 0.5
    assert scale == pytest.approx(0.3)
