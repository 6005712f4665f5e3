"""The training sky: scenes differ as asked, the COCO file is sound, a rerun keeps what is there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from astrolabel.cli.main import main
from astrolabel.core.config.simulate import RandomizeConfig, SimulateConfig
from astrolabel.io import coco
from astrolabel.simulate import (
    draw_bodies,
    draw_scene,
    random_scene,
    write_scenes,
    write_training_sky,
)
from astrolabel.simulate.population import Body

BASE = SimulateConfig(size=64, seed=5)
FEW = RandomizeConfig(sources=(2.0, 6.0))


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    out = tmp_path_factory.mktemp("training")
    return out, write_training_sky(out, BASE, 4, FEW, progress=False)


def test_settings_are_drawn_within_their_ranges_and_repeat():
    ranges = RandomizeConfig()
    drawn = [random_scene(BASE, ranges, n) for n in range(200)]
    assert drawn[3] == random_scene(BASE, ranges, 3)
    seeing = np.array([c.seeing_arcsec / c.pixel_scale_arcsec for c in drawn])
    assert ranges.fwhm_px[0] <= seeing.min() < 2
    assert 7 < seeing.max() <= ranges.fwhm_px[1]
    assert {c.survey for c in drawn} == {"hsc-deep", "decam"}
    bands = [len(c.spec.bands) for c in drawn]
    assert set(bands) == {1, 2, 3}
    assert np.mean(np.array(bands) == 3) == pytest.approx(0.7, abs=0.1)
    assert np.mean([c.defects.trails for c in drawn]) == pytest.approx(0.08, abs=0.06)
    assert len({c.seed for c in drawn}) == 200
    stars = np.array([c.star_fraction for c in drawn if c.star_fraction is not None])
    assert len(stars) / 200 == pytest.approx(ranges.star_field_chance, abs=0.07)
    assert stars.min() >= 0.5
    assert np.mean(stars == 1) == pytest.approx(0.25, abs=0.2)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_field_is_of_stars_alone_or_of_galaxies_alone(fraction):
    scene = draw_scene(SimulateConfig(size=200, seed=3, star_fraction=fraction))
    assert len(scene.sources) > 10
    assert all(source.body.is_star == bool(fraction) for source in scene.sources)


def test_faintest_sources_hardly_have_a_mask():
    config = replace(random_scene(BASE, RandomizeConfig(), 2), size=128, bands=())
    spec, faint = config.spec, config.spec.faint_mag
    flux = np.full(len(spec.bands), 1.0)
    for mag, masked in ((faint + 0.5, False), (faint - 2.5, True)):
        body = Body(64, 64, mag, flux * mag, flux * spec.counts(mag))
        (source,) = draw_bodies(config, [body]).sources
        assert source.has_mask == masked


# pycocotools' own use of numpy.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_coco_file_is_sound_and_its_masks_lie_on_the_cubes(sky):
    out, path = sky
    document = coco.read(path)
    assert coco.validate(document, out) == ()
    assert len(document["images"]) == 4
    on = []
    for image in document["images"]:
        with fits.open(out / image["astro"]["cube"]) as hdus:
            pixels = hdus[0].data
            assert pixels.shape == (len(image["astro"]["bands"]), 64, 64)
        for item in document["annotations"]:
            if item["image_id"] == image["id"]:
                mask = coco.decode(item["segmentation"])
                assert mask.sum() >= 5
                light = np.nan_to_num(pixels.sum(0))
                on.append(np.median(light[mask]) > np.median(light))
    assert len(on) >= 8
    assert np.mean(on) > 0.95


def test_rerun_keeps_scenes_and_adds_more(sky):
    out, path = sky
    first = coco.read(path)
    times = {f: f.stat().st_mtime_ns for f in (out / "cubes").iterdir()}
    write_training_sky(out, BASE, 5, FEW, progress=False)
    again = coco.read(path)
    assert len(again["images"]) == 5
    kept = {i["file_name"] for i in first["images"]}
    assert {f: f.stat().st_mtime_ns for f in times} == times
    assert kept < {i["file_name"] for i in again["images"]}


def test_bodies_are_added_to_scenes_which_are_drawn_anew(tmp_path):
    config = random_scene(BASE, FEW, 0)

    def one_star(config):
        spec = config.spec
        counts = np.full(len(spec.bands), 1e4 * draw_bodies(config, []).sky_sigma.max())
        yield Body(20.25, 30.5, 18.0, np.full(len(counts), 18.0), counts)

    plain = coco.read(write_scenes(tmp_path, [config], progress=False))
    added = coco.read(write_scenes(tmp_path, [config], progress=False, extra=one_star))
    assert len(added["annotations"]) == len(plain["annotations"]) + 1
    last = added["annotations"][-1]["attributes"]
    assert (last["y"], last["x"]) == (20.25, 30.5)


def test_command_draws_a_training_sky(tmp_path, capsys):
    words = ["--randomize", "1", "--size", "64", "--seed", "3"]
    assert main(["simulate", str(tmp_path), *words]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "coco.json")
    assert len(coco.read(tmp_path / "coco.json")["images"]) == 1
