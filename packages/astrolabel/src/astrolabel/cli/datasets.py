"""Commands for label files that are there."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from astrolabel.cli.named import numbers, with_columns
from astrolabel.cli.settings import settings
from astrolabel.core.errors import InputError


def validate(options: argparse.Namespace) -> int:
    from astrolabel.io import coco

    document = coco.read_stream(options.coco)
    if options.images is not None:  # the names alone: what is wrong must stay to be found
        named = [
            {**i, "file_name": _relative(str(i.get("file_name", "")), options)}
            if isinstance(i, dict)
            else i
            for i in document["images"]
        ]
        document = {**document, "images": named}
    problems = coco.validate(document, options.coco.parent, sky=True)
    for problem in problems:
        print(problem)
    print(
        f"{options.coco}: {len(document['images'])} images, "
        f"{len(document['annotations'])} annotations, "
        + (f"{len(problems)} problems" if problems else "no problems")
    )
    return 2 if problems else 0


def _relative(name: str, options: argparse.Namespace) -> str:
    from astrolabel.io.any_coco import find_picture

    return os.path.relpath(find_picture(name, options.coco, options.images), options.coco.parent)


def preview(options: argparse.Namespace) -> int:
    from astrolabel.report.preview import preview

    out = options.out or options.coco.parent / "preview"
    pictures = preview(options.coco, out, options.images)
    print(f"{len(pictures)} pictures; open {out / 'index.html'}")
    return 0


def review(options: argparse.Namespace) -> int:
    from astrolabel.review.page import write_review

    if options.serve:
        return _serve(options)
    out = options.out or options.coco.parent / "review"
    print(write_review(options.coco, out, options.images, options.predictions, options.truth))
    return 0


def _serve(options: argparse.Namespace) -> int:
    import webbrowser
    from tempfile import TemporaryDirectory

    from astrolabel.review.server import Server
    from astrolabel.review.session import Session

    if options.out is not None:
        raise InputError("--out and --serve exclude each other", remedy="give one of them")
    with TemporaryDirectory(prefix="astrolabel-review-") as folder:
        files = options.images, options.predictions, options.truth
        session = Session(options.coco, Path(folder), *files)
        session.page()  # what is wrong with the files is said before the browser opens
        server = Server(session, options.port)
        print(f"{server.address}  (Ctrl-C ends it)\ncorrections: {session.log}", flush=True)
        if not options.no_browser:
            webbrowser.open(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print(f"\napply them: astrolabel apply {options.coco} {session.log} --out NEW.json")
        finally:
            server.server_close()
    return 0


def apply(options: argparse.Namespace) -> int:
    from astrolabel.io import coco
    from astrolabel.review.corrections import apply, read_corrections

    if options.out.parent.resolve() != options.coco.parent.resolve():
        raise InputError(
            "the new file would not find its images",
            file=options.out,
            remedy=f"write it beside {options.coco}",
        )
    document, lost = coco.read(options.coco), []
    for path in options.corrections:
        applied = apply(document, read_corrections(path), options.coco.parent)
        document = applied.document
        lost += [f"{path}: {line}" for line in applied.lost]
        print(f"{path}: {applied.summary()}")
    coco.write_json(options.out, document)
    for line in lost:
        print(f"astrolabel: {line}", file=sys.stderr)
    return 2 if lost else 0


def export(options: argparse.Namespace) -> int:
    from astrolabel.export.convert import export
    from astrolabel.label.model_files import write_models

    written = export(
        options.coco,
        options.to,
        options.out,
        classes=tuple(options.classes.split(",")) if options.classes else (),
        polygons=options.polygons,
        images=options.images,
        more={"models": write_models},
    )
    for path in written:
        print(path)
    return 0


def import_(options: argparse.Namespace) -> int:
    from astrolabel.core.config import ImportConfig
    from astrolabel.export.importing import import_labels

    images: list[tuple[str, Path]] = []
    for word in options.image:
        band, equals, file = word.rpartition("=")
        images.append((band if equals else f"band{len(images) + 1}", Path(file)))
    columns = {}
    for word in options.columns:
        name, equals, column = word.partition("=")
        if not equals or not column:
            raise InputError(f"--columns {word!r}", remedy="write WORD=COLUMN")
        columns[name] = column
    out = options.out if options.out.suffix == ".json" else options.out / "coco.json"
    made = import_labels(
        options.source,
        images,
        out,
        columns=columns,
        name=options.name,
        config=ImportConfig(options.ellipse_sigma, options.ellipse_scale),
    )
    print(made.summary())
    return 0


def split(options: argparse.Namespace) -> int:
    from astrolabel.datasets.split_files import leaks, read_regions, split_files

    if options.check:
        found = leaks(options.coco)
        for line in found:
            print(line)
        print("no leaks" if not found else f"{len(found)} leaks")
        return 2 if found else 0
    regions = read_regions(options.region, options.manifest)
    shares = None
    if options.fractions:
        shares = numbers("--fractions", options.fractions)
    written = split_files(
        options.coco,
        options.out or options.coco[0].parent,
        regions=regions,
        rest=None if options.rest == "none" else options.rest,
        fractions=shares,
        order=options.order,
        seed=options.seed,
        stable=options.stable,
    )
    print(written.summary())
    return 0


def report(options: argparse.Namespace) -> int:
    from astrolabel.report import measure, summary, write_report

    if (options.catalog is None) != (options.scheme is None):
        raise InputError("--catalog and --scheme go together", remedy="give both or neither")
    catalog = None if options.catalog is None else (options.catalog, options.scheme)
    measured = measure(
        options.coco, catalog, options.truth, progress=not options.quiet, images=options.images
    )
    page, machine = write_report(measured, options.out or options.coco.parent / "report.html")
    print(summary(measured))
    print(f"{page} and {machine}")
    return 0


def relabel(options: argparse.Namespace) -> int:
    from astrolabel.datasets.relabel import relabel_file

    first = with_columns(settings(options), options.columns).classify
    if first.scheme == "none":
        raise InputError("no --scheme", remedy="say what kind of catalog it is")
    if (options.second is None) != (options.second_scheme is None):
        raise InputError("--second and --second-scheme go together", remedy="give both or neither")
    catalogs = [(options.catalog, first)]
    if options.second is not None:
        second = replace(first, scheme=options.second_scheme, columns=(), class_bands=())
        catalogs.append((options.second, second))
    print(relabel_file(options.coco, options.out, catalogs).summary())
    return 0


def counts(options: argparse.Namespace) -> int:
    from astrolabel.core.files import atomic_path
    from astrolabel.datasets.counts import count_labels

    table = count_labels(options.coco, options.band, options.bin)
    print("\n".join(table.pformat(max_lines=-1, max_width=-1, show_unit=False)))
    if options.out is not None:
        with atomic_path(options.out) as temporary:
            table.write(temporary, format="ascii.csv")
    return 0
