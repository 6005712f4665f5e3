"""What an installed astrolabel brings along: a wheel that works without the other package."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from astrolabel.cli.main import main
from astrolabel.core.shipped import shipped
from astrolabel.datasets.manifest import read_manifest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the files of the wheel, and nothing of the repository."""
    pytest.importorskip("hatchling", reason="builds wheels")
    out = tmp_path_factory.mktemp("wheel")
    code = f"from hatchling.build import build_wheel; print(build_wheel({str(out)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "packages/astrolabel",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(out / done.stdout.split()[-1]) as wheel:
        wheel.extractall(out / "site")
    return out / "site"


def run(installed, *words, cwd):
    path = f"import sys; sys.path.insert(0, {str(installed)!r}); "
    code = path + "from astrolabel.cli.main import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *words], cwd=cwd, capture_output=True, text=True
    )


def test_a_wheel_shows_docs_and_copies_manifests(installed, tmp_path):
    done = run(installed, "docs", "settings", cwd=tmp_path)
    assert done.stdout.startswith("# Settings"), done.stderr
    done = run(installed, "manifest", "copy", "hsc_dr3_udcosmos_test", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    copied = read_manifest(tmp_path / "hsc_dr3_udcosmos_test.yaml")
    assert (tmp_path / copied.catalogs[0].query).is_file()
    metadata = next(installed.glob("*.dist-info/METADATA")).read_text()
    assert "Author: The astrolabel developers" in metadata
    assert "al.label(" in metadata
    assert not (installed / "astroseg").exists()


def test_pages_and_manifests_are_listed(capsys, tmp_path):
    assert set(shipped("manifests")) >= {"demo", "lsst_dp1_ecdfs"}
    assert main(["docs"]) == 0
    assert "settings     Settings" in capsys.readouterr().out
    assert main(["manifest", "list"]) == 0
    assert "demo: " in capsys.readouterr().out
    assert main(["docs", "setings"]) == 2
    assert "did you mean settings?" in capsys.readouterr().err
    assert main(["manifest", "copy", "demo", str(tmp_path)]) == 0
    assert main(["manifest", "copy", "demo", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_the_citation_names_the_version_and_licence():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    from astrolabel import __version__

    assert cited["version"] == __version__
    assert cited["license"] == "MIT"
