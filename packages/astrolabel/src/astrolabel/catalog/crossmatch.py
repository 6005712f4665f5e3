"""Match positions on the sky one to one, tens of millions of them in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from astrolabel.core.celestial import unit_vectors

CHUNK = 500_000
"""Positions that are searched around at once: their tree and pairs take some 100 MB."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """P candidate matches, each of a source and a catalog row.

    Attributes
    ----------
    source, row : (P,) int32.
    separation : (P,) float64 arcsec.
    """

    source: NDArray[np.int32]
    row: NDArray[np.int32]
    separation: NDArray[np.float64]

    def where(self, keep: NDArray[np.bool_] | NDArray[np.intp]) -> Pairs:
        return Pairs(self.source[keep], self.row[keep], self.separation[keep])


def pairs_within(
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    row_ra: NDArray[np.float64],
    row_dec: NDArray[np.float64],
    radius_arcsec: float,
) -> Pairs:
    """All pairs of a source and a row no farther apart than the radius; degrees.

    In strips of declination, so that no tree holds more than a strip of either side.
    """
    radius = np.radians(radius_arcsec / 3600)
    chord = 2 * np.sin(radius / 2)
    margin = float(np.degrees(radius)) * (1 + 1e-9) + 1e-12
    by_dec, row_by_dec = np.argsort(dec, kind="stable"), np.argsort(row_dec, kind="stable")
    row_sorted = row_dec[row_by_dec]
    found = []
    for start in range(0, len(dec), CHUNK):
        mine = by_dec[start : start + CHUNK]
        low, high = dec[mine[0]] - margin, dec[mine[-1]] + margin
        near = row_by_dec[slice(*np.searchsorted(row_sorted, [low, high + 1e-12]))]
        # A strip of a few sources may hold a whole catalog's rows; these go in chunks too.
        for first in range(0, len(near), CHUNK):
            rows = near[first : first + CHUNK]
            here, there = (
                unit_vectors(ra[mine], dec[mine]),
                unit_vectors(row_ra[rows], row_dec[rows]),
            )
            found.append(_close(mine, here, rows, there, chord))
    if not found:
        nothing = np.zeros(0, np.int32)
        return Pairs(nothing, nothing, np.zeros(0))
    return Pairs(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _close(
    mine: NDArray[np.intp],
    here: NDArray[np.float64],
    rows: NDArray[np.intp],
    there: NDArray[np.float64],
    chord: float,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """(source, row, arcsec) of the pairs of two sets of unit vectors within a chord."""
    pairs = cKDTree(here).sparse_distance_matrix(
        cKDTree(there), chord * (1 + 1e-12), output_type="ndarray"
    )
    arcsec = np.degrees(2 * np.arcsin(np.minimum(pairs["v"] / 2, 1))) * 3600
    return mine[pairs["i"]].astype(np.int32), rows[pairs["j"]].astype(np.int32), arcsec


def best_first(
    pairs: Pairs,
    cost: NDArray[np.float64],
    source_ties: Sequence[NDArray[Any]],
    row_ties: Sequence[NDArray[Any]],
) -> Pairs:
    """One-to-one matches: pairs accepted in the order of their cost while both are free.

    What costs the same is taken by separation, then by `source_ties` and `row_ties`, keys
    of every source and row, so that the order of neither matters.
    """
    # Most pairs are alone, their ends in no other; they need no order.
    alone = np.bincount(pairs.source)[pairs.source] == 1
    alone &= np.bincount(pairs.row)[pairs.row] == 1
    chosen = [pairs.where(alone)]
    cost, pairs = cost[~alone], pairs.where(~alone)
    pairs = pairs.where(_order(pairs, cost, source_ties, row_ties))
    n_sources = int(pairs.source.max(initial=-1)) + 1
    n_rows = int(pairs.row.max(initial=-1)) + 1
    while len(pairs.source):
        # A pair that is the first left of both its ends is taken: nothing before it could
        # take one of them away. What remains is free of these ends, and so on.
        place = np.arange(len(pairs.source), dtype=np.int32)
        first_of_source = np.full(n_sources, -1, np.int32)
        first_of_row = np.full(n_rows, -1, np.int32)
        first_of_source[pairs.source[::-1]] = place[::-1]  # the last written is the first pair
        first_of_row[pairs.row[::-1]] = place[::-1]
        take = (first_of_source[pairs.source] == place) & (first_of_row[pairs.row] == place)
        taken = pairs.where(take)
        chosen.append(taken)
        del place, first_of_source, first_of_row
        busy_source, busy_row = np.zeros(n_sources, bool), np.zeros(n_rows, bool)
        busy_source[taken.source] = True
        busy_row[taken.row] = True
        pairs = pairs.where(~(busy_source[pairs.source] | busy_row[pairs.row]))
    return Pairs(
        np.concatenate([p.source for p in chosen]),
        np.concatenate([p.row for p in chosen]),
        np.concatenate([p.separation for p in chosen]),
    )


def _order(
    pairs: Pairs,
    cost: NDArray[np.float64],
    source_ties: Sequence[NDArray[Any]],
    row_ties: Sequence[NDArray[Any]],
) -> NDArray[np.intp]:
    """By cost and separation; what ties in both, by the keys (rare, so looked at apart)."""
    order = np.lexsort((pairs.separation, cost))
    same = _equal_to_next(cost, order) & _equal_to_next(pairs.separation, order)
    if not same.any():
        return order
    tied = np.concatenate([[False], same]) | np.concatenate([same, [False]])
    at = np.flatnonzero(tied)
    group = np.concatenate([[0], np.cumsum(~same)])[at]
    who = order[at]
    keys = [key[pairs.source[who]] for key in source_ties] + [
        key[pairs.row[who]] for key in row_ties
    ]
    order[at] = who[np.lexsort((*reversed(keys), group))]
    return order


def _equal_to_next(values: NDArray[np.float64], order: NDArray[np.intp]) -> NDArray[np.bool_]:
    ordered = values[order]
    return np.asarray(ordered[1:] == ordered[:-1])
