"""COCO datasets of the sky in; models, predictions and metrics out."""

__version__ = "0.1.0"
