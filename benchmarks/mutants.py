"""Mutation score of the modules that a label's bytes depend on: masks, matching, merging, writing.

    pip install cosmic-ray
    python benchmarks/mutants.py --sample 100 --seed 1
    python benchmarks/mutants.py --only io.rle core.masks --show

Each mutant is a module with one change of cosmic-ray's operators, in a process of its own in which
that module's tests run until one fails. Printed are mutants tried, those that no test noticed, and
the score; `--show` prints the lines that survived. Changes of annotations of types are none, and
left out. The exit code is 1 where a score is below 80 %.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import importlib.abc
import importlib.util
import os
import random
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
LEAST = 0.8
LIMIT_S = 60
LIBRARIES = ("numpy", "scipy.ndimage", "scipy.optimize", "astropy.io.fits", "astropy.wcs",
             "astropy.coordinates", "astropy.table", "numba", "sep", "pycocotools.mask", "joblib",
             "shapely", "matplotlib.pyplot", "PIL.Image", "msgspec", "pytest", "hypothesis",
             "faster_coco_eval")  # fmt: skip
"""Imported once, before the processes are forked."""

TARGETS = {
    "astrolabel.core.masks": ("astrolabel/core/test_masks.py",),
    "astrolabel.io.rle": ("astrolabel/io/test_rle.py",),
    "astrolabel.catalog.crossmatch": ("astrolabel/catalog/test_crossmatch.py",),
    "astrolabel.core.files": ("astrolabel/core/test_files.py",),
    "astroseg.core.rle": ("astroseg/core/test_rle.py",),
    "astroseg.evaluation.metrics.matching": ("astroseg/evaluation/test_matching.py",),
    "astrolabel.label.merge": ("astrolabel/label/test_merge.py",),
    "astrolabel.label.shards": ("astrolabel/label/test_merge.py",),
}
"""Modules, and the tests that are about each."""


def path_of(module: str) -> Path:
    package, _, rest = module.partition(".")
    return ROOT / "packages" / package / "src" / package / f"{rest.replace('.', '/')}.py"


class _NoTypes(ast.NodeTransformer):
    """Takes annotations of types away, and texts that stand alone."""

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant("")
        return self.generic_visit(node)


def meaning(source: str) -> str:
    return ast.dump(_NoTypes().visit(ast.parse(source)))


def mutants(source: str) -> Iterator[str]:
    """Every other meaning that one change gives a source."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    seen = {meaning(source)}
    for name in sorted(operator_names()):
        try:
            operator = get_operator(name)()
        except TypeError:  # one that has to be told what to replace
            continue
        number = 0
        while (changed := mutate_code(source, operator, number)) is not None:
            number += 1
            try:
                known = meaning(changed)
            except SyntaxError:  # `*` of a list of parameters, taken for a product
                continue
            if known not in seen:
                seen.add(known)
                yield changed


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from another source than its file's."""

    def __init__(self, name: str, source: str) -> None:
        self.name, self.source = name, source

    def find_spec(self, fullname: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, path_of(fullname), loader=self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.source, str(path_of(self.name)), "exec"), module.__dict__)


def survives(module: str, source: str, tests: tuple[str, ...]) -> bool:
    """Whether a module's tests pass with another source in its place."""
    child = os.fork()
    if child == 0:
        _play(module, source, tests)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _play(module: str, source: str, tests: tuple[str, ...]) -> None:
    """The child: never returns."""
    code = 1
    try:
        import pytest

        with Path(os.devnull).open("w") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))
        sys.meta_path.insert(0, _Finder(module, source))
        paths = [str(ROOT / "tests" / test) for test in tests]
        code = pytest.main(
            [
                "-x",
                "-q",
                "-p",
                "no:cacheprovider",
                "-m",
                "not slow",
                "-W",
                "ignore::pytest.PytestAssertRewriteWarning",
                *paths,
            ]
        )
    finally:
        os._exit(int(code))


def shown(before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return "\n".join(line for line in list(lines)[2:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=0, help="of each module; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[], help="modules whose names end so")
    parser.add_argument("--show", action="store_true", help="print what survived")
    options = parser.parse_args()
    for name in LIBRARIES:
        importlib.import_module(name)
    sys.path[:0] = [str(ROOT / "tests" / name) for name in ("astrolabel", "astroseg")]
    wrong = 0
    print(f"{'module':40}{'mutants':>9}{'tried':>7}{'survived':>10}{'score':>8}", flush=True)
    for module, tests in TARGETS.items():
        if options.only and not module.endswith(tuple(options.only)):
            continue
        source = path_of(module).read_text()
        if not survives(module, source, tests):
            raise SystemExit(f"{module}: its tests fail without a mutant")
        found = list(mutants(source))
        draw = random.Random(f"{options.seed}-{module}")
        chosen = draw.sample(found, min(options.sample or len(found), len(found)))
        left = [mutant for mutant in chosen if survives(module, mutant, tests)]
        score = 1 - len(left) / max(len(chosen), 1)
        wrong += score < LEAST
        row = f"{module:40}{len(found):9}{len(chosen):7}{len(left):10}{score:8.0%}"
        print(row, flush=True)
        if options.show:
            print(*(shown(source, mutant) for mutant in left), sep="\n", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
