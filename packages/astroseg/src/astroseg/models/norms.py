"""Group norms that scale all parts of a large image alike.

A group norm scales by mean and deviation of what it sees. Tiles of one image differ in both, so a
network would answer differently in each of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

Affine = tuple[torch.Tensor, torch.Tensor]
"""Factor and summand of each channel, (C, 1, 1) each."""


def group_norms(network: nn.Module) -> list[nn.GroupNorm]:
    """Those in a network."""
    return [module for module in network.modules() if isinstance(module, nn.GroupNorm)]


@contextmanager
def held(norms: list[nn.GroupNorm], run: Callable[[], Any]) -> Iterator[None]:
    """Within it, each norm maps all it sees as it maps the images of `run` in the mean.

    The mean of the maps, not the map of pooled pixels: one bright star would lower the contrast of
    all of them.

    Parameters
    ----------
    run : sends a batch of images through the norms; not called where there are none.
    """
    if not norms:
        yield
        return
    found: dict[nn.GroupNorm, Affine] = {}

    def record(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(norm, nn.GroupNorm)
        found[norm] = _affine(norm, inputs[0])

    with ExitStack() as hooks:
        for norm in norms:
            hooks.callback(norm.register_forward_pre_hook(record).remove)
        run()
    for norm, (factor, summand) in found.items():
        vars(norm)["forward"] = functools.partial(_mapped, factor, summand)
    try:
        yield
    finally:
        for norm in found:
            del vars(norm)["forward"]


def _affine(norm: nn.GroupNorm, x: torch.Tensor) -> Affine:
    """What a norm does to (N, C, H, W), in the mean of the N."""
    groups = x.reshape(len(x), norm.num_groups, -1)
    variance, mean = torch.var_mean(groups, dim=2, correction=0)
    inverse = torch.rsqrt(variance + norm.eps)
    repeats = norm.num_channels // norm.num_groups
    factor, summand = (
        values.mean(dim=0).repeat_interleave(repeats) for values in (inverse, -mean * inverse)
    )
    if norm.affine:
        factor, summand = factor * norm.weight, summand * norm.weight + norm.bias
    return factor[:, None, None], summand[:, None, None]


def _mapped(factor: torch.Tensor, summand: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(summand, x, factor)
