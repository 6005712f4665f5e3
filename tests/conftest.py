"""What the tests of all packages share."""

from __future__ import annotations

import gc
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

# Machines that run tests are busy; a slow example is not a wrong one. Continuous integration
# takes the same examples every time: new ones are for people, who can look into them.
settings.register_profile(
    "astro", deadline=None, max_examples=50, print_blob=True, derandomize="CI" in os.environ
)
settings.load_profile("astro")

# Until all tests are collected, and then ever after, modules and tests are not looked through
# for garbage: they stay.
gc.disable()

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real survey pixels, kept beside the checkout and not in it."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real survey data are not at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture
def unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are drawn, but neither laid out nor saved, which takes most of a page's time."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *_, **__: None)
    monkeypatch.setattr("matplotlib.layout_engine.ConstrainedLayoutEngine.execute", lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that no process ends long after the others; of the packages
    in turn, so that one process compiles astrolabel's kernels and not each of two."""
    rank: dict[Path, int] = {}
    seen: Counter[str] = Counter()
    for path in dict.fromkeys(item.path for item in items if item.get_closest_marker("slow")):
        package = path.relative_to(Path(__file__).parent).parts[0]
        rank[path] = seen[package]
        seen[package] += 1
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
