"""What a run says while it goes on: JSONL, trackers and a progress bar."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from astroseg.core.files import write_text
from astroseg.core.progress import Progress
from astroseg.training.trackers import Tracker

LOG_NAME = "log.jsonl"


class RunLog:
    """Lines of a run's log, kept in step with its checkpoints.

    On resumption, lines beyond the step resumed from are dropped: the steps are done
    again, and the log holds each once.
    """

    def __init__(
        self,
        folder: Path,
        *,
        start: int,
        steps: int,
        quiet: bool,
        trackers: Sequence[Tracker] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / LOG_NAME
        self._rewind(start)
        self._file = self._path.open("a", encoding="utf-8")
        self._trackers = trackers
        self._progress = Progress(steps, "step", quiet, start)

    def _rewind(self, start: int) -> None:
        if not self._path.exists():
            return
        kept = [line for line in read_log(self._path) if line["step"] <= start and start]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def line(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Write one line; numbers go to the trackers as kind/name, too."""
        row = {"step": step, "kind": kind} | {k: _finite(v) for k, v in values.items()}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        numbers = {
            f"{kind}/{name}": float(value)
            for name, value in values.items()
            if isinstance(value, float | int) and math.isfinite(value)
        }
        for tracker in self._trackers:
            tracker.log(step, numbers)

    def advance(self, loss: float | None) -> None:
        """One step done; its loss, where it is known already."""
        if loss is not None:
            self._progress.note(f"loss {loss:.3f}")
        self._progress.advance()

    def say(self, text: str) -> None:
        """A sentence for the person who watches."""
        self._progress.say(text)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        self._progress.__exit__(kind, *rest)
        self._file.close()
        for tracker in self._trackers:
            tracker.close(kind is None)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Lines of a log; a last line cut off by a crash is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
