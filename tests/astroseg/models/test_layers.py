"""Layers that are quicker than what they stand for, and equal to it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from astroseg.models.layers import WIDE, FrozenBatchNorm, lay_out


@pytest.fixture
def norms() -> tuple[nn.Module, nn.Module]:
    ours, theirs = FrozenBatchNorm(5), FrozenBatchNorm2d(5)
    values = torch.Generator().manual_seed(0)
    state = {k: torch.rand(5, generator=values) + 0.5 for k in theirs.state_dict()}
    for norm in (ours, theirs):
        norm.load_state_dict(state)
    return ours, theirs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frozen_norm_is_torchvisions(
    norms: tuple[nn.Module, nn.Module], dtype: torch.dtype
) -> None:
    ours, theirs = norms
    x = torch.randn(2, 5, 4, 3, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert torch.allclose(ours(x), theirs(x), rtol=1e-6, atol=1e-6)
    assert ours(x).dtype == theirs(x).dtype
    grads = []
    for norm in norms:
        given = x.clone().requires_grad_()
        norm(given).pow(2).sum().backward()
        grads.append(given.grad)
    assert torch.equal(grads[0], grads[1])


def test_wide_convolutions_and_what_they_read_stay_contiguous() -> None:
    network = nn.Sequential(nn.Conv2d(8, WIDE, 1), nn.Conv2d(WIDE, 8, 3), nn.Conv2d(8, 8, 3))
    x = torch.randn(1, 8, 12, 12)
    with torch.no_grad():
        before = network(x)
        lay_out(network)
        seen: list[torch.Tensor] = []
        network[1].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
        after = network(x.contiguous(memory_format=torch.channels_last))
    assert torch.allclose(before, after, atol=1e-5)
    assert network[1].weight.is_contiguous()
    assert seen[0].is_contiguous()
    assert network[2].weight.is_contiguous(memory_format=torch.channels_last)
    assert not network[2].weight.is_contiguous()
