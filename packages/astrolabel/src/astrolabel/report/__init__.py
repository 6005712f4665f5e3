"""One page that answers: can I trust these labels?

`measure` reads the document and what lies beside it, `write_report` makes the page and the
same numbers as JSON.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from astrolabel.core.errors import OutputError
from astrolabel.core.files import write_bytes
from astrolabel.io import coco
from astrolabel.report.examples import choose
from astrolabel.report.links import review_of
from astrolabel.report.measured import Measured, measure, numbers
from astrolabel.report.page import page
from astrolabel.report.verdict import notes, of_files, verdict

__all__ = ["Measured", "measure", "numbers", "summary", "write_report"]


def write_report(measured: Measured, out: str | Path) -> tuple[Path, Path]:
    """Write the page and, beside it under the same name, its numbers as ``.json``.

    Each example is a link to its place on the review page where `astrolabel review` has
    written that beside the labels.

    Raises
    ------
    InputError
        When an image that is shown cannot be read.
    OutputError
        When `out` cannot be written.
    """
    out = Path(out)
    machine = out.with_suffix(".json")
    m = measured
    inputs = [m.labels.path] + ([] if m.truth is None else [m.truth.truth.path])
    if out == machine or any(path.resolve() == machine.resolve() for path in inputs):
        raise OutputError(
            "the report's numbers would take its place",
            file=machine,
            remedy="choose another name with --out, one that ends in .html",
        )
    kinds = choose(m.labels, m.residuals, m.truth, m.band)
    content = page(m, kinds, machine.name, review_of(m.labels.path, out))
    found = {**numbers(m), "verdict": {line.name: line.value for line in verdict(m)}}
    coco.write_json(machine, {**found, "notes": notes(m), **asdict(of_files(m))})
    write_bytes(out, content.encode("utf-8"))
    return out, machine


def summary(measured: Measured) -> str:
    """The headline numbers as lines of text, those that are known."""
    lines = [line for line in verdict(measured) if line.value == line.value]
    width = max(len(line.measure) for line in lines) if lines else 0
    return "\n".join(f"  {line.measure:{width}s}  {line.text}" for line in lines)
