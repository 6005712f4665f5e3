"""Quality flags: each is set by a scene made for it, and not by one that lacks its cause."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrolabel.core import psf
from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import CheckConfig, LabelConfig
from astrolabel.deblend import make_deblender
from astrolabel.deblend.base import Blend, BlendFit, SourceFit
from astrolabel.label import flags
from astrolabel.label.tile import label_tile
from astrolabel.label.tiles import Tile

SIDE = 90
PLANES = {"SAT": 0, "INTRP": 1, "BRIGHT_OBJECT": 2, "NO_DATA": 3, "COSMIC_RAY": 4, "TRAIL": 5}
WHOLE = Box(0, 0, SIDE, SIDE)


@dataclass(frozen=True)
class Scene:
    """Stars on a sky of noise 1 in two bands; the flags are those of the first."""

    stars: tuple[tuple[float, float, float, float], ...] = ((45, 45, 3000, 3000),)  # y, x, fluxes
    planes: dict[str, tuple[int, int]] = field(default_factory=dict)  # one pixel of a plane
    fwhm: float = 4.0  # as the stars are drawn
    psf_fwhm: float = 4.0  # as the coadd says
    core: Box = WHOLE
    iterations: int = 60
    model_box: int | None = None  # half a side: a deblender that models no more

    def flags(self) -> set[str]:
        (y, x, *_), *_ = self.stars
        coadd = self.coadd()
        config = LabelConfig()
        config = replace(config, deblend=replace(config.deblend, max_iterations=self.iterations))
        deblender: Any = make_deblender(config.deblend)
        if self.model_box is not None:
            deblender = Boxed(self.model_box)
        made = label_tile(coadd, Tile(0, 0, self.core, WHOLE), config, deblender, None)

        def distance(annotation: dict[str, Any]) -> float:
            left, top, width, height = annotation["bbox"]
            return abs(top + height / 2 - y) + abs(left + width / 2 - x)

        one = min(made.annotations, key=distance)
        assert one["attributes"]["flag_bits"] == flags.encode(one["attributes"]["flags"])
        return set(one["attributes"]["flags"])

    def coadd(self) -> Coadd:
        image = np.random.default_rng(3).standard_normal((2, SIDE, SIDE))
        stamp = psf.moffat(self.fwhm, size=81).astype(float)
        for y, x, *fluxes in self.stars:
            box = Box.around(y, x, 40)
            part = box & WHOLE
            image[(slice(None), *part.slices)] += (
                np.array(fluxes)[:, None, None] * stamp[part.slices_in(box)]
            )
        mask = np.zeros(image.shape, np.int32)
        for name, (y, x) in self.planes.items():
            mask[0, y, x] |= 1 << PLANES[name]
        return Coadd(
            name="made",
            bands=("g", "r"),
            image=image.astype(np.float32),
            variance=np.ones(image.shape, np.float32),
            valid=(mask & (1 << PLANES["NO_DATA"])) == 0,
            psfs=np.stack([psf.moffat(self.psf_fwhm, size=41)] * 2),
            zeropoints=(27.0, 27.0),
            planes=PLANES,
            mask=mask,
        )


@dataclass(frozen=True)
class Boxed:
    """A deblender whose models end at a small box about the peak."""

    half: int
    name: str = "boxed"

    def fit(self, blend: Blend) -> BlendFit:
        sources = []
        for y, x in blend.peaks:
            box = Box.around(y, x, self.half) & Box.of_shape(blend.image.shape)
            model = blend.image[(slice(None), *box.slices)]
            sources.append(SourceFit(box, model, model.sum((1, 2)).astype(float), "extended"))
        return BlendFit(tuple(sources), 1.0, 1, True)


STAR = Scene()
LARGE = Scene(stars=((45, 45, 2e5, 2e5),))
"""Its mask reaches some 12 pixels: beyond two seeing discs, within which saturated pixels
move the peak onto them."""


def marked(scene: Scene, plane: str, x: int) -> Scene:
    """The scene with a pixel of a mask plane, that many pixels right of the star."""
    return replace(scene, planes={plane: (45, 45 + x)})


def beside(x: int) -> Scene:
    """Two equal stars so far apart."""
    return Scene(stars=((45, 45, 3000, 3000), (45, 45 + x, 3000, 3000)))


def core(width: int) -> Scene:
    return replace(STAR, core=Box(0, 0, SIDE, width))


CASES = [
    ("edge", Scene(stars=((1, 45, 3000, 3000),)), STAR),
    ("edge", Scene(stars=((45, 87, 3000, 3000),)), STAR),
    ("peak_outside", core(44), core(46)),
    ("saturated", marked(LARGE, "SAT", 11), marked(LARGE, "SAT", 30)),
    ("saturated_core", marked(LARGE, "SAT", 0), marked(LARGE, "SAT", 11)),
    ("no_data", marked(STAR, "NO_DATA", 2), marked(STAR, "NO_DATA", 15)),
    ("interpolated", marked(STAR, "INTRP", 2), marked(STAR, "INTRP", 15)),
    ("cosmic_ray", marked(STAR, "COSMIC_RAY", 2), marked(STAR, "COSMIC_RAY", 15)),
    ("trail", marked(STAR, "TRAIL", 2), marked(STAR, "TRAIL", 15)),
    ("bright_star", marked(STAR, "BRIGHT_OBJECT", 2), marked(STAR, "BRIGHT_OBJECT", 15)),
    ("blended", beside(8), beside(25)),
    ("poor_fit", Scene(fwhm=2.5, psf_fwhm=5.0), Scene(fwhm=5.0, psf_fwhm=5.0)),
    ("not_converged", Scene(fwhm=8.0, iterations=1), Scene(fwhm=8.0)),
    ("truncated", replace(STAR, model_box=2), replace(STAR, model_box=15)),
    ("no_flux", Scene(stars=((45, 45, 3000, -300),)), Scene(stars=((45, 45, 3000, 300),))),
]


@pytest.mark.parametrize(("name", "scene", "other"), CASES, ids=[c[0] for c in CASES])
def test_flag_is_set_by_its_cause_alone(name, scene, other):
    assert name in scene.flags()
    assert name not in other.flags()


def test_every_flag_has_a_scene_and_a_clean_star_has_none():
    assert {name for name, *_ in CASES} == {flag.name for flag in flags.REGISTRY}
    assert STAR.flags() == set()


def test_model_cut_by_the_image_itself_is_not_truncated():
    assert "truncated" not in Scene(stars=((1, 45, 3000, 3000),)).flags()


def test_residual_without_pixels_or_of_a_few_is_no_poor_fit():
    nothing, few = np.full(9, np.nan, np.float32), np.full(4, 1.9, np.float32)
    assert not flags._is_poor(nothing, CheckConfig())
    assert not flags._is_poor(few, CheckConfig())  # by chance, once in some hundreds
    assert flags._is_poor(np.full(400, 1.9, np.float32), CheckConfig())


def test_bits_are_those_of_files_already_written():
    assert {flag.name: flag.bit for flag in flags.REGISTRY} == {
        "edge": 0, "peak_outside": 1, "saturated": 2, "no_data": 3, "saturated_core": 4,
        "interpolated": 5, "bright_star": 6, "blended": 7, "poor_fit": 8, "not_converged": 9,
        "truncated": 10, "no_flux": 11, "cosmic_ray": 12, "trail": 13,
    }  # fmt: skip


@given(st.sets(st.sampled_from([flag.name for flag in flags.REGISTRY])))
def test_names_and_bits_tell_the_same(names):
    assert set(flags.decode(flags.encode(names))) == names


def test_unknown_names_are_refused_and_unknown_bits_passed_over():
    with pytest.raises(KeyError):
        flags.encode(["perfect"])
    assert flags.decode(1 << 40 | 1) == ["edge"]


def test_registry_is_what_the_file_and_the_page_describe():
    described = flags.described()
    page = (Path(__file__).parents[3] / "docs/labels.md").read_text()
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.*) \|$", page, re.MULTILINE)
    assert [(int(b), n, m) for b, n, m in rows] == [
        (entry["bit"], name, entry["meaning"]) for name, entry in described.items()
    ]
