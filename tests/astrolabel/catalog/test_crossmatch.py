"""One-to-one matching on the sky: strips, ties, and the order of nothing."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord, search_around_sky

from astrolabel.catalog import crossmatch
from astrolabel.catalog.crossmatch import Pairs, best_first, pairs_within


def field(n, seed, ra0=150.0, dec0=2.0, width=0.02):
    rng = np.random.default_rng(seed)
    return (ra0 + rng.uniform(-width, width, n)) % 360, np.clip(
        dec0 + rng.uniform(-width, width, n), -90, 90
    )


@pytest.mark.parametrize("chunk", [7, 100, 10_000])
@pytest.mark.parametrize(("ra0", "dec0"), [(150.0, 2.0), (0.0, -30.0), (10.0, 89.99)])
def test_pairs_equal_astropys_whatever_the_strips(monkeypatch, chunk, ra0, dec0):
    monkeypatch.setattr(crossmatch, "CHUNK", chunk)
    a, b = field(300, 1, ra0, dec0), field(400, 2, ra0, dec0)
    found = pairs_within(*a, *b, 5.0)
    i, j, apart, _ = search_around_sky(
        SkyCoord(*a, unit="deg"), SkyCoord(*b, unit="deg"), 5 * u.arcsec
    )
    expected = {(s, r): d for s, r, d in zip(i.tolist(), j.tolist(), apart.arcsec, strict=True)}
    got = dict(zip(zip(found.source.tolist(), found.row.tolist(), strict=True),
                   found.separation.tolist(), strict=True))  # fmt: skip
    assert got.keys() == expected.keys()
    assert len(found.source) == len(got) > 50
    for pair, separation in expected.items():
        assert got[pair] == pytest.approx(separation, abs=1e-6)


def test_a_pair_at_no_distance_is_a_pair():
    found = pairs_within(*[np.array([5.0])] * 4, 1.0)
    assert (found.source.tolist(), found.row.tolist(), found.separation.tolist()) == ([0], [0], [0])


def test_nothing_gives_nothing():
    none, one = np.zeros(0), np.array([1.0])
    assert len(pairs_within(none, none, one, one, 1.0).source) == 0
    assert len(pairs_within(one, one, none, none, 1.0).source) == 0
    empty = np.zeros(0, np.int64)
    assert len(best_first(Pairs(empty, empty, none), none, (), ()).source) == 0


def naive(pairs, cost):
    """Pairs taken one by one."""
    order = np.lexsort((pairs.separation, cost))
    sources, rows, found = set(), set(), set()
    for n in order.tolist():
        s, r = int(pairs.source[n]), int(pairs.row[n])
        if s not in sources and r not in rows:
            found.add((s, r))
            sources.add(s)
            rows.add(r)
    return found


def test_rounds_of_first_pairs_equal_taking_one_by_one():
    rng = np.random.default_rng(5)
    for _ in range(30):
        n = int(rng.integers(1, 400))
        flat = rng.choice(60 * 50, n, replace=False)
        pairs = Pairs(flat // 50, flat % 50, rng.random(n))
        cost = rng.random(n)
        found = best_first(pairs, cost, (), ())
        got = set(zip(found.source.tolist(), found.row.tolist(), strict=True))
        assert got == naive(pairs, cost)
        assert len(got) == len(found.source)


def test_ties_are_settled_by_the_keys_and_not_by_the_order():
    rng = np.random.default_rng(6)
    source, row = (v.ravel() for v in np.indices((6, 6)))
    key, row_key = rng.permutation(6), rng.permutation(6)
    shuffled = rng.permutation(36)
    results = set()
    for order in (np.arange(36), shuffled, shuffled[::-1]):
        pairs = Pairs(source[order], row[order], np.ones(36))
        found = best_first(pairs, np.ones(36), (key,), (row_key,))
        results.add(frozenset(zip(key[found.source], row_key[found.row], strict=True)))
    assert results == {frozenset((k, k) for k in range(6))}
