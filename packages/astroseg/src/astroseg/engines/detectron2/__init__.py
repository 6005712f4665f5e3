"""The adapter of the real Detectron2, where it is installed."""
