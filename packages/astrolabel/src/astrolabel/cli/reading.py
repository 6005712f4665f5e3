"""Commands that show what the package brings along: pages of docs, manifests."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from astrolabel.core.errors import InputError, OutputError
from astrolabel.core.shipped import shipped, shipped_file


def docs(options: argparse.Namespace) -> int:
    if options.page is None:
        for name, path in shipped("docs").items():
            print(f"{name:12s} {path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")
        print("astrolabel docs NAME prints a page")
    else:
        print(shipped_file("docs", options.page).read_text(encoding="utf-8"))
    return 0


def manifest_list(_: argparse.Namespace) -> int:
    from astrolabel.datasets.manifest import read_manifest

    for name, path in shipped("manifests").items():
        print(f"{name}: {' '.join(read_manifest(path).description.split())}")
    return 0


def manifest_copy(options: argparse.Namespace) -> int:
    from astrolabel.datasets.manifest import read_manifest

    source = shipped_file("manifests", options.name)
    queries = [str(c.query) for c in read_manifest(source).catalogs if c.query]
    for name in dict.fromkeys([source.name, *queries]):
        target = Path(options.folder) / name
        if target.exists():
            raise InputError("is there already", file=target, remedy="choose another folder")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.parent / name, target)
        except OSError as error:
            raise OutputError(f"cannot be written ({error.strerror})", file=target) from error
        print(target)
    return 0
