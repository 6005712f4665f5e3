from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import TileConfig
from astrolabel.label.tiles import split, without_data


def coadd(image, mask=None, planes=None):
    image = np.asarray(image, np.float32)
    return Coadd(
        name="test",
        bands=tuple("gri"[: len(image)]),
        image=image,
        variance=np.ones_like(image),
        valid=np.isfinite(image),
        psfs=np.full((len(image), 3, 3), 1 / 9, np.float32),
        zeropoints=(27.0,) * len(image),
        planes=planes or {},
        mask=mask,
    )


@given(st.integers(1, 300), st.integers(1, 300), st.integers(20, 90), st.integers(0, 20))
def test_every_pixel_belongs_to_exactly_one_core(height, width, size, halo):
    count = np.zeros((height, width), int)
    for tile in split((height, width), TileConfig(size=size, margin_px=halo)):
        count[tile.core.slices] += 1
        assert max(tile.core.shape) <= size
        assert tile.outer & Box.of_shape(count.shape) == tile.outer
        assert tile.core & tile.outer == tile.core
    assert (count == 1).all()


def test_a_patch_of_4200_is_4_by_4_tiles_of_1050():
    tiles = split((4200, 4200), TileConfig())
    assert len(tiles) == 16
    assert {t.core.shape for t in tiles} == {(1050, 1050)}


def test_a_patch_at_the_edge_of_a_tract_keeps_its_last_rows():
    tiles = split((4100, 4200), TileConfig())
    assert {t.core.shape for t in tiles} == {(1025, 1050)}


def test_a_coadd_smaller_than_a_tile_is_one_tile():
    (tile,) = split((58, 48), TileConfig())
    assert tile.core == tile.outer == Box(0, 0, 58, 48)


def test_the_halo_is_cut_at_the_edge_of_the_coadd():
    tiles = split((200, 200), TileConfig(size=100, margin_px=30))
    assert tiles[0].outer == Box(0, 0, 130, 130)
    assert tiles[3].outer == Box(70, 70, 130, 130)
    assert tiles[3].core_in_outer == Box(30, 30, 100, 100)


def sky(*shape):
    return np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)


def test_no_data_counts_the_worst_band_by_the_plane_named_in_the_header():
    mask = np.zeros((2, 10, 10), np.int32)
    mask[1, :4] = 1 << 9  # NO_DATA in this file
    mask[0] = 1 << 8  # the bit NO_DATA has in other files
    part = coadd(sky(2, 10, 10), mask, {"NO_DATA": 9, "DETECTED": 8})
    reason = "40 % of the pixels of band r have no data"
    assert without_data(part, Box(0, 0, 10, 10), 0.3) == reason
    assert without_data(part, Box(0, 0, 10, 10), 0.4) is None
    assert without_data(part, Box(4, 0, 6, 10), 0.3) is None


def test_without_a_mask_what_is_not_finite_has_no_data():
    image = sky(1, 10, 10)
    image[0, :, :5] = np.nan
    assert without_data(coadd(image), Box(0, 0, 10, 10), 0.3).startswith("50 % of the pixels")


def test_pixels_without_a_variance_have_no_data():
    part = coadd(sky(2, 10, 10))
    valid = part.valid.copy()
    valid[1] = False
    found = without_data(replace(part, valid=valid), Box(0, 0, 10, 10), 0.3)
    assert found == "100 % of the pixels of band r have no data"


def test_a_band_of_one_value_is_no_data_whatever_its_mask():
    image = sky(3, 10, 10)
    image[1] = 0
    assert without_data(coadd(image), Box(0, 0, 10, 10), 0.3) == "band r is 0 in every pixel"
