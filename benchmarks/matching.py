"""Seconds and memory of a one-to-one match of ten million sources with as many rows.

    python benchmarks/matching.py [--rows 10000000]

Sources and rows lie at a deep survey's density (40 per square arcminute), the sources 0.1
arcsec off their rows and in another order. Both rules are timed: the nearest, and the
nearest magnitude, with magnitudes of three decimals, so that ties are many.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from astrolabel.catalog.catalog import Catalog
from astrolabel.catalog.classify import classify
from astrolabel.core.config import ClassifyConfig

PER_DEG2 = 40 * 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    options = parser.parse_args()
    n = options.rows
    rng = np.random.default_rng(1)
    side = np.sqrt(n / PER_DEG2)
    ra, dec = rng.uniform(359 - side / 2, 359 + side / 2, n) % 360, rng.uniform(0, side, n)
    mag = np.round(rng.uniform(20, 26, n), 3)
    order = rng.permutation(n)
    off = rng.normal(0, 0.1 / 3600, (2, n))
    my_ra, my_dec = (ra[order] + off[0]) % 360, dec[order] + off[1]
    del off
    my_mag = np.round(mag[order] + rng.normal(0, 0.05, n), 3)
    for scheme, match in (("hst", "nearest"), ("hsc", "magnitude")):
        catalog = Catalog(
            "bench", scheme, np.arange(n), ra, dec, {"i": mag}, np.ones(n, np.int8), match
        )
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, cpu = time.perf_counter(), time.process_time()
        found = classify(my_ra, my_dec, my_mag, catalog, ClassifyConfig(scheme=scheme))
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        right = float((found.catalog_index == order).mean())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(
            f"{match}: {n} sources with {n} rows in {cpu:.1f} s of processor time "
            f"({wall:.1f} s on the clock), {right:.4f} got their own row; peak memory "
            f"{peak / 2**20:.2f} GiB, {before / 2**20:.2f} GiB of it before the match"
        )
        del found


if __name__ == "__main__":
    main()
