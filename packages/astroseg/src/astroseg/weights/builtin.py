"""Models that come with the program: trained weights of a name, ready to predict."""

from __future__ import annotations

from pathlib import Path

from astroseg.core.errors import InputError
from astroseg.core.names import nearest

BUILTIN: tuple[str, ...] = ("sky",)
"""Names of the models whose weights lie in the package."""

SUFFIX = ".safetensors"


def checkpoint_file(checkpoint: str | Path) -> Path:
    """The file that a user's checkpoint means: itself, or that of the built-in model's name.

    Raises
    ------
    InputError
        For a file that is not there, or an unknown name.
    """
    path, name = Path(checkpoint), str(checkpoint)
    if path.is_file():
        return path
    if name in BUILTIN:
        return Path(__file__).with_name(name + SUFFIX)
    if path.suffix or len(path.parts) > 1:
        raise InputError("there is no such file", file=path, remedy="check the name")
    raise InputError(
        f"there is no file and no built-in model {name!r}",
        remedy=nearest(name, BUILTIN) or f"give a checkpoint, or {', '.join(BUILTIN)}",
    )
