import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from astrolabel.catalog.catalog import Catalog
from astrolabel.catalog.classify import Classes, categories, classify
from astrolabel.core.config import ClassifyConfig
from astrolabel.core.errors import InputError

NAN = float("nan")
ARCSEC = 1 / 3600
HSC, HST = ClassifyConfig(scheme="hsc"), ClassifyConfig(scheme="hst")


def catalog(scheme, ra, dec, label, i=None):
    n = len(ra)
    return Catalog(
        name="test",
        scheme=scheme,
        object_id=np.array([f"id{k}" for k in range(n)], str),
        ra=np.array(ra, float),
        dec=np.array(dec, float),
        magnitudes={"i": np.array(i if i is not None else np.full(n, 20.0), float)},
        label=np.array(label, np.int8),
        match="magnitude" if scheme == "hsc" else "nearest",
    )


def near(*east_arcsec):
    """Positions this far east of (150, 0)."""
    return 150 + np.array(east_arcsec, float) * ARCSEC, np.zeros(len(east_arcsec))


def one(classes: Classes):
    """(category, row, state) of each source."""
    return list(
        zip(
            classes.category_id.tolist(),
            classes.catalog_index.tolist(),
            classes.state,
            strict=True,
        )
    )


def test_hsc_takes_the_best_magnitude_not_the_nearest():
    cat = catalog("hsc", *near(0.1, 0.8), [1, 2], i=[21.5, 20.1])
    result = classify(*near(0), np.array([20.0]), cat, HSC)
    assert one(result) == [(2, 1, "ok")]
    assert result.object_id.tolist() == ["id1"]
    assert result.separation_arcsec[0] == pytest.approx(0.8)


@pytest.mark.parametrize(("difference", "matches"), [(0.99, True), (1.0, False), (-1.01, False)])
def test_hsc_magnitudes_must_agree_to_less_than_one(difference, matches):
    cat = catalog("hsc", *near(0), [1], i=[difference])
    result = classify(*near(0), np.array([0.0]), cat, HSC)
    assert (result.state[0] == "ok") == matches
    if not matches:
        assert result.state[0] == "skipped:no magnitude agrees within 1 mag"


def test_the_radius_is_one_arcsec():
    cat = catalog("hsc", *near(0.999, 11.001), [1, 1])
    result = classify(*near(0, 10), np.array([20.0, 20.0]), cat, HSC)
    assert one(result) == [(1, 0, "ok"), (0, -1, "skipped:no catalog object within 1 arcsec")]


def test_a_nan_candidate_does_not_kill_a_source():
    cat = catalog("hsc", *near(0, 0.1, 0.5), [1, 0, 2], i=[NAN, 20.0, 20.5])
    assert one(classify(*near(0), np.array([20.0]), cat, HSC)) == [(2, 2, "ok")]


def test_hsc_says_why_a_source_has_no_class():
    cat = catalog("hsc", *near(0, 10, 20), [0, 1, 1], i=[20.0, NAN, 20.0])
    result = classify(*near(0, 10, 20), np.array([20.0, 20.0, NAN]), cat, HSC)
    assert result.state == (
        "skipped:class unknown",
        "skipped:no magnitude agrees within 1 mag",
        "skipped:source has no magnitude",
    )
    assert result.category_id.tolist() == [0, 0, 0]


def test_a_catalog_object_is_given_once_to_the_better_source():
    cat = catalog("hsc", *near(0), [1], i=[20.0])
    result = classify(*near(0, 0.1), np.array([20.3, 20.1]), cat, HSC)
    assert one(result) == [
        (0, -1, "skipped:catalog object taken by a better match"),
        (1, 0, "ok"),
    ]


def test_who_loses_an_object_gets_the_next_that_is_free():
    cat = catalog("hsc", *near(0, 0.2), [1, 2], i=[20.0, 20.5])
    result = classify(*near(0, 0.1), np.array([20.1, 20.0]), cat, HSC)
    assert one(result) == [(2, 1, "ok"), (1, 0, "ok")]


def test_hst_takes_the_nearest_whatever_its_magnitude():
    cat = catalog("hst", *near(0.6, -0.3), [1, 2], i=[20.0, 29.0])
    result = classify(*near(0), None, cat, HST)
    assert one(result) == [(2, 1, "ok")]


def test_hst_artefacts_never_win_and_are_told_when_alone():
    cat = catalog("hst", *near(0.1, 0.9, 10), [3, 1, 3])
    result = classify(*near(0, 10), None, cat, HST)
    assert one(result) == [(1, 1, "ok"), (0, -1, "skipped:fake")]


def test_hst_object_of_unknown_class_keeps_its_source_from_a_neighbours_class():
    cat = catalog("hst", *near(0.1, 0.9), [0, 1])
    result = classify(*near(0), None, cat, HST)
    assert one(result) == [(0, 0, "skipped:class unknown")]


def test_hst_is_one_to_one_by_separation():
    cat = catalog("hst", *near(0), [2])
    result = classify(*near(0.5, 0.2), None, cat, HST)
    assert one(result) == [
        (0, -1, "skipped:catalog object taken by a better match"),
        (2, 0, "ok"),
    ]


@pytest.mark.parametrize(
    ("source", "row"),
    [
        ((359.99999, 0.0), (0.00001, 0.0)),  # 0.07 arcsec over the seam
        ((0.0, 0.0), (360.0, 0.0)),
        ((-0.00001, 5.0), (359.99999, 5.0)),
        ((10.0, 89.9999), (190.0, 89.9999)),  # 0.72 arcsec over the pole
        ((10.0, -90.0), (200.0, -90.0)),
    ],
)
def test_the_seam_and_the_poles_are_ordinary_sky(source, row):
    cat = catalog("hst", [row[0]], [row[1]], [1])
    result = classify(np.array([source[0]]), np.array([source[1]]), None, cat, HST)
    assert one(result) == [(1, 0, "ok")]


def test_a_few_sources_far_apart_each_find_their_match():
    ra, dec = np.array([0.0, 120.0, 240.0]), np.array([-60.0, 0.0, 60.0])
    result = classify(ra, dec, None, catalog("hst", ra, dec, [1, 2, 1]), HST)
    assert result.category_id.tolist() == [1, 2, 1]


def test_nothing_to_match_is_no_error():
    full, empty = catalog("hst", *near(0), [1]), catalog("hst", [], [], [])
    assert classify(*near(), None, full, HST).state == ()
    assert classify(*near(), np.zeros(0), catalog("hsc", *near(0), [1]), HSC).state == ()
    assert classify(*near(0), None, empty, HST).category_id.tolist() == [0]


def test_without_a_scheme_everything_is_a_source():
    result = classify(np.array([NAN, NAN]), np.array([NAN, NAN]), None, None, ClassifyConfig())
    assert one(result) == [(1, -1, "ok"), (1, -1, "ok")]
    assert [c["name"] for c in categories("none")] == ["source"]
    assert [(c["id"], c["name"]) for c in categories("hsc")] == [(1, "galaxy"), (2, "star")]


def test_what_does_not_go_together_is_named():
    cat = catalog("hsc", *near(0), [1])
    with pytest.raises(InputError, match="WCS"):
        classify(np.array([NAN]), np.array([NAN]), np.array([20.0]), cat, HSC)
    with pytest.raises(InputError, match="needs a catalog of its kind, not one of scheme hsc"):
        classify(*near(0), None, cat, HST)
    with pytest.raises(InputError, match="not none"):
        classify(*near(0), None, None, HST)
    other_band = ClassifyConfig(scheme="hsc", magnitude_band="z")
    with pytest.raises(InputError, match="no z-band magnitudes"):
        classify(*near(0), np.array([20.0]), cat, other_band)
    with pytest.raises(InputError, match="the sources have none"):
        classify(*near(0), None, cat, HSC)
    with pytest.raises(InputError, match="unknown class scheme"):
        categories("sdss")


def brute_force(ra, dec, magnitude, cat, scheme):
    """Matches by looking at all pairs anew after each match is made."""
    allowed = {}
    for s in range(len(ra)):
        for c in range(len(cat)):
            here = SkyCoord(ra[s], dec[s], unit="deg")
            there = SkyCoord(cat.ra[c], cat.dec[c], unit="deg")
            apart = here.separation(there).to_value(u.arcsec)
            if apart > 1.0:
                continue
            if scheme == "hsc":
                difference = abs(magnitude[s] - cat.magnitudes["i"][c])
                if cat.label[c] != 0 and difference < 1:
                    allowed[s, c] = difference
            elif cat.label[c] != 3:
                allowed[s, c] = apart
    found = {}
    while allowed:
        s, c = min(allowed, key=allowed.get)
        found[s] = c
        allowed = {pair: cost for pair, cost in allowed.items() if pair[0] != s and pair[1] != c}
    return found


@st.composite
def crowds(draw):
    """Sources and catalog rows within 3 arcsec, anywhere on the sky, with holes."""
    scheme = draw(st.sampled_from(["hsc", "hst"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, m = draw(st.integers(0, 7)), draw(st.integers(0, 7))
    ra0 = draw(st.sampled_from([0.0, 150.0, 359.9999]))
    dec0 = draw(st.sampled_from([0.0, 2.2, -60.0, 89.9995]))

    def positions(k):
        east, north = rng.uniform(-1.5, 1.5, (2, k)) * ARCSEC
        return (ra0 + east / np.cos(np.radians(dec0))) % 360, dec0 + north

    magnitude = rng.uniform(20, 22, n)
    magnitude[rng.random(n) < 0.1] = NAN
    i = rng.uniform(20, 22, m)
    i[rng.random(m) < 0.2] = NAN
    label = rng.integers(0, 3 if scheme == "hsc" else 4, m)
    return scheme, *positions(n), magnitude, catalog(scheme, *positions(m), label, i), rng


@settings(max_examples=60, deadline=None)
@given(crowds())
def test_matches_equal_brute_force_whatever_the_order_of_rows(case):
    scheme, ra, dec, magnitude, cat, rng = case
    config = ClassifyConfig(scheme=scheme)
    result = classify(ra, dec, magnitude, cat, config)
    expected = brute_force(ra, dec, magnitude, cat, scheme)
    index = result.catalog_index
    assert {s: int(c) for s, c in enumerate(index) if c >= 0} == expected
    for s, state in enumerate(result.state):
        assert (state == "ok") == (result.category_id[s] in (1, 2))
        assert result.object_id[s] == (cat.object_id[index[s]] if index[s] >= 0 else "")
    sources, rows = rng.permutation(len(ra)), rng.permutation(len(cat))
    shuffled = classify(ra[sources], dec[sources], magnitude[sources], cat.take(rows), config)
    assert shuffled.object_id.tolist() == result.object_id[sources].tolist()
    assert shuffled.state == tuple(result.state[s] for s in sources)


def test_ties_are_decided_by_position_not_by_row():
    ra, dec = near(0.5, -0.5)
    cat = catalog("hst", *near(0), [1])
    first = classify(ra, dec, None, cat, HST)
    second = classify(ra[::-1], dec[::-1], None, cat, HST)
    assert first.state == second.state[::-1]
