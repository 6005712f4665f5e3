"""Faults of every kind, a sample of those that benchmarks/faults.py plays by the thousand."""

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "faults.py"


@pytest.fixture(scope="module")
def faults():
    spec = importlib.util.spec_from_file_location("faults", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["faults"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["faults"]


PLAYED = """
import sys
from pathlib import Path
from faults import BAD, Bench, counted, table

bench = Bench(Path(sys.argv[1]))
few = counted(bench, 4, 2, ("worker lost", "disk full"))
any_ = counted(bench, 200, 21)  # last, for it imports torch: slow to copy into workers
for found, tries in ((few, 4), (any_, 200)):
    print(table(found))
    assert sum(counts.total() for counts in found.values()) == tries
    assert not any(counts[bad] for counts in found.values() for bad in BAD)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_hundreds_of_faults_are_survived_or_told(tmp_path):
    """In a process of its own: the benchmark limits memory, which a test runner already holds."""
    words = [sys.executable, "-W", "ignore", "-c", PLAYED, str(tmp_path)]
    here = os.pathsep.join([str(PATH.parent), *sys.path])
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=1800, env=os.environ | {"PYTHONPATH": here}
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_lost_fault_is_counted_as_lost(faults, tmp_path):
    """The bench can fail: other labels under exit code 0 are no survival."""
    from played import verdict

    for name, labels in (("a", "[1]"), ("b", "[2]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "coco.json").write_text(f'{{"annotations": {labels}}}')

    class Bench:
        out = tmp_path / "a"

    assert faults._same_after(Bench, "ok", tmp_path / "a") == "survived"
    assert faults._same_after(Bench, "ok", tmp_path / "b") == "lost"
    assert verdict(1, "Traceback (most recent call last)") == "traceback"
    assert verdict(-11, "") == "crash"
    assert faults.labels_of(tmp_path / "a") != faults.labels_of(tmp_path / "b")


def test_an_unharmed_manifest_survives_and_a_file_outside_its_root_is_lost(
    faults, tmp_path, monkeypatch
):
    bench, doing = faults.Bench(tmp_path), {0: "fetch", 1: "check", 5: "split"}
    sound = faults.sound_manifest

    def outcome(seed, change):
        monkeypatch.setattr(faults, "sound_manifest", lambda url: change(sound(url)))
        scratch = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        scratch.mkdir()
        return faults.hostile_manifest(bench, random.Random(seed), scratch)

    monkeypatch.setattr(faults, "mutated", lambda value, _: value)
    for seed, word in doing.items():
        assert random.Random(seed).choice(("check", "fetch", "split")) == word
        assert outcome(seed, lambda values: values) == "survived"
    assert outcome(0, lambda values: {**values, "root": "../x"}) == "told"

    def below(folder, name, **_):
        return folder / name

    monkeypatch.setattr("astrolabel.datasets.manifest.below", below)
    assert outcome(0, lambda values: {**values, "root": "../x"}) == "lost"
