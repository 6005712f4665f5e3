"""Labels of real galaxies put on simulated skies: one galaxy, one label, its neighbours kept.

    python benchmarks/real_galaxies.py [--part train] [--rows grid hsc decam early cosmos files]
    python benchmarks/real_galaxies.py --final     # once, for the numbers that are quoted

Galaxies are drawn as telescopes saw them (noise, sky and neighbours removed), at the survey's
seeing, pixels and noise. So the truth is exact.

| part  | galaxies                                                              |
|-------|-----------------------------------------------------------------------|
| train | scikit-image's Hubble deep field, x >= 500; COSMOS catalog, even rows  |
| test  | M51, NGC 6978, Abell 2744, a nearby spiral; COSMOS catalog, odd rows  |
| final | scikit-image's Hubble deep field, x < 500; COSMOS catalog, odd rows   |

The table of source probabilities was trained on `train`, and on cutouts of M51 and of the spiral
of Abell 2744, so that on these `test` tells nothing new. Tune on `train`, compare on `test`, report
`final` once. Needs astrolabel[simulate],
scikit-image, and for `test` and `cosmos` the folder of real data (--data).

Rows: `grid` is one spiral on empty HSC sky at 4 sizes x 6 magnitudes; `hsc` and `decam` have nine
spirals and irregular galaxies of i 17.5 to 20 in a field; `early` the same of early types;
`cosmos` fields in which every galaxy is one of the COSMOS catalog. "labels": mean and worst number
of labels an object has (`metrics.labels_per_object`). "IoU": median over objects of the best
label's mask IoU. "on": part of the field's sources found whose centre lies in such a galaxy's mask.

Two rows are counts. `files` has the labels on the spiral of a real Hubble image (Abell 2744,
with its PSF), where one is right. `cluster` has the stars found of a simulated globular cluster,
of those brighter than 20 times the noise of a point source.

--recipes takes presets, `sep`, numbers (the default recipe at that source probability), and `sky`
or a checkpoint: what a model of astroseg predicts. `sky` was trained on galaxies of `train`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ablation import at_probability
from astropy.io import fits
from labels import _at_zero, sep_segments
from sky import detections

from astrolabel.core.config import LabelConfig, preset
from astrolabel.io import coco
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.label.pipeline import make_coco
from astrolabel.prepare.read import characterise, read
from astrolabel.report import metrics
from astrolabel.simulate import (
    Scene,
    SimulateConfig,
    draw_bodies,
    draw_scene,
    truth_document,
    write_scene,
)
from astrolabel.simulate.population import Body, photometry
from astrolabel.simulate.real import Appearance, Picture, make_picture

HDF = {
    "train": {
        # (x, y, half the cutout's side)
        "late": ((810, 608, 26), (985, 172, 26), (583, 848, 30), (929, 437, 18),
                 (895, 503, 24), (907, 810, 24), (710, 787, 22)),
        "early": ((725, 473, 60), (978, 489, 44), (774, 738, 44), (819, 166, 30), (790, 560, 24)),
    },
    "final": {
        "late": ((124, 400, 50), (405, 75, 40), (336, 75, 30), (484, 65, 36), (486, 357, 24),
                 (498, 597, 26), (91, 550, 22), (212, 563, 20), (280, 604, 24)),
        "early": ((290, 108, 40), (420, 403, 34), (423, 716, 50), (481, 552, 26), (386, 497, 18)),
    },
}  # fmt: skip
"""Galaxies of `skimage.data.hubble_deep_field`, chosen by eye."""
M51_STARS = ((66, 378), (188, 347), (130, 223), (273, 404), (61, 464), (231, 347), (409, 441))
"""(y, x) of foreground stars on the picture of M51."""
SEP_CONTRAST = 0.005
"""sep's own default of `deblend_cont`."""
CELL_PX = 300
GRID_RADII_ARCSEC = (1.0, 1.8, 3.2, 5.0)
GRID_MAGS = (17.5, 18.5, 19.5, 20.5, 21.5, 22.5)
GAMMA = 2.2
"""Of the picture's JPEG."""


ROWS = ["grid", "hsc", "decam", "early", "cosmos", "files", "cluster"]


@dataclass(frozen=True)
class Galaxies:
    """Pictures to draw, and the rows of the COSMOS catalog that go with them."""

    late: tuple[Picture, ...]
    early: tuple[Picture, ...]
    subset: str


def galaxies(part: str, data: Path) -> Galaxies:
    """The galaxies of a part of the benchmark."""
    if part == "test":
        return Galaxies(*_telescopes(data), subset="test")
    cut = {kind: tuple(hdf(*place, kind) for place in places) for kind, places in HDF[part].items()}
    return Galaxies(cut["late"], cut["early"], "train" if part == "train" else "test")


def hdf(x: int, y: int, half: int, kind: str) -> Picture:
    """A galaxy of the deep field; its bands are linear in flux, blue first."""
    from skimage.data import hubble_deep_field

    picture = hubble_deep_field()
    rows = slice(max(y - half, 0), y + half + 1)
    columns = slice(max(x - half, 0), x + half + 1)
    light = (picture[rows, columns, ::-1] / 255.0) ** GAMMA
    middle = (float(y - rows.start), float(x - columns.start))
    return make_picture(f"hdf-{x}-{y}", np.moveaxis(light, -1, 0), middle, smooth=kind == "early")


def _telescopes(data: Path) -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
    """Late and early types from the ground and from space."""
    folder = data / "real"
    sdss = np.stack(
        [fits.getdata(folder / f"sdss_ngc6976_{band}.fits.bz2").astype(float) for band in "gri"]
    )
    one = {
        "m51": fits.getdata(folder / "m51.fits").astype(float),
        "a2744": fits.getdata(folder / "hst_a2744_spiral_f105w.fits.gz").astype(float),
        "statmorph": fits.getdata(folder / "statmorph_galaxy.fits").astype(float),
        "dwarf": fits.getdata(folder / "hst_a2744_dwarf_f105w.fits.gz").astype(float),
    }

    def cut(name: str, image: np.ndarray, y: int, x: int, half: int, kind: str) -> Picture:
        part = image[..., max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
        middle = (float(min(y, half)), float(min(x, half)))
        return make_picture(name, part, middle, smooth=kind == "early")

    for y, x in M51_STARS:
        one["m51"][y - 7 : y + 8, x - 7 : x + 8] = np.nan
    late = (
        cut("m51", one["m51"], 258, 256, 230, "late"),
        cut("a2744-spiral", one["a2744"], 75, 75, 75, "late"),
        cut("statmorph", one["statmorph"], 81, 81, 81, "late"),
        cut("sdss-278-190", sdss, 190, 278, 60, "late"),
    )
    early = (
        cut("a2744-s0", one["dwarf"], 90, 139, 40, "early"),
        cut("a2744-e", one["dwarf"], 100, 98, 30, "early"),
    )
    return late, early


def body(picture: Picture, config: SimulateConfig, mag: float, radius: float, **more) -> Body:
    """A galaxy of an i magnitude and half-light radius, of a spiral's colours."""
    mags, flux = photometry(config.spec, mag, 0.55, 0.28, 0.2)
    turned = Appearance(picture, radius, more.get("angle", 0.0), more.get("mirrored", False))
    return Body(more["y"], more["x"], mag, mags, flux, real=turned)


def grid(picture: Picture) -> Scene:
    """One galaxy at every size and magnitude on empty sky."""
    side = 5 * CELL_PX
    config = SimulateConfig(size=side)
    bodies = []
    for k in range(len(GRID_RADII_ARCSEC) * len(GRID_MAGS)):
        row, column = divmod(k, 5)
        radius, mag = GRID_RADII_ARCSEC[k // len(GRID_MAGS)], GRID_MAGS[k % len(GRID_MAGS)]
        place = {"y": (row + 0.5) * CELL_PX, "x": (column + 0.5) * CELL_PX}
        bodies.append(body(picture, config, mag, radius, **place))
    return draw_bodies(config, bodies)


def field(pictures: Sequence[Picture], config: SimulateConfig) -> Scene:
    """Nine galaxies of i 17.5 to 20, in cells of a grid, in a field."""
    rng = np.random.default_rng([config.seed, 7])
    bodies = []
    for k in range(9):
        row, column = divmod(k, 3)
        y, x = (np.array([row, column]) + rng.uniform(0.35, 0.65, 2)) * config.side / 3
        mag = rng.uniform(17.5, 20.0)
        # Discs of half a magnitude's scatter about a mean of 21.7 per square arcsecond.
        radius = 10 ** ((rng.normal(21.7, 0.5) - mag - 2.5 * np.log10(2 * np.pi)) / 5)
        picture = pictures[k % len(pictures)]
        angle, mirrored = rng.uniform(0, 2 * np.pi), bool(rng.random() < 0.5)
        more = {"y": y, "x": x, "angle": angle, "mirrored": mirrored}
        bodies.append(body(picture, config, mag, radius, **more))
    return draw_scene(config, extra=bodies)


def cosmos(config: SimulateConfig) -> Scene:
    return draw_scene(config)


@dataclass(frozen=True)
class Row:
    """What a recipe makes of some scenes; arrays over objects, means over scenes."""

    counts: np.ndarray
    iou: np.ndarray
    on: np.ndarray
    quality: metrics.Quality


def labels_of(scene: Scene, recipe: str, folder: Path) -> metrics.Instances:
    """What a recipe makes of a scene's files, which it writes to ``folder/sky``."""
    files = write_scene(scene, folder / "sky")
    names = scene.spec.band_names
    inputs = (
        Inputs((folder / "sky",))
        if scene.spec.tract
        else Inputs(
            band_files=tuple(((n,), files[n]) for n in names),
            psf={n: files[f"psf_{n}"] for n in names},
        )
    )
    (coadd,) = find_coadds(inputs)
    if recipe == "sep":
        return sep_segments(read(coadd, characterise(coadd)), SEP_CONTRAST)
    if is_model(recipe):
        return predicted(recipe, [files[name] for name in names], scene.shape)
    result = make_coco([coadd], recipe_named(recipe), folder / recipe, progress=False)
    return metrics.instances(_at_zero(coco.read(result.coco)), scene.wcs)


def is_model(recipe: str) -> bool:
    return recipe == "sky" or recipe.endswith(".safetensors")


def predicted(model: str, files: Sequence[Path], shape: tuple[int, int]) -> metrics.Instances:
    """Detections of a model of astroseg, by its own limit of the score."""
    import astroseg

    found = astroseg.load(model, **{"predict.norm_windows": 4}).predict(*files)
    return detections(found, shape)[0]


def recipe_named(name: str) -> LabelConfig:
    """A preset; or the default one at a source probability, named by the number."""
    return at_probability(float(name)) if name[0].isdigit() else preset(name)


def measure(scene: Scene, recipe: str, folder: Path) -> Row:
    """Labels of a scene against its truth."""
    labels = labels_of(scene, recipe, folder)
    document = _at_zero(truth_document(scene))
    truth = metrics.instances(document, scene.wcs)
    injected = np.array([[s.body.y, s.body.x] for s in scene.sources])
    # The galaxies put there are the last drawn; in a field of them all count alike.
    bodies = [s.body for s in scene.labelled]
    chosen = np.flatnonzero([b.real is not None for b in bodies])
    if scene.config.galaxies:
        chosen = chosen[:0]
    best = [max((metrics.iou(truth.masks[k], m) for m in labels.masks), default=0) for k in chosen]
    inside = np.zeros(len(bodies), bool)
    for k in chosen:
        inside |= _within(truth, k)
    inside[chosen] = False
    return Row(
        metrics.labels_per_object(labels, truth, chosen, injected),
        np.array(best),
        metrics.pair(labels, truth).found[inside & truth.whole],
        metrics.compare(labels, truth, injected),
    )


def _within(truth: metrics.Instances, k: int) -> np.ndarray:
    """Whether each true source's centre lies in the mask of the k-th."""
    mask, box = truth.masks[k]
    y, x = np.rint(truth.centres).astype(int).T
    out = np.array([box.contains(a, b) for a, b in zip(y, x, strict=True)])
    out[out] = mask[y[out] - box.y0, x[out] - box.x0]
    return out


def on_spiral(recipe: str, data: Path, folder: Path) -> int:
    """Labels whose centre lies on the spiral of a real Hubble image."""
    name = "hst_a2744_spiral_f105w.fits.gz"
    inputs = Inputs(
        band_files=((("f105w",), data / "real" / name),),
        psf={"f105w": data / "real" / "hst_f105w_psf.fits.gz"},
        zeropoints={"f105w": 26.27},
    )
    (coadd,) = find_coadds(inputs)
    picture = make_picture("spiral", fits.getdata(data / "real" / name).astype(float))
    light = picture.light[0] > 0.01 * picture.light.max()
    if recipe == "sep":
        centres = sep_segments(read(coadd, characterise(coadd)), SEP_CONTRAST).centres
    elif is_model(recipe):
        centres = predicted(recipe, [data / "real" / name], light.shape).centres
    else:
        found = coco.read(make_coco([coadd], recipe_named(recipe), folder, progress=False).coco)
        found = [a["attributes"] for a in found["annotations"]]
        centres = np.array([[a["y"], a["x"]] for a in found]).reshape(-1, 2)
    y, x = np.rint(centres).astype(int).clip(0, np.array(light.shape)[None] - 1).T
    return int(light[y, x].sum())


def cluster(recipe: str, seed: int, folder: Path) -> tuple[int, int]:
    """Stars of a globular cluster found, and of how many."""
    config = SimulateConfig(size=500, seed=seed, density_per_arcmin2=20.0)
    config = replace(config, defects=replace(config.defects, star_clusters=1))
    scene = draw_scene(config)
    depth = scene.spec.bands[-1].depth_mag
    bright = [
        [s.body.y, s.body.x]
        for s in scene.labelled
        if s.body.is_star and not s.saturated and s.body.i_mag < depth - 2.5 * np.log10(4)
    ]
    labels = labels_of(scene, recipe, folder)
    return len(metrics.match(np.array(bright), labels.centres, metrics.MATCH_RADIUS_PX)), len(
        bright
    )


def scenes(row: str, real: Galaxies, options: argparse.Namespace) -> list[Callable[[], Scene]]:
    """Functions that draw the scenes of a row: one is in memory at a time."""
    seeds = options.seeds
    if row == "grid":
        return [lambda: grid(real.late[0])]
    if row == "cosmos":
        base = SimulateConfig(
            galaxies=str(options.data / "real" / "cosmos"),
            galaxy_subset=real.subset,
            size=options.size,
        )
        return [lambda s=s: cosmos(replace(base, seed=s)) for s in seeds]
    base = SimulateConfig(
        survey="decam" if row == "decam" else "hsc-deep",
        size=700 if row == "decam" else 1050,
    )
    kind = real.early if row == "early" else real.late
    return [lambda s=s: field(kind, replace(base, seed=s)) for s in seeds]


def summary(row: str, recipe: str, found: list[Row]) -> str:
    counts, iou, on = (
        np.concatenate([getattr(r, n) for r in found]) for n in ("counts", "iou", "on")
    )
    each = (
        f"{counts.mean():6.2f} {counts.max():5d}  {np.median(iou):5.3f}  "
        if len(counts)
        else f"{'':21s}"
    )
    beside = f"{on.mean():5.2f}" if len(on) else "     "
    whole = ""
    if row != "grid":
        names = ("purity", "completeness", "completeness_blended", "iou_isolated", "iou_blended")
        whole = "  ".join(
            f"{np.nanmean([getattr(r.quality, n) for r in found]):12.3f}" for n in names
        )
    return f"{row:7s} {recipe:8s} {len(counts):7d} {each}{beside} {whole}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("train", "test"), default="train")
    parser.add_argument("--final", action="store_true", help="the galaxies kept for the report")
    parser.add_argument("--rows", nargs="+", default=ROWS)
    parser.add_argument("--recipes", nargs="+", default=["default", "sep"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--size", type=int, default=700, help="of a field of COSMOS galaxies, px")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    part = "final" if options.final else options.part
    needs_data = part == "test" or {"cosmos", "files"} & set(options.rows)
    if needs_data and not options.data.is_dir():
        sys.exit(f"skipped: no folder of real data at {options.data}; give --data")
    real = galaxies(part, options.data)
    print(f"part {part}: {len(real.late)} late, {len(real.early)} early types")
    print(
        "row     recipe   objects labels worst  IoU    on          purity  completeness       "
        "blended  iou isolated   iou blended"
    )
    for row in options.rows:
        if row in ("files", "cluster"):
            for recipe in options.recipes:
                with tempfile.TemporaryDirectory() as folder:
                    if row == "files":
                        count = on_spiral(recipe, options.data, Path(folder))
                        print(f"{row:7s} {recipe:8s} {count} labels on the spiral", flush=True)
                    else:
                        count, of = cluster(recipe, options.seeds[0], Path(folder))
                        print(f"{row:7s} {recipe:8s} {count} of {of} stars", flush=True)
            continue
        found: dict[str, list[Row]] = {recipe: [] for recipe in options.recipes}
        for draw in scenes(row, real, options):
            scene = draw()
            for recipe in options.recipes:
                with tempfile.TemporaryDirectory() as folder:
                    found[recipe].append(measure(scene, recipe, Path(folder)))
        for recipe in options.recipes:
            print(summary(row, recipe, found[recipe]), flush=True)


if __name__ == "__main__":
    main()
