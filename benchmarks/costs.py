"""What labels cost: CPU seconds, memory and bytes of planning and of a tile, by size and bands.

    python benchmarks/costs.py --sides 300 600 1050

Each row is a process of its own on a simulated HSC-Deep-like sky; kernels are compiled before the
clock starts. The last lines give the constants of `astrolabel.label.cost`, fitted to the rows.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def measured(sky: Path, bands: str, out: Path) -> dict[str, float]:
    """One process: plan, then label the only tile."""
    from astrolabel.core.config import LabelConfig, TileConfig
    from astrolabel.io.find import Inputs, find_coadds
    from astrolabel.label import shards
    from astrolabel.label.plan import plan
    from astrolabel.label.work import work

    config = LabelConfig(tile=TileConfig(size=100_000))
    coadds = find_coadds(Inputs((sky,), bands=tuple(bands.split(","))))
    start = time.process_time()
    with shards.opened(out):
        base = peak()
        tasks, _ = plan(coadds, config, out, None, 1, False)
        planned, plan_peak = time.process_time(), peak()
        if not tasks:
            raise SystemExit("nothing planned")
        labels = work(tasks[0])
        done = time.process_time()
        written = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    return {
        "pixels": float(np.prod(tasks[0].tile.outer.shape)),
        "bands": len(bands.split(",")),
        "labels": labels,
        "plan_s": planned - start,
        "label_s": done - planned,
        "base_bytes": base,
        "plan_bytes": plan_peak,
        "peak_bytes": peak(),
        "written_bytes": written,
    }


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[300, 600, 1050])
    parser.add_argument("--bands", nargs="+", default=["i", "g,r,i"])
    parser.add_argument("--one", nargs=3, metavar=("SKY", "BANDS", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(Path(options.one[0]), options.one[1], Path(options.one[2]))))
        return 0
    rows = []
    print("side bands labels plan_s label_s s/label plan_GB peak_GB written_MB")
    with tempfile.TemporaryDirectory() as folder:
        for side in options.sides:
            sky = Path(folder) / f"sky{side}"
            subprocess.run(
                [sys.executable, "-m", "astrolabel", "simulate", str(sky), "--size", str(side)],
                check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            for bands in options.bands:
                words = [sys.executable, __file__, "--one", str(sky), bands]
                for turn in ("warm", "timed"):  # the first compiles
                    out = Path(folder) / f"out-{side}-{bands}-{turn}"
                    done = subprocess.run(
                        [*words, str(out)], check=True, capture_output=True, text=True
                    )
                row = json.loads(done.stdout.splitlines()[-1])
                rows.append(row)
                print(
                    f"{side:4d} {bands:5s} {row['labels']:6.0f} {row['plan_s']:6.1f} "
                    f"{row['label_s']:7.1f} {row['label_s'] / max(row['labels'], 1):7.4f} "
                    f"{row['plan_bytes'] / 1e9:7.2f} {row['peak_bytes'] / 1e9:7.2f} "
                    f"{row['written_bytes'] / 1e6:10.1f}",
                    flush=True,
                )
    design = np.array([[1.0, r["pixels"], r["pixels"] * r["bands"]] for r in rows])
    if np.linalg.matrix_rank(design) == 3:
        fitted = np.linalg.lstsq(design, np.array([r["peak_bytes"] for r in rows]), rcond=None)[0]
        print("peak bytes: base {:.3g}, a pixel {:.0f}, a pixel and band {:.0f}".format(*fitted))
    return 0


if __name__ == "__main__":
    sys.exit(main())
