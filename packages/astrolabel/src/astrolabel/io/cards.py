"""Header cards of survey files, which may hold anything: NaN, text for numbers, sentinels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from astropy.io import fits

SENTINEL = 90.0
"""Magnitudes of +-99, -999 and the like stand for none: real zero points are within +-50."""


@dataclass(frozen=True, eq=False)
class Cards:
    """The cards of an image, then those of its file's first header.

    Attributes
    ----------
    values, comments : by keyword; the image's own before the file's.
    unreadable : keywords whose values are none (``SEEING  = nan``).
    """

    values: Mapping[str, Any]
    comments: Mapping[str, str]
    unreadable: tuple[str, ...] = ()

    def number(self, key: str) -> float | None:
        """The finite number of a card, also where it is written as text; else None."""
        value = self.values.get(key)
        if isinstance(value, bool) or value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            return None
        return number if math.isfinite(number) else None

    def text(self, key: str) -> str:
        """The text of a card without spaces around; empty where there is none."""
        value = self.values.get(key)
        return value.strip() if isinstance(value, str) else "" if value is None else str(value)

    def has(self, *keys: str) -> bool:
        return all(key in self.values for key in keys)

    def comment(self, key: str) -> str:
        return self.comments.get(key, "")


def readable(header: fits.Header) -> tuple[fits.Header, tuple[str, ...]]:
    """A copy without the cards that cannot be parsed, and their keywords."""
    good, bad = _parsed(header)
    return fits.Header([card for card, _, _ in good]), bad


def _parsed(header: fits.Header) -> tuple[list[tuple[fits.Card, Any, str]], tuple[str, ...]]:
    """(card, value, comment) of the cards that can be parsed, and the keywords of the others."""
    good, bad = [], []
    for card in header.cards:
        try:  # each value once: astropy looks its settings up every time
            good.append((card, card.value, card.comment))
        except (fits.VerifyError, ValueError):
            bad.append(card.keyword)
    return good, tuple(bad)


def cards_of(headers: Sequence[fits.Header]) -> Cards:
    """The cards of several headers; the first one that has a keyword gives its value."""
    values: dict[str, Any] = {}
    comments: dict[str, str] = {}
    unreadable: list[str] = []
    for header in headers:
        good, bad = _parsed(header)
        unreadable += [key for key in bad if key not in unreadable]
        for card, value, comment in good:
            if card.keyword not in values and not isinstance(value, fits.card.Undefined):
                values[card.keyword] = value
                comments[card.keyword] = comment
    return Cards(values, comments, tuple(unreadable))
