"""The models there are: sizes, engines, and the licences of weights to start from."""

from __future__ import annotations

import torch

from astroseg.engines import ENGINES, get_engine
from astroseg.engines.base import Engine
from astroseg.errors import InputError
from astroseg.models.spec import MODELS, PLANNED, model_spec

ORIGIN = {
    "tiny": ("none: trains from scratch", "-"),
}
"""Where weights to start from come from, and their licence, where not the usual ones."""

ZOO = ("Detectron2 model zoo (COCO), converted", "CC BY-SA 3.0 as published there")


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
    rows = [("model", "engines", "parameters", "weights to start from", "their licence")]
    for name in MODELS:
        origin, licence = ORIGIN.get(name, ZOO)
        names = ", ".join(engine.name for engine in engines)
        rows.append((name, names, f"{parameters(engines[0], name) / 1e6:.2f} M", origin, licence))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    lines = [line.rstrip() for line in lines]
    lines += ["", "Parameters are for three bands and two classes."]
    lines += [f"Not in this version: {', '.join(PLANNED)}."] if PLANNED else []
    return "\n".join([*lines, *absent])


def parameters(engine: Engine, name: str) -> int:
    """Number of a model's trainable and frozen weights, counted without making them."""
    spec = model_spec(name, channels=3, classes=("galaxy", "star"))
    with torch.device("meta"):
        model = engine.build(spec)
    return sum(p.numel() for p in model.parameters())
