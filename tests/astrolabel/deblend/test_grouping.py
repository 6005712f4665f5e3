"""Grouping of peaks by footprint, its bounds, and the cutouts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrolabel.core.config import DeblendConfig
from astrolabel.deblend.grouping import (
    NO_GROUP,
    UNCLAIMED,
    Grouping,
    cut_blend,
    flood,
    group_footprints,
)

SHAPE = (120, 150)


def hills(
    centres: list[tuple[float, float]], shape: tuple[int, int] = SHAPE, width: float = 3.0
) -> np.ndarray:
    """Significance: Gaussians of height 50."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    out = np.zeros(shape, np.float32)
    for cy, cx in centres:
        out += 50 * np.exp(-0.5 * ((y - cy) ** 2 + (x - cx) ** 2) / width**2)
    return out


def group(centres, config: DeblendConfig | None = None, **kwargs) -> Grouping:
    significance = hills(centres, **kwargs)
    peaks = np.array(centres, float)
    return group_footprints(significance > 5, significance, peaks, config or DeblendConfig())


def members(grouping: Grouping) -> list[list[int]]:
    return [g.peaks.tolist() for g in grouping.groups]


def test_sources_apart_are_groups_of_their_own_and_touching_ones_share_one() -> None:
    grouping = group([(30, 30), (30, 41), (90, 120)])
    assert members(grouping) == [[0, 1], [2]]
    assert grouping.n_blended.tolist() == [2, 2, 1]
    assert all(g.state == "ok" for g in grouping.groups)


def test_cutout_holds_the_footprint_and_the_padding_inside_the_image() -> None:
    config = DeblendConfig(padding_px=6)
    (one,) = group([(5, 60)], config).groups
    significance = hills([(5, 60)])
    columns = np.flatnonzero((significance > config.grouping_sigma).any(axis=0))
    assert one.box.y0 == 0
    # Smoothing moves the wings' contour by less than a pixel.
    assert one.box.x0 == pytest.approx(columns[0] - 6, abs=1)
    assert one.box.x1 == pytest.approx(columns[-1] + 7, abs=1)


def test_wings_join_footprints_that_do_not_touch() -> None:
    centres = [(60, 60), (60, 75)]
    significance = hills(centres)
    peaks = np.array(centres, float)
    apart = significance > 20
    joined = group_footprints(apart, significance, peaks, DeblendConfig(grouping_sigma=1.0))
    assert members(joined) == [[0, 1]]
    assert joined.n_blended.tolist() == [1, 1]
    alone = group_footprints(apart, significance, peaks, DeblendConfig(grouping_sigma=25.0))
    assert members(alone) == [[0], [1]]


def test_peak_outside_every_footprint_gets_a_group_of_its_own() -> None:
    significance = hills([(30, 30)])
    peaks = np.array([(30.0, 30.0), (80.0, 100.0), (0.0, 149.0)])
    grouping = group_footprints(significance > 5, significance, peaks, DeblendConfig())
    assert members(grouping) == [[0], [1], [2]]
    assert grouping.groups[1].box.contains(80, 100)
    assert grouping.n_blended.tolist() == [1, 1, 1]


def test_group_with_too_many_peaks_is_cut_at_its_lowest_pass() -> None:
    # The gap between the second and the third is the widest, so the lowest.
    grouping = group([(60, 30), (60, 37), (60, 48), (60, 55)], DeblendConfig(max_peaks=2))
    assert members(grouping) == [[0, 1], [2, 3]]
    assert grouping.n_blended.tolist() == [4, 4, 4, 4]
    border = grouping.territory[60, 30:56]
    assert np.flatnonzero(np.diff(border)).size == 1
    assert abs(int(np.flatnonzero(np.diff(border))[0]) + 30 - 42.5) <= 2


def test_group_with_too_many_pixels_is_cut() -> None:
    centres = [(60, 20.0 + 8 * i) for i in range(12)]
    config = DeblendConfig(max_pixels=2500)
    grouping = group(centres, config)
    assert len(grouping.groups) > 1
    assert sorted(i for g in members(grouping) for i in g) == list(range(12))
    assert all(g.box.area <= 2500 and g.state == "ok" for g in grouping.groups)


def test_single_source_larger_than_the_bound_is_skipped_with_the_reason() -> None:
    grouping = group([(60, 75), (10, 10)], DeblendConfig(max_pixels=2000), width=14.0)
    states = {g.peaks[0]: g.state for g in grouping.groups}
    assert states[0] == "skipped:footprint larger than 2000 pixels"


def test_peaks_on_one_pixel_that_exceed_the_bound_are_skipped_with_the_reason() -> None:
    significance = hills([(60, 75)])
    peaks = np.full((5, 2), (60.0, 75.0))
    config = DeblendConfig(max_peaks=3)
    (one,) = group_footprints(significance > 5, significance, peaks, config).groups
    assert one.state == "skipped:more than 3 peaks in one basin"


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 25), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_every_peak_is_in_one_group_within_the_bounds(n: int, most: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    peaks = rng.uniform(0, [SHAPE[0] - 1, SHAPE[1] - 1], (n, 2))
    significance = hills([tuple(p) for p in peaks]) + rng.normal(0, 1, SHAPE).astype(np.float32)
    config = DeblendConfig(max_peaks=most, max_pixels=4000)
    grouping = group_footprints(significance > 5, significance, peaks, config)
    assert sorted(i for g in members(grouping) for i in g) == list(range(n))
    for k, g in enumerate(grouping.groups):
        if g.state == "ok":
            assert len(g.peaks) <= most
            assert g.box.area <= 4000
        for y, x in np.rint(peaks[g.peaks]).astype(int):
            assert g.box.contains(y, x)
            assert grouping.territory[y, x] == k


def test_no_peaks_and_no_footprint_give_no_groups() -> None:
    nothing = np.zeros(SHAPE, np.float32)
    empty = group_footprints(nothing > 1, nothing, np.empty((0, 2)), DeblendConfig())
    assert empty.groups == ()
    assert (empty.territory == NO_GROUP).all()


def test_not_finite_significance_is_no_footprint() -> None:
    significance = hills([(60, 60)])
    significance[10, 10], significance[100, 100] = np.nan, np.inf
    peaks = np.array([(60.0, 60.0)])
    (one,) = group_footprints(significance > 5, significance, peaks, DeblendConfig()).groups
    assert one.box.area < 60 * 60


def make_cut(index: int) -> tuple[Grouping, np.ndarray, object]:
    centres = [(60, 50), (60, 80), (90, 60)]
    significance = hills(centres)
    peaks = np.array(centres[:2], float)
    config = DeblendConfig(padding_px=12)
    grouping = group_footprints(significance > 5, significance, peaks, config)
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, *SHAPE)).astype(np.float32)
    weights = np.ones_like(image)
    weights[0, 60, 50], image[0, 60, 50] = 0, np.nan
    psfs = np.ones((2, 3, 3), np.float32) / 9
    return grouping, image, cut_blend(image, weights, psfs, peaks, grouping, index)


def test_cut_blend_gives_no_weight_to_the_light_of_other_footprints() -> None:
    grouping, _, blend = make_cut(0)
    territory = grouping.territory[grouping.groups[0].box.slices]
    assert (territory == 1).any()
    assert (territory == UNCLAIMED).any()
    assert (blend.weights[:, territory != 0] == 0).all()
    assert (blend.weights[1, territory == 0] == 1).all()


def test_cut_blend_is_finite_and_counts_peaks_from_its_corner() -> None:
    grouping, image, blend = make_cut(0)
    box = grouping.groups[0].box
    assert np.isfinite(blend.image).all()
    assert blend.peaks.tolist() == [[60 - box.y0, 50 - box.x0]]
    y, x = 61 - box.y0, 52 - box.x0
    assert blend.image[1, y, x] == image[1, 61, 52]


def test_basins_of_two_hills_meet_in_the_valley() -> None:
    height = hills([(20, 20), (20, 34)], (40, 60))
    basins = flood(height, height > 0.01, np.array([(20, 20), (20, 34)]))
    assert (basins[20, 15:27] == 0).all()
    assert (basins[20, 28:40] == 1).all()
    assert (basins[height <= 0.01] == -1).all()
