"""Deblenders: one group of overlapping sources in, each source alone out."""

from __future__ import annotations

import importlib.metadata

from astrolabel.core.config import DeblendConfig
from astrolabel.core.errors import InputError
from astrolabel.deblend.base import Blend, BlendFit, Deblender, SourceFit
from astrolabel.deblend.parametric_deblender import ParametricDeblender

__all__ = [
    "Blend",
    "BlendFit",
    "Deblender",
    "SourceFit",
    "available_deblenders",
    "libraries",
    "make_deblender",
]


def _scarlet(config: DeblendConfig) -> Deblender:
    from astrolabel.deblend.scarlet import ScarletDeblender

    return ScarletDeblender(config)


def _scarlet2(config: DeblendConfig) -> Deblender:
    from astrolabel.deblend.scarlet2 import Scarlet2Deblender

    return Scarlet2Deblender(config)


# Each imports its library when it is asked for: those of others are slow to import, and
# most users have none of them.
_REGISTRY = {
    ParametricDeblender.name: ParametricDeblender,
    "scarlet": _scarlet,
    "scarlet2": _scarlet2,
}

_ALIASES = {"cmf": ParametricDeblender.name}
"""What the engines were called before."""

_LIBRARIES = {"scarlet": ("scarlet", "autograd"), "scarlet2": ("scarlet2", "jax")}


def libraries(engine: str) -> tuple[str, ...]:
    """Installed projects whose versions the labels of an engine depend on, beyond our own."""
    return tuple(
        name
        for name in _LIBRARIES.get(engine, ())
        if next(iter(importlib.metadata.distributions(name=name)), None) is not None
    )


def available_deblenders() -> tuple[str, ...]:
    """Names that `DeblendConfig.engine` may take, sorted; not all need be installed."""
    return tuple(sorted(_REGISTRY))


def make_deblender(config: DeblendConfig) -> Deblender:
    """The deblender that `config.engine` names.

    Raises
    ------
    InputError
        If no deblender has that name, or the library behind it is not installed.
    """
    name = _ALIASES.get(config.engine, config.engine)
    if name not in _REGISTRY:
        raise InputError(
            f"unknown deblender {config.engine!r}",
            remedy=f"choose from {', '.join(available_deblenders())}",
        )
    return _REGISTRY[name](config)
