"""Is a candidate peak a source of its own? A probability from a table of trees."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from astrolabel.core.config import SOURCE_TABLE, DetectConfig
from astrolabel.detect.features import NAMES, Field, Look, features


@dataclass(frozen=True, eq=False)
class Trees:
    """Boosted regression trees over the features, flattened.

    Attributes
    ----------
    baseline : log odds before any tree.
    roots : (T,) first node of each tree.
    feature : (K,) column that a node asks for, -1 at a leaf.
    threshold : (K,) a value at most this goes left.
    missing_left : (K,) whether NaN goes left.
    left, right : (K,) next node.
    value : (K,) log odds that a leaf adds.
    depth : most questions of any tree.
    """

    baseline: float
    roots: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    missing_left: NDArray[np.bool_]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: NDArray[np.float64]
    depth: int

    def probability(self, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) probability of a source for (N, F) features."""
        odds = np.full(len(columns), self.baseline)
        rows = np.arange(len(columns))
        for root in self.roots:
            node = np.full(len(columns), root)
            for _ in range(self.depth):
                asked = columns[rows, np.maximum(self.feature[node], 0)]
                left = np.where(np.isnan(asked), self.missing_left[node],
                                asked <= self.threshold[node])  # fmt: skip
                down = np.where(left, self.left[node], self.right[node])
                node = np.where(self.feature[node] < 0, node, down)
            odds += self.value[node]
        return np.asarray(1 / (1 + np.exp(-odds)), np.float64)


def decide(
    field: Field,
    peaks: NDArray[np.float64],
    clouds: NDArray[np.bool_],
    config: DetectConfig,
) -> NDArray[np.bool_]:
    """(N,) which of (N, 2) candidates are sources of their own.

    The main candidate of a parent is one, but not on the (H, W) bool clouds, of which some
    structure is left.
    """
    look = Look.at(field, peaks)
    likely = table().probability(features(look, peaks))
    hosts = look.main & ~clouds[tuple(peaks.astype(int).T)]
    likely = less_by_chance(look, peaks, np.where(hosts, 1.0, likely), hosts, config)
    return np.asarray(likely >= config.source_probability)


def less_by_chance(
    look: Look,
    peaks: NDArray[np.float64],
    likely: NDArray[np.float64],
    hosts: NDArray[np.bool_],
    config: DetectConfig,
) -> NDArray[np.float64]:
    """(N,) probabilities, less for candidates on a host that holds far more than the field.

    Sources of their own lie on a galaxy by chance, as many as the density of the field gives. Where
    many more are, most are substructure: their odds are multiplied by the number expected over the
    number there. A star cluster holds many, too, but they are most of its light. Looked at are a
    disc around the host, which holds knots beyond the end of its light, and its parent, which is of
    any shape.

    Parameters
    ----------
    hosts : (N,) bool, main candidates of parents that are no nebulosity.
    """
    field, out = look.field, likely.copy()
    parents = field.parents.ravel()
    area = np.bincount(parents)
    light = np.bincount(parents, np.maximum(field.light, 0).ravel())
    around = np.bincount(look.region.ravel(), minlength=len(area)) / look.region.size
    wide = area[look.owner] > (config.chance_least_fwhm * field.fwhm_px) ** 2
    for host in np.flatnonzero(hosts & wide):
        number = look.owner[host]
        source = likely >= config.source_probability
        source[host] = False
        radius = config.chance_reach * np.sqrt(area[number] / np.pi)
        disc = np.hypot(*(peaks - peaks[host]).T) <= radius
        part = _part_of_disc(peaks[host], radius, field.light.shape)
        for near, of_frame, (least, most_light) in (
            (disc, part, (config.chance_least, config.chance_light)),
            (look.owner == number, around[number], config.chance_on_parent),
        ):
            count, beyond = int((source & near).sum()), int((source & ~near).sum())
            if of_frame > config.chance_most_frame or count == 0:
                continue
            # One more beyond: there may be none.
            expected = (beyond + 1) * of_frame / max(1 - of_frame, 1e-9)
            own = float(look.sharp[tuple(peaks[source & near].astype(int).T)].sum())
            if special.pdtrc(count - 1, expected) < least and own < most_light * light[number]:
                chosen = source & near & ~hosts
                odds = likely / np.maximum(1 - likely, 1e-9) * expected / count
                out[chosen] = np.minimum(out, odds / (1 + odds))[chosen]
    return out


def _part_of_disc(centre: NDArray[np.float64], radius: float, shape: tuple[int, ...]) -> float:
    """The part of a frame that a disc covers."""
    y, x = (np.arange(n) - c for n, c in zip(shape, centre, strict=True))
    half = np.sqrt(np.maximum(radius**2 - y**2, 0))  # of each row's chord
    chord = np.clip(half, 0, x[-1] + 0.5) + np.clip(half, 0, 0.5 - x[0])
    return float(chord[half > 0].sum() / np.prod(shape))


@functools.cache
def table() -> Trees:
    """The table that comes with the package."""
    return read_table(json.loads(SOURCE_TABLE.read_text()))


def read_table(document: dict[str, Any]) -> Trees:
    """The trees of a table as benchmarks/train_source_probability.py writes it.

    A node is ``[-1, value]``, a leaf, or ``[feature, threshold, missing goes left, left, right]``
    with the numbers of the nodes below within its tree.

    Raises
    ------
    ValueError
        If it is made for other features than `features.NAMES`.
    """
    if document["schema"] != 1 or tuple(document["features"]) != NAMES:
        raise ValueError("the table of source probabilities is made for other features")
    trees = document["trees"]
    roots = np.cumsum([0, *(len(t) for t in trees)])[:-1]
    nodes = [
        (-1, 0.0, False, 0, 0, n[1])
        if n[0] < 0
        else (n[0], n[1], bool(n[2]), root + n[3], root + n[4], 0.0)
        for root, tree in zip(roots, trees, strict=True)
        for n in tree
    ]
    feature, threshold, missing, left, right, value = map(np.array, zip(*nodes, strict=True))
    depth = max(map(_depth, trees))
    return Trees(
        document["baseline"], roots, feature, threshold, missing, left, right, value, depth
    )


def _depth(tree: list[list[Any]], node: int = 0) -> int:
    """Most questions on the way to a leaf."""
    one = tree[node]
    return 0 if one[0] < 0 else 1 + max(_depth(tree, one[3]), _depth(tree, one[4]))
