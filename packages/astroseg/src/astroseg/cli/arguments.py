"""What the command line takes, and what it says of itself."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from astroseg.core.config import DataConfig, PredictConfig, TrainConfig
from astroseg.core.version import __version__
from astroseg.data.contrast import CONTRASTS

_EPILOG = """
examples:
  astroseg train train.json --val val.json --model tiny --out run
  astroseg predict run/best.safetensors test.json --out predictions --score 0.05
  astroseg evaluate test.json predictions/predictions.json --out evaluation
  astroseg models
"""

_TRAIN = """
examples:
  a small model from scratch, on a CPU, in minutes:
    astroseg train train.json --val val.json --model tiny --out run
  the paper's recipe, from weights pre-trained on other pictures:
    astroseg train train.json --val val.json --model r101-fpn --weights r101-fpn-coco \\
        --contrast lupton --out run
  any number of bands, chosen by name, as asinh(flux / sigma):
    astroseg train train.json --model r50-fpn --bands g,r,i,z,y --out run
  go on after an interruption, exactly as it would have gone on:
    astroseg train train.json --val val.json --model tiny --out run --resume
  on four GPUs:
    torchrun --nproc-per-node 4 -m astroseg train train.json --model r101-fpn --out run
  the model of any Detectron2 configuration file, trained by real Detectron2:
    astroseg train train.json --config mask_rcnn_R_50_FPN_3x.yaml --engine detectron2 \\
        --weights model_final_f10217.pkl --out run
  weights whose hash nobody publishes: the first attempt tells it, the second trusts it:
    astroseg train train.json --model r50-fpn --weights r50-imagenet --out run
    astroseg train train.json --model r50-fpn --weights r50-imagenet --weights-sha256 HASH --out run
  a list of Detectron2 records, whose image paths are another machine's:
    astroseg train records.json --images coadds/ --classes star,galaxy --model tiny --out run

The dataset is a COCO file with polygons or RLE. A schedule file is TOML:

  base = "paper"          # what is not given here comes from there
  batch = 8
  [[stages]]
  epochs = 20
  lr = 1e-3
  optimizer = "sgd"       # or adamw
  freeze = "heads"        # or none
  milestones = [10, 15]   # or decay = "cosine"
  warmup = 0.05           # fraction of the stage
  clip = 1.0

In the run's folder: best.safetensors (by validation mask AP) and last.safetensors, the
models; state.safetensors, for --resume; log.jsonl and tensorboard/; config.json.
"""

_PREDICT = """
examples:
  the images of a COCO file:
    astroseg predict run/best.safetensors test.json --out predictions
  every detection down to a low score, before AP is measured:
    astroseg predict run/best.safetensors test.json --out predictions --score 0.05
  FITS cubes, whole coadds in overlapping tiles:
    astroseg predict run/best.safetensors coadd1.fits coadd2.fits --tile-size 1024 --out sky
  one image in three files, one per band, in the order of the model's bands:
    astroseg predict run/best.safetensors g.fits,r.fits,i.fits --out sky
  a model trained from a configuration file with classes or functions of your own:
    astroseg predict run/best.safetensors test.json --config own.py --out predictions

Written: predictions.json (COCO results, as pycocotools loads them), predictions.info.json
(images, categories and where it all came from), catalog.fits (RA, Dec, class, score, shape,
magnitudes) and overlays/ (outlines on the images). An interrupted run goes on where it
stopped when it is given again.
"""

_EVALUATE = """
examples:
  astroseg evaluate test.json predictions/predictions.json --out evaluation

Written: metrics.json and report.html.
"""


def parser() -> argparse.ArgumentParser:
    """Of the whole command line; ``command`` of what it parses is the command's name."""
    style = argparse.RawDescriptionHelpFormatter
    whole = argparse.ArgumentParser(
        prog="astroseg",
        description="Train instance segmentation on COCO datasets of the sky, predict, evaluate.",
        epilog=_EPILOG,
        formatter_class=style,
    )
    whole.add_argument("--version", action="version", version=f"astroseg {__version__}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=epilog,
            formatter_class=style,
        )

    _add_train(command("train", "train a model on a COCO dataset", _TRAIN))
    _add_predict(command("predict", "apply a model to images of any size", _PREDICT))
    _add_evaluate(command("evaluate", "compare predictions with the truth", _EVALUATE))
    command("models", "list the models each engine has, and where weights come from", "")
    return whole


def _add_train(one: argparse.ArgumentParser) -> None:
    d = TrainConfig()
    one.add_argument("train", type=Path, metavar="TRAIN.json", help="COCO file to learn from")
    one.add_argument("--val", type=Path, metavar="VAL.json", help="COCO file to choose by")
    what = one.add_mutually_exclusive_group(required=True)
    absent = argparse.SUPPRESS  # a default that is given counts as not given
    what.add_argument("--model", default=absent, help="name from `astroseg models`")
    what.add_argument(
        "--config",
        default=absent,
        metavar="FILE",
        help="the model of a Detectron2 configuration, for --engine detectron2: a .yaml, or a "
        ".py (a LazyConfig, or one with a yacs `cfg`), which is a program and is RUN; where the "
        "model has parts of that program's own, --resume and predict need the same file again",
    )
    one.add_argument(
        "--keep-limits",
        action="store_true",
        help="leave that file's limits of proposals and detections, which hide sources of "
        "crowded fields, as they are",
    )
    one.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    one.add_argument(
        "--resume", action="store_true", help="go on where the run in --out was interrupted"
    )
    one.add_argument(
        "--weights",
        default=d.weights,
        metavar="FILE|NAME",
        help="start from a checkpoint: ours, Detectron2's, DeepDISC's, torchvision's, timm's, or "
        "one of the names in `astroseg models`, downloaded once",
    )
    one.add_argument(
        "--weights-sha256",
        default=d.weights_sha256,
        metavar="HASH",
        help="trust the download of this hash, where none is published",
    )
    one.add_argument(
        "--engine",
        default=d.engine,
        choices=("auto", "torchvision", "detectron2"),
        help="what trains it; auto: torchvision, and detectron2 with --config",
    )
    _add_pixels(one.add_argument_group("data"))
    _add_length(one.add_argument_group("how long and how fast"))
    _add_machine(one.add_argument_group("machine and records"))


def _add_pixels(group: Any) -> None:
    d, data = TrainConfig(), DataConfig()
    _add_data(group)
    group.add_argument(
        "--contrast",
        default=data.contrast,
        choices=("auto", *CONTRASTS),
        help="auto: asinh for fluxes, none for 8-bit pictures; lupton, lupton-hc and zscale "
        "are the paper's, for three bands",
    )
    group.add_argument(
        "--stretch",
        type=_positive,
        default=data.stretch,
        help=f"of the Lupton contrasts, in flux units (default {data.stretch:g}: HSC counts)",
    )
    group.add_argument("--bands", type=_names, default=(), metavar="B,B", help="bands, in order")
    group.add_argument(
        "--crop",
        type=_positive,
        help="side of the random window: fraction of the image's up to 1, pixels beyond "
        "(default: the schedule's; paper 0.5)",
    )
    group.add_argument(
        "--workers",
        type=int,
        default=d.workers,
        help="loader processes (default: four per GPU, one on a CPU of several cores)",
    )
    group.add_argument(
        "--cache-mb", type=_count, default=d.cache_mb, help="decoded images and masks kept, MiB"
    )


def _add_length(group: Any) -> None:
    d = TrainConfig()
    group.add_argument(
        "--schedule",
        default=d.schedule,
        metavar="paper|tiny|FILE",
        help="default: tiny for the model tiny, else paper",
    )
    group.add_argument("--epochs", type=_positive, help="length, stages keeping their shares")
    group.add_argument("--steps", type=_count, help="the same in steps")
    group.add_argument("--lr", type=_positive, help="of the first stage, others in proportion")
    group.add_argument("--batch-size", type=_count, dest="batch", help="images per step")
    group.add_argument(
        "--accumulate", type=_count, default=d.accumulate, help="parts of a batch, to save memory"
    )
    group.add_argument("--seed", type=int, default=d.seed, help="equal seeds give equal runs")


def _add_machine(group: Any) -> None:
    d = TrainConfig()
    group.add_argument("--device", default=d.device, help="auto, cpu, cuda or cuda:N")
    group.add_argument(
        "--amp",
        default=d.amp,
        choices=("auto", "off", "bf16", "fp16"),
        help="mixed precision; auto: on GPUs only, bf16 where they have it",
    )
    group.add_argument(
        "--save-every",
        type=_count,
        default=d.save_every,
        metavar="STEPS",
        help="of last.safetensors and the state (default: an epoch, at least 100)",
    )
    group.add_argument(
        "--validate-every",
        type=_count,
        default=d.validate_every,
        metavar="STEPS",
        help="(default: an epoch, at least a tenth of the run)",
    )
    group.add_argument(
        "--validation-images",
        type=int,
        default=d.validation_images,
        help=f"used while training, 0 for all (default {d.validation_images})",
    )
    group.add_argument(
        "--log-every",
        type=_count,
        default=d.log_every,
        metavar="STEPS",
        help=f"lines of log.jsonl (default {d.log_every})",
    )
    group.add_argument("--quiet", action="store_true", help="no progress, errors only")


def _add_data(group: Any) -> None:
    group.add_argument(
        "--images", default="", metavar="DIR", help="folder of the images (default: the file's)"
    )
    group.add_argument(
        "--classes",
        type=_names,
        default=(),
        metavar="C,C",
        help="names for a list of Detectron2 records, which has none, from id 0 on",
    )
    group.add_argument(
        "--nan",
        default="refuse",
        choices=("refuse", "zero"),
        help="pixels that are not finite: stop, or set to the sky level 0",
    )


def _add_predict(one: argparse.ArgumentParser) -> None:
    d = PredictConfig()
    one.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    one.add_argument("inputs", nargs="+", metavar="COCO.json|IMAGE")
    one.add_argument("--out", type=Path, required=True, metavar="PRED", help="folder to write to")
    one.add_argument(
        "--score", type=_fraction, help="least score (default: the model's; 0.5 in the paper)"
    )
    one.add_argument(
        "--nms",
        type=_fraction,
        help="box IoU of two detections that are one (default: the model's; 0.3 in the paper)",
    )
    one.add_argument(
        "--detections", type=_count, default=d.detections, help="most per image or tile"
    )
    one.add_argument(
        "--engine",
        default=d.engine,
        choices=("auto", "torchvision", "detectron2"),
        help="what runs the model; auto: what trained it, where that is installed",
    )
    one.add_argument(
        "--config",
        default=d.config,
        metavar="FILE",
        help="the Detectron2 configuration the model was trained from, where it has parts of its "
        "own making: it is RUN, if it is still the same",
    )
    one.add_argument("--device", default=d.device, help="auto, cpu, cuda or cuda:N")
    one.add_argument(
        "--tile-size",
        type=_count,
        default=d.tile_size,
        metavar="PX",
        help=f"of overlapping tiles (default: whole images up to {d.whole_up_to} px)",
    )
    one.add_argument("--overlap", type=int, default=d.overlap, metavar="PX", help="of tiles")
    one.add_argument(
        "--format", dest="catalog", default=d.catalog, choices=("fits", "parquet"),
        help="of the sky catalog",
    )  # fmt: skip
    one.add_argument(
        "--overlays", type=int, default=d.overlays, help="pictures to write, -1 for all"
    )
    one.add_argument("--quiet", action="store_true", help="no progress, errors only")
    _add_data(one)


def _add_evaluate(one: argparse.ArgumentParser) -> None:
    one.add_argument("truth", type=Path, metavar="TRUTH.json")
    one.add_argument("predictions", type=Path, metavar="PREDICTIONS.json")
    one.add_argument("--out", type=Path, required=True, metavar="EVAL", help="folder to write to")
    one.add_argument("--score", type=_fraction, help="detections below count in AP only")
    one.add_argument("--band", help="of the magnitudes to bin by")
    one.add_argument("--resamples", type=_count, help="bootstrap draws over images")
    one.add_argument("--no-report", action="store_true", help="metrics.json only")
    one.add_argument(
        "--beside", type=Path, metavar="metrics.json", help="print another model's numbers too"
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value
