"""What a run assumed and doubts, gathered from its tiles for the summary and the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.core.config import CheckConfig
from astrolabel.core.notes import DOUBT, Note, doubt, from_json


def of_labels(shard: Mapping[str, Any], config: CheckConfig) -> list[Note]:
    """Doubts about a tile that was labelled."""
    image = shard["image"]
    if image is None:
        return []
    found = []
    areas = np.array([a["area"] for a in shard["annotations"] if not a["iscrowd"]], float)
    if areas.size == 0:
        found.append(doubt("labels", "none"))
    chi2 = image["astro"].get("chi2_per_pixel")
    if chi2 is not None and np.isfinite(chi2) and not config.chi2[0] <= chi2 <= config.chi2[1]:
        found.append(doubt("labels", "chi2 of the fits is far from 1: wrong noise or PSF"))
    if one_size(areas, config):
        found.append(doubt("labels", "most are of one size: noise or artifacts?"))
    return found


def one_size(areas: NDArray[np.float64], config: CheckConfig) -> bool:
    """Whether most of some masks' areas (pixels) are within a fifth of one."""
    if areas.size < config.min_labels:
        return False
    sizes = np.sort(np.log(areas))
    within = np.searchsorted(sizes, sizes + np.log(1.44), side="right") - np.arange(areas.size)
    return bool(within.max() > config.one_size * areas.size and np.median(areas) > 1)


def gathered(tiles: Sequence[Mapping[str, Any]]) -> list[tuple[Note, int]]:
    """Each different note of the tiles with the number of tiles that have it, doubts first."""
    counts: Counter[Note] = Counter()
    for tile in tiles:
        counts.update(set(from_json(tile.get("notes"))))
    return sorted(counts.items(), key=lambda item: (item[0].severity != DOUBT, str(item[0])))


def said(note: Note, number: int, tiles: int) -> str:
    """A note in plain words, with the number of tiles that have it where it is not all."""
    return f"{note}" if number == tiles else f"{note} ({number} of {tiles} tiles)"


def lines(notes: Iterable[tuple[Note, int]], tiles: int, most: int = 30) -> list[str]:
    """The notes in plain words, one a line, doubts marked."""
    out = [
        f"  {'doubt' if note.severity == DOUBT else 'assumed'}: {said(note, number, tiles)}"
        for note, number in notes
    ]
    if len(out) > most:
        out = [*out[:most], f"  and {len(out) - most} more in info.notes of coco.json"]
    return out
