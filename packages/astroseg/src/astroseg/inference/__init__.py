"""Images of any size to predictions and a sky catalog."""
