"""How likely a galaxy is, where two catalogs give a class and do not always agree.

Label fusion (Dawid and Skene 1979): the two are independent, each right with some probability
for stars and for galaxies. These are fitted by expectation maximisation to how often the two
agree, magnitude by magnitude. Two catalogs alone do not show which of them errs: that is
settled by how far each is trusted beforehand.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from astrolabel.catalog.catalog import GALAXY, STAR
from astrolabel.core.config.catalog import FusionConfig


def galaxy_probability(
    first: NDArray[np.int8],
    second: NDArray[np.int8],
    magnitude: NDArray[np.float64],
    config: FusionConfig | None = None,
) -> NDArray[np.float64]:
    """(N,) probability of each object to be a galaxy; NaN where no catalog has a class.

    Parameters
    ----------
    first, second : (N,) 1 galaxy, 2 star, anything else unknown.
    magnitude : (N,) of the objects; those without one are taken at the average of all.
    config : what is assumed of the two; the default's where None.
    """
    config = FusionConfig() if config is None else config
    out = np.full(len(first), np.nan)
    a, b = _said(first), _said(second)
    both = (a >= 0) & (b >= 0)
    edges = _edges(magnitude[both], config.bin_objects)
    inside = np.digitize(magnitude, edges)
    for k in range(len(edges) + 1):
        mine = (inside == k) & np.isfinite(magnitude)
        table, right = _fit(a[mine], b[mine], config)
        out[mine] = _posterior(a[mine], b[mine], table, right)
    lost = ~np.isfinite(magnitude)
    table, right = _fit(a, b, config)
    out[lost] = _posterior(a[lost], b[lost], table, right)
    return out


def _said(label: NDArray[np.int8]) -> NDArray[np.int64]:
    """1 galaxy, 0 star, -1 nothing."""
    return np.select([label == GALAXY, label == STAR], [1, 0], -1)


def _edges(magnitude: NDArray[np.float64], objects: int) -> NDArray[np.float64]:
    """Inner edges of bins with equally many objects, that many or more."""
    magnitude = magnitude[np.isfinite(magnitude)]
    n = max(len(magnitude) // objects, 1)
    return np.quantile(magnitude, np.arange(1, n) / n) if n > 1 else np.zeros(0)


def _fit(
    a: NDArray[np.int64], b: NDArray[np.int64], config: FusionConfig
) -> tuple[float, NDArray[np.float64]]:
    """(fraction of galaxies, (2, 2) how often catalog w is right of stars and galaxies)."""
    right = np.array([[t, t] for t in config.trust])
    known = (a >= 0) | (b >= 0)
    a, b = a[known], b[known]
    galaxies = float(np.mean(np.where(a >= 0, a, b))) if len(a) else 0.5
    galaxies = min(max(galaxies, 1e-3), 1 - 1e-3)
    for _ in range(config.rounds):
        p = _posterior(a, b, galaxies, right)
        before = galaxies, right.copy()
        # One star and one galaxy more than were seen: no bin is without either.
        galaxies = float((p.sum() + 1) / (len(p) + 2)) if len(p) else 0.5
        for w, said in enumerate((a, b)):
            for truth, weight in enumerate((1 - p, p)):
                here = said >= 0
                worth = config.prior_strength[w]
                hits = weight[here & (said == truth)].sum() + worth * config.trust[w]
                right[w, truth] = hits / (weight[here].sum() + worth)
        if abs(galaxies - before[0]) < 1e-6 and np.abs(right - before[1]).max() < 1e-6:
            break
    return galaxies, right


def _posterior(
    a: NDArray[np.int64], b: NDArray[np.int64], galaxies: float, right: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Probability of a galaxy, given the class in each catalog; NaN where neither has one."""
    star, galaxy = np.full(len(a), 1 - galaxies), np.full(len(a), galaxies)
    for w, said in enumerate((a, b)):
        star *= np.select([said == 0, said == 1], [right[w, 0], 1 - right[w, 0]], 1.0)
        galaxy *= np.select([said == 1, said == 0], [right[w, 1], 1 - right[w, 1]], 1.0)
    return np.where((a >= 0) | (b >= 0), galaxy / (star + galaxy), np.nan)
