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

Statistics = tuple[torch.Tensor, torch.Tensor]
"""Mean and variance of each channel's group, (C,) each."""


def group_norms(network: nn.Module) -> list[nn.GroupNorm]:
    """Those in a network."""
    return [module for module in network.modules() if isinstance(module, nn.GroupNorm)]


@contextmanager
def held(norms: list[nn.GroupNorm], run: Callable[[], Any]) -> Iterator[None]:
    """Within it, the norms scale by their statistics on what `run` shows them.

    Parameters
    ----------
    run : sends one image through the norms; not called where there are none.
    """
    if not norms:
        yield
        return
    found: dict[nn.GroupNorm, Statistics] = {}

    def record(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(norm, nn.GroupNorm)
        found[norm] = _statistics(norm, inputs[0])

    with ExitStack() as hooks:
        for norm in norms:
            hooks.callback(norm.register_forward_pre_hook(record).remove)
        run()
    for norm, statistics in found.items():
        vars(norm)["forward"] = functools.partial(_scaled, norm, statistics)
    try:
        yield
    finally:
        for norm in found:
            del vars(norm)["forward"]


def _statistics(norm: nn.GroupNorm, x: torch.Tensor) -> Statistics:
    """Of (1, C, H, W)."""
    groups = x.reshape(norm.num_groups, -1)
    variance, mean = torch.var_mean(groups, dim=1, correction=0)
    repeats = norm.num_channels // norm.num_groups
    return mean.repeat_interleave(repeats), variance.repeat_interleave(repeats)


def _scaled(norm: nn.GroupNorm, statistics: Statistics, x: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) by given statistics: what a batch norm does when it does not learn."""
    mean, variance = statistics
    return nn.functional.batch_norm(x, mean, variance, norm.weight, norm.bias, eps=norm.eps)
