"""COCO datasets of the sky in; instance-segmentation models, predictions and metrics out.

>>> import astroseg
>>> run = astroseg.train("train.json", "run", val_file="val.json")  # doctest: +SKIP
>>> found = astroseg.load(run.checkpoint).predict("g.fits", "r.fits", "i.fits")  # doctest: +SKIP
>>> found.table; found.segmentation; found.plot()  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from astroseg.core.version import __version__

if TYPE_CHECKING:
    from astroseg.core.config import Config, configured
    from astroseg.core.errors import InputError, OutputError
    from astroseg.data.dataset import read_dataset
    from astroseg.evaluation.evaluate import evaluate
    from astroseg.inference.calibrate import calibrate
    from astroseg.inference.model import Model, load
    from astroseg.inference.predict import predict
    from astroseg.inference.predictions import Predictions
    from astroseg.training.train import train

_HOMES = {
    "Config": "astroseg.core.config",
    "InputError": "astroseg.core.errors",
    "Model": "astroseg.inference.model",
    "OutputError": "astroseg.core.errors",
    "Predictions": "astroseg.inference.predictions",
    "calibrate": "astroseg.inference.calibrate",
    "configured": "astroseg.core.config",
    "evaluate": "astroseg.evaluation.evaluate",
    "load": "astroseg.inference.model",
    "predict": "astroseg.inference.predict",
    "read_dataset": "astroseg.data.dataset",
    "train": "astroseg.training.train",
}
"""Where the public names live; each is loaded when it is first used."""

__all__ = [
    "Config",
    "InputError",
    "Model",
    "OutputError",
    "Predictions",
    "__version__",
    "calibrate",
    "configured",
    "evaluate",
    "load",
    "predict",
    "read_dataset",
    "train",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'astroseg' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
