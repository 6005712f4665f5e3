"""Do tiles lose or double sources, and what does a whole coadd cost?

    python benchmarks/seams.py CHECKPOINT [--size 2048] [--tile 0] [--overlap 128] [--device cpu]
    python benchmarks/seams.py CHECKPOINT --size 10000 --spacing 33 --tiles-only [--every 20]

The sky is made here: isolated round stars of many magnitudes on noise, two rows of them on every
seam between the tiles. Predicted whole and in tiles, it says how many stars are found once, twice
and not at all, how far the two catalogs agree, and the largest memory of the process. With
`--every K` the network sees each K-th tile, and the others get its detections once more: the
memory of all, in less time.
`CHECKPOINT` is a file, or `sky`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.io import fits
from numpy.typing import NDArray

from astroseg.core.config import Config, configured
from astroseg.core.rle import decode_tight
from astroseg.core.samples import Prediction
from astroseg.engines import get_engine
from astroseg.engines.base import Engine
from astroseg.inference.coadd import tiles_of
from astroseg.inference.predict import predict
from astroseg.weights.builtin import checkpoint_file
from astroseg.weights.checkpoint import read_header

LIMIT, BELOW = 0.5, 0.25
"""Score of a catalog, and how far below it detections are looked at: what one catalog has at 0.51
and the other at 0.49 is no loss at a seam."""
STRIP = 512
"""Rows of the sky made at a time."""


def lattice(size: int, spacing: int, seams: list[int]) -> NDArray[np.int64]:
    """Places along an axis at least `spacing` apart, one on each seam."""
    ends = [spacing, *seams, size - spacing]
    spans = [np.linspace(a, b, max(1, (b - a) // spacing) + 1) for a, b in pairwise(ends)]
    return np.unique(np.concatenate(spans).astype(np.int64))


def stars(place: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(y, x) and flux of the stars of a sky, up to 3 px from the lattice."""
    rng = np.random.default_rng(0)
    centres = np.stack(np.meshgrid(place, place, indexing="ij"), axis=-1).reshape(-1, 2)
    centres = centres + rng.integers(-3, 4, centres.shape)
    return centres, 10 ** rng.uniform(2.0, 3.5, len(centres))


def write_sky(path: Path, size: int, bands: int, place: NDArray[np.int64]) -> None:
    """A FITS cube of the stars on unit noise, written strip by strip."""
    centres, flux = stars(place)
    rng = np.random.default_rng(1)
    header = fits.Header({"SIMPLE": True, "BITPIX": -32, "NAXIS": 3})
    header.update({"NAXIS1": size, "NAXIS2": size, "NAXIS3": bands})
    yy, xx = np.mgrid[-8:9, -8:9]
    stamp = np.exp(-(yy**2 + xx**2) / (2 * 1.7**2)) / (2 * np.pi * 1.7**2)
    with path.open("wb") as file:
        file.write(header.tostring(padding=True).encode())
        for _ in range(bands):
            for top in range(0, size, STRIP):
                rows = min(STRIP, size - top)
                plane = np.zeros((rows + 32, size), np.float32)
                for n in np.flatnonzero(
                    (centres[:, 0] > top - 9) & (centres[:, 0] < top + rows + 8)
                ):
                    y, x = centres[n] - (top - 16, 0)
                    plane[y - 8 : y + 9, x - 8 : x + 9] += (flux[n] * stamp).astype(np.float32)
                plane[16 : 16 + rows] += rng.standard_normal((rows, size), np.float32)
                file.write(plane[16 : 16 + rows].astype(">f4").tobytes())
        file.write(b"\0" * (-file.tell() % 2880))


class Sparing:
    """An engine that computes each K-th tile and repeats its detections for the others."""

    def __init__(self, engine: Engine, every: int) -> None:
        self.engine, self.every, self.tiles = engine, every, 0
        self.last: tuple[tuple[int, ...], Prediction] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def predict(
        self, model: torch.nn.Module, batch: Sequence[NDArray[np.float32]]
    ) -> list[Prediction]:
        """Predictions of (C, H, W) images."""
        return [self._one(model, image) for image in batch]

    def _one(self, model: torch.nn.Module, image: NDArray[np.float32]) -> Prediction:
        if self.last is None or self.last[0] != image.shape or self.tiles % self.every == 0:
            self.last = image.shape, self.engine.predict(model, [image])[0]
        self.tiles += 1
        return self.last[1]


def found(
    checkpoint: Path, sky: Path, out: Path, config: Config, every: int = 1
) -> list[dict[str, Any]]:
    """Rows of the predictions, and how long they took."""
    began, busy = time.perf_counter(), time.process_time()
    engine: Any = Sparing(get_engine("torchvision"), every)
    result = predict(checkpoint, [str(sky)], out, config, engine=engine, quiet=True)
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    print(f"peak memory {peak:.2f} GB")
    rows = list(json.loads(result.results.read_text()))
    print(f"{sum(r['score'] >= LIMIT for r in rows)} detections, {busy:.0f} CPU s of {seconds:.0f}")
    return rows


def hits(
    rows: list[dict], centres: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """How many masks from the limit on cover each centre, and the best score of any that does."""
    cover = {tuple(c): n for n, c in enumerate(centres.tolist())}
    count, best = np.zeros(len(centres), np.int64), np.zeros(len(centres))
    for row in rows:
        bitmap, (y, x) = decode_tight(row["segmentation"])
        for dy, dx in np.argwhere(bitmap):
            if (n := cover.get((int(y + dy), int(x + dx)))) is not None:
                count[n] += row["score"] >= LIMIT
                best[n] = max(best[n], row["score"])
    return count, best


def compare(
    whole: tuple[NDArray[np.int64], NDArray[np.float64]],
    tiled: tuple[NDArray[np.int64], NDArray[np.float64]],
    on_seams: NDArray[np.bool_],
) -> None:
    """Print what differs between the two catalogs."""
    for what, chosen in (("on seams", on_seams), ("all stars", np.ones(len(on_seams), np.bool_))):
        (n, a), (m, b) = ((count[chosen], best[chosen]) for count, best in (whole, tiled))
        either, both = (n > 0) | (m > 0), (n > 0) & (m > 0)
        apart = np.abs(a - b)[either & ~both]
        print(f"{what}: {len(n)}; found whole {(n > 0).sum()}, in tiles {(m > 0).sum()}")
        print(f"  doubled whole {(n > 1).sum()}, in tiles {(m > 1).sum()}")
        print(f"  found whole and with no score in tiles: {((n > 0) & (b == 0)).sum()}")
        print(f"  catalogs agree on {both.sum() / max(1, either.sum()):.2%}; scores of the rest "
              f"differ by {max(apart, default=0):.2f} at most")  # fmt: skip


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", help="a file, or `sky`")
    parser.add_argument("--size", type=int, default=2048, help="of the square sky, px")
    parser.add_argument("--spacing", type=int, default=24, help="px between stars, 20 at least")
    parser.add_argument("--tile", type=int, default=0, help="0: the model's own size")
    parser.add_argument("--overlap", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tiles-only", action="store_true", help="not whole: memory and time")
    parser.add_argument("--every", type=int, default=1, help="tiles to one that is computed")
    return parser.parse_args()


def main() -> None:
    """Predict the sky whole and in tiles."""
    given = options()
    checkpoint = checkpoint_file(given.checkpoint)
    header = read_header(checkpoint)
    assert header.spec is not None
    how = {"device": given.device, "overlays": 1, "score": LIMIT - BELOW}
    config = configured("predict", tile_size=given.tile, overlap=given.overlap, **how)
    trained_on = int(header.meta.get("image_side", "0"))
    tiles = tiles_of((given.size, given.size), config.predict, trained_on, max(header.spec.strides))
    seams = sorted({tile.core[0] for tile in tiles} - {0})
    place = lattice(given.size, given.spacing, seams)
    centres, _ = stars(place)
    on_seams = (np.abs(centres[:, :, None] - np.array(seams, int)) <= 3).any(axis=(1, 2))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own: the largest memory of this one is to be that of prediction.
        words = (folder / "sky.fits", given.size, header.spec.channels, place)
        making = multiprocessing.get_context("spawn").Process(target=write_sky, args=words)
        making.start()
        making.join()
        assert making.exitcode == 0
        print(f"{len(centres)} stars, {on_seams.sum()} on seams, {given.size}x{given.size} px, "
              f"{len(tiles)} tiles of {tiles[0].y1}; in tiles:")  # fmt: skip
        rows = found(checkpoint, folder / "sky.fits", folder / "t", config, given.every)
        if given.tiles_only:
            return
        tiled = hits(rows, centres)
        config = configured("predict", tile_size=given.size, overlap=0, **how)
        whole = hits(found(checkpoint, folder / "sky.fits", folder / "w", config), centres)
    compare(whole, tiled, on_seams)


if __name__ == "__main__":
    main()
