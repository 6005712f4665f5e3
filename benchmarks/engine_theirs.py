"""Detectron2's own trainer and predictor, as benchmarks/engines.py measures them."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engine_inputs import WARM, Clock, Settings, predictions, read_spec
from PIL import Image

from astroseg.engines import get_engine
from astroseg.models.spec import ModelSpec
from astroseg.weights.checkpoint import read_checkpoint


def their_config(given: Settings, out: str) -> Any:
    """Detectron2's configuration of the same model, data and step."""
    from detectron2.config import get_cfg

    from astroseg.engines.detectron2.config import settings

    folder = Path(given.folder)
    spec = read_spec(folder)
    size = Image.open(folder / "1.png").size[0]
    values: dict[str, Any] = {} if needs_adapter(spec, given) else dict(settings(spec))
    values |= {
        "MODEL.DEVICE": given.device,
        "MODEL.MASK_ON": True,  # its reader of data asks that too
        "MODEL.WEIGHTS": str(folder / "weights.pth"),
        "INPUT.FORMAT": "BGR" if spec.reverse_channels else "RGB",
        "INPUT.MASK_FORMAT": "bitmask",
        "INPUT.MIN_SIZE_TRAIN": [size],
        "INPUT.MAX_SIZE_TRAIN": size,
        "INPUT.MIN_SIZE_TEST": size,
        "INPUT.MAX_SIZE_TEST": size,
        "DATASETS.TRAIN": ["benchmark"],
        "DATASETS.TEST": [],
        "DATALOADER.NUM_WORKERS": 4 if given.device == "cuda" else 0,
        "SOLVER.IMS_PER_BATCH": given.batch,
        "SOLVER.MAX_ITER": given.steps + WARM + 1,
        "SOLVER.BASE_LR": 1e-6,
        "SOLVER.WARMUP_ITERS": 0,
        "SOLVER.STEPS": [],
        "SOLVER.AMP.ENABLED": given.amp,
        "OUTPUT_DIR": out,
    }
    config = get_cfg()
    config.merge_from_list([part for item in values.items() for part in item])
    return config


def needs_adapter(spec: ModelSpec, given: Settings) -> bool:
    """Whether Detectron2's trainer gets the model that our engine builds of its parts.

    Its yacs configuration has no transformers, and its own deformable convolutions train on
    GPUs only.
    """
    return spec.backbone != "resnet" or bool(spec.deform_stages and given.device == "cpu")


def their_models(given: Settings) -> None:
    """Let Detectron2's trainer and predictor build what its configuration cannot say."""
    from detectron2.engine import defaults

    spec = read_spec(Path(given.folder))

    def build(config: Any) -> torch.nn.Module:
        return get_engine("detectron2").build(spec).to(config.MODEL.DEVICE)

    if needs_adapter(spec, given):
        defaults.build_model = build


def train_theirs(given: Settings, clock: Clock | None = None) -> dict[str, float]:
    """Detectron2's DefaultTrainer."""
    from detectron2.data.datasets import register_coco_instances
    from detectron2.engine import DefaultTrainer, HookBase

    clock, folder = clock or Clock(given.device), Path(given.folder)
    register_coco_instances("benchmark", {}, str(folder / "train.json"), str(folder))
    their_models(given)
    with tempfile.TemporaryDirectory() as out:
        trainer = DefaultTrainer(their_config(given, out))
        trainer.resume_or_load(resume=False)
        check_weights(trainer.model, folder)
        hook = HookBase()
        hook.before_step = clock.tick
        trainer.register_hooks([hook])
        trainer.train()
    return clock.result()


def predict_theirs(given: Settings, clock: Clock | None = None) -> dict[str, float]:
    """Detectron2's DefaultPredictor."""
    from detectron2.engine import DefaultPredictor

    their_models(given)
    predictor = DefaultPredictor(their_config(given, given.folder))
    check_weights(predictor.model, Path(given.folder))

    def find(picture: Any) -> int:
        return len(predictor(np.ascontiguousarray(picture[..., ::-1]))["instances"])

    return predictions(given, find, clock)


def check_weights(model: torch.nn.Module, folder: Path) -> None:
    """Stop if Detectron2 did not load every weight."""
    wanted, _ = read_checkpoint(folder / "weights.safetensors")
    held = model.state_dict()
    wrong = [k for k, v in wanted.items() if k not in held or not torch.equal(held[k].cpu(), v)]
    if wrong or len(wanted) != len(held):
        sys.exit(f"Detectron2 holds other weights: {wrong[:3]}, {len(held)} for {len(wanted)}")
