"""Which known name a wrong one was meant to be."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean X?`` for a name like a known one, else nothing.

    A name without its path is completed: ``threshold_sigma`` to ``mask.threshold_sigma``.
    """
    import difflib

    names = list(known)
    same = [n for n in names if _last(n) == word.lstrip("-")]
    close = same[:3] or difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if not close:
        lasts = {_last(n): n for n in names}
        close = [lasts[n] for n in difflib.get_close_matches(_last(word), lasts, 1, cutoff=0.75)]
    return f"did you mean {' or '.join(close)}?" if close else ""


def _last(name: str) -> str:
    """The last part of a dotted name, without dashes in front."""
    return name.rpartition(".")[2].lstrip("-")
