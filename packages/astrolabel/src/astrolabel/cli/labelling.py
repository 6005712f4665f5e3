"""Commands that make labels: from coadds, manifests and pictures of the truth."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from astrolabel.cli.named import bits, numbers, pairs, paths, with_columns
from astrolabel.cli.settings import settings, simulation
from astrolabel.core.errors import InputError
from astrolabel.core.imports import lasting_imports

if TYPE_CHECKING:
    from astrolabel.datasets.manifest import Manifest
    from astrolabel.io.find import Inputs
    from astrolabel.label.workers import Workers


def simulate(options: argparse.Namespace) -> int:
    from astrolabel.simulate import simulate, write_training_sky

    config = simulation(options)
    if options.randomize is not None:
        config = replace(config, size=config.size or 256)
        print(write_training_sky(options.out, config, options.randomize, workers=options.workers))
        return 0
    scene = simulate(options.out, config)
    print(scene.summary())
    return 0


def make_coco(options: argparse.Namespace) -> int:
    if options.status:
        return _status(options)
    if options.manifest is not None:
        from astrolabel.datasets.manifest import read_manifest

        if options.inputs or options.band or options.catalog:
            raise InputError(
                "--manifest names the input already", remedy="leave out INPUT, --band, --catalog"
            )
        return _build(read_manifest(options.manifest), options)
    with lasting_imports():
        from astrolabel.catalog.catalog import catalog_for
        from astrolabel.io.find import find_coadds
        from astrolabel.label.pipeline import make_coco

    config = with_columns(settings(options), options.columns)
    if options.strict:
        config = replace(config, prepare=replace(config.prepare, strict=True))
    if options.out is None:
        raise InputError("no --out", remedy="say where the labels go: --out FOLDER")
    if (options.catalog is None) != (config.classify.scheme == "none"):
        raise InputError(
            "--catalog and --scheme go together",
            remedy="give both for classes, or neither for the one class `source`",
        )
    inputs = _inputs(options)
    problems: list[InputError] = []
    coadds = find_coadds(inputs, problems)
    if not coadds:
        raise problems[0]
    catalog = None
    if options.catalog is not None:
        catalog = (catalog_for(options.catalog, config.classify), options.catalog)
    result = make_coco(
        coadds, config, options.out, catalog, _workers(options), progress=not options.quiet
    )
    return _summarized(result.summary(), (*map(str, problems), *result.problems))


def _status(options: argparse.Namespace) -> int:
    """How far a run is; exit code 0 when nothing is left to do."""
    from astrolabel.label.status import status

    if options.out is None:
        raise InputError("no --out", remedy="say where the labels go: --out FOLDER")
    found = status(options.out)
    print(found.text())
    return 0 if "waiting" not in found.states else 2


def _workers(options: argparse.Namespace) -> Workers:
    from astrolabel.label.workers import Workers

    return Workers(options.jobs, options.backend, options.scheduler, options.memory)


def reproduce(options: argparse.Namespace) -> int:
    from astrolabel.label.reproduce import reproduce

    found = reproduce(options.coco, options.tile, options.inputs)
    print(found.text())
    return 2 if found.differences else 0


def _inputs(options: argparse.Namespace) -> Inputs:
    """The survey files that the options name."""
    from astrolabel.io.find import Inputs

    return Inputs(
        paths=tuple(options.inputs),
        bands=tuple(options.bands.split(",")) if options.bands else (),
        band_files=tuple(
            (tuple(n.split(",")), Path(f)) for n, f in pairs("--band", options.band, False)
        ),
        variance=paths("--variance", options.variance),
        rms=paths("--rms", options.rms),
        mask=paths("--mask", options.mask),
        psf=paths("--psf", options.psf),
        planes=bits("--mask-planes", options.mask_planes),
        zeropoints=numbers("--zeropoint", options.zeropoint),
        survey=options.survey,
    )


def describe(options: argparse.Namespace) -> int:
    from astrolabel.io.find import find_coadds
    from astrolabel.prepare.describe import describe

    problems: list[InputError] = []
    coadds = find_coadds(_inputs(options), problems, unnamed=True)
    print(describe(coadds, settings(options).prepare))
    return _summarized("", [str(problem) for problem in problems])


def truth_coco(options: argparse.Namespace) -> int:
    from astrolabel.io.truth import find_scenes
    from astrolabel.label.pipeline import make_coco, truth_recipe

    problems: list[InputError] = []
    scenes = find_scenes(
        options.folders,
        tuple(options.bands.split(",")) if options.bands else (),
        numbers("--zeropoint", options.zeropoint),
        problems,
    )
    if not scenes:
        raise problems[0]
    config = truth_recipe(settings(options))
    result = make_coco(
        scenes, config, options.out, jobs=_workers(options), progress=not options.quiet
    )
    return _summarized(result.summary(), (*map(str, problems), *result.problems))


def _summarized(summary: str, problems: Sequence[str]) -> int:
    if summary:
        print(summary)
    for line in problems:
        print(f"astrolabel: {line}", file=sys.stderr)
    return 2 if problems else 0


def _build(manifest: Manifest, options: argparse.Namespace) -> int:
    """Label the files of a manifest; the end of ``make-coco --manifest`` and ``build``."""
    with lasting_imports():
        from astrolabel.datasets.build import build

    result, problems = build(
        manifest,
        manifest.folder(options.root),
        options.out or Path(manifest.name),
        config=settings(options),
        jobs=_workers(options),
        progress=not options.quiet,
    )
    return _summarized(result.summary(), problems)


def manifest_check(options: argparse.Namespace) -> int:
    from astrolabel.datasets.manifest import read_manifest
    from astrolabel.datasets.manifest_files import survey_states, table

    manifest = read_manifest(options.manifest)
    folder = manifest.folder(options.root)
    states = survey_states(manifest, folder, progress=not options.quiet)
    print(f"{options.manifest}: sound; its files in {folder}:")
    print(table(states))
    return 0 if all(state.state in ("ok", "new") for state in states) else 2


def manifest_fetch(options: argparse.Namespace) -> int:
    from astrolabel.datasets.manifest import read_manifest

    print(_fetch(read_manifest(options.manifest), options))
    return 0


def manifest_build(options: argparse.Namespace) -> int:
    from astrolabel.datasets.manifest import read_manifest

    manifest = read_manifest(options.manifest)
    if not options.no_fetch:
        print(_fetch(manifest, options))
    return _build(manifest, options)


def _fetch(manifest: Manifest, options: argparse.Namespace) -> str:
    from astrolabel.datasets.archive.fetch import fetch
    from astrolabel.datasets.archive.retry_policy import RetryPolicy

    if not 1 <= options.parallel <= 16:
        raise InputError(f"--parallel {options.parallel}", remedy="give 1 to 16")
    policy = RetryPolicy(parallel=options.parallel)
    folder = manifest.folder(options.root)
    return fetch(manifest, folder, policy=policy, progress=not options.quiet).summary()


def fetch_cutout(options: argparse.Namespace) -> int:
    from astrolabel.datasets.archive.cutout import fetch_cutout

    made = fetch_cutout(
        options.position,
        options.size,
        options.survey,
        options.out,
        bands=options.bands.split(",") if "," in options.bands else list(options.bands),
        hips=options.hips,
        scale=options.pixel_scale,
    )
    print(made.summary())
    return 0
