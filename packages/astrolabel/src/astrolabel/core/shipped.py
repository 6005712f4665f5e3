"""Pages of the documentation and manifests that an installed package brings along."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from astrolabel.core.errors import InputError
from astrolabel.core.names import nearest

KINDS = {"docs": ".md", "manifests": ".yaml"}


def shipped(kind: str) -> dict[str, Path]:
    """Files of a kind (``docs``, ``manifests``) by name, in alphabetical order."""
    folder = Path(str(resources.files("astrolabel"))) / "share" / kind
    found = sorted(folder.glob(f"*{KINDS[kind]}"))
    return {p.stem: p for p in found if not p.name.endswith(".lock.yaml") and p.stem != "README"}


def shipped_file(kind: str, name: str) -> Path:
    """The file of a name.

    Raises
    ------
    InputError
        When there is none; the nearest is named.
    """
    files = shipped(kind)
    key = name.removesuffix(KINDS[kind])
    if key not in files:
        remedy = nearest(key, files) or f"choose of {', '.join(files)}"
        raise InputError(f"no {kind} called {name!r}", remedy=remedy)
    return files[key]
