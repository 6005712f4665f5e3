"""From the words of the command line to values and recipes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from astrolabel.core.config import ClassifyConfig, LabelConfig
from astrolabel.core.errors import InputError


def scheme_of(options: argparse.Namespace) -> str:
    """Of the options; columns without a scheme are one."""
    return options.scheme or ("columns" if options.columns else "none")


def classes(options: argparse.Namespace, base: ClassifyConfig) -> ClassifyConfig:
    """The rule of the classes as the options change it."""
    words = dict(pairs("--columns", options.columns or (), for_all=False))
    bands = tuple(options.class_bands.split(",")) if options.class_bands else ()
    return replace(
        base, scheme=scheme_of(options), columns=tuple(sorted(words.items())), class_bands=bands
    )


def overridden(config: LabelConfig, options: argparse.Namespace) -> LabelConfig:
    """The recipe with what the user changed on the command line."""

    def changed(part: Any, **values: Any) -> Any:
        return replace(part, **{name: v for name, v in values.items() if v is not None})

    return replace(
        config,
        tile=changed(
            config.tile, size=options.tile_size, halo=options.halo, overlaps=options.overlaps
        ),
        detect=changed(config.detect, combine=options.detection_image),
        deblend=changed(config.deblend, engine=options.deblender),
        classify=changed(config.classify, keep_unmatched=options.keep_unmatched or None),
    )


def pairs(option: str, given: Sequence[str], for_all: bool = True) -> list[tuple[str, str]]:
    """NAME=VALUE split; a bare VALUE holds for all bands (``*``) where that is allowed."""
    found = []
    for text in given:
        name, equals, value = text.partition("=")
        if not equals and for_all:
            name, value = "*", text
        if not name or not value:
            raise InputError(f"{option} {text!r}", remedy=f"write {option} g=...")
        found.append((name, value))
    return found


def paths(option: str, given: Sequence[str]) -> dict[str, Path]:
    return {name: Path(value) for name, value in pairs(option, given)}


def bits(option: str, given: Sequence[str]) -> dict[str, int]:
    given_bits = dict(pairs(option, given, False))
    for name, value in given_bits.items():
        if not value.isdigit() or int(value) > 30:
            raise InputError(f"{option} {name}={value}", remedy="give a bit from 0 to 30")
    return {name: int(value) for name, value in given_bits.items()}


def numbers(option: str, given: Sequence[str]) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in pairs(option, given)}
    except ValueError as error:
        raise InputError(f"{option}: {error}", remedy=f"write {option} g=27.0") from error
