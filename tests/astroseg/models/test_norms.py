"""Group norms held at an image's statistics give each tile what the whole image has there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from astroseg.engines.torchvision import TorchvisionEngine
from astroseg.models.mask_rcnn import MaskRcnn
from astroseg.models.norms import group_norms
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
    with ENGINE.norms_held(model, lambda: image):
        held = features(model, tile)[..., seen]
    assert torch.allclose(held, whole[..., seen], atol=1e-4)
    assert (alone - whole[..., seen]).abs().mean() > 0.1
    assert torch.equal(features(model, tile)[..., seen], alone)  # afterwards as before


def test_an_error_leaves_no_norm_held(model: nn.Module, image: np.ndarray) -> None:
    before = features(model, image[:, :, :192])
    with pytest.raises(KeyboardInterrupt), ENGINE.norms_held(model, lambda: image):
        raise KeyboardInterrupt
    assert torch.equal(features(model, image[:, :, :192]), before)


def test_networks_without_group_norms_ask_for_no_sample() -> None:
    plain = ENGINE.build(model_spec("r50-fpn", classes=("star",), channels=3), seed=0)
    with ENGINE.norms_held(plain, pytest.fail):
        pass
