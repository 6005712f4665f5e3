"""Pictures of both packages look alike, and cores of stars are white in them."""

import numpy as np
import pytest

from astrolabel.io import pictures
from astrolabel.io.pictures import rgb
from astroseg.data.sky_picture import sky_picture


def sky(bands, hole=False):
    """A blue star of 1000 sigma, a red galaxy, and noise."""
    rng = np.random.default_rng(4)
    y, x = np.indices((160, 160))
    star = np.exp(-((y - 40) ** 2 + (x - 50) ** 2) / 8)
    galaxy = np.exp(-np.hypot(y - 110, x - 100) / 6)
    colours = np.linspace(1600, 400, bands), np.linspace(40, 120, bands)
    flux = sum(c[:, None, None] * shape for c, shape in zip(colours, (star, galaxy), strict=True))
    flux = (flux + rng.standard_normal(flux.shape)) * 3 + 100
    if hole:
        flux[0, 38:43, 48:53] = np.nan  # a band that the core has lost
        flux[:, :10, :10] = np.nan
    return flux.astype(np.float32)


@pytest.mark.parametrize("hole", [False, True])
@pytest.mark.parametrize("bands", [1, 2, 3, 5])
def test_both_packages_draw_the_same_picture(bands, hole):
    flux = sky(bands, hole)
    one, other = rgb(flux), sky_picture(flux)
    assert np.abs(one.astype(int) - other).max() <= 1
    assert (one[:10, :10] == 0).all() == hole


@pytest.mark.parametrize("hole", [False, True])
def test_a_bright_core_is_white_and_what_is_fainter_keeps_its_colour(hole, monkeypatch):
    flux = sky(3, hole)
    picture = rgb(flux).astype(int)
    assert picture[40, 50].min() > 240
    blue, red = picture[40, 55, 2], picture[40, 55, 0]
    assert blue > red + 100
    monkeypatch.setattr(pictures, "CORE_SIGMA", (1e8, 1e9))
    coloured = rgb(flux).astype(int)
    changed = (picture != coloured).any(axis=-1)
    y, x = np.nonzero(changed)
    assert 20 < changed.sum() < 200
    from_star, from_galaxy = np.hypot(y - 40, x - 50), np.hypot(y - 110, x - 100)
    assert np.minimum(from_star, from_galaxy).max() < 9
