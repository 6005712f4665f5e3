"""How far a labelling run is, or got: from its folder alone, while it works or after."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from filelock import FileLock, Timeout

from astrolabel.core.errors import InputError
from astrolabel.io.coco import read_json
from astrolabel.label import shards


@dataclass(frozen=True)
class Status:
    """State of a run's tiles.

    Attributes
    ----------
    states : number of tiles by state; ``waiting`` for those without a shard of this run.
    labels : in the tiles that are done.
    running : whether a run is writing into the folder now.
    """

    folder: Path
    config_hash: str
    states: dict[str, int]
    labels: int
    running: bool

    def text(self) -> str:
        """A line, then one for each state."""
        total, waiting = sum(self.states.values()), self.states.get("waiting", 0)
        what = "is running" if self.running else "is not running"
        lines = [
            f"{self.folder}: {total - waiting} of {total} tiles, {self.labels} labels; "
            f"the run {what} (config {self.config_hash})"
        ]
        return "\n".join([*lines, *(f"  {n:6d} {state}" for state, n in self.states.items())])


def status(out: Path) -> Status:
    """The state of the run in a folder.

    Raises
    ------
    InputError
        When there is no run in it.
    """
    if not (out / "plan.json").is_file():
        raise InputError("no labelling run has begun here", file=out, remedy="give its --out")
    try:
        plan = msgspec.convert(read_json(out / "plan.json"), _Plan)
    except msgspec.ValidationError as error:
        raise InputError(
            f"is not the plan of a run ({error})",
            file=out / "plan.json",
            remedy="rerun the command",
        ) from error
    states: Counter[str] = Counter()
    labels = 0
    for tile in plan.tiles:
        shard = shards.read(out, tile.name)
        if shard is None or shard["key"] != tile.key:
            states["waiting"] += 1
        else:
            states[shard["state"]] += 1
            labels += len(shard["annotations"])
    return Status(out, plan.config_hash, dict(sorted(states.items())), labels, _is_locked(out))


class _Tile(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(pattern=r"^[^/\x00]{1,200}$")]
    key: str


class _Plan(msgspec.Struct):
    config_hash: str
    tiles: list[_Tile]


def _is_locked(out: Path) -> bool:
    try:
        with FileLock(out / shards.LOCK, timeout=0):
            return False
    except (Timeout, OSError):
        return True
