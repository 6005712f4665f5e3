"""COCO datasets of the sky in; models, predictions and metrics out."""

from astroseg.core.version import __version__

__all__ = ["__version__"]
