"""Group norms held at an image's statistics give each tile what the whole image has there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from astroseg.engines.torchvision import TorchvisionEngine
from astroseg.models.mask_rcnn import MaskRcnn
from astroseg.models.norms import group_norms, held
from astroseg.models.spec import model_spec

ENGINE = TorchvisionEngine()
REACH = 96
"""Pixels beyond which the network of `tiny` sees nothing."""


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    model = ENGINE.build(model_spec("tiny", classes=("galaxy", "star"), channels=1), seed=0)
    for norm in group_norms(model):  # the last of each block starts at zero
        nn.init.uniform_(norm.weight, 0.5, 1)
    return model.eval()


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Noise, a bright half beside an empty one."""
    image = np.random.default_rng(0).normal(size=(1, 64, 384)).astype(np.float32)
    image[:, :, 192:] += 5
    return image


def features(model: nn.Module, image: np.ndarray) -> torch.Tensor:
    assert isinstance(model, MaskRcnn)
    with torch.inference_mode():
        return model.features([torch.tensor(image)])[0]


def test_a_tile_is_seen_as_in_the_whole_image(model: nn.Module, image: np.ndarray) -> None:
    whole, tile = features(model, image), image[:, :, :192]
    seen = slice(0, (192 - REACH) // 2)
    alone = features(model, tile)[..., seen]
    with ENGINE.norms_held(model, lambda: [image]):
        kept = features(model, tile)[..., seen]
    assert torch.allclose(kept, whole[..., seen], atol=1e-4)
    assert (alone - whole[..., seen]).abs().mean() > 0.1
    assert torch.equal(features(model, tile)[..., seen], alone)  # afterwards as before


def test_of_several_images_the_mean_of_the_maps_is_kept() -> None:
    norm, x = (
        nn.GroupNorm(2, 4),
        torch.randn(3, 4, 5, 6) * torch.tensor([1, 10, 100])[:, None, None, None],
    )
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    other = torch.randn(1, 4, 5, 6)
    with torch.no_grad(), held([norm], lambda: norm(x)):
        found = norm(other)
    grouped = x.reshape(3, 2, -1)
    deviation = torch.sqrt(grouped.var(dim=2, correction=0) + norm.eps)
    factor = (1 / deviation).mean(dim=0)[:, None, None, None]
    summand = (-grouped.mean(dim=2) / deviation).mean(dim=0)[:, None, None, None]
    scaled = (other.reshape(2, 2, 5, 6) * factor + summand).reshape(1, 4, 5, 6)
    with torch.no_grad():
        expected = scaled * norm.weight[:, None, None] + norm.bias[:, None, None]
    assert torch.allclose(found, expected, atol=1e-5)


def test_an_error_leaves_no_norm_held(model: nn.Module, image: np.ndarray) -> None:
    before = features(model, image[:, :, :192])
    with pytest.raises(KeyboardInterrupt), ENGINE.norms_held(model, lambda: [image]):
        raise KeyboardInterrupt
    assert torch.equal(features(model, image[:, :, :192]), before)


def test_networks_without_group_norms_ask_for_no_sample() -> None:
    plain = ENGINE.build(model_spec("r50-fpn", classes=("star",), channels=3), seed=0)
    with ENGINE.norms_held(plain, pytest.fail):
        pass
