"""The head that learns attributes: its loss by hand, in every kind of network."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_helpers import sample

from astroseg.core.errors import InputError
from astroseg.engines import get_engine
from astroseg.models.spec import ModelSpec, model_spec
from astroseg.models.targets import in_units, target_loss
from astroseg.weights.checkpoint import CLASS_HEADS, TARGET_HEADS, read_header

ENGINE = get_engine("torchvision")
TARGETS: dict[str, Any] = {
    "targets": ("redshift", "mag_i"),
    "target_mean": (0.5, 22.0),
    "target_std": (0.25, 2.0),
}
NARROW: dict[str, Any] = {
    "blocks": (1, 1, 1, 1),
    "stem_channels": 16,
    "stage_channels": (16, 16, 32, 32),
    "group_width": 4,
    "fpn_channels": 16,
    "box_head_dim": 16,
    "mask_head_dim": 16,
    "norm_groups": 4,
}


def spec(name: str = "tiny", **fields: Any) -> ModelSpec:
    own = {} if name == "tiny" else NARROW
    made = model_spec(name, channels=3, classes=("galaxy", "star"), **{**own, **TARGETS, **fields})
    return made.for_scratch()


def components(*rows: tuple[float, float, float]) -> torch.Tensor:
    """(1, 1, 3, K) standardised, of (weight, mean, deviation)."""
    weight, mean, deviation = torch.tensor(rows).T
    return torch.stack((weight.log(), mean, deviation))[None, None]


def with_targets(values: Any, seed: int = 0) -> Any:
    one = sample(seed=seed)
    return dataclasses.replace(one, targets=np.array(values, np.float32))


def test_the_loss_is_the_mean_negative_log_likelihood_of_the_known_values() -> None:
    one = spec(targets=("mag_i",), target_mean=(22.0,), target_std=(2.0,))
    rows = ((0.25, -1.0, 0.5), (0.75, 2.0, 1.0))
    value = 23.0  # 0.5 deviations above the mean

    def density(weight: float, mean: float, deviation: float) -> float:
        return (
            weight
            * math.exp(-0.5 * ((0.5 - mean) / deviation) ** 2)
            / (deviation * math.sqrt(2 * math.pi))
        )

    expected = -math.log(sum(density(*row) for row in rows))
    both = components(*rows).repeat(2, 1, 1, 1)
    known = target_loss(both, torch.tensor([[value], [math.nan]]), one)
    assert float(known) == pytest.approx(expected, rel=1e-5)


def test_unknown_values_have_no_gradient_and_none_known_is_no_loss() -> None:
    mixtures = components((0.5, 0.0, 1.0), (0.5, 1.0, 1.0)).repeat(3, 2, 1, 1).requires_grad_()
    values = torch.tensor([[0.4, math.nan], [math.nan, math.nan], [math.nan, 20.0]])
    target_loss(mixtures, values, spec()).backward()
    assert mixtures.grad is not None
    told = mixtures.grad.abs().sum(dim=(2, 3)) > 0
    assert torch.equal(told, torch.isfinite(values))
    nothing = target_loss(mixtures, torch.full((3, 2), math.nan), spec())
    assert nothing.item() == 0
    nothing.backward()


def test_mixtures_leave_the_network_in_the_targets_units() -> None:
    made = in_units(components((1.0, 2.0, 0.5)).repeat(1, 2, 1, 1), spec())
    assert made[0, 0, :, 0].tolist() == [1, 1.0, 0.125]
    assert made[0, 1, :, 0].tolist() == [1, 26.0, 1.0]


@pytest.mark.parametrize("name", ["tiny", "r50-fpn", "r50-fpn-cascade", "r101-c4"])
def test_every_kind_of_network_learns_and_predicts_them(name: str) -> None:
    fields = {} if name == "tiny" else {"rpn_post_nms_top_n": (200, 50)}
    model = ENGINE.build(spec(name, score_threshold=0.0, **fields), seed=0)
    batch = [with_targets([[0.3, 21], [math.nan, 25], [0.7, math.nan]]), sample(seed=1)]
    losses = ENGINE.losses(model, batch)
    assert torch.isfinite(losses["loss_targets"])
    losses["loss_targets"].backward()
    head = [n for n, p in model.named_parameters() if "target_head" in n and p.grad is not None]
    assert len(head) == 4
    found = ENGINE.predict(model, [sample().image])[0]
    assert found.mixtures is not None
    assert found.mixtures.shape == (len(found.scores), 2, 3, 5)
    assert len(found.scores)
    weights, means, stds = np.moveaxis(found.mixtures, 2, 0)
    assert np.allclose(weights.sum(axis=2), 1, atol=1e-5)
    # Untrained it tells the training set's values: means within two deviations.
    assert (np.abs(means - np.array([[0.5], [22]])) < 2 * np.array([[0.25], [2]])).all()
    assert (stds > 0).all()


def test_a_model_without_targets_has_neither_head_nor_loss() -> None:
    model = ENGINE.build(spec(targets=(), target_mean=(), target_std=()), seed=0)
    assert not any("target" in name for name in model.state_dict())
    assert "loss_targets" not in ENGINE.losses(model, [sample()])
    assert ENGINE.predict(model, [sample().image])[0].mixtures is None


def test_targets_cross_a_checkpoint_and_other_ones_are_refused(tmp_path: Path) -> None:
    first = ENGINE.build(spec(score_threshold=0.0), seed=0)
    ENGINE.save(first, tmp_path / "a.safetensors", {})
    stored = read_header(tmp_path / "a.safetensors").spec
    assert stored == first.spec
    again = ENGINE.build(stored, seed=9)
    ENGINE.load(again, tmp_path / "a.safetensors")
    a, b = (ENGINE.predict(m, [sample().image])[0].mixtures for m in (first, again))
    assert np.array_equal(a, b)

    other = ENGINE.build(spec(targets=("mag_i", "redshift")), seed=1)
    with pytest.raises(InputError, match=r"targets \['redshift', 'mag_i'\], not \['mag_i'"):
        ENGINE.load(other, tmp_path / "a.safetensors")
    before = other.roi_heads.target_head.fc.weight.clone()
    fresh = (*CLASS_HEADS, *TARGET_HEADS)
    report = ENGINE.load(other, tmp_path / "a.safetensors", allow_missing=fresh)
    assert {n.split(".")[1] for n in report.mismatched} == {"target_head"}
    assert torch.equal(other.roi_heads.target_head.fc.weight, before)
    # The same targets on another scale mean other weights.
    scaled = ENGINE.build(spec(target_std=(0.5, 2.0)), seed=1)
    with pytest.raises(InputError, match="target_std"):
        ENGINE.load(scaled, tmp_path / "a.safetensors", allow_missing=fresh)


@pytest.mark.parametrize(
    "fields",
    [
        {"targets": ("a", "a")},
        {"targets": ("a",)},
        {"target_std": (0.0, 1.0)},
        {"target_mean": (math.nan, 1.0)},
        {"target_components": 0},
        {"target_floor": 0.0},
    ],
)
def test_targets_that_contradict_themselves_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="target"):
        spec(**fields)


def test_detectron2_is_refused_them() -> None:
    from astroseg.engines.detectron2.config import refusals

    assert refusals(model_spec("r50-fpn", channels=3, classes=("a",), **TARGETS)) == [
        "it has no head for attributes of objects"
    ]
