"""Structured galaxies and bright stars: what makes them hard is drawn, the light is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from astrolabel.cli.main import main
from astrolabel.core.config import surveys
from astrolabel.io import coco
from astrolabel.simulate import SimulateConfig, draw_bodies, draw_scene, simulate
from astrolabel.simulate.planes import BITS
from astrolabel.simulate.population import draw_bright
from astrolabel.simulate.star_artifacts import OVERFULL, bleed

CONFIG = SimulateConfig(size=240, seed=4, bright=2, density_per_arcmin2=40)


@pytest.fixture(scope="module")
def scene():
    return draw_scene(CONFIG)


def bodies(spec, galaxies=True, seed=0):
    """Bright bodies of one kind, as drawn for a large image."""
    drawn = draw_bright(
        np.random.default_rng(seed), SimulateConfig(survey=spec.name, size=4000, bright=6)
    )
    return [b for b in drawn if b.is_star != galaxies]


def alone(body, spec, side=500):
    """The body in the middle of an image of its own."""
    middle = side // 2
    config = SimulateConfig(survey=spec.name, size=side)
    return draw_bodies(config, [replace(body, y=float(middle), x=float(middle))])


def test_bright_objects_come_on_top_of_the_same_scene(scene):
    plain = draw_scene(replace(CONFIG, bright=0))
    added = [s for s in scene.sources if s.body.bright]
    assert len(added) == 4
    assert sum(s.body.is_star for s in added) == 2
    assert not any(s.body.bright for s in plain.sources)
    assert [s.object_id for s in plain.sources] == [
        s.object_id for s in scene.sources if not s.body.bright
    ]
    light = np.zeros_like(scene.model)
    for source in added:
        light[(slice(None), *source.box.slices)] += source.stamp
    np.testing.assert_allclose(scene.model - plain.model, light, atol=1e-3)


def test_equal_configurations_give_equal_bytes(scene):
    np.testing.assert_array_equal(draw_scene(CONFIG).image, scene.image)


@pytest.mark.parametrize("spec", [surveys.HSC_DEEP, surveys.DECAM], ids=lambda s: s.name)
def test_structured_galaxy_keeps_its_light(spec):
    body = min(bodies(spec), key=lambda b: b.half_light_arcsec)
    (source,) = alone(body, spec).sources
    np.testing.assert_allclose(source.stamp.sum((1, 2)), body.flux, rtol=0.02)


def test_structured_galaxy_is_lumpy_and_more_so_in_the_blue():
    spec = surveys.HSC_DEEP
    found = []
    for body in bodies(spec):
        # Face-on, so that a smooth disc would be even along circles.
        round_ = tuple(replace(c, axis_ratio=0.95) for c in body.components)
        for structure in (body.structure, None):
            one = replace(body, components=round_, structure=structure)
            (source,) = alone(one, spec, 300).sources
            rows, columns = np.indices(source.box.shape)
            radius = body.components[-1].radius_arcsec / spec.pixel_scale_arcsec
            middle = (source.body.y - source.box.y0, source.body.x - source.box.x0)
            distance = np.hypot(rows - middle[0], columns - middle[1])
            ring = np.abs(distance / radius - 1.2) < 0.1
            light = source.stamp[:, ring]
            found.append(light.std(axis=1) / light.mean(axis=1))
    structured, smooth = np.array(found[::2]), np.array(found[1::2])
    assert (structured > 1.5 * smooth).all()
    assert np.median(structured[:, 0] / structured[:, -1]) > 1.1


def test_stars_have_spikes_between_which_it_is_darker():
    spec = surveys.HSC_DEEP
    body = bodies(spec, galaxies=False)[0]
    scene = alone(body, spec)
    angle = body.artifacts.spike_angle_rad

    def light(turn):
        y, x = 250 + 60 * np.sin(angle + turn), 250 + 60 * np.cos(angle + turn)
        return scene.model[:, round(y), round(x)].sum()

    on = [light(k * np.pi / 2) for k in range(4)]
    off = [light(k * np.pi / 2 + 0.4) for k in range(4)]
    assert min(on) > 1.5 * max(off)


@pytest.mark.parametrize(("spec", "axis"), [(surveys.HSC_DEEP, 0), (surveys.DECAM, 1)])
def test_saturated_pixels_run_along_the_detectors_columns(spec, axis):
    body = max(bodies(spec, galaxies=False), key=lambda b: -b.i_mag)
    scene = alone(body, spec)
    (source,) = scene.sources
    assert source.saturated
    saturated = (scene.mask[-1] & (1 << BITS["SAT"])) != 0
    extent = [np.ptp(v) + 1 for v in np.nonzero(saturated)]
    assert extent[axis] > 1.5 * extent[1 - axis]
    # What the coadd kept of the trail goes on beyond.
    end = 250 + extent[axis] // 2 + 10
    trail, beside = [(end, 250), (end, 262)] if axis == 0 else [(250, end), (262, end)]
    assert scene.model[-1][trail] > scene.model[-1][beside]


def test_saturated_cores_are_ragged_and_only_in_scenes_with_bright_stars(scene):
    saturated = (scene.mask & (1 << BITS["SAT"])) != 0
    limit = np.array([b.saturation_counts for b in scene.spec.bands])[:, None, None]
    values = (scene.image / limit)[saturated]
    assert np.median(values) == pytest.approx(1, abs=0.05)
    assert 0.2 < np.std(np.log(values)) < 0.3


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ([1, 2, 3, 2, 1], [1, 2, 3, 2, 1]),
        ([0, 0, 14, 0, 0], [0, 2, 10, 2, 0]),
        ([0, 4, 30, 0, 0, 0], [4, 10, 10, 10, 0, 0]),
        ([5, 12, 3, 18, 5], [6.5, 10, 10, 10, 6.5]),  # the hollow between two tops is full too
        ([0, 11, 2, 11, 0], [0, 10, 4, 10, 0]),
        ([0, 50], [10, 10]),  # what runs over the end is lost
    ],
)
def test_what_a_full_pixel_cannot_hold_spills_to_both_sides(line, expected):
    found = bleed(np.array(line, float), 10.0)
    np.testing.assert_allclose(np.minimum(found, 10.0), expected)
    assert found.max() <= 10 * OVERFULL


def test_command_adds_bright_objects(tmp_path, capsys):
    arguments = ["--size", "200", "--density", "5", "--bright", "1"]
    assert main(["simulate", str(tmp_path / "sky"), *arguments]) == 0
    plain = simulate(tmp_path / "plain", SimulateConfig(size=200, density_per_arcmin2=5, seed=0))
    assert f"{len(plain.scene.labelled) + 2} sources with a mask" in capsys.readouterr().out
    truth = coco.read(tmp_path / "sky" / "truth.json")["annotations"]
    assert [a["category_id"] for a in truth if a["attributes"]["bright"]] == [1, 2]
    untouched = coco.read(plain.files["truth"])["annotations"]
    assert not any("bright" in a["attributes"] for a in untouched)
