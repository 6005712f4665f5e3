"""Engines by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from astroseg.core.errors import InputError
from astroseg.engines.base import Engine, Freeze

if TYPE_CHECKING:
    from astroseg.engines.detectron2.file import ConfigFile

ENGINES: tuple[str, ...] = ("auto", "torchvision", "detectron2")

__all__ = ["ENGINES", "Engine", "Freeze", "get_engine"]


def get_engine(name: str = "auto", file: ConfigFile | None = None) -> Engine:
    """The engine of that name; "auto" takes the best one that works here.

    Parameters
    ----------
    file : Detectron2 configuration with parts of its own making, for engine detectron2.

    Raises
    ------
    InputError : unknown name, or an engine that cannot work here, with what to do.
    """
    if name not in ENGINES:
        raise InputError(f"unknown engine {name!r}", remedy=f"use one of {', '.join(ENGINES)}")
    if name == "detectron2":
        from astroseg.engines.detectron2.engine import Detectron2Engine
        from astroseg.engines.detectron2.library import library

        library()  # raises where it cannot work, with what to do
        return Detectron2Engine(file)
    from astroseg.engines.torchvision import TorchvisionEngine

    return TorchvisionEngine()
