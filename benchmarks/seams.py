"""Do tiles lose or double sources, and what does a whole coadd cost?

    python benchmarks/seams.py CHECKPOINT [--size 1536] [--tile 256] [--overlap 64] [--device cpu]
    python benchmarks/seams.py CHECKPOINT --size 10000 --tile 0 --tiles-only

The sky is made here: isolated round stars of many magnitudes on noise, a lattice of them so that
some 500 lie on seams. Predicted whole and in tiles, it says how many stars are found once, twice
and not at all, and how far the two catalogs agree; and the largest memory of the process.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from astroseg.core.config import Config, configured
from astroseg.core.rle import decode_tight
from astroseg.inference.predict import predict
from astroseg.weights.checkpoint import read_header

SPACING = 24
"""px between stars: none touches its neighbour."""


def stars(size: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(y, x) and flux of the stars of a sky."""
    rng = np.random.default_rng(0)
    place = np.arange(SPACING, size - SPACING, SPACING)
    centres = np.stack(np.meshgrid(place, place, indexing="ij"), axis=-1).reshape(-1, 2)
    centres = centres + rng.integers(-3, 4, centres.shape)
    return centres, 10 ** rng.uniform(2.0, 3.5, len(centres))


def write_sky(path: Path, size: int, bands: int) -> None:
    """A FITS cube of the stars on unit noise, written band by band."""
    centres, flux = stars(size)
    rng = np.random.default_rng(1)
    header = fits.Header({"SIMPLE": True, "BITPIX": -32, "NAXIS": 3})
    header.update({"NAXIS1": size, "NAXIS2": size, "NAXIS3": bands})
    yy, xx = np.mgrid[-8:9, -8:9]
    stamp = np.exp(-(yy**2 + xx**2) / (2 * 1.7**2)) / (2 * np.pi * 1.7**2)
    with path.open("wb") as file:
        file.write(header.tostring(padding=True).encode())
        for _ in range(bands):
            plane = rng.standard_normal((size, size), np.float32)
            for (y, x), light in zip(centres, flux, strict=True):
                plane[y - 8 : y + 9, x - 8 : x + 9] += (light * stamp).astype(np.float32)
            file.write(plane.astype(">f4").tobytes())
        file.write(b"\0" * (-file.tell() % 2880))


def found(checkpoint: Path, sky: Path, out: Path, config: Config) -> list[dict]:
    """Rows of the predictions, and how long they took."""
    began = time.perf_counter()
    result = predict(checkpoint, [str(sky)], out, config, quiet=True)
    seconds = time.perf_counter() - began
    rows = json.loads(result.results.read_text())
    print(f"{len(rows)} detections in {seconds:.0f} s")
    return list(rows)


def hits(rows: list[dict], centres: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many masks cover each centre."""
    cover = {tuple(c): n for n, c in enumerate(centres.tolist())}
    count = np.zeros(len(centres), np.int64)
    for row in rows:
        bitmap, (y, x) = decode_tight(row["segmentation"])
        for dy, dx in np.argwhere(bitmap):
            if (n := cover.get((int(y + dy), int(x + dx)))) is not None:
                count[n] += 1
    return count


def main() -> None:
    """Predict the sky whole and in tiles."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--size", type=int, default=1536, help="of the square sky, px")
    parser.add_argument("--tile", type=int, default=256, help="0: the model's own size")
    parser.add_argument("--overlap", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tiles-only", action="store_true", help="not whole: memory and time")
    given = parser.parse_args()
    spec = read_header(given.checkpoint).spec
    assert spec is not None
    config = configured(
        "predict", device=given.device, tile_size=given.tile, overlap=given.overlap, overlays=1
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own: the largest memory of this one is to be that of prediction.
        words = (folder / "sky.fits", given.size, spec.channels)
        making = multiprocessing.get_context("spawn").Process(target=write_sky, args=words)
        making.start()
        making.join()
        assert making.exitcode == 0
        centres, _ = stars(given.size)
        print(f"{len(centres)} stars on {given.size}x{given.size} px; in tiles:")
        tiled = hits(found(given.checkpoint, folder / "sky.fits", folder / "t", config), centres)
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
        print(f"found once {(tiled == 1).sum()}, doubled {(tiled > 1).sum()}; peak {peak:.2f} GB")
        if given.tiles_only:
            return
        config = configured(
            "predict", device=given.device, tile_size=given.size, overlap=0, overlays=0
        )
        whole = hits(found(given.checkpoint, folder / "sky.fits", folder / "w", config), centres)
    size, step = given.tile, given.tile - given.overlap
    near = (np.abs((centres - given.overlap / 2) % step - step / 2) > step / 2 - 4).any(axis=1)
    both = (whole > 0) & (tiled > 0)
    print(f"whole: found once {(whole == 1).sum()}, doubled {(whole > 1).sum()}")
    print(f"tiles of {size} px lose {((whole > 0) & (tiled == 0)).sum()} of {(whole > 0).sum()}")
    print(f"  of those near seams (about): {((whole > 0) & (tiled == 0) & near).sum()}")
    print(f"catalogs agree on {both.sum() / max(1, ((whole > 0) | (tiled > 0)).sum()):.2%}")


if __name__ == "__main__":
    main()
