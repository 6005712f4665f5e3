"""A coadd that is looked at in sections shows what it shows as a whole, in less memory."""

import tracemalloc

import numpy as np
import pytest
from fits_files import SIGMA, gaussian, scene, write_calexp, write_plain
from hypothesis import given
from hypothesis import strategies as st

from astrolabel.core import psf
from astrolabel.core.box import Box
from astrolabel.core.config.prepare import ArtifactConfig, PrepareConfig, SkyConfig
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.prepare.mesh import count_cells
from astrolabel.prepare.read import characterise, read
from astrolabel.prepare.sections import sections

WHOLE, IN_PARTS = PrepareConfig(), PrepareConfig(section_px=160)


def coadd(path):
    (files,) = find_coadds(Inputs(band_files=((("i",), path),)))
    return files


def stars(shape=(480, 400), n=40, seed=1):
    """Gaussian stars on a noisy sky of uneven level."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, SIGMA, shape)
    image += np.linspace(3, 6, shape[1]) * SIGMA
    for y, x, flux in zip(*rng.uniform(15, np.array(shape)[:, None] - 15, (2, n)),
                          10 ** rng.uniform(1.5, 2.5, n), strict=True):  # fmt: skip
        image += gaussian(shape, y, x, flux)
    return image.astype("f4")


@given(
    st.tuples(st.integers(20, 9000), st.integers(20, 9000)),
    st.integers(100, 3000),
    st.integers(16, 128),
    st.integers(1, 8),
)
def test_sections_cover_a_coadd_once_and_their_cells_are_its_cells(shape, px, box_px, bin_px):
    config = PrepareConfig(
        sky=SkyConfig(box_px=box_px), artifacts=ArtifactConfig(trail_bin_px=bin_px), section_px=px
    )
    grid = sections(shape, config)
    heights = [row[0].box.height for row in grid]
    widths = [part.box.width for part in grid[0]]
    assert (sum(heights), sum(widths)) == shape
    at = 0
    for row, height in zip(grid, heights, strict=True):
        assert [part.box.x0 for part in row] == np.cumsum([0, *widths[:-1]]).tolist()
        assert all((p.box.y0, p.box.height) == (at, height) for p in row)
        at += height
    cells = (sum(row[0].cells[0] for row in grid), sum(part.cells[1] for part in grid[0]))
    assert cells == count_cells(shape, box_px)
    assert all(part.box.y0 % bin_px == part.box.x0 % bin_px == 0 for row in grid for part in row)
    if max(shape) <= px:
        assert len(grid) == len(grid[0]) == 1


def test_sky_noise_and_psf_are_those_of_the_whole(tmp_path):
    files = coadd(write_plain(tmp_path / "i.fits", stars()))
    assert len(sections(files.shape, IN_PARTS)) == 3
    one, parts = characterise(files, WHOLE), characterise(files, IN_PARTS)
    box = Box.of_shape(files.shape)
    level = [known.bands[0].level.at(box) for known in (one, parts)]
    rms = [known.bands[0].rms.at(box) for known in (one, parts)]
    truth = np.linspace(3, 6, 400) * SIGMA
    assert np.abs(level[1] - level[0]).max() < 0.1 * SIGMA
    assert np.abs(level[1] - truth).max() < 0.25 * SIGMA
    np.testing.assert_allclose(rms[1], rms[0], rtol=0.06)
    widths = [psf.fwhm_px(known.psfs[0]) for known in (one, parts)]
    assert widths[1] == pytest.approx(widths[0], rel=0.02)
    assert parts.measured_psf == (True,)
    assert parts.coverage == one.coverage


def test_given_noise_is_checked_and_rescaled_as_in_the_whole(tmp_path):
    image, _ = scene((400, 400), n=30)
    image = image + np.random.default_rng(2).normal(0, 2 * SIGMA, image.shape)
    write_calexp(tmp_path, "i", image.astype("f4"))
    (files,) = find_coadds(Inputs((tmp_path,)))
    one, parts = characterise(files, WHOLE), characterise(files, IN_PARTS)
    assert one.bands[0].noise_scale == pytest.approx(5, rel=0.05)  # the scene has noise of 1
    assert parts.bands[0].noise_scale == pytest.approx(one.bands[0].noise_scale, rel=0.02)


def test_a_trail_over_many_sections_is_one_and_as_wide(tmp_path):
    image = stars(n=10)
    y, x = np.mgrid[:480, :400]
    image[np.abs((y - 240) * np.cos(0.5) - (x - 200) * np.sin(0.5)) < 3] += 8 * SIGMA
    files = coadd(write_plain(tmp_path / "i.fits", image))
    (one,), (parts,) = (characterise(files, config).bands[0].trails for config in (WHOLE, IN_PARTS))
    assert parts.angle % np.pi == pytest.approx(0.5, abs=0.02)
    assert abs(parts.half_width - one.half_width) <= 1
    assert 3 <= parts.half_width <= 8


def test_a_corner_without_data_and_a_fill_value_are_told_once(tmp_path):
    image = stars()
    image[:200, :170] = np.nan
    image[300:420] = -999
    files = coadd(write_plain(tmp_path / "i.fits", image))
    one, parts = characterise(files, WHOLE), characterise(files, IN_PARTS)
    assert parts.note("mask", "i") == one.note("mask", "i") != ""
    assert parts.coverage == one.coverage
    assert not read(files, parts).valid[0, 350].any()


def test_memory_does_not_grow_with_the_coadd(tmp_path):
    peaks = []
    for side in (320, 640):
        files = coadd(write_plain(tmp_path / f"{side}.fits", stars((side, side), n=20)))
        characterise(files, IN_PARTS)  # what is kept of a file is kept by now
        tracemalloc.start()
        characterise(files, IN_PARTS)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
    files = coadd(tmp_path / "640.fits")
    tracemalloc.start()
    characterise(files, WHOLE)
    assert tracemalloc.get_traced_memory()[1] > 4 * peaks[1]
    tracemalloc.stop()
