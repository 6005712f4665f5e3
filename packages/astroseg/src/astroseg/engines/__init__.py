"""Engines by name."""

from __future__ import annotations

from astroseg.engines.base import Engine, Freeze
from astroseg.errors import InputError

ENGINES: tuple[str, ...] = ("auto", "torchvision", "detectron2")

__all__ = ["ENGINES", "Engine", "Freeze", "get_engine"]


def get_engine(name: str = "auto") -> Engine:
    """The engine of that name; "auto" takes the best one that works here.

    Raises
    ------
    InputError : unknown name, or an engine that cannot work here, with what to do.
    """
    if name == "detectron2":
        raise InputError(
            "engine detectron2 is not part of this version",
            remedy="use --engine torchvision, which follows Detectron2's conventions and names",
        )
    if name not in ENGINES:
        raise InputError(f"unknown engine {name!r}", remedy=f"use one of {', '.join(ENGINES)}")
    from astroseg.engines.torchvision import TorchvisionEngine

    engine = TorchvisionEngine()
    if (reason := engine.available()) is not None:
        raise InputError(
            f"engine {engine.name} does not work here: {reason}",
            remedy="see the installation guide",
        )
    return engine
