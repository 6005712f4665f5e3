"""Checkpoints of ours and of others, and published weights by name."""
