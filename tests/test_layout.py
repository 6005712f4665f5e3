"""The packages' folders import only from folders below them, and each other not at all."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = Path(__file__).resolve().parents[1] / "packages"

FLOORS: dict[str, tuple[tuple[str, ...], ...]] = {
    "astrolabel": (
        ("cli",),
        ("review", "report"),
        ("datasets",),
        ("label",),
        ("export", "catalog", "detect", "prepare", "simulate"),
        ("deblend", "io"),
        ("core",),
    ),
    "astroseg": (
        ("cli",),
        ("inference", "training"),
        ("evaluation",),
        ("engines",),
        ("weights",),
        ("models", "data"),
        ("core",),
    ),
}
"""From the top floor down. A folder may use those on floors below its own."""

NEVER = {("evaluation", "engines"), ("evaluation", "weights"), ("evaluation", "models")}
"""Evaluation imports no torch, so nothing that does."""


def imports(package: str) -> Iterator[tuple[Path, str, str]]:
    """(file, its folder, folder it imports from) of every import inside a package."""
    source = PACKAGES / package / "src" / package
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).parts
        if len(parts) == 1:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                module = node.module or ""
                names = [f"{module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                words = name.split(".")
                if words[0] == package and len(words) > 1 and words[1] != parts[0]:
                    yield path.relative_to(source), parts[0], words[1]


@pytest.mark.parametrize("package", FLOORS)
def test_folders_import_only_from_folders_below(package):
    floor = {room: n for n, rooms in enumerate(FLOORS[package]) for room in rooms}
    upward = [
        f"{path} imports {target}"
        for path, room, target in imports(package)
        if floor.get(target, -1) <= floor[room] or (room, target) in NEVER
    ]
    assert upward == []


@pytest.mark.parametrize("package", FLOORS)
def test_only_folders_and_entry_points_stand_at_the_top(package):
    source = PACKAGES / package / "src" / package
    modules = {path.name for path in source.glob("*.py")}
    assert modules == {"__init__.py", "__main__.py"}
    rooms = {path.parent.name for path in source.glob("*/__init__.py")}
    assert rooms <= {room for rooms in FLOORS[package] for room in rooms}


@pytest.mark.parametrize("package", FLOORS)
def test_packages_share_no_code(package):
    (other,) = set(FLOORS) - {package}
    source = PACKAGES / package / "src"
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert other not in {name.split(".")[0] for name in names}, path
