"""What a long run says of itself: a bar on a terminal, a line now and then elsewhere.

Every line also goes to the logger ``astrolabel``, which ``--log FILE`` writes down.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger("astrolabel")
log.addHandler(logging.NullHandler())

FIRST_LINE_S = 5.0
"""Time until the first line where the output is no terminal,"""
NEXT_LINE_S = 30.0
"""... and between the further ones."""


class Progress:
    """How many of `total` steps are done.

    Parameters
    ----------
    what : the work, in a word.
    unit : of its steps.
    done : steps that an earlier run did.
    shown : write to the terminal; the log has the lines in any case.
    """

    def __init__(
        self, total: int, what: str, unit: str, *, done: int = 0, shown: bool = True
    ) -> None:
        self.total, self.what, self.unit, self.done = total, what, unit, done
        self._earlier, self._shown = done, shown
        self._start = self._last = time.monotonic()
        self._wait = FIRST_LINE_S
        self._bar: Any = None
        if shown and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, desc=what, unit=unit)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None and self.done > self._earlier:
            self._say(self.line())

    def update(self, steps: int = 1, note: str = "") -> None:
        """Count steps; `note` says what the last one was."""
        self.done += steps
        if note:
            log.debug("%s: %s", self.what, note)
        if self._bar is not None:
            self._bar.set_postfix_str(note)
            self._bar.update(steps)
        elif time.monotonic() - self._last >= self._wait and self.done < self.total:
            self._last, self._wait = time.monotonic(), NEXT_LINE_S
            self._say(f"{self.line()}{'; ' if note else ''}{note}")

    def line(self) -> str:
        """Steps done, time taken and time to go."""
        taken = time.monotonic() - self._start
        text = f"{self.what}: {self.done}/{self.total} {self.unit}s, {_time(taken)}"
        new = self.done - self._earlier
        if new and self.done < self.total:
            text += f", {_time(taken / new * (self.total - self.done))} to go"
        return text

    def _say(self, line: str) -> None:
        log.info(line)
        if self._shown:
            _show(line)


def steps(
    items: Iterable[T], total: int, what: str, unit: str, *, shown: bool = True
) -> Iterator[T]:
    """The items, counted as they are taken."""
    with Progress(total, what, unit, shown=shown) as progress:
        for item in items:
            yield item
            progress.update()


def say_when_compiling() -> None:
    """Say once, in this process, when numba compiles: the first run does so for a while."""
    if _Compiling.listens:
        return
    from numba.core import event

    _Compiling.listens = True
    event.register("numba:compile", _listener(event))  # type: ignore[no-untyped-call]


class _Compiling:
    listens = said = False


def _listener(event: Any) -> Any:
    class Listener(event.Listener):  # type: ignore[misc]
        def on_start(self, _: Any) -> None:
            if not _Compiling.said:
                _Compiling.said = True
                line = (
                    "first run: compiling the numerical code, 10 to 30 seconds; "
                    "later runs reuse the result"
                )
                log.info(line)
                _show(line)

        def on_end(self, _: Any) -> None:
            pass

    return Listener()


def _show(line: str) -> None:
    """Print a line, unless the log is on the terminal already."""
    if not any(type(handler) is logging.StreamHandler for handler in log.handlers):
        print(line, file=sys.stderr, flush=True)


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
