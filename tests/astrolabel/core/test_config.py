"""Every number that labels depend on is in the configuration, and in its hash."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import astrolabel
from astrolabel.core.config import SOURCE_TABLE, LabelConfig, preset
from astrolabel.core.config.detect import source_table_hash

SOURCE = Path(astrolabel.__file__).parent

ALLOWED = {
    # What features are, and so the table of source probabilities, which has its own hash.
    "detect/features.py": {"SHARP", "FINE", "HOST_PART"},
    # Mathematics of a filter: noise and curvature of Gaussian derivatives, room for an impulse.
    "detect/laplacian.py": {"RIDGE_SIGMA", "SECOND_SIGMA", "BEND"},
    # Keep solutions finite; far below what moves a flux.
    "detect/close_pairs.py": {"_RIDGE"},
    "deblend/bulges.py": {"RIDGE"},
    # The ladder of Gaussians that profiles are made of, and where one is nothing.
    "detect/mog.py": {"WIDTHS", "TAIL"},
    "deblend/profiles.py": {"INDICES", "WIDTHS"},
    # Range in which a Sersic model is defined, and beyond which its steps are not linear.
    "deblend/components.py": {"LIMITS", "LONGEST_STEP"},
    # Where fits begin, which end elsewhere; a filter against a pixel's noise.
    "deblend/initialize.py": {"LEAST_WIDTH", "REACH", "SMOOTHING", "SMOOTHING_PX"},
    # Slopes that a PSF's wings can have.
    "deblend/convolve.py": {"WING_SLOPES"},
    # How the fits of other libraries are started and stopped, as their own guides do it.
    "deblend/adapter.py": {
        "MODEL_SIGMA_OVER_PSF",
        "MIN_MODEL_SIGMA_PX",
        "WIDER_THAN_PSF",
        "WIDER_BY_SIGMA",
        "WINDOW_RADIUS",
    },
    "deblend/scarlet.py": {"TOLERANCE", "THRESHOLD_SIGMA"},
    "deblend/scarlet2.py": {
        "STEP_LENGTHS",
        "PEAK",
        "FLOOR",
        "WINDOW_SIGMA",
        "MIN_WINDOW_PX",
        "NEIGHBOUR_FRACTION",
        "DARK",
    },
}
"""Named floats outside the configuration, by module, with the reason above them."""


def numbers(config: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every number of a configuration, and where it is."""
    for field in dataclasses.fields(config):
        value, place = getattr(config, field.name), (*at, field.name)
        if dataclasses.is_dataclass(value):
            yield from numbers(value, place)
        elif isinstance(value, tuple) and value and isinstance(value[0], (int, float)):
            for k, one in enumerate(value):
                yield (*place, str(k)), one
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield place, value


def changed(config: Any, place: tuple[str, ...], value: Any) -> Any:
    """The configuration with one number replaced."""
    name, *rest = place
    old = getattr(config, name)
    if not rest:
        return dataclasses.replace(config, **{name: value})
    if isinstance(old, tuple):
        new = tuple(value if k == int(rest[0]) else one for k, one in enumerate(old))
    else:
        new = changed(old, tuple(rest), value)
    return dataclasses.replace(config, **{name: new})


@pytest.mark.parametrize("place", [p for p, _ in numbers(LabelConfig())], ids=lambda p: ".".join(p))
def test_doubling_a_number_changes_the_hash(place: tuple[str, ...]) -> None:
    config = LabelConfig()
    value = dict(numbers(config))[place]
    other = changed(config, place, 2 * value if value else 1)
    assert other.digest() != config.digest()


def test_equal_configurations_have_equal_hashes() -> None:
    assert preset("default").digest() == LabelConfig().digest()
    assert preset("paper").digest() != LabelConfig().digest()


def test_the_hash_holds_the_table_of_source_probabilities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = LabelConfig()
    assert before.detect.source_table == source_table_hash()
    other = tmp_path / "table.json"
    other.write_bytes(SOURCE_TABLE.read_bytes() + b"\n")
    monkeypatch.setattr("astrolabel.core.config.detect.SOURCE_TABLE", other)
    source_table_hash.cache_clear()
    try:
        assert LabelConfig().digest() != before.digest()
    finally:
        source_table_hash.cache_clear()


def named_floats(path: Path) -> set[str]:
    """Names of a module that are given a float, or something made of floats."""
    out = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        if any(isinstance(n, ast.Constant) and isinstance(n.value, float) for n in ast.walk(value)):
            out |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    return out


@pytest.mark.parametrize("folder", ["detect", "deblend"])
def test_no_named_float_stands_outside_the_configuration(folder: str) -> None:
    for path in sorted((SOURCE / folder).glob("*.py")):
        extra = named_floats(path) - ALLOWED.get(f"{folder}/{path.name}", set())
        assert not extra, f"{path.name}: {sorted(extra)} belong in core/config/{folder}.py"


def test_the_list_of_exceptions_has_no_stale_names() -> None:
    for name, allowed in ALLOWED.items():
        assert not allowed - (named_floats(SOURCE / name))
