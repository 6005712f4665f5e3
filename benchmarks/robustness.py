"""Labels of damaged files: pure noise, and one scene with each defect at two strengths.

    python benchmarks/robustness.py [--rows noise defects] [--size 400] [--seed 1]

`noise`: false labels in a million pixels of sky without sources, with the file's variance and
without any. Aim: at most 2.
`defects`: completeness, purity and median mask IoU over those of the undamaged scene. Aim: none
below 0.95, or the file refused in one line. A scene with a border is compared with one whose
files mark the same border as no data. Noise that is smoothed at the same scatter of a pixel is
higher at the scale of the PSF, which hides sources from any program: it is compared with the
undamaged scene, and in a second row with the same scene labelled with the true correlation in place
of the measured one, as if the files had given it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
from astropy.io import fits
from labels import _at_zero

from astrolabel.core.config import LabelConfig, SimulateConfig, preset
from astrolabel.core.errors import AstrolabelError
from astrolabel.io import coco
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.label.pipeline import make_coco
from astrolabel.report import metrics
from astrolabel.simulate import Scene, draw_bodies, draw_scene, write_scene
from astrolabel.simulate.noise import noise_power

NOISE = ("white", "lanczos", "gaussian", "blocks")


def defects(base: SimulateConfig) -> Iterator[tuple[str, SimulateConfig]]:
    """Name and settings of each damaged scene."""

    def of(branch: str, **changes: object) -> SimulateConfig:
        return replace(base, **{branch: replace(getattr(base, branch), **changes)})

    for sigma in (1.0, 20.0):
        yield f"sky level {sigma:g} sigma", of("background", level_sigma=sigma)
    for sigma in (1.0, 5.0):
        yield f"sky gradient {sigma:g} sigma", of("background", gradient_sigma=sigma)
    for factor in (0.5, 2.0, 0.02):
        yield f"variance times {factor:g}", of("noise", variance_factor=factor)
    for width in (0.7, 1.5):
        yield f"noise smoothed by {width:g} px", of("noise", kind="gaussian", gaussian_px=width)
    for fill in ("zero", "sentinel"):
        yield f"border of {fill}s", of("defects", border_px=40, border_fill=fill)
    for count, sigma in ((1, 5.0), (3, 30.0)):
        yield f"{count} trails", of("defects", trails=count, trail_sigma=sigma)
    for rate in (50.0, 500.0):
        yield f"{rate:g} cosmic rays/Mpx", of("defects", cosmic_rays_per_mpx=rate)
    for sigma in (3.0, 10.0):
        yield f"nebulosity {sigma:g} sigma", of("background", nebulosity_sigma=sigma)
    for ratio in (0.9, 1.1, 1.3):
        yield f"PSF times {ratio:g}", of("psf", claimed_fwhm_ratio=ratio)


def label(
    scene: Scene, folder: Path, recipe: LabelConfig, plain: bool = False
) -> tuple[dict, dict]:
    """COCO documents of the labels and of the truth.

    Parameters
    ----------
    plain : give the images alone, without variance and mask, with the PSF.
    """
    files = write_scene(scene, folder / "sky")
    inputs = Inputs((folder / "sky",))
    if plain:
        for name in scene.spec.band_names:
            with fits.open(files[name]) as hdus:
                fits.writeto(folder / f"{name}.fits", hdus[1].data, hdus[1].header)
        names = scene.spec.band_names
        inputs = Inputs(
            band_files=tuple(((n,), folder / f"{n}.fits") for n in names),
            psf={n: files[f"psf_{n}"] for n in names},
            zeropoints=dict.fromkeys(names, scene.spec.zeropoint),
        )
    result = make_coco(find_coadds(inputs), recipe, folder / "out", progress=False)
    return coco.read(result.coco), coco.read(files["truth"])


def false_labels(kind: str, plain: bool, options: argparse.Namespace) -> float:
    """Labels in a million pixels of empty sky."""
    config = SimulateConfig(size=options.noise_size, seed=options.seed)
    config = replace(config, noise=replace(config.noise, kind=kind))
    with tempfile.TemporaryDirectory() as folder:
        found, _ = label(draw_bodies(config, []), Path(folder), preset("default"), plain)
    return 1e6 * len(found["annotations"]) / config.side**2


def quality(config: SimulateConfig, recipe: LabelConfig, given: bool = False) -> metrics.Quality:
    """Of the labels of a scene; `given`: made with the true correlation of its noise."""
    scene = draw_scene(config)
    measure = "astrolabel.prepare.noise.correlation"
    with tempfile.TemporaryDirectory() as folder:
        if given:
            radius = recipe.prepare.noise.correlation_radius_px
            with mock.patch(measure, return_value=true_correlation(config, radius)):
                found, truth = label(scene, Path(folder), recipe)
        else:
            found, truth = label(scene, Path(folder), recipe)
    injected = np.array([[s.body.y, s.body.x] for s in scene.sources])
    both = (metrics.instances(_at_zero(document), scene.wcs) for document in (found, truth))
    return metrics.compare(*both, injected)


def true_correlation(config: SimulateConfig, radius: int) -> np.ndarray:
    """(2R+1, 2R+1) of the noise that is drawn."""
    shape = (256, 256)
    power = noise_power(config.noise, shape)
    whole = np.fft.fftshift(np.fft.irfft2(power, s=shape))
    middle = slice(128 - radius, 128 + radius + 1)
    return (whole[middle, middle] / whole.max()).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", default=["noise", "defects"])
    parser.add_argument("--size", type=int, default=400, help="of the damaged scene, px")
    parser.add_argument("--noise-size", type=int, default=1000, help="of the empty sky, px")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="the defects with this word in their name")
    parser.add_argument("--nebulosity", default="auto", choices=("auto", "always", "never"))
    options = parser.parse_args()
    if "noise" in options.rows:
        print("false labels a million pixels   with variance   without")
        for kind in NOISE:
            rates = [false_labels(kind, plain, options) for plain in (False, True)]
            print(f"{kind:30s}  {rates[0]:13.1f}   {rates[1]:7.1f}", flush=True)
    if "defects" in options.rows:
        print_defects(options)


def print_defects(options: argparse.Namespace) -> None:
    """The table of damaged scenes."""
    base = SimulateConfig(size=options.size, seed=options.seed)
    recipe = preset("default")
    recipe = replace(recipe, detect=replace(recipe.detect, nebulosity=options.nebulosity))
    names = ("completeness", "purity", "iou_isolated", "iou_blended")
    whole = {0: quality(base, recipe)}
    print(
        "undamaged: " + ", ".join(f"{n} {getattr(whole[0], n):.3f}" for n in names) + "\n"
        "damage                          completeness  purity  IoU isolated  blended"
    )
    for name, config in defects(base):
        if options.only not in name:
            continue
        width = config.defects.border_px
        if width not in whole:
            marked = replace(base, defects=replace(base.defects, border_px=width))
            whole[width] = quality(marked, recipe)
        try:
            found = quality(config, recipe)
        except AstrolabelError as error:
            print(f"{name:30s}  refused: {error}", flush=True)
            continue
        rows = {name: whole[width]}
        if config.noise.kind != base.noise.kind:
            rows["... over: correlation given"] = quality(config, recipe, given=True)
        for row, over in rows.items():
            parts = [getattr(found, n) / getattr(over, n) for n in names]
            print(
                f"{row:30s}  {parts[0]:12.3f}  {parts[1]:6.3f}  {parts[2]:12.3f}  {parts[3]:7.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
