"""The running mean of the weights, which is validated and saved as the model."""

from __future__ import annotations

from collections.abc import Mapping

import torch


class RunningMean:
    """Exponential mean of a model's weights, moved in one fused operation a step.

    Attributes
    ----------
    decay : of the mean in a step; 0 for no mean.
    weights : tensors by name on the model's device; empty without a mean.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, torch.Tensor] = {}

    def start(
        self, model: torch.nn.Module, stored: Mapping[str, torch.Tensor], device: torch.device
    ) -> None:
        """Begin with the stored mean, or with the model's weights where there is none."""
        if not self.decay:
            return
        own = model.state_dict()
        self.weights = {k: v.clone().to(device) for k, v in (stored or own).items()}
        real = [name for name, value in own.items() if value.is_floating_point()]
        self._own, self._means = [own[k] for k in real], [self.weights[k] for k in real]
        self._counters = [(self.weights[k], own[k]) for k in own if k not in set(real)]

    def move(self, step: int) -> None:
        """Move towards the weights; at first quickly, to forget the start."""
        if not self.weights:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(self._means, self._own, 1 - decay)
            for mean, value in self._counters:
                mean.copy_(value)
