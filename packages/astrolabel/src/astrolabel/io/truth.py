"""Scenes with truth images: folders with ``img_<band>.fits`` and ``masks.fits`` in each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from astrolabel.core.errors import InputError
from astrolabel.io.files import CoaddFiles
from astrolabel.io.find import Inputs, by_wavelength, find_coadds

IMAGE = re.compile(r"img_(?P<band>[A-Za-z0-9]+)\.fits(\.gz|\.fz)?")
MASKS = re.compile(r"masks\.fits(\.gz|\.fz)?")


def find_scenes(
    folders: Sequence[Path],
    bands: Sequence[str] = (),
    zeropoints: Mapping[str, float] | None = None,
    problems: list[InputError] | None = None,
) -> tuple[CoaddFiles, ...]:
    """Every scene below some folders, in natural order (``set_2`` before ``set_10``).

    A scene is named after its path below the folder, with the folder's own name in front
    where several are given: ``training-set_12``.

    Parameters
    ----------
    bands : to use, in order; all that the scene has by default.
    problems : takes what is wrong with one scene of several, which is then left out. Without
        it such a scene is raised.

    Raises
    ------
    InputError
        For a folder that is not there or has no scene in it.
    """
    scenes: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError("no such folder", file=folder)
        found = {f.parent for f in folder.rglob("*.fits*") if IMAGE.fullmatch(f.name)}
        if not found:
            raise InputError(
                "no scene (a folder with img_g.fits, img_r.fits, ... and masks.fits) in this "
                "folder",
                file=folder,
                remedy="give the folder that holds set_0, set_1, ...",
            )
        for scene in found:
            parts = list(scene.relative_to(folder).parts)
            if len(folders) > 1 or not parts:
                parts.insert(0, folder.resolve().name)
            name = "-".join(parts)
            if name in scenes and scenes[name].resolve() != scene.resolve():
                raise InputError(
                    f"two scenes are both called {name}", file=scene, remedy="rename a folder"
                )
            scenes[name] = scene
    coadds = []
    for name in sorted(scenes, key=natural):
        try:
            coadds.append(_scene(name, scenes[name], bands, zeropoints or {}))
        except InputError as error:
            if problems is None:
                raise
            problems.append(error)
    return tuple(coadds)


def natural(text: str) -> list[Any]:
    """A key that sorts numbers in names as numbers."""
    return [(0, int(t), "") if t.isdigit() else (1, 0, t) for t in re.split(r"(\d+)", text)]


def _scene(
    name: str, folder: Path, bands: Sequence[str], zeropoints: Mapping[str, float]
) -> CoaddFiles:
    files: dict[str, Path] = {}
    masks = []
    for file in sorted(folder.iterdir()):
        if match := IMAGE.fullmatch(file.name):
            if match["band"] in files:
                raise InputError(f"band {match['band']} is there twice", file=file)
            files[match["band"]] = file
        elif MASKS.fullmatch(file.name):
            masks.append(file)
    if len(masks) != 1:
        raise InputError(
            "two files of truth images" if masks else "no masks.fits, the truth images",
            file=folder,
            remedy="keep one of them" if masks else "copy the scene again, or take it away",
        )
    wanted = bands or by_wavelength(files)
    missing = [b for b in wanted if b not in files]
    if missing:
        raise InputError(f"no img_{missing[0]}.fits", file=folder, remedy="choose --bands")
    given = tuple(((b,), files[b]) for b in wanted)
    (coadd,) = find_coadds(Inputs(band_files=given, bands=tuple(wanted), zeropoints=zeropoints))
    return replace(coadd, name=name, truth=masks[0])
