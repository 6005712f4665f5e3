"""The shipped HSC training and test sets on the sky: no leak, drawn on a map.

    python benchmarks/udcosmos_split.py tracts_patches_UD-COSMOS.txt [--out split.svg]

Reads the release's public list of tracts and patches, lays 4x4 tiles on the patches that
data_manifests/hsc_dr3_train.yaml and hsc_dr3_udcosmos_test.yaml name, and splits them as
`astrolabel split` does. Beside it, what leaks when every other patch of the field is given
to training.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from astropy.wcs import WCS

from astrolabel.datasets.manifest import read_manifest
from astrolabel.datasets.split_files import leaks, split_files
from astrolabel.io import coco

MANIFESTS = Path(__file__).parents[1] / "data_manifests"
SCALE_DEG = 0.168 / 3600
PATCH_PX = 4200
LINE = re.compile(
    r"Tract: (\d+)\s+(?:Patch: (\d+,\d+)\s+)?(Center|Corner\d) \(RA, Dec\): \((\S+) , (\S+)\)"
)


def centres(path: Path) -> tuple[dict[str, tuple[float, float]], dict[tuple[str, str], np.ndarray]]:
    """Centres of the tracts, and of the patches by (tract, patch), in degrees."""
    tracts, patches = {}, {}
    for found in map(LINE.search, path.read_text().splitlines()):
        if found and found[3] == "Center":
            at = float(found[4]), float(found[5])
            if found[2]:
                patches[found[1], found[2]] = np.array(at)
            else:
                tracts[found[1]] = at
    return tracts, patches


def tiles(
    tract: str, patch: str, tract_centre: tuple[float, float], centre: np.ndarray
) -> Iterable[dict]:
    """4x4 image entries of a patch, on its tract's tangent plane."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = tract_centre
    wcs.wcs.crpix = [1, 1]
    wcs.wcs.cdelt = [-SCALE_DEG, SCALE_DEG]
    x, y = wcs.all_world2pix([centre], 0)[0]
    side = PATCH_PX // 4
    for r in range(4):
        for c in range(4):
            part = wcs.deepcopy()
            part.wcs.crpix = [
                1 - (x - PATCH_PX / 2 + c * side), 1 - (y - PATCH_PX / 2 + r * side)
            ]  # fmt: skip
            header = part.to_header()
            yield {
                "file_name": f"images/{tract}-{patch}-r{r}c{c}.png",
                "height": side,
                "width": side,
                "astro": {
                    "tract": tract,
                    "patch": patch,
                    "wcs": {key: header[key] for key in header},
                },
            }


def document(
    chosen: Iterable[tuple[str, str]],
    tract_centres: dict[str, tuple[float, float]],
    patch_centres: dict[tuple[str, str], np.ndarray],
) -> dict:
    """A dataset of the tiles of some patches, without labels."""
    images = [i for t, p in chosen for i in tiles(t, p, tract_centres[t], patch_centres[t, p])]
    shards = [{"image": image, "annotations": []} for image in images]
    return coco.merge({}, [{"id": 1, "name": "source"}], shards)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("geometry", type=Path, help="tracts_patches_UD-COSMOS.txt")
    parser.add_argument("--out", type=Path, default=Path("udcosmos_split.svg"))
    options = parser.parse_args()
    tract_centres, patch_centres = centres(options.geometry)
    train = read_manifest(MANIFESTS / "hsc_dr3_train.yaml")
    test = read_manifest(MANIFESTS / "hsc_dr3_udcosmos_test.yaml")
    test_patches = {(t, p) for t, group in test.coadds.patches.items() for p in group}
    shipped = test_patches | {(t, p) for t, group in train.coadds.patches.items() for p in group}
    regions = {**train.splits, "test": test.splits["test"]}
    with tempfile.TemporaryDirectory() as folder:
        parts = {
            "train": [at for at in sorted(patch_centres) if at not in test_patches],
            "test": sorted(test_patches),
        }
        files = []
        for name, chosen in parts.items():
            files.append(Path(folder) / f"{name}.json")
            coco.write_json(files[-1], document(chosen, tract_centres, patch_centres))
        print(f"every patch but the test's for training: {len(leaks(files))} pairs of images leak")
        whole = Path(folder) / "coco.json"
        coco.write_json(whole, document(sorted(shipped), tract_centres, patch_centres))
        result = split_files([whole], Path(folder) / "out", regions=regions, rest=None)
        print(f"the shipped manifests: {len(leaks(list(result.files.values())))} leak")
        print("  " + result.summary().replace(f"{folder}/out/", "").replace("\n", "\n  "))
        options.out.write_bytes(result.map.read_bytes())


if __name__ == "__main__":
    main()
