"""From a manifest to a dataset: verify, read the catalog, label."""

from __future__ import annotations

from pathlib import Path

from astrolabel.catalog.catalog import catalog_for
from astrolabel.core.config import LabelConfig
from astrolabel.core.errors import InputError
from astrolabel.datasets.manifest import Manifest
from astrolabel.datasets.manifest_files import catalog_of, coadds_of, verify
from astrolabel.datasets.split_files import split_files
from astrolabel.label.pipeline import Result, make_coco, truth_recipe
from astrolabel.label.workers import Workers


def build(
    manifest: Manifest,
    folder: Path,
    out: Path,
    *,
    config: LabelConfig | None = None,
    jobs: int | Workers = 1,
    progress: bool = True,
) -> tuple[Result, tuple[str, ...]]:
    """Label a manifest's coadds into ``out/coco.json``, and divide it by its splits.

    With splits there is one file beside it for each, ``out/<split>.json``, and a map.

    Nothing is written before every file is there and every recorded one is the same as
    when it first came.

    Parameters
    ----------
    folder : where the files are.
    config : the recipe, where it is not the manifest's.

    Returns
    -------
    The result, and one line for each coadd or tile that could not be labelled.

    Raises
    ------
    InputError
        For a file that is missing or wrong, or when not one coadd could be read.
    OutputError
        When `out` cannot be written.
    """
    config = manifest.config() if config is None else config
    if "truth" in manifest.coadds.further:
        config = truth_recipe(config)
    verify(manifest, folder)
    problems: list[InputError] = []
    coadds = coadds_of(manifest, folder, problems)
    path = catalog_of(manifest, folder)
    if not coadds:
        raise problems[0]
    catalog = None
    if path is not None:
        catalog = catalog_for(path, config.classify), path
    result = make_coco(coadds, config, out, catalog, jobs, progress)
    found = [*map(str, problems), *result.problems]
    if manifest.splits:
        try:
            split_files([result.coco], out, regions=manifest.splits, rest=None)
        except InputError as error:  # the labels are whole without it
            found.append(f"not split: {error}")
    return result, tuple(found)
