"""What holds for every deblender there is, whoever wrote it.

Those of others take part where their library is installed.
"""

from __future__ import annotations

import importlib.metadata
import json
import pickle
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from deblend_scenes import (
    COLOUR,
    THRESHOLD,
    blend_of,
    chi2_per_pixel,
    iou,
    light,
    mask_of,
    psfs,
    whole,
)

from astrolabel.core.box import Box
from astrolabel.core.config import DeblendConfig
from astrolabel.core.errors import InputError
from astrolabel.deblend import (
    Blend,
    BlendFit,
    Deblender,
    adapter,
    available_deblenders,
    libraries,
    make_deblender,
)
from astrolabel.deblend.adapter import Alone
from astrolabel.deblend.scarlet2 import COUNTS, SIDES, next_size

REASONS = {
    "masked",
    "zero flux",
    "no better than nothing",
    "part of another",
    "model not finite",
    "scarlet cannot start it",
    "scarlet broke off",
}


def made(name: str) -> Deblender:
    try:
        return make_deblender(DeblendConfig(engine=name))
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=available_deblenders())
def deblender(request) -> Deblender:
    return made(request.param)


def states(fit: BlendFit) -> list[str]:
    return [s.state for s in fit.sources]


def check_form(blend: Blend, fit: BlendFit) -> None:
    """What `SourceFit` and `BlendFit` promise."""
    bands, height, width = blend.image.shape
    assert len(fit.sources) == len(blend.peaks)
    assert np.isfinite(fit.chi2_per_pixel)
    assert fit.n_iterations >= 0
    for source in fit.sources:
        assert source.kind in ("point", "extended")
        assert source.model.dtype == np.float32
        assert source.model.shape == (bands, *source.box.shape)
        assert source.box.area > 0
        assert min(source.box.y0, source.box.x0) >= 0
        assert source.box.y1 <= height
        assert source.box.x1 <= width
        assert np.isfinite(source.model).all()
        assert source.flux.shape == (bands,)
        assert np.isfinite(source.flux).all()
        assert source.flux_err.shape == (bands,)
        assert not (source.flux_err < 0).any()
        if source.state != "ok":
            assert source.state.removeprefix("failed:") in REASONS
            assert (source.model == 0).all()
            assert (source.flux == 0).all()


def test_two_separate_stars_are_points_with_their_fluxes(deblender) -> None:
    shape = (41, 71)
    blend = blend_of(
        light(shape, 20.3, 17.8, 3000), light(shape, 19.6, 52.4, 1500), peaks=[(20, 18), (20, 52)]
    )
    fit = deblender.fit(blend)
    check_form(blend, fit)
    assert states(fit) == ["ok", "ok"]
    assert [s.kind for s in fit.sources] == ["point", "point"]
    for source, flux in zip(fit.sources, (3000, 1500), strict=True):
        np.testing.assert_allclose(source.flux, flux * COLOUR, rtol=0.04)
    assert fit.chi2_per_pixel == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("size", [0.0, 1.8, 3.0])
def test_isolated_source_keeps_flux_and_mask(deblender, size: float) -> None:
    shape = (61, 61)
    truth = light(shape, 30.2, 29.7, 9000, size=size, ratio=1.3)
    blend = blend_of(truth, peaks=[(30, 30)])
    fit = deblender.fit(blend)
    (source,) = fit.sources
    assert source.state == "ok"
    assert source.kind == ("extended" if size else "point")
    np.testing.assert_allclose(source.flux, 9000 * COLOUR, rtol=0.05)
    found = mask_of(whole(fit, 0, shape), THRESHOLD, (30, 30))
    assert iou(found, mask_of(truth, THRESHOLD, (30, 30))) > 0.9


def test_blend_of_two_galaxies_gives_each_its_mask(deblender) -> None:
    shape = (61, 67)
    truths = [
        light(shape, 30, 28, 8000, size=1.8, ratio=1.3),
        light(shape, 31, 40, 5000, size=1.5),
    ]
    peaks = [(30, 28), (31, 40)]
    fit = deblender.fit(blend_of(*truths, peaks=peaks))
    assert states(fit) == ["ok", "ok"]
    for n, (truth, peak) in enumerate(zip(truths, peaks, strict=True)):
        found = mask_of(whole(fit, n, shape), THRESHOLD, peak)
        assert iou(found, mask_of(truth, THRESHOLD, peak)) > 0.8
        assert fit.sources[n].flux.sum() == pytest.approx(truth.sum(), rel=0.1)
    assert fit.chi2_per_pixel < 1.15


def test_reported_chi2_is_that_of_the_models_given(deblender) -> None:
    shape = (51, 53)
    blend = blend_of(light(shape, 25, 20, 4000, size=2), light(shape, 27, 33, 2000),
                     peaks=[(25, 20), (27, 33)])  # fmt: skip
    fit = deblender.fit(blend)
    # What is trimmed from a model is a twentieth of a sigma at most.
    assert fit.chi2_per_pixel == pytest.approx(chi2_per_pixel(blend, fit), abs=0.01)


@pytest.mark.parametrize("peak", [(0, 20), (15, 39), (0, 0), (30, 39)])
def test_source_cut_by_the_edge_keeps_the_light_inside(deblender, peak) -> None:
    shape = (31, 40)
    truth = light(shape, *peak, 4000)
    blend = blend_of(truth, peaks=[peak])
    fit = deblender.fit(blend)
    check_form(blend, fit)
    assert states(fit) == ["ok"]
    assert whole(fit, 0, shape).sum() == pytest.approx(truth.sum(), rel=0.1)


def test_masked_core_fails_alone(deblender) -> None:
    shape = (45, 71)
    blend = blend_of(light(shape, 22, 18, 3000), light(shape, 22, 52, 3000),
                     peaks=[(22, 18), (22, 52)])  # fmt: skip
    weights = blend.weights.copy()
    weights[:, 16:29, 46:59] = 0
    blend = replace(blend, weights=weights, image=np.where(weights > 0, blend.image, 0))
    fit = deblender.fit(blend)
    check_form(blend, fit)
    assert states(fit) == ["ok", "failed:masked"]
    np.testing.assert_allclose(fit.sources[0].flux, 3000 * COLOUR, rtol=0.04)


def test_band_without_data_leaves_the_others_right(deblender) -> None:
    shape = (45, 47)
    blend = blend_of(light(shape, 22, 23, 5000, size=1.5), peaks=[(22, 23)])
    image, weights = blend.image.copy(), blend.weights.copy()
    image[1], weights[1] = 0, 0
    blend = replace(blend, image=image, weights=weights)
    fit = deblender.fit(blend)
    check_form(blend, fit)
    (source,) = fit.sources
    assert source.state == "ok"
    np.testing.assert_allclose(source.flux[[0, 2]], 5000 * COLOUR[[0, 2]], rtol=0.06)
    assert source.flux[1] == 0
    assert (source.model[1] == 0).all()


@pytest.mark.parametrize("level", [0.0, -3.0])
def test_image_without_light_gives_no_source(deblender, level: float) -> None:
    image = np.full((3, 31, 33), level, np.float32)
    blend = Blend(image, np.ones_like(image), psfs(), np.array([(15.0, 16.0), (8.0, 8.0)]))
    fit = deblender.fit(blend)
    check_form(blend, fit)
    assert all(state.startswith("failed:") for state in states(fit))
    assert fit.chi2_per_pixel == pytest.approx(level**2)


def test_blend_without_data_fails_in_all_its_sources(deblender) -> None:
    blend = blend_of(light((31, 33), 15, 16, 500), peaks=[(15, 16), (10, 10)])
    blend = replace(blend, weights=np.zeros_like(blend.weights))
    fit = deblender.fit(blend)
    check_form(blend, fit)
    assert states(fit) == ["failed:masked"] * 2
    assert not fit.converged


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (3, 40)])
def test_cutouts_of_few_pixels_end_in_a_state(deblender, shape) -> None:
    middle = (shape[0] // 2, shape[1] // 2)
    blend = blend_of(light(shape, *middle, 2000), peaks=[middle])
    fit = deblender.fit(blend)
    check_form(blend, fit)
    assert fit.chi2_per_pixel <= float((blend.image**2).mean()) * (1 + 1e-6)


def test_order_of_the_peaks_does_not_matter(deblender) -> None:
    shape = (61, 63)
    peaks = np.array([(30, 22), (28, 35), (40, 30)], float)
    lights = [
        light(shape, *p, f, size=s)
        for p, f, s in zip(peaks, (6000, 4000, 3000), (2, 1.5, 0), strict=True)
    ]
    forward = deblender.fit(blend_of(*lights, peaks=peaks))
    turned = deblender.fit(blend_of(*lights, peaks=peaks[::-1]))
    for one, other in zip(forward.sources, turned.sources[::-1], strict=True):
        assert one.state == other.state == "ok"
        np.testing.assert_allclose(one.flux, other.flux, rtol=0.03)


def same(a: BlendFit, b: BlendFit) -> bool:
    return a.chi2_per_pixel == b.chi2_per_pixel and all(
        s.box == t.box and np.array_equal(s.model, t.model) and np.array_equal(s.flux, t.flux)
        for s, t in zip(a.sources, b.sources, strict=True)
    )


def test_same_blend_gives_the_same_fit_whatever_came_before(deblender) -> None:
    shape = (51, 53)
    one = blend_of(light(shape, 25, 20, 4000, size=2), light(shape, 27, 33, 2000),
                   peaks=[(25, 20), (27, 33)])  # fmt: skip
    first = deblender.fit(one)
    deblender.fit(blend_of(light((40, 38), 20, 20, 800), peaks=[(20, 20)]))
    deblender.fit(replace(one, psfs=psfs()[::-1].copy()))
    assert same(first, deblender.fit(one))
    assert same(first, made(deblender.name).fit(one))


def test_deblender_travels_to_a_worker(deblender) -> None:
    blend = blend_of(light((45, 47), 22, 23, 3000, size=1.5), peaks=[(22, 23)])
    before = deblender.fit(blend)
    parcel = pickle.dumps(deblender)
    assert len(parcel) < 10_000
    assert same(before, pickle.loads(parcel).fit(blend))


def test_inputs_are_left_as_they_were(deblender) -> None:
    blend = blend_of(light((45, 47), 22, 23, 3000, size=1.5), peaks=[(22, 23)])
    arrays = [blend.image, blend.weights, blend.psfs, blend.peaks]
    before = [a.copy() for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    deblender.fit(blend)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_pixels_that_are_not_finite_are_left_out(deblender) -> None:
    blend = blend_of(light((45, 47), 22, 23, 3000), peaks=[(22, 23)])
    image, weights = blend.image.copy(), blend.weights.copy()
    image[0, 20, 20], image[1, 5, 5], weights[2, 22, 25] = np.nan, np.inf, np.inf
    blend = replace(blend, image=image, weights=weights)
    fit = deblender.fit(blend)
    check_form(blend, fit)
    np.testing.assert_allclose(fit.sources[0].flux, 3000 * COLOUR, rtol=0.04)


def test_no_source_is_kept_that_chi2_is_lower_without(deblender) -> None:
    for seed in range(3):
        shape = (41, 43)
        blend = blend_of(light(shape, 20, 20, 400), peaks=[(20, 20), (10, 30), (21, 20)], seed=seed)
        fit = deblender.fit(blend)
        check_form(blend, fit)
        everything = chi2_per_pixel(blend, fit)
        assert everything <= float((blend.image**2).mean()) * (1 + 1e-6)
        for n, source in enumerate(fit.sources):
            if source.state == "ok":
                dark = replace(source, model=np.zeros_like(source.model))
                left = (*fit.sources[:n], dark, *fit.sources[n + 1 :])
                assert chi2_per_pixel(blend, replace(fit, sources=left)) > everything - 1e-4


@pytest.mark.parametrize("seed", range(8))
def test_any_pixels_end_in_states_and_finite_models_inside_the_cutout(deblender, seed) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 40, 2))
    peaks = rng.random((int(rng.integers(1, 6)), 2)) * (np.array(shape) - 1)
    image = rng.normal(0, 10 ** rng.uniform(-3, 8), (3, *shape))
    for y, x in peaks:
        image += light(shape, y, x, 10 ** rng.uniform(0, 7), size=rng.uniform(0, 4))
    image[rng.random(image.shape) < 0.02] = np.nan
    kept = rng.random(image.shape) >= rng.choice([0, 0.3, 0.9])
    weights = np.where(kept, 10 ** rng.uniform(-10, 10), 0).astype(np.float32)
    blend = Blend(image.astype(np.float32), weights, psfs(), peaks)
    check_form(blend, deblender.fit(blend))


def test_unknown_deblender_is_refused_with_the_known_names() -> None:
    assert available_deblenders() == ("parametric", "scarlet", "scarlet2")
    with pytest.raises(InputError, match="parametric, scarlet, scarlet2"):
        make_deblender(DeblendConfig(engine="scarlett"))


def test_versions_behind_an_engine_are_those_of_what_is_installed() -> None:
    assert libraries("parametric") == ()
    for engine in ("scarlet", "scarlet2"):
        made(engine)  # or there is nothing to tell
        assert engine in libraries(engine)
        assert all(importlib.metadata.version(name) for name in libraries(engine))


def scarlet_is(monkeypatch, folder, code: str | None) -> None:
    """Let `import scarlet` find a module of this code, or nothing."""
    monkeypatch.delitem(sys.modules, "scarlet", raising=False)
    monkeypatch.setattr(sys, "path", [str(folder)])
    sys.path_importer_cache.clear()
    if code is not None:
        (folder / "scarlet.py").write_text(code)


def test_missing_scarlet_is_explained_with_the_way_to_the_authors_guide(
    monkeypatch, tmp_path
) -> None:
    scarlet_is(monkeypatch, tmp_path, None)
    with pytest.raises(InputError, match=r"not installed; .*pmelchior.github.io.*not from PyPI"):
        make_deblender(DeblendConfig(engine="scarlet"))


def test_the_other_project_called_scarlet_is_recognised(monkeypatch, tmp_path) -> None:
    scarlet_is(monkeypatch, tmp_path, "name = 'something else'")
    with pytest.raises(InputError, match=r"scarlet.py: .*unrelated project.*pip uninstall"):
        make_deblender(DeblendConfig(engine="scarlet"))
    scarlet_is(monkeypatch, tmp_path, "print 'two'")
    with pytest.raises(InputError, match=r"cannot be imported.*pmelchior"):
        make_deblender(DeblendConfig(engine="scarlet"))


def test_missing_scarlet2_is_explained_with_the_extra(monkeypatch, tmp_path) -> None:
    monkeypatch.delitem(sys.modules, "scarlet2", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    sys.path_importer_cache.clear()
    with pytest.raises(InputError, match=r"not installed; pip install 'astrolabel\[scarlet2\]'"):
        make_deblender(DeblendConfig(engine="scarlet2"))


def test_blends_of_many_sizes_need_few_compilations() -> None:
    assert [next_size(n, COUNTS) for n in (1, 3, 16, 17, 41, 65)] == [1, 4, 16, 40, 64, 88]
    assert [next_size(n, SIDES) for n in (1, 49, 50, 300, 700)] == [49, 49, 81, 337, 721]
    used = {
        (next_size(s, SIDES), next_size(n, COUNTS)) for s in range(1, 301) for n in range(1, 41)
    }
    assert len(used) == 30
    assert all(side % 2 for side, _ in used)


@pytest.mark.parametrize(("version", "refused"), [("1.8.0", False), ("1.9.1", True), ("2.0", True)])
def test_autograd_that_breaks_scarlet_is_refused(monkeypatch, tmp_path, version, refused) -> None:
    scarlet_is(monkeypatch, tmp_path, "class Blend: pass")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    if refused:
        with pytest.raises(InputError, match=r"autograd<1\.9"):
            make_deblender(DeblendConfig(engine="scarlet"))
    else:
        assert make_deblender(DeblendConfig(engine="scarlet")).name == "scarlet"


def judged(blend: Blend, *models: np.ndarray) -> BlendFit:
    """What is made of a library's claim to have converged on these whole-cutout models."""
    task = adapter.prepared(blend, DeblendConfig())
    box = Box.of_shape(task.image.shape)
    alone = [Alone(box, m, m.sum(axis=(1, 2)), "extended") for m in models]
    return adapter.blend_fit(blend, task, alone, 7, True)


def test_model_of_zeros_is_no_success_though_the_library_says_so() -> None:
    star = light((41, 43), 20, 21, 3000)
    blend = blend_of(star, peaks=[(20, 21)])
    fit = judged(blend, np.zeros_like(star))
    assert states(fit) == ["failed:zero flux"]
    assert not fit.converged
    assert fit.chi2_per_pixel == pytest.approx(float((blend.image**2).mean()))


def test_model_worse_than_nothing_is_refused_and_the_others_kept() -> None:
    shape = (41, 81)
    star, ghost = light(shape, 20, 20, 3000), light(shape, 20, 60, 3000)
    blend = blend_of(star, peaks=[(20, 20), (20, 60)])
    fit = judged(blend, star, ghost)
    assert states(fit) == ["ok", "failed:no better than nothing"]
    assert fit.chi2_per_pixel == pytest.approx(1, abs=0.05)
    fit = judged(blend, star * 3, ghost)
    assert states(fit) == ["failed:no better than nothing"] * 2


def test_light_given_twice_is_kept_once() -> None:
    star = light((41, 43), 20, 21, 3000)
    fit = judged(blend_of(star, peaks=[(20, 21), (21, 21)]), star, star)
    assert sorted(states(fit)) == ["failed:no better than nothing", "ok"]
    assert fit.chi2_per_pixel == pytest.approx(1, abs=0.05)


def test_model_that_is_not_finite_fails() -> None:
    star = light((41, 43), 20, 21, 3000)
    broken = star.copy()
    broken[1, 3, 3] = np.nan
    fit = judged(blend_of(star, peaks=[(20, 21)]), broken)
    assert states(fit) == ["failed:model not finite"]


def test_first_look_tells_stars_from_galaxies_and_finds_their_centres() -> None:
    shape = (61, 61)
    for size, flux in ((0.0, 500), (0.0, 50_000), (1.5, 3000), (3.0, 20_000)):
        truth = light(shape, 30.3, 29.6, flux, size=size)
        blend = blend_of(truth, peaks=[(30, 30)])
        (look,) = adapter.first_looks(adapter.prepared(blend, DeblendConfig()))
        assert look.extended == (size > 0)
        assert look.centre == pytest.approx((30.3, 29.6), abs=0.2 if flux < 1000 else 0.05)
        assert look.sigma == pytest.approx(size, rel=0.3)


def test_first_look_at_a_star_on_the_edge_or_with_a_hole_takes_the_other_side() -> None:
    shape = (41, 61)
    for peak in ((0, 30), (20, 30)):
        blend = blend_of(light(shape, *peak, 5000), peaks=[peak])
        weights = blend.weights.copy()
        weights[:, 22:25, 29:32] = 0
        (look,) = adapter.first_looks(
            adapter.prepared(replace(blend, weights=weights), DeblendConfig())
        )
        assert not look.extended


@dataclass(frozen=True, eq=False)
class Compared:
    """Of all the recorded blends: `cmf`, then scarlet.

    Attributes
    ----------
    iou : (2, N) of each source's mask with the truth.
    flux : (2, N) over the true, bands added.
    snr : (N,) of the true flux under the PSF, about.
    chi2 : (3, K) per pixel; the third that of the truth.
    """

    iou: np.ndarray
    flux: np.ndarray
    snr: np.ndarray
    chi2: np.ndarray


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    """What `record_scarlet.py` wrote."""
    with np.load(Path(__file__).parents[1] / "references" / "scarlet.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def compared(recorded) -> Compared:
    cmf = made("parametric")
    threshold = float(recorded["threshold"])
    ious, fluxes, snr, chi2 = [], [], [], []
    for k in range(sum(name.endswith("_image") for name in recorded)):
        one = {n.partition("_")[2]: v for n, v in recorded.items() if n.startswith(f"{k}_")}
        variance = one["variance"].astype(np.float32)
        blend = Blend(one["image"], 1 / variance, recorded["psfs"], one["peaks"])
        fit = cmf.fit(blend)
        known = (float(one[f"{who}_chi2_per_pixel"]) for who in ("scarlet", "true"))
        chi2.append((fit.chi2_per_pixel, *known))
        for n, peak in enumerate(blend.peaks):
            true = one["true_flux"][n].sum(dtype=float)
            models = whole(fit, n, blend.image.shape), one["scarlet_model"][n].astype(float)
            ious.append([iou(mask_of(m, threshold, peak), one["true_mask"][n]) for m in models])
            fluxes.append([fit.sources[n].flux.sum() / true, one["scarlet_flux"][n].sum() / true])
            sky = np.sqrt(
                variance.min(axis=(1, 2)).sum() / (recorded["psfs"] ** 2).sum((1, 2)).mean()
            )
            snr.append(true / sky)
    return Compared(np.array(ious).T, np.array(fluxes).T, np.array(snr), np.array(chi2).T)


def test_reference_says_where_it_comes_from(recorded) -> None:
    origin = json.loads(str(recorded["origin"]))
    assert origin["command"] == "python tests/astrolabel/record_scarlet.py"
    assert origin["versions"]["scarlet"]
    assert origin["simulated"]["seed"] == 11


def test_cmf_fits_no_recorded_blend_worse_than_scarlet(compared) -> None:
    ours, theirs, truth = compared.chi2
    assert np.median(ours) <= np.median(theirs)
    # Free pixels fit some of the noise: what is below the truth's own chi2 is no merit.
    assert (ours <= np.maximum(theirs + 0.01, truth)).all()


def test_cmf_has_the_better_masks_of_the_recorded_blends(compared) -> None:
    ours, theirs = compared.iou
    assert np.median(ours) >= np.median(theirs)
    assert ours.mean() >= theirs.mean()
    assert (ours >= theirs).mean() > 0.5


def test_cmf_has_the_fluxes_of_the_recorded_blends(compared) -> None:
    ours, theirs = np.abs(compared.flux - 1)
    assert np.median(ours) <= np.median(theirs)
    bright = compared.snr > 50
    assert bright.sum() >= 8
    assert np.median(ours[bright]) <= np.median(theirs[bright])
    # Three sources within a seeing disc: none may take the light of all.
    assert np.minimum(ours, 1)[bright].mean() <= np.minimum(theirs, 1)[bright].mean()
    # As a whole, the two flux scales are one.
    assert np.median(compared.flux[0][bright] / compared.flux[1][bright]) == pytest.approx(
        1, abs=0.15
    )
