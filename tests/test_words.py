"""Names, help, messages and docs use the field's words, not our own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

WORDS = {
    r"glare|aureoles?": "halo, diffraction spikes, bleed trails",
    r"crowd(s|ed|ing)?": "source density",
    r"second look": "iterative (residual) detection",
    r"left over|left-over|leftovers?": "residual",
    r"tak(e|es|en|ing) in|took in": "unrecognized blend, close pair",
    r"tall(y|ies|ied)": "counts",
    r"sweeps?": "iteration, pass",
    r"manners": "retry policy, HTTP client",
    r"witness(es)?|consensus": "label fusion",
    r"catalogues?": "model zoo, or catalog",
    r"unlisted|nobody('s)?": "nuisance source, or name the subject",
    r"free[ _]shapes?": "non-parametric morphology",
    r"own light": "flux",
    r"rule for structure": "shredding",
    r"foreign": "checkpoint conversion",
    r"judg(e|es|ed|ing)": "accept, reject, merge",
    r"honest(ly)?|riddles?": "say what is meant",
    r"told|tells?": "personified code: name what a file or a setting holds",
}
"""What is not said, as a pattern, and what is said instead."""

CLEAN = (
    "packages/astrolabel/README.md",
    "packages/astrolabel/src/astrolabel/__init__.py",
    "packages/astrolabel/src/astrolabel/cli",
    "packages/astrolabel/src/astrolabel/catalog",
    "packages/astrolabel/src/astrolabel/datasets",
    "packages/astrolabel/src/astrolabel/report",
    "packages/astrolabel/src/astrolabel/review",
    "packages/astrolabel/src/astrolabel/export",
    "packages/astrolabel/src/astrolabel/core",
    "packages/astrolabel/src/astrolabel/deblend",
    "packages/astrolabel/src/astrolabel/detect",
    "packages/astrolabel/src/astrolabel/io",
    "packages/astrolabel/src/astrolabel/label",
    "packages/astrolabel/src/astrolabel/prepare",
    "packages/astrolabel/src/astrolabel/simulate",
    "packages/astroseg",
    "README.md",
    "CONTRIBUTING.md",
    "data_manifests",
    "docs",
    "CHANGELOG.md",
    "CITATION.cff",
)
"""Files and folders that hold the rule; a room joins when it is clean."""

ALLOWED = {
    ("cli/arguments.py", "tally"): "the old name of the command is kept as an alias",
    ("archive/client.py", "tell"): "the place in a file, a method of Python's",
    ("weights/download.py", "tell"): "the same",
}
"""(end of the path, word): why it may stay."""


def files() -> list[Path]:
    found = []
    for name in CLEAN:
        path = ROOT / name
        kinds = (".py", ".md", ".j2", ".html", ".cff", ".toml", ".yaml")
        found += [p for p in path.rglob("*") if p.suffix in kinds] if path.is_dir() else [path]
    return sorted(found)


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_fields_words_are_used(path: Path) -> None:
    wrong = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        # Names are words too: `free_shape`, `LeftOver`.
        spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", line)
        for pattern, instead in WORDS.items():
            for match in re.finditer(rf"\b(?:{pattern})\b", spaced, re.IGNORECASE):
                word = match.group().lower()
                if not any(str(path).endswith(end) and word == allowed for end, allowed in ALLOWED):
                    wrong.append(f"{number}: {word!r}; say {instead}")
    assert wrong == []


def test_the_patterns_find_what_they_are_for() -> None:
    for text in ("a crowded field", "left over", "the aureole of", "free_shape", "takes in"):
        assert any(re.search(rf"\b(?:{p})\b", text.replace("_", " ")) for p in WORDS), text
