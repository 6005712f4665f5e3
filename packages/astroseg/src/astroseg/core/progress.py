"""How far a long command is: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from astroseg.core.logs import show

EVERY_SECONDS = 60.0
"""Between lines where the output is no terminal, as in the log of a batch job."""


class Progress:
    """Steps done of a number of steps, shown on the standard error.

    Parameters
    ----------
    total : steps of the whole.
    unit : what a step is, in one word.
    quiet : whether to show nothing at all.
    initial : steps done before.
    """

    def __init__(self, total: int, unit: str, quiet: bool, initial: int = 0) -> None:
        self._quiet, self._unit, self._total = quiet, unit, total
        self._done, self._text = initial, ""
        self._began, self._begun = time.monotonic(), initial
        self._shown = self._began
        self._lines = not quiet and not sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=initial,
            unit=unit,
            dynamic_ncols=True,
            disable=quiet or self._lines,
        )

    def advance(self, steps: int = 1) -> None:
        """Some steps are done."""
        self._done += steps
        self._bar.update(steps)
        now = time.monotonic()
        if self._lines and now - self._shown >= EVERY_SECONDS:
            self._shown = now
            self.say(self._line(now))

    def _line(self, now: float) -> str:
        share = (self._done - self._begun) / max(1, self._total - self._begun)
        left = (now - self._began) * (1 / share - 1) if share > 0 else 0.0
        rest = f", about {left / 60:.0f} min left" if share > 0 else ""
        text = f", {self._text}" if self._text else ""
        return f"{self._unit} {self._done} of {self._total}{text}{rest}"

    def note(self, text: str) -> None:
        """What stands beside the bar or in the next line."""
        self._text = text
        self._bar.set_postfix_str(text, refresh=False)

    def say(self, text: str) -> None:
        """A line of its own."""
        if self._quiet:
            return
        self._bar.clear()
        show(text)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
