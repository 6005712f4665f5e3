"""What a run assumed about its files, and what it doubts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

ASSUMPTION = "assumption"
DOUBT = "doubt"


@dataclass(frozen=True)
class Note:
    """One thing that was assumed or is doubtful.

    Attributes
    ----------
    kind : what it is about: ``psf``, ``noise``, ``sky``, ``mask``, ``zeropoint``, ``wcs``,
        ``coverage``, ``file``, ``survey``, ``labels``.
    text : one clause in plain words.
    band : the band that it holds for; empty for all of them.
    severity : `ASSUMPTION`, or `DOUBT` for what a person should look at.
    """

    kind: str
    text: str
    band: str = ""
    severity: str = ASSUMPTION

    def __str__(self) -> str:
        where = f"{self.band} {self.kind}" if self.band else self.kind
        return f"{where}: {self.text}"

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


def doubt(kind: str, text: str, band: str = "") -> Note:
    return Note(kind, text, band, DOUBT)


def from_json(entry: Any) -> tuple[Note, ...]:
    """The notes of a tile as a COCO file holds them: a list of objects, or (in files of
    older versions) texts by ``<kind>_<band>``."""
    if isinstance(entry, Mapping):
        parts = ((str(key).partition("_"), str(text)) for key, text in entry.items())
        return tuple(Note(kind, text, band) for (kind, _, band), text in parts)
    if not isinstance(entry, list):
        return ()
    return tuple(
        Note(*(str(one.get(key, "")) for key in ("kind", "text", "band", "severity")))
        for one in entry
        if isinstance(one, Mapping)
    )


def doubts(notes: Iterable[Note]) -> tuple[Note, ...]:
    return tuple(note for note in notes if note.severity == DOUBT)
