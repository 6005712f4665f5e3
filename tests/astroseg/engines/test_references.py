"""Our networks give what Detectron2 gave: see record_references.py, which wrote the files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from record_references import SMALL, double_precision, small_spec
from safetensors import safe_open

from astroseg.core.rle import decode_tight, encode_at
from astroseg.core.samples import Sample
from astroseg.engines import get_engine
from astroseg.models.spec import from_dict

ENGINE = get_engine("torchvision")
FOLDER = Path(__file__).parents[1] / "references"


class Reference:
    """One file: the model with its weights, the samples, and what was recorded."""

    def __init__(self, name):
        with safe_open(FOLDER / f"{name}.safetensors", framework="pt") as file:
            meta = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        self.spec = from_dict(json.loads(meta["spec"]))
        self.losses = json.loads(meta["losses"])
        self.gradient_norms = json.loads(meta["gradient_norms"])
        self.versions = json.loads(meta["versions"])
        self.weights = {
            key.removeprefix("weights."): value
            for key, value in tensors.items()
            if key.startswith("weights.")
        }
        self.model = self.build()
        self.samples, self.found = [], []
        for i in range(2):
            truth = {
                k: tensors[f"truth.{i}.{k}"].numpy() for k in ("image", "boxes", "labels", "masks")
            }
            image = truth["image"].astype(np.float32)
            masks = unpacked(truth["masks"], image.shape[1:])
            rles = tuple(encode_at(mask, (0, 0), mask.shape) for mask in masks)
            self.samples.append(Sample(image, truth["boxes"], truth["labels"], rles))
            names = ("boxes", "scores", "labels", "masks", "ties")
            found = {k: tensors[f"found.{i}.{k}"].numpy() for k in names}
            found |= {k: unpacked(found[k], image.shape[1:]) for k in ("masks", "ties")}
            self.found.append(found)

    def build(self):
        """The model with its weights, in the precision that is the default."""
        model = ENGINE.build(self.spec).to(torch.get_default_dtype())
        model.load_state_dict(self.weights)
        return model


def unpacked(bits, shape):
    flat = np.unpackbits(bits, axis=1, count=shape[0] * shape[1])
    return flat.reshape(-1, *shape).astype(bool)


def whole(rle):
    mask, (y, x) = decode_tight(rle)
    full = np.zeros(rle["size"], bool)
    full[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    return full


@pytest.fixture(scope="module", params=SMALL)
def reference(request):
    return Reference(request.param)


def test_the_recorded_model_is_the_one_of_that_name(reference):
    assert reference.spec == small_spec(reference.spec.name)
    assert set(reference.versions) == {"detectron2", "torch", "torchvision"}


def test_detections_are_detectron2s(reference):
    predictions = ENGINE.predict(reference.model, [s.image for s in reference.samples])
    for mine, theirs in zip(predictions, reference.found, strict=True):
        assert len(mine.scores) == len(theirs["scores"]) >= 5
        assert set(theirs["labels"]) == {0, 1}
        # Equal scores may stand in either order.
        distance = np.abs(mine.boxes[:, None] - theirs["boxes"][None]).max(axis=2)
        distance[mine.labels[:, None] != theirs["labels"][None]] = np.inf
        partner = distance.argmin(axis=1)
        assert sorted(partner) == list(range(len(partner)))
        assert distance.min(axis=1).max() < 0.01
        np.testing.assert_allclose(mine.scores, theirs["scores"][partner], atol=1e-5, rtol=0)
        masks = np.array([whole(m) for m in mine.masks])
        assert theirs["masks"].any()
        differ = masks != theirs["masks"][partner]
        assert not (differ & ~theirs["ties"][partner]).any()


def test_losses_and_gradients_of_a_step_are_detectron2s(reference):
    with double_precision():
        model = reference.build()
        losses = ENGINE.losses(model, reference.samples)
        assert losses.keys() == reference.losses.keys()
        sum(losses.values()).backward()
    for name, expected in reference.losses.items():
        assert losses[name].dtype == torch.float64
        assert losses[name].item() == pytest.approx(expected, rel=1e-7), name
    norms = {name: parameter.grad.norm().item() for name, parameter in model.named_parameters()}
    assert norms.keys() == reference.gradient_norms.keys()
    largest = max(reference.gradient_norms.values())
    for name, expected in reference.gradient_norms.items():
        assert norms[name] == pytest.approx(expected, rel=1e-6, abs=1e-9 * largest), name


def test_float32_gives_the_losses_of_float64(reference):
    """But for anchors of equal overlap with a truth, which rounding chooses among: 1e-4."""
    losses = ENGINE.losses(reference.model, reference.samples)
    for name, expected in reference.losses.items():
        assert losses[name].dtype == torch.float32
        assert losses[name].item() == pytest.approx(expected, rel=1e-3, abs=1e-4), name
