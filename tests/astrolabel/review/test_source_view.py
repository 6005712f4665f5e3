"""A source by itself: its model, the image without its neighbours, the residual."""

from __future__ import annotations

import json

import numpy as np
import pytest
from review_scene import SHRED, A, B, scene

from astrolabel.core.errors import InputError
from astrolabel.io import coco
from astrolabel.review.session import Session
from astrolabel.review.source_view import view_source

STARS = (SHRED[0] | SHRED[1], SHRED[2])
"""One label a star."""


def test_the_light_of_two_stars_is_told_apart(tmp_path):
    path = scene(tmp_path / "labels", STARS)
    doc = coco.read(path)
    first, second = doc["annotations"]
    view = view_source(doc, doc["images"][0], second, doc["annotations"], path.parent)
    assert view.model.shape == (2, *view.box.shape)
    # Fluxes that were drawn, less what lies outside of the box: its second star has half.
    height = view.model[:, B[0] - view.box.y0, B[1] - view.box.x0]
    drawn = view.image[:, B[0] - view.box.y0, B[1] - view.box.x0]
    np.testing.assert_allclose(height, drawn, rtol=0.1)
    bright = view_source(doc, doc["images"][0], first, doc["annotations"], path.parent)
    peaks = [v.model[0].max() for v in (bright, view)]
    assert peaks[0] / peaks[1] == pytest.approx(2, rel=0.05)
    # Without the other star its place is sky, and the residual of both is noise.
    y, x = A[0] - bright.box.y0, A[1] - bright.box.x0
    assert bright.image[0, y, x] > 100
    assert abs((bright.image - bright.model)[0, y, x]) < 5
    assert bright.residual.std() == pytest.approx(1, abs=0.15)


def test_the_session_gives_pictures_and_the_fits_values(tmp_path):
    session = Session(scene(tmp_path / "labels", STARS), tmp_path / "made")
    found = json.loads(json.dumps(session.source(1)))
    assert list(found["pictures"]) == ["image", "its model", "without the others", "residual"]
    assert all(uri.startswith("data:image/jpeg;base64,") for uri in found["pictures"].values())
    assert found["attributes"]["model"] == "point"
    assert found["attributes"]["flux_g"] == pytest.approx(4000, rel=0.03)
    with pytest.raises(InputError, match="no label 9"):
        session.source(9)


def test_without_a_float_cube_it_is_said(tmp_path):
    path = scene(tmp_path / "labels")
    doc = coco.read(path)
    doc["images"][0]["astro"].pop("cube")
    coco.write_json(path, doc)
    with pytest.raises(InputError, match="no float pixels"):
        Session(path, tmp_path / "made").source(1)
