"""The options of each command."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from astroseg.cli.settings import Parser, add_settings

_DATA = {
    "images": "folder of the images, where the file's names are another machine's",
    "classes": "names for a list of Detectron2 records, which has none, from id 0 on",
    "nan": "pixels that are not finite: refuse (default), or zero, the sky level",
    "strict": "refuse a label file that needs repairs, which are else counted and printed",
}
_TRAIN = {
    "model": "network, of `astroseg models` (default tiny)",
    "model-config": "Detectron2 configuration file that says the model in its place",
    "engine": "what trains it (default auto)",
    "weights": "checkpoint to start from: ours, Detectron2's, DeepDISC's, torchvision's, timm's, "
    "or a name of `astroseg models`, downloaded once",
    "weights-sha256": "trust the download of this hash, where none is published",
    **_DATA,
    "bands": "bands the network gets, in order",
    "targets": "attributes to learn, with uncertainty, as redshift,mag_i",
    "contrast": "auto: asinh for fluxes, none for 8-bit pictures; lupton, lupton-hc and zscale "
    "are the paper's, for three bands",
    "stretch": "of the Lupton contrasts, in flux units (default 0.5: HSC counts)",
    "schedule": "paper, tiny or a TOML file (default: tiny for the model tiny, else paper)",
    "epochs": "length, stages keeping their shares",
    "steps": "the same in steps",
    "batch-size": "images per step",
    "lr": "learning rate of the first stage, others in proportion",
    "crop": "side of the random window: fraction of the image's up to 1, px beyond",
    "accumulate": "parts of a batch, to save memory",
    "device": "auto, cpu, cuda or cuda:N",
    "amp": "mixed precision (default auto: on GPUs)",
    "workers": "loader processes",
    "seed": "equal seeds give equal runs",
    "log-to": "tensorboard, wandb, mlflow, each an extra; log.jsonl is always written",
}
_PREDICT = {
    "score": "least score (default: the model's; 0.5 in the paper)",
    "nms": "box IoU of two detections that are one (default: the model's; 0.3 in the paper)",
    "purity": "instead of a score: what a calibrated checkpoint's detections shall have, as 0.95",
    "detections": "most per image or tile",
    "zeropoint": "AB magnitude of one unit of flux, of images whose headers do not say",
    "engine": "what runs the model (default auto: what trained it, where that is installed)",
    "model-config": "Detectron2 configuration file the model was trained from, where it has parts "
    "of its own making: it is RUN, if it is still the same",
    "device": "auto, cpu, cuda or cuda:N",
    "tile-size": "side of overlapping tiles, px",
    "overlap": "of tiles, px",
    "format": "of the sky catalog (default fits)",
    "overlays": "pictures to write (default 20), -1 for all",
    **_DATA,
}
_EVALUATE = {
    "score": "detections below count in AP only (default 0.5)",
    "band": "of the magnitudes to bin by (default i)",
    "resamples": "bootstrap draws over images (default 1000)",
    "classes": _DATA["classes"],
    "strict": _DATA["strict"],
}


def add_train(one: Parser) -> None:
    one.add_argument("train", type=Path, metavar="TRAIN.json", help="COCO file to learn from")
    one.add_argument("--val", type=Path, metavar="VAL.json", help="COCO file to choose by")
    one.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    one.add_argument("--resume", action="store_true", help="go on with the run in RUN")
    add_settings(one, "train", _TRAIN)


def add_predict(one: Parser) -> None:
    one.add_argument(
        "inputs", nargs="*", metavar="[CHECKPOINT] COCO.json|IMAGE",
        help="a checkpoint of `astroseg train` (.safetensors; without one, the built-in model for "
        "any survey), then a COCO file, or images, folders, patterns, lists of images (.txt); "
        "files of one image joined by commas",
    )  # fmt: skip
    one.add_argument(
        "--bands", action="append", default=[], metavar="NAME=FILE,...",
        help="one more image, its bands named",
    )  # fmt: skip
    one.add_argument(
        "--model", dest="checkpoint", metavar="NAME|FILE",
        help="the checkpoint, or a built-in model (default sky)",
    )  # fmt: skip
    one.add_argument(
        "--out", type=Path, default=Path("predictions"), metavar="PRED",
        help="folder to write to (default predictions)",
    )  # fmt: skip
    add_settings(one, "predict", _PREDICT)


def add_calibrate(one: Parser) -> None:
    one.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="of `astroseg train`")
    one.add_argument(
        "val", type=Path, metavar="VAL.json", help="labelled images it was not trained on"
    )
    one.add_argument(
        "--out", type=Path, metavar="OUT.safetensors",
        help="write a new checkpoint (default: replace CHECKPOINT, its weights unchanged)",
    )  # fmt: skip
    left_out = ("score", "purity", "format", "overlays")
    common = {word: text for word, text in _PREDICT.items() if word not in left_out}
    add_settings(one, "predict", common)


def add_evaluate(one: Parser) -> None:
    one.add_argument("truth", type=Path, metavar="TRUTH.json")
    one.add_argument("predictions", type=Path, metavar="PREDICTIONS.json")
    one.add_argument("--out", type=Path, required=True, metavar="EVAL", help="folder to write to")
    one.add_argument(
        "--no-report", dest="evaluate.report", action="store_const", const=False,
        default=argparse.SUPPRESS, help="metrics.json only",
    )  # fmt: skip
    one.add_argument(
        "--beside", type=Path, metavar="metrics.json", help="print another model's numbers too"
    )
    add_settings(one, "evaluate", _EVALUATE)


def add_convert(one: Parser) -> None:
    one.add_argument("file", type=Path, metavar="FILE", help=".pth, .pkl or .safetensors")
    one.add_argument("--out", type=Path, required=True, metavar="OUT.safetensors")
    one.add_argument("--model", default="", help="network, of `astroseg models`")
    one.add_argument(
        "--model-config", dest="file_of_model", default="", metavar="FILE",
        help="its Detectron2 configuration in the place of a name",
    )  # fmt: skip
    one.add_argument("--classes", required=True, metavar="C,C", help="in the order of its labels")
    one.add_argument("--bands", required=True, metavar="B,B", help="of its images, in order")
    one.add_argument("--contrast", required=True, help="how their pixels were scaled")
    one.add_argument("--stretch", type=float, default=0.5, help="of the Lupton contrasts")
    one.add_argument("--q", type=float, default=10.0, help="of the Lupton contrasts")
    one.add_argument(
        "--zeropoint", default="", metavar="X,X", help="AB, of its images, one or one per band"
    )
    one.add_argument("--pixel-scale", type=float, default=0.0, help="of its images, arcsec")
    one.add_argument("--pixel-mean", default="", metavar="X,X", help="(default: Detectron2's own)")
    one.add_argument("--pixel-std", default="", metavar="X,X", help="(default: Detectron2's own)")
    one.add_argument(
        "--red-first", action="store_true",
        help="it saw red first, as DeepDISC's loaders have it (default: blue first, Detectron2's)",
    )  # fmt: skip
    one.add_argument("--skip", default="", metavar="PATTERN,...", help="weights to leave out")


def add_models(_: Parser) -> None:
    """`models` has no options."""


COMMANDS: Mapping[str, tuple[str, Callable[[Parser], None]]] = {
    "train": ("train a model on a COCO dataset", add_train),
    "predict": ("apply a model to images of any size", add_predict),
    "calibrate": ("make a model's scores probabilities", add_calibrate),
    "evaluate": ("compare predictions with the truth", add_evaluate),
    "convert": ("make a checkpoint of Detectron2 or DeepDISC usable by predict", add_convert),
    "models": ("list the models each engine has, and where weights come from", add_models),
}
"""Help and options of each command."""
