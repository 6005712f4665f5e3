"""The built-in sky model beside make-coco, photutils and sep, on skies nothing was chosen on.

    python benchmarks/sky.py [--galaxies ../shared/data/real/cosmos] [--seeds 901 902]
                             [--size 512] [--model sky] [--tools sky make-coco photutils sep]

Skies like those of four surveys; with --galaxies once more, with real galaxies (odd rows: the
model was trained on even ones). Sources count that have a true mask of five pixels. A label is
matched within 3 pixels, one to one. "at 0.95": completeness where the score's limit gives a
purity of 0.95. "AP": of masks, without classes, of all detections down to a score of 0.05; tools
without scores are ranked by the masks' pixels. "large": labels a galaxy of more than 1500 pixels.
"star F1": of the class among matched sources; with * of those to magnitude 24.5 in the last
band.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bright import inputs_of
from labels import _at_zero, sep_segments

from astrolabel.core import masks
from astrolabel.core.box import Box
from astrolabel.core.config import preset, smooth
from astrolabel.detect.image import detection_image
from astrolabel.io import coco
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.label.pipeline import make_coco
from astrolabel.prepare.read import characterise, read
from astrolabel.report import metrics
from astrolabel.simulate import SimulateConfig, simulate

LARGE_PX = 1500
"""Pixels of the mask of a large galaxy: 44 on a side."""
LOW_SCORE = 0.05
"""Of the detections that the curve of completeness against purity is made from."""
BRIGHT_MAG = 24.5
"""To which classes are asked of, in the last band."""
SKIES: dict[str, SimulateConfig] = {
    "HSC-like g,r,i": SimulateConfig(),
    "DECam-like g,r,z": SimulateConfig(survey="decam"),
    "LSST-like g,r,i": SimulateConfig(
        pixel_scale_arcsec=0.2, seeing_arcsec=0.8, depth_mag=26.0, density_per_arcmin2=60.0
    ),
    "Euclid-like i": SimulateConfig(
        bands=("i",), pixel_scale_arcsec=0.1, seeing_arcsec=0.16, depth_mag=25.5,
        density_per_arcmin2=80.0,
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """What a tool found: masks, and where it gives them scores and whether it is a star."""

    instances: metrics.Instances
    seconds: float
    scores: np.ndarray | None = None
    star: np.ndarray | None = None

    def above(self, score: float) -> Found:
        """Those of at least that score."""
        assert self.scores is not None
        kept = np.flatnonzero(self.scores >= score)
        own = self.instances
        return Found(
            metrics.Instances(
                own.centres[kept], [own.masks[i] for i in kept], own.blended[kept], own.whole[kept]
            ),
            self.seconds,
            self.scores[kept],
            None if self.star is None else self.star[kept],
        )


def of_masks(found: list[masks.Mask], shape: tuple[int, int], centres: np.ndarray) -> Any:
    """Instances of masks, none of them blended."""
    frame = Box(0, 0, *shape)
    whole = [m.box.expanded(1) & frame == m.box.expanded(1) for m in found]
    pixels = [(m.pixels, m.box) for m in found]
    return metrics.Instances(
        centres.reshape(-1, 2), pixels, np.zeros(len(found), bool), np.array(whole, bool)
    )


def sky_model(model: str, norm_windows: int) -> Callable[..., Found]:
    """Predictions of a model of astroseg, with scores."""
    import astroseg

    loaded = astroseg.load(model, score=LOW_SCORE, **{"predict.norm_windows": norm_windows})

    def run(inputs: Inputs, coadd, folder: Path) -> Found:
        spare = sorted((folder / "sky").glob("calexp*"))
        files = [file for _, file in inputs.band_files] or spare
        start = time.perf_counter()
        found = loaded.predict(*files)
        seconds = time.perf_counter() - start
        instances, rows = detections(found, coadd.image.shape[1:])
        table = found.table[rows]
        star = np.asarray(table["class"]) == "star"
        return Found(instances, seconds, np.asarray(table["score"]), star)

    return run


def detections(found, shape: tuple[int, int]) -> tuple[metrics.Instances, list[int]]:
    """What a model of astroseg found and has a mask of a pixel, and the rows of its table."""
    from astroseg.core.rle import decode_tight

    own, rows = [], []
    for row, mask in enumerate(found.prediction.masks):
        bitmap, (y, x) = decode_tight(mask)
        if bitmap.size:
            own.append(masks.Mask(bitmap, Box(y, x, *bitmap.shape)))
            rows.append(row)
    centres = np.stack([found.table["y"], found.table["x"]], axis=1)[rows]
    return of_masks(own, shape, centres), rows


def labels(inputs: Inputs, coadd, folder: Path) -> Found:
    """make-coco with its default recipe; it has no classes without a catalog."""
    (files,) = find_coadds(inputs)
    start = time.perf_counter()
    result = make_coco([files], preset("default"), folder / "labels", progress=False)
    seconds = time.perf_counter() - start
    document = _at_zero(coco.read(result.coco))
    return Found(metrics.instances(document, coadd.wcs), seconds)


def plain_sep(_: Inputs, coadd, folder: Path) -> Found:
    start = time.perf_counter()
    found = sep_segments(coadd)
    return Found(found, time.perf_counter() - start)


def photutils(_: Inputs, coadd, folder: Path) -> Found:
    """Segments and deblending of photutils, with the true noise, at 5 sigma."""
    from photutils.segmentation import SourceFinder

    start = time.perf_counter()
    detection = detection_image(coadd, preset("default").detect)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        finder = SourceFinder(n_pixels=5, progress_bar=False)
        found = finder(detection.image / detection.sigma, 5.0)
    seconds = time.perf_counter() - start
    own, centres = [], []
    for segment in found.segments if found is not None else ():
        rows, columns = segment.slices
        box = Box(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
        pixels = found.data[segment.slices] == segment.label
        own.append(masks.Mask(pixels, box))
        light = np.where(pixels, detection.image[segment.slices], 0)
        y, x = np.indices(pixels.shape)
        centres.append(
            [(y * light).sum() / light.sum() + box.y0, (x * light).sum() / light.sum() + box.x0]
        )
    return Found(of_masks(own, found.shape, np.array(centres)), seconds)


def main() -> None:
    options = _options()
    tools = {"sky": None, "make-coco": labels, "photutils": photutils, "sep": plain_sep}
    for galaxies in ("", options.galaxies) if options.galaxies else ("",):
        for name, config in SKIES.items():
            rows: dict[str, list[dict[str, float]]] = {tool: [] for tool in options.tools}
            for seed in options.seeds:
                one = dataclasses.replace(
                    config, seed=seed, size=options.size, bright=options.bright
                )
                if galaxies:
                    one = dataclasses.replace(one, galaxies=galaxies, galaxy_subset="test")
                elif options.smooth:
                    one = smooth(one)
                for tool, row in measured(one, options, tools).items():
                    rows[tool].append(row)
            kind = "real galaxies" if galaxies else "smooth" if options.smooth else "parametric"
            print_rows(f"{name}, {kind}", rows)


def measured(config: SimulateConfig, options, tools) -> dict[str, dict[str, float]]:
    """Numbers of each tool on one sky."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        simulated = simulate(folder / "sky", config)
        scene = simulated.scene
        document = _at_zero(coco.read(simulated.files["truth"]))
        truth = metrics.instances(document, scene.wcs)
        names = {c["id"]: c["name"] for c in document["categories"]}
        own = [
            a for a in document["annotations"]
            if not a["iscrowd"] and "peak_outside" not in a["attributes"].get("flags", ())
        ]  # fmt: skip
        star = np.array([names[a["category_id"]] == "star" for a in own])
        band = f"mag_{document['images'][0]['astro']['bands'][-1]}"
        bright = np.array([a["attributes"].get(band, np.inf) <= BRIGHT_MAG for a in own])
        injected = np.array([[s.body.y, s.body.x] for s in scene.sources])
        inputs = inputs_of(simulated)
        (files,) = find_coadds(inputs)
        coadd = read(files, characterise(files))
        out = {}
        for tool in options.tools:
            run = tools[tool] or _loaded(options.model, options.norm_windows)
            found = run(inputs, coadd, folder)
            out[tool] = {
                **numbers(found, truth, star, bright, injected, options.score),
                "AP": mask_ap(found, truth, coadd.image.shape[1:]),
                "seconds": found.seconds,
            }
        return out


_models: dict[str, Callable[..., Found]] = {}


def _loaded(model: str, norm_windows: int) -> Callable[..., Found]:
    if model not in _models:
        _models[model] = sky_model(model, norm_windows)
    return _models[model]


def mask_ap(found: Found, truth: metrics.Instances, shape: tuple[int, int]) -> float:
    """COCO's AP of masks, over IoU 0.50 to 0.95, of one class; what the edge cuts is ignored."""
    from astroseg.core.rle import encode_at
    from astroseg.evaluation.metrics.ap import coco_ap
    from astroseg.evaluation.metrics.objects import Image, Objects

    def objects(own: metrics.Instances, score: np.ndarray, ignored: np.ndarray) -> Objects:
        one = np.zeros(len(score), np.int64)
        boxes = np.array([[b.x0, b.y0, b.width, b.height] for _, b in own.masks], float)
        area = np.array([m.sum() for m, _ in own.masks], float)
        masks = [encode_at(m, (b.y0, b.x0), shape) for m, b in own.masks]
        boxes = boxes.reshape(-1, 4)
        return Objects(one, one, boxes, area, masks, area, boxes, score, ignored)

    scores = found.scores
    if scores is None:
        scores = np.array([m.sum() for m, _ in found.instances.masks], float)
    image = Image(1, "", *shape)
    true = objects(truth, np.ones(len(truth.masks)), ~truth.whole)
    labels = objects(found.instances, scores, np.zeros(len(scores), bool))
    return float(coco_ap((image,), 1, true, labels, "mask").ap[0, 0])


def numbers(found, truth, star, bright, injected, score) -> dict[str, float]:
    """The columns of the table."""
    row = {"at 0.95": np.nan}
    if found.scores is not None:
        row["at 0.95"], row["score"] = _at_purity(found, truth, injected)
        found = found.above(row["score"] if score is None else score)
    paired = metrics.pair(found.instances, truth, injected)
    quality = metrics.summarise(paired, found.instances, truth)
    galaxies = np.array([m.sum() > LARGE_PX for m, _ in truth.masks], bool) & ~star & truth.whole
    counts = metrics.labels_per_object(found.instances, truth, np.flatnonzero(galaxies), injected)
    row |= {
        "complete": quality.completeness,
        "blended": quality.completeness_blended,
        "purity": quality.purity,
        "IoU": quality.iou_isolated,
        "IoU bl.": quality.iou_blended,
        "large": float(counts.mean()) if len(counts) else np.nan,
    }
    for name in ("star F1", "galaxy F1", "star F1 bright", "galaxy F1 bright"):
        row[name] = np.nan
        if found.star is not None:
            pairs = paired.pairs[bright[paired.pairs[:, 0]]] if "bright" in name else paired.pairs
            is_kind, said = (star, found.star) if "star" in name else (~star, ~found.star)
            a, b = is_kind[pairs[:, 0]], said[pairs[:, 1]]
            row[name] = float(2 * (a & b).sum() / max(1, a.sum() + b.sum()))
    return row


def _at_purity(found: Found, truth, injected, purity: float = 0.95) -> tuple[float, float]:
    """Completeness, and the lowest score whose purity is that."""
    best = 0.0, 1.0
    for score in np.linspace(LOW_SCORE, 0.95, 19):
        some = found.above(score)
        quality = metrics.summarise(
            metrics.pair(some.instances, truth, injected), some.instances, truth
        )
        if quality.purity >= purity:
            return quality.completeness, float(score)
    return best


def print_rows(title: str, rows: dict[str, list[dict[str, float]]]) -> None:
    print(f"\n{title}")
    for number, (tool, found) in enumerate(rows.items()):
        columns = [c for c in found[0] if c != "score"]
        if number == 0:
            print(f"{'':10s}" + "".join(f"{c.replace(' bright', '*'):>10s}" for c in columns))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a column without a value
            means = [np.nanmean([row[c] for row in found]) for c in columns]
        print(
            f"{tool:10s}" + "".join(f"{m:10.3f}" if m == m else " " * 10 for m in means), flush=True
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--galaxies", default="", help="folder of a RealGalaxyCatalog")
    parser.add_argument("--seeds", type=int, nargs="+", default=[901, 902])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--bright", type=int, default=0, help="large spirals, and bright stars")
    parser.add_argument("--model", default="sky")
    parser.add_argument("--score", type=float, help="its limit (default: that of purity 0.95)")
    parser.add_argument("--norm-windows", type=int, default=4, help="0: each tile its own norms")
    parser.add_argument("--smooth", action="store_true", help="Sersic galaxies, white noise")
    parser.add_argument(
        "--tools", nargs="+", default=["sky", "make-coco", "photutils", "sep"],
        choices=("sky", "make-coco", "photutils", "sep"),
    )  # fmt: skip
    return parser.parse_args()


if __name__ == "__main__":
    main()
