"""Names of bands, however headers and documents spell them."""

from __future__ import annotations

import re
from collections.abc import Sequence

COLOURS = ("red", "green", "blue")

_SHORT = re.compile(r"(?:sdss|(?:wfc)?sloan)?(?P<band>[ugrizyjhk])(?:s|p|\d|'|sdss)?")
_LONG = re.compile(
    r"f\d{3,4}(?:w|m|n|lp|x|w2)?|w[1-4]|ch[1-4]|[ni]b\d+|j0\d{3}|halpha|vis|nuv|fuv|uv[wm][12]"
)
_ALIKE = {"b": "johnson-b", "v": "johnson-v", "rc": "r", "ic": "i"}
_WHOLE = {"zg": "g", "zr": "r", "zi": "i", "i_e": "vis"}
"""Names that mean a filter only where nothing else stands beside them: ZTF's, and Euclid's."""
_REWRITTEN = (
    (re.compile(r"^w-[jcs]-"), ""),  # Suprime-Cam
    (re.compile(r"irac[\W_]*(?:ch|i)?[\W_]*([1-4])(?![\d.])"), r" ch\1"),
    (re.compile(r"wise[\W_]*w?([1-4])(?![\d.])"), r" w\1"),
    (re.compile(r"\b[rzyjhwk](062|087|106|129|146|158|213)\b"), r"f\1"),  # Roman
    (re.compile(r"\bnb?0?(\d{3})\b"), r"nb\1"),
    (re.compile(r"\bia(\d{3})\b"), r"ib\1"),
    (re.compile(r"\bh[\W_]?a(?:lpha)?\b"), "halpha"),
)
"""Spellings of one filter, and the one that they are taken as."""
_BLUE_TO_RED = (
    *("fuv", "nuv", "u", "johnson-b", "g", "johnson-v", "r", "i", "vis", "z", "y", "j", "h", "k"),
    *("w1", "ch1", "ch2", "w2", "ch3", "ch4", "w3", "w4"),
)


def canonical(name: str) -> str | None:
    """The filter that a name stands for; None where it is none or more than one.

    >>> canonical("HSC-R2"), canonical("g DECam SDSS c0001 4720.0 1520.0"), canonical("F814W")
    ('r', 'g', 'f814w')
    """
    text = name.strip().lower()
    if text in _WHOLE:
        return _WHOLE[text]
    for spelling, usual in _REWRITTEN:
        text = spelling.sub(usual, text)
    found = []
    for token in re.split(r"[^a-z0-9']+", text):
        if token in _ALIKE:
            found.append(_ALIKE[token])
        elif token in COLOURS or _LONG.fullmatch(token):
            found.append(token)
        elif match := _SHORT.fullmatch(token):
            found.append(match["band"])
    return found[0] if len(set(found)) == 1 else None


def order_of(names: Sequence[str], wanted: Sequence[str]) -> tuple[int, ...] | None:
    """Places of the wanted bands among names, by name and then by filter; None if any lacks."""
    if len(set(names)) == len(names) and all(band in names for band in wanted):
        return tuple(names.index(band) for band in wanted)
    have = [canonical(name) for name in names]
    want = [canonical(band) for band in wanted]
    known = [band for band in have if band is not None]
    if None in want or len(set(known)) < len(known) or len(set(want)) < len(want):
        return None
    if any(band not in have for band in want):
        return None
    return tuple(have.index(band) for band in want)


def are_known(names: Sequence[str]) -> bool:
    """Whether every name is of a filter, each of another one: then they can be trusted."""
    filters = [canonical(name) for name in names]
    return bool(filters) and None not in filters and len(set(filters)) == len(filters)


def wavelength_rank(name: str) -> int | None:
    """Place of a band from blue to red; None when it is not known."""
    band = canonical(name)
    if band in COLOURS:
        return COLOURS[::-1].index(band)
    return _BLUE_TO_RED.index(band) if band in _BLUE_TO_RED else None


def by_wavelength(names: Sequence[str], count: int) -> tuple[int, ...]:
    """Places of `count` bands, the bluest first where all are known, else as they come."""
    ranks = [wavelength_rank(name) for name in names]
    if len(ranks) != count or None in ranks:
        return tuple(range(count))
    return tuple(sorted(range(count), key=lambda i: ranks[i] or 0))
