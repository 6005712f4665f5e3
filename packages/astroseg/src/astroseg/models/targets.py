"""Attributes of objects by mixture density (Bishop 1994): a redshift, a magnitude, any number.

The head sees the features that class and box see, and the region's size, which pooling takes
away. It works on standardised values; mixtures that leave the network are in the target's unit.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from astroseg.models.layers import start_normal, start_xavier
from astroseg.models.spec import ModelSpec


class TargetHead(nn.Module):
    """One fully connected layer, then weights, means and deviations of every target.

    Parameters
    ----------
    inputs : channels of a region's features.
    """

    def __init__(self, spec: ModelSpec, inputs: int) -> None:
        super().__init__()
        self.shape = (len(spec.targets), 3, spec.target_components)
        self.floor = spec.target_floor
        self.fc = nn.Linear(inputs + 2, spec.box_head_dim)
        self.predictor = nn.Linear(spec.box_head_dim, math.prod(self.shape))
        start_xavier(self.fc)
        start_normal(self.predictor, 0.01)
        with torch.no_grad():
            # Spread over the values: components that start alike stay alike.
            bias = self.predictor.bias.view(self.shape)
            bias[:, 1] = torch.linspace(-1.0, 1.0, self.shape[2]) if self.shape[2] > 1 else 0.0

    def forward(self, features: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """(N, T, 3, K) log weights, means and deviations, standardised.

        Parameters
        ----------
        features : (N, inputs) of the regions.
        boxes : (N, 4) XYXY of the same.
        """
        size = torch.log((boxes[:, 2:] - boxes[:, :2]).clamp(min=1.0)).to(features.dtype)
        hidden = torch.relu(self.fc(torch.cat((features, size), dim=1)))
        raw = self.predictor(hidden).float().reshape(-1, *self.shape)
        weight, mean, width = raw.unbind(dim=2)
        deviation = self.floor + nn.functional.softplus(width + math.log(math.e - 1))  # 1 at 0
        return torch.stack((weight.log_softmax(dim=2), mean, deviation), dim=2)


def target_loss(mixtures: torch.Tensor, values: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    """Mean negative log likelihood of the known values, standardised.

    Parameters
    ----------
    mixtures : (N, T, 3, K) of `TargetHead`.
    values : (N, T) in the targets' units, NaN where unknown.
    """
    mean, std = values.new_tensor(spec.target_mean), values.new_tensor(spec.target_std)
    known = torch.isfinite(values)
    if not known.any():
        return mixtures.sum() * 0  # keeps the head in the graph for distributed training
    value = ((values - mean) / std)[known].unsqueeze(-1)
    weight, centre, deviation = mixtures[known].unbind(dim=1)
    distance = (value - centre) / deviation
    log = weight - 0.5 * distance**2 - torch.log(deviation) - 0.5 * math.log(2 * math.pi)
    return -torch.logsumexp(log, dim=1).mean()


def in_units(mixtures: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    """(N, T, 3, K) weights, means and deviations in the targets' units."""
    mean = mixtures.new_tensor(spec.target_mean)[:, None]
    std = mixtures.new_tensor(spec.target_std)[:, None]
    weight, centre, deviation = mixtures.unbind(dim=2)
    return torch.stack((weight.exp(), centre * std + mean, deviation * std), dim=2)
