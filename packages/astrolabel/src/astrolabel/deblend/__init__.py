"""Deblenders: one group of overlapping sources in, each source alone out."""

from __future__ import annotations

from collections.abc import Callable

from astrolabel.config import DeblendConfig
from astrolabel.deblend.base import Blend, BlendFit, Deblender, SourceFit
from astrolabel.deblend.cmf import CMFDeblender
from astrolabel.errors import InputError

__all__ = [
    "Blend",
    "BlendFit",
    "Deblender",
    "SourceFit",
    "available_deblenders",
    "make_deblender",
]

_REGISTRY: dict[str, Callable[[DeblendConfig], Deblender]] = {CMFDeblender.name: CMFDeblender}


def available_deblenders() -> tuple[str, ...]:
    """Names that `DeblendConfig.engine` may take, sorted."""
    return tuple(sorted(_REGISTRY))


def make_deblender(config: DeblendConfig) -> Deblender:
    """The deblender that `config.engine` names.

    Raises
    ------
    InputError
        If no deblender has that name.
    """
    if config.engine not in _REGISTRY:
        raise InputError(
            f"unknown deblender {config.engine!r}",
            remedy=f"choose from {', '.join(available_deblenders())}",
        )
    return _REGISTRY[config.engine](config)
