"""How good a set of predictions is. Nothing here imports torch."""
