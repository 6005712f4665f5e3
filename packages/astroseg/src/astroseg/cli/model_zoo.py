"""The models there are: sizes, engines, and the licences of weights to start from."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from astroseg.core.errors import InputError
from astroseg.engines import ENGINES, get_engine
from astroseg.engines.base import Engine
from astroseg.engines.detectron2.library import need_timm
from astroseg.models.sizes import MODELS, TRANSFORMERS
from astroseg.models.spec import model_spec
from astroseg.weights.builtin import BUILTIN
from astroseg.weights.download import CACHE_VARIABLE, cache_folder
from astroseg.weights.pretrained import PRETRAINED

_CONFIGURED = "Any other network: --config with a Detectron2 configuration file, engine detectron2."


def models_table() -> str:
    """What `astroseg models` prints."""
    engines, absent = [], []
    for name in ENGINES:
        if name == "auto":
            continue
        try:
            engines.append(get_engine(name))
        except InputError as error:
            absent.append(f"engine {name}: {error}")
            continue
        if name == "detectron2" and (lacking := _without_timm()):
            absent.append(f"engine {name}: {lacking}")
    rows = [("model", "engines", "parameters")]
    for name in MODELS:
        spec = model_spec(name, channels=3, classes=("galaxy", "star"))
        names = ", ".join(engine.name for engine in engines if engine.refusal(spec) is None)
        rows.append((name, names, f"{parameters(engines[0], name) / 1e6:.2f} M"))
    lines = [*_aligned(rows), "", "Parameters are for three bands and two classes.", _CONFIGURED]
    built_in = f"Built in, with weights for any survey: {', '.join(BUILTIN)} (predict, --weights)."
    return "\n".join([*lines, built_in, *absent, "", *weights_table()])


def _without_timm() -> str:
    """What Detectron2's transformers lack here, "" if nothing."""
    try:
        need_timm(" and ".join(TRANSFORMERS))
    except InputError as error:
        return str(error)
    return ""


def weights_table() -> list[str]:
    """Lines on the pre-trained weights that fit a model of this version."""
    rows = [("--weights", "for", "trained on", "hash", "licence")]
    for one in PRETRAINED.values():
        if models := [name for name in one.models if name in MODELS]:
            known = one.digest or "ask (--weights-sha256)"
            rows.append((one.name, ", ".join(models), one.data, known, one.licence))
    return [
        *_aligned(rows),
        "",
        f"Downloaded once to {cache_folder()} ({CACHE_VARIABLE} names another folder).",
        "Hashes are as much as is published; the whole one is recorded with the first download.",
        "Where none is, the first attempt shows it, and --weights-sha256 says that you trust it.",
    ]


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return [line.rstrip() for line in lines]


def parameters(engine: Engine, name: str) -> int:
    """Number of a model's trainable and frozen weights, counted without making them."""
    spec = model_spec(name, channels=3, classes=("galaxy", "star"))
    with torch.device("meta"):
        model = engine.build(spec)
    return sum(p.numel() for p in model.parameters())
