"""What was asked for to configurations, these to the programs, errors to one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from astroseg.cli.arguments import parser
from astroseg.core.config import DataConfig, PredictConfig, TrainConfig
from astroseg.core.errors import AstrosegError

EXIT_MENDABLE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        code = _COMMANDS[options.command](options)
    except AstrosegError as error:
        print(f"astroseg: {_one_line(error)}", file=sys.stderr)
        return EXIT_MENDABLE
    except KeyboardInterrupt:
        print("astroseg: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as head, has had enough
        return 0
    return code


def _one_line(error: AstrosegError) -> str:
    return " ".join(str(error).split())


def _chosen(kind: type[Any], options: argparse.Namespace, **more: Any) -> Any:
    """A configuration from the options of its fields' names."""
    names = {field.name for field in fields(kind)} - set(more)
    return kind(**{k: v for k, v in vars(options).items() if k in names}, **more)


# The programs are imported when they run: torch takes seconds that --help need not wait.


def _train(options: argparse.Namespace) -> int:
    from astroseg.training.train import train

    config = _chosen(TrainConfig, options, data=_chosen(DataConfig, options))
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
            f"stopped after step {result.step} of {result.steps}; go on with the same command "
            "and --resume",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    if os.environ.get("RANK", "0") != "0":  # torchrun's first process speaks for all
        return 0
    best = "" if result.best is None else f" (mask AP {result.best[0]:.3f})"
    print(f"{result.checkpoint}{best}")
    return 0


def _predict(options: argparse.Namespace) -> int:
    from astroseg.inference.predict import predict

    config = _chosen(PredictConfig, options, data=_chosen(DataConfig, options))
    result = predict(options.checkpoint, options.inputs, options.out, config, quiet=options.quiet)
    print(f"{result.results}: {result.detections} detections in {result.images} images")
    print(result.catalog)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from astroseg.evaluation.evaluate import EvaluateConfig, evaluate
    from astroseg.evaluation.summary import beside, summarise

    given = {
        "score_threshold": options.score,
        "band": options.band,
        "resamples": options.resamples,
        "report": False if options.no_report else None,
    }
    config = EvaluateConfig(**{k: v for k, v in given.items() if v is not None})
    metrics = evaluate(options.truth, options.predictions, options.out, config)
    print(summarise(metrics))
    if options.beside is not None:
        print(beside(metrics, options.beside))
    return 0


def _models(_: argparse.Namespace) -> int:
    from astroseg.cli.model_zoo import models_table

    print(models_table())
    return 0


_COMMANDS = {"train": _train, "predict": _predict, "evaluate": _evaluate, "models": _models}
