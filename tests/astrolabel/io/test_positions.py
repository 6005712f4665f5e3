"""Labels whose ra, dec are not where the WCS of their image puts their pixels."""

import copy

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from fits_files import tan_wcs
from report_files import dataset, entry, places

from astrolabel.cli.main import main
from astrolabel.io import coco
from astrolabel.io.positions import misplaced, sky_position

SIDE = 1000


def frame(kind):
    """A WCS of one frame around RA 150.1, Dec 2.2 and the same of its pixels' ICRS."""
    wcs = tan_wcs((SIDE, SIDE), scale_arcsec=0.2)
    middle = SkyCoord(150.1, 2.2, unit="deg")
    if kind == "galactic":
        wcs.wcs.ctype = ["GLON-TAN", "GLAT-TAN"]
        wcs.wcs.crval = [middle.galactic.l.deg, middle.galactic.b.deg]
    elif kind == "fk4":
        wcs.wcs.radesys, wcs.wcs.equinox = "FK4", 1950.0
        old = middle.transform_to("fk4")
        wcs.wcs.crval = [old.ra.deg, old.dec.deg]
    elif kind == "dec first":
        wcs.wcs.ctype = ["DEC--TAN", "RA---TAN"]
        wcs.wcs.crval = [2.2, 150.1]
    return wcs


def labels(wcs, n=50, seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(20, SIDE - 20, (n, 2))
    at = wcs.pixel_to_world(*pixels.T).icrs  # astropy's own way: no code of ours
    sky = np.stack([at.ra.deg, at.dec.deg], axis=1)
    boxes = np.concatenate([np.floor(pixels) - 2, np.full((n, 2), 5.0)], axis=1)
    return sky, pixels, boxes


def check(wcs, sky, pixels, boxes):
    cards = dict(WCS.to_header(wcs))
    return misplaced(cards, (SIDE, SIDE), range(1, len(sky) + 1), sky, pixels, boxes)


@pytest.mark.parametrize("kind", ["icrs", "galactic", "fk4", "dec first"])
def test_icrs_of_any_frame_is_right_and_anything_else_is_wrong(kind):
    wcs = frame(kind)
    sky, pixels, boxes = labels(wcs)
    found = check(wcs, sky, pixels, boxes)
    assert (found.checked, found.ids) == (50, ())
    native = np.array(wcs.wcs_pix2world(pixels, 0))
    if kind != "icrs":  # as the header has them
        found = check(wcs, native, pixels, boxes)
        assert len(found.ids) == 50
        assert min(found.offset_px) > 1000
    assert len(check(wcs, sky[:, ::-1], pixels, boxes).ids) == 50


def test_half_a_pixel_is_seen_where_labels_have_x_and_y():
    wcs = frame("icrs")
    sky, pixels, boxes = labels(wcs)
    wrong = pixels.copy()
    wrong[7] += (0.5, 0)
    wrong[9] += (3, 4)
    found = check(wcs, sky, wrong, boxes)
    assert found.ids == (10, 8)
    np.testing.assert_allclose(found.offset_px, [5, 0.5], rtol=1e-3)
    assert str(found).startswith("ra, dec of 2 of 50 annotations")
    assert "10 (5 px), 8 (0.5 px)" in str(found)


def test_without_x_and_y_light_may_lie_anywhere_in_and_beside_the_mask():
    wcs = frame("icrs")
    sky, pixels, boxes = labels(wcs)
    unknown = np.full_like(pixels, np.nan)
    assert check(wcs, sky, unknown, boxes).ids == ()
    boxes[3, 0] += 12
    assert check(wcs, sky, unknown, boxes).ids == (4,)
    boxes[3] = (SIDE - 5, 300, 5, 5)  # cut by the edge: its light may lie beyond
    found = check(wcs, sky, unknown, boxes)
    assert (found.checked, found.ids) == (49, ())


def test_positions_without_a_place_on_the_sky_are_wrong_and_unknown_ones_are_not_checked():
    wcs = frame("icrs")
    sky, pixels, boxes = labels(wcs, 3)
    sky[0] = np.nan
    sky[1] = (sky[1, 0], 120.0)
    found = check(wcs, sky, pixels, boxes)
    assert (found.checked, found.ids) == (2, (2,))


def document(tmp_path, **changes):
    items = [entry(k + 1, y, x) for k, (y, x) in enumerate(places())]
    path = dataset(tmp_path, items)
    doc = coco.read(path)
    for key, value in changes.items():
        for item in doc["annotations"]:
            item["attributes"][key] = value
    return path, doc


def test_validate_names_image_and_offenders_and_the_file_is_still_coco(tmp_path, capsys):
    path, doc = document(tmp_path)
    assert main(["validate", str(path)]) == 0
    for item in doc["annotations"][3:5]:
        about = item["attributes"]
        about["ra"], about["dec"] = about["dec"], about["ra"]
    coco.write_json(path, doc)
    capsys.readouterr()
    assert main(["validate", str(path)]) == 2
    said = capsys.readouterr().out
    assert "image 1: ra, dec of 2 of 12 annotations" in said
    assert all(text in said for text in (" 4 (", " 5 (", "ICRS degrees"))
    assert coco.validate(doc) == ()


@pytest.mark.parametrize(
    "cards", [{"CTYPE1": "WAVE", "CTYPE2": "FREQ"}, {"CTYPE1": "RA---XXX", "CTYPE2": 7}, {"A": [1]}]
)
def test_a_wcs_that_is_none_is_one_problem(tmp_path, cards):
    _, doc = document(tmp_path)
    doc["images"][0]["astro"]["wcs"] = cards
    (problem,) = coco.validate(doc, sky=True)
    assert str(problem).startswith("image 1: astro.wcs is no WCS of the sky")


@pytest.mark.parametrize("value", [None, "150", True, 10**400, float("inf"), [1], {}])
@pytest.mark.parametrize("key", ["ra", "dec", "x", "y"])
def test_values_of_any_type_are_no_traceback(tmp_path, key, value):
    _, doc = document(tmp_path)
    wrong = copy.deepcopy(doc)
    for item in wrong["annotations"]:
        item["attributes"][key] = value
    assert not [p for p in coco.validate(wrong, sky=True) if p.where.startswith("image")]


@pytest.mark.parametrize("ra", [None, "150", [1], True, float("nan"), 1e300])
def test_what_is_no_number_is_no_position(ra):
    assert sky_position({"attributes": {"ra": ra, "dec": 2.0}}) is None
    assert sky_position({"attributes": None}) is None
    assert sky_position({"attributes": {"ra": 150, "dec": 2.0}}) == (150, 2)
