"""AP during training is COCO's, and the images used are the same at every call."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from astroseg.core.rle import encode_at
from astroseg.core.samples import Prediction, Sample
from astroseg.data.dataset import ImageRecord
from astroseg.training.validate import average_precision, evenly_spread, swapped

SHAPE = (40, 40)


def scene() -> Sample:
    corners = [(y, x) for y in (2, 12, 22) for x in (2, 12, 22)]
    boxes = np.array([[x, y, x + 6, y + 6] for y, x in corners], np.float32)
    masks = tuple(encode_at(np.ones((6, 6), np.bool_), corner, SHAPE) for corner in corners)
    return Sample(np.zeros((1, *SHAPE), np.float32), boxes, np.arange(9) % 2, masks)


def scores(keep: int) -> dict[str, float]:
    truth = scene()
    found = Prediction(
        truth.boxes[:keep],
        np.linspace(1, 0.5, keep, dtype=np.float32),
        truth.labels[:keep],
        truth.masks[:keep],
    )
    record = ImageRecord(1, "a", (), *SHAPE)
    return average_precision([record], [truth], [found], 2)


def test_perfect_predictions_have_ap_one_and_half_of_them_about_half() -> None:
    assert scores(9) == pytest.approx({"box_ap": 1, "box_ap50": 1, "mask_ap": 1, "mask_ap50": 1})
    # Of 5 and 4 objects of the classes, 3 and 2: recall 0.6 and 0.5 at precision 1, at 101
    # points of recall.
    assert scores(5)["mask_ap"] == pytest.approx((61 + 51) / 2 / 101)
    assert scores(0)["mask_ap"] == 0


def test_validation_images_are_evenly_spread() -> None:
    assert evenly_spread(5, 0) == [0, 1, 2, 3, 4]
    assert evenly_spread(5, 9) == [0, 1, 2, 3, 4]
    assert evenly_spread(101, 3) == [0, 50, 100]


def test_swapped_weights_come_back_even_after_an_error() -> None:
    model = torch.nn.Linear(2, 1)
    own = model.weight.clone()
    other = {name: value + 1 for name, value in model.state_dict().items()}

    def fail() -> None:
        with swapped(model, other):
            assert torch.equal(model.weight, own + 1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert torch.equal(model.weight, own)
