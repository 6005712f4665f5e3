"""Words to settings, these to one call, errors to one line.

Exit codes: 0 done; 2 something the user can mend; 130 stopped from the keyboard.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from astroseg.cli.arguments import COMMANDS
from astroseg.cli.examples import EXAMPLES
from astroseg.cli.imports import lasting_imports
from astroseg.cli.settings import Parser, asked, settings
from astroseg.core.errors import AstrosegError, InputError
from astroseg.core.logs import logging_to
from astroseg.core.names import nearest
from astroseg.core.version import __version__

EXIT_MENDABLE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

DEFAULT_MODEL = "sky"
"""Of predict, where no checkpoint is given."""

logger = logging.getLogger(__name__)


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    _print_anything()
    given = list(sys.argv[1:] if words is None else words)
    try:
        command = _command(given)
        if command is None:
            return 0
        options = parser(command).parse(given[1:])
        if (text := asked(options, command)) is not None:
            print(text)
            return 0
        with logging_to(options.log, verbose=options.verbose, quiet=options.quiet):
            logger.debug("astroseg %s: %s", __version__, shlex.join(given))
            return _COMMANDS[command](options)
    except AstrosegError as error:
        print(f"astroseg: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_MENDABLE
    except KeyboardInterrupt:
        print("astroseg: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as head, has had enough
        return 0


def _print_anything() -> None:
    """Escape what the terminal's encoding lacks, such as names of files in another one."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def parser(command: str) -> Parser:
    """The options of one command."""
    help_, add = COMMANDS[command]
    made = Parser(
        prog=f"astroseg {command}",
        description=help_[0].upper() + help_[1:] + ".",
        epilog=EXAMPLES[command],
    )
    add(made)
    group = made.add_argument_group("messages")
    group.add_argument("--quiet", action="store_true", help="no progress, errors only")
    group.add_argument("--verbose", action="store_true", help="say more")
    group.add_argument("--log", type=Path, metavar="FILE", help="write messages to a file too")
    return made


def _command(words: list[str]) -> str | None:
    """The command of the words; None where help was printed."""
    first = words[0] if words else "--help"
    if first in COMMANDS:
        return first
    if first in ("-V", "--version"):
        print(f"astroseg {__version__}")
        return None
    if first in ("-h", "--help"):
        print(_overview())
        return None
    raise InputError(
        f"unknown command {first!r}", remedy=nearest(first, COMMANDS) or "see astroseg --help"
    )


def _overview() -> str:
    made = argparse.ArgumentParser(
        prog="astroseg",
        usage="astroseg COMMAND ...",
        description="Train instance segmentation on COCO datasets of the sky, predict, evaluate.",
        epilog="`astroseg COMMAND --help` explains each command, with examples.",
        add_help=False,
    )
    group = made.add_argument_group("commands")
    for name, (help_, _) in COMMANDS.items():
        group.add_argument(name, help=help_)
    return made.format_help()


# The programs are imported when they run: torch takes seconds that a wrong word need not wait.


def _train(options: argparse.Namespace) -> int:
    from astroseg.cli.checks import check_training

    config = settings(options)
    check_training(config, options.train, options.val)

    with lasting_imports():
        from astroseg.training.train import train

    result = train(
        options.train,
        options.out,
        config,
        val_file=options.val,
        resume=options.resume,
        quiet=options.quiet,
    )
    if result.interrupted:
        print(
            f"stopped after step {result.step} of {result.steps}; rerun the command with --resume "
            "to go on",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    if os.environ.get("RANK", "0") != "0":  # torchrun's first process speaks for all
        return 0
    best = "" if result.best is None else f" (mask AP {result.best[0]:.3f})"
    print(f"{result.checkpoint}{best}")
    return 0


def _predict(options: argparse.Namespace) -> int:
    from astroseg.weights.builtin import SUFFIX, checkpoint_file

    config = settings(options)
    if lone := [text for text in options.bands if "=" not in text]:
        raise InputError(
            f"--bands {lone[0]} names no files",
            remedy="give each band its file (--bands g=FILE,r=FILE); a cube's header names its own",
        )
    inputs = [*options.inputs, *options.bands]
    model = options.checkpoint
    if model is None and inputs and inputs[0].lower().endswith(SUFFIX):
        model = inputs.pop(0)
    model = checkpoint_file(model or DEFAULT_MODEL)
    started = time.monotonic()

    with lasting_imports():
        from astroseg.inference.predict import predict

    result = predict(model, inputs, options.out, config, quiet=options.quiet)
    seconds = time.monotonic() - started
    print(
        f"{result.results}: {result.detections} detections in {result.images} images, "
        f"{seconds:.1f} s"
    )
    print(result.catalog)
    return 0


def _calibrate(options: argparse.Namespace) -> int:
    from astroseg.cli.checks import check_file

    config = settings(options)
    check_file(options.checkpoint)
    check_file(options.val)

    with lasting_imports():
        from astroseg.inference.calibrate import calibrate, summary

    made = calibrate(options.checkpoint, options.val, options.out, config, quiet=options.quiet)
    print(summary(made))
    print(options.out or options.checkpoint)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    config = settings(options)

    with lasting_imports():
        from astroseg.evaluation.evaluate import evaluate
        from astroseg.evaluation.summary import beside, summarise

    metrics = evaluate(options.truth, options.predictions, options.out, config)
    print(summarise(metrics))
    if options.beside is not None:
        print(beside(metrics, options.beside))
    return 0


def _convert(options: argparse.Namespace) -> int:
    from astroseg.core.config.convert import ConvertConfig

    config = ConvertConfig(
        model=options.model,
        config=options.file_of_model,
        classes=_names(options.classes),
        bands=_names(options.bands),
        contrast=options.contrast,
        stretch=options.stretch,
        q=options.q,
        zeropoint=_floats(options.zeropoint),
        pixel_scale=options.pixel_scale,
        pixel_mean=_floats(options.pixel_mean),
        pixel_std=_floats(options.pixel_std),
        red_first=options.red_first,
        skip=_names(options.skip),
    )
    config.check()

    with lasting_imports():
        from astroseg.engines.convert import convert

    print(f"{options.out}: {convert(options.file, options.out, config)}")
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _floats(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in _names(text))
    except ValueError as error:
        raise InputError(
            f"{text} is no list of numbers", remedy="give 103.5,116.3,123.7"
        ) from error


def _models(_: argparse.Namespace) -> int:
    from astroseg.cli.model_zoo import models_table

    print(models_table())
    return 0


_COMMANDS = {
    "train": _train,
    "predict": _predict,
    "calibrate": _calibrate,
    "evaluate": _evaluate,
    "convert": _convert,
    "models": _models,
}
