"""From NAME=VALUE words of the command line to values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from astrolabel.core.config import LabelConfig
from astrolabel.core.errors import InputError


def with_columns(config: LabelConfig, columns: Sequence[str] | None) -> LabelConfig:
    """The configuration with the catalog's columns as ``--columns`` names them."""
    if not columns:
        return config
    words = sorted(pairs("--columns", columns, for_all=False))
    scheme = "columns" if config.classify.scheme == "none" else config.classify.scheme
    return replace(config, classify=replace(config.classify, columns=tuple(words), scheme=scheme))


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
