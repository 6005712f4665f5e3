"""A training sky: many small scenes of any survey's look, with their truth as one COCO file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from joblib import Parallel, delayed
from numpy.random import Generator
from tqdm import tqdm

import astrolabel
from astrolabel.core.config.simulate import (
    BackgroundConfig,
    DefectsConfig,
    NoiseConfig,
    PsfConfig,
    RandomizeConfig,
    SimulateConfig,
)
from astrolabel.core.config.surveys import SURVEYS
from astrolabel.core.files import write_bytes
from astrolabel.io import coco
from astrolabel.simulate.draw import Scene, draw_scene
from astrolabel.simulate.population import Body
from astrolabel.simulate.write import CATEGORIES, fits_bytes, picture, png_bytes, truth_shard

Bodies = Callable[[SimulateConfig], Iterable[Body]]

DRAW_STREAM = 8
"""Stream of random numbers of the settings; a scene's own are 1 to 7."""


def random_scene(base: SimulateConfig, ranges: RandomizeConfig, number: int) -> SimulateConfig:
    """The settings of one scene: survey, bands, seeing, pixels, depth, noise and defects.

    Parameters
    ----------
    base : size, seed and galaxies of all scenes.
    number : of the scene; equal numbers give equal settings.
    """
    rng = np.random.default_rng([base.seed, DRAW_STREAM, number])
    survey: Any = str(rng.choice(list(SURVEYS)))
    names = [band.name for band in SURVEYS[survey].bands]
    kept = 3 if rng.random() < ranges.all_bands_fraction else int(rng.integers(1, 3))
    bands = sorted(rng.choice(3, kept, replace=False))
    fwhm_px = _log_uniform(rng, ranges.fwhm_px)
    scale = _log_uniform(rng, ranges.pixel_scale_arcsec)
    depth = float(rng.uniform(*ranges.depth_mag))
    area_arcmin2 = (base.side * scale / 60) ** 2
    count = _log_uniform(rng, ranges.coverage) * (base.side / (3 * fwhm_px)) ** 2
    return replace(
        base,
        survey=survey,
        seed=int(rng.integers(2**31)),
        bands=tuple(names[n] for n in bands),
        seeing_arcsec=fwhm_px * scale,
        pixel_scale_arcsec=scale,
        depth_mag=depth,
        # A Gaussian PSF's peak is at the masks' 5 sigma when its flux is sqrt(pi) sigma_px times
        # that of the depth.
        faint_mag=depth - 2.5 * math.log10(0.753 * fwhm_px) + ranges.faint_margin_mag,
        density_per_arcmin2=float(np.clip(count, *ranges.sources)) / area_arcmin2,
        pair_fraction=float(rng.uniform(0.2, 1.0)),
        no_data_fraction=float(rng.uniform(0.05, 0.3)) if _is(rng, ranges.defect_chance) else 0.0,
        bright=int(_is(rng, ranges.bright_chance) and base.side >= 200),
        noise=NoiseConfig(
            kind="white" if rng.random() < 0.3 else "lanczos",
            lanczos_order=int(rng.integers(2, 5)),
            variance_factor=float(rng.lognormal(0, ranges.variance_scatter)),
        ),
        psf=PsfConfig(
            wing_fraction=float(rng.uniform(0, ranges.wing_fraction)),
            claimed_fwhm_ratio=float(rng.lognormal(0, ranges.psf_scatter)),
        ),
        background=BackgroundConfig(
            level_sigma=float(rng.normal(0, ranges.level_sigma)),
            gradient_sigma=float(rng.normal(0, ranges.level_sigma)),
            residual_sigma=float(rng.uniform(0, 0.1)),
            residual_px=float(rng.uniform(32, 256)),
            nebulosity_sigma=float(rng.uniform(1, 5)) if _is(rng, ranges.defect_chance) else 0.0,
        ),
        defects=DefectsConfig(
            trails=int(_is(rng, ranges.defect_chance)),
            trail_sigma=float(rng.uniform(3, 20)),
            cosmic_rays_per_mpx=float(rng.uniform(20, 200)) * _is(rng, ranges.defect_chance),
            star_clusters=int(_is(rng, ranges.defect_chance / 2)),
            border_px=int(rng.integers(5, 40)) * _is(rng, ranges.defect_chance),
            border_fill="nan" if rng.random() < 0.5 else "zero",
        ),
        star_fraction=_star_fraction(rng, ranges.star_field_chance),
    )


def _star_fraction(rng: Generator, chance: float) -> float | None:
    """Of a scene; in one of four star fields there are no galaxies at all."""
    if not _is(rng, chance):
        return None
    return min(float(rng.uniform(0.5, 1.17)), 1.0)


def _log_uniform(rng: Generator, limits: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(limits))))


def _is(rng: Generator, chance: float) -> bool:
    return bool(rng.random() < chance)


def write_training_sky(
    out: Path,
    base: SimulateConfig,
    count: int,
    ranges: RandomizeConfig | None = None,
    workers: int = 1,
    progress: bool = True,
    extra: Bodies | None = None,
) -> Path:
    """Draw scenes into ``out/coco.json``, ``out/images``, ``out/cubes`` and ``out/tiles``.

    A scene that is there already, drawn by the same settings and version, is kept: rerun to
    resume, or with a larger count for more.

    Parameters
    ----------
    base : size, seed and galaxies of all scenes; the rest of it is drawn anew for each.
    count : number of scenes.
    extra : as `write_scenes` has it.

    Returns
    -------
    Path of the COCO file.
    """
    ranges = RandomizeConfig() if ranges is None else ranges
    info = {
        "description": f"{count} simulated scenes: truth",
        "version": astrolabel.__version__,
        "config": base.to_dict(),
        "randomize": ranges.to_dict(),
    }
    configs = [random_scene(base, ranges, number) for number in range(count)]
    return write_scenes(out, configs, info, workers, progress, extra)


def write_scenes(
    out: Path,
    configs: Sequence[SimulateConfig],
    info: dict[str, Any] | None = None,
    workers: int = 1,
    progress: bool = True,
    extra: Bodies | None = None,
) -> Path:
    """Draw a scene of each of these settings into one COCO file with pictures and cubes.

    What is there already is kept, as `write_training_sky` has it.

    Parameters
    ----------
    extra : gives the bodies that are added to a scene of these settings, always the same ones.
    """
    jobs = (delayed(_tile)(out, config, number, extra) for number, config in enumerate(configs))
    made: Iterable[dict[str, Any]] = Parallel(workers, return_as="generator")(jobs)
    shards = list(tqdm(made, "drawing", len(configs), unit="tile", disable=not progress))
    coco.write_json(out / "coco.json", coco.merge(info or {}, CATEGORIES, shards))
    return out / "coco.json"


def _tile(
    out: Path, config: SimulateConfig, number: int, extra: Bodies | None = None
) -> dict[str, Any]:
    drawn_by = [config.to_dict(), astrolabel.__version__]
    if extra is not None:
        drawn_by.append(extra.__name__)
    text = json.dumps(drawn_by, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    name = f"{number:06d}"
    file = out / "tiles" / f"{name}.json"
    if file.is_file():
        kept: dict[str, Any] = json.loads(file.read_text())
        if kept["key"] == key:
            return kept
    scene = draw_scene(config, extra=() if extra is None else extra(config))
    shard = {**scene_files(scene, out, name), "key": key}
    write_bytes(file, json.dumps(shard).encode())
    return shard


def scene_files(scene: Scene, out: Path, name: str) -> dict[str, Any]:
    """Picture and cube of a scene, and what the COCO file says of it."""
    shard = truth_shard(scene)
    image = shard["image"]
    image["file_name"] = f"images/{name}.png"
    image["astro"]["cube"] = f"cubes/{name}.fits"
    del image["astro"]["files"]
    image["astro"].update(tract="", patch=name, origin=[0, 0])
    header = fits.Header(image["astro"]["wcs"])
    header["BANDS"] = (",".join(scene.spec.band_names), "planes of the cube in order")
    write_bytes(out / image["file_name"], png_bytes(picture(scene)))
    cube = fits.PrimaryHDU(scene.image, header)
    write_bytes(out / image["astro"]["cube"], fits_bytes(fits.HDUList([cube])))
    return shard
