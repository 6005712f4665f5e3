"""Ignore regions are in no loss; weights and focus of the loss of the classes."""

import dataclasses

import numpy as np
import pytest
import torch

from astroseg.core.crops import crops_of
from astroseg.core.rle import decode_tight, encode_at
from astroseg.core.samples import Sample
from astroseg.engines import get_engine
from astroseg.models.mask_targets import IgnoreRegions, TruthMasks
from astroseg.models.roi_losses import Sampled, Truth, class_and_box_losses, class_loss, mask_loss
from astroseg.models.spec import model_spec

ENGINE = get_engine("torchvision")
SPEC = model_spec(
    "tiny",
    channels=1,
    classes=("galaxy", "star"),
    rpn_batch=100_000,  # every anchor and proposal: no random choice
    roi_batch=100_000,
    rpn_pre_nms_top_n=(100_000, 100_000),
    rpn_post_nms_top_n=(100_000, 100_000),
    rpn_nms=1.0,
    rpn_top_n_area=None,
)


def test_the_cover_of_boxes_and_cells_is_counted_on_the_pixels():
    rng = np.random.default_rng(0)
    bitmap = rng.random((20, 30)) < 0.5
    regions = IgnoreRegions(torch.from_numpy(bitmap))
    boxes = torch.tensor([[3, 4, 9, 17], [-5, -5, 10, 10], [29, 19, 40, 40], [6.4, 2.2, 8.4, 4.3]])
    expected = [
        bitmap[4:17, 3:9].mean(),
        bitmap[:10, :10].mean(),
        float(bitmap[19, 29]),
        bitmap[2:4, 6:8].mean(),
    ]
    assert regions.cover(boxes).tolist() == pytest.approx(expected)
    cells = regions.cells(torch.tensor([[4.0, 6.0, 12.0, 14.0]]), 8)[0]
    assert np.array_equal(cells.numpy(), bitmap[6:14, 4:12])


def sample(ignored=None, extra=0.0):
    """One source at the left; at the right a region whose pixels `extra` changes."""
    rng = np.random.default_rng(1)
    image = rng.normal(0, 1, (1, 64, 64)).astype(np.float32)
    image[0, 10:18, 8:16] += 8
    image[0, 40:50, 40:50] += extra
    masks = (encode_at(np.ones((8, 8), bool), (10, 8), (64, 64)),)
    boxes = np.array([[8, 10, 16, 18]], np.float32)
    return Sample(image, boxes, np.array([0]), masks, ignored=ignored)


def region(y0, x0, y1, x1):
    bitmap = np.zeros((64, 64), bool)
    bitmap[y0:y1, x0:x1] = True
    return bitmap


def losses(one, spec=SPEC):
    model = ENGINE.build(spec, seed=0)
    return {k: v.item() for k, v in ENGINE.losses(model, [one]).items()}


def test_what_lies_in_an_ignore_region_is_no_background():
    all_but_source = ~region(0, 0, 30, 30)
    plain, left_out = losses(sample()), losses(sample(all_but_source))
    # Sums over the sampled anchors, most of which the region takes away.
    assert left_out["loss_rpn_cls"] < 0.5 * plain["loss_rpn_cls"]
    assert left_out["loss_rpn_loc"] == pytest.approx(plain["loss_rpn_loc"], rel=1e-6)
    assert left_out["loss_cls"] != pytest.approx(plain["loss_cls"], rel=1e-4)
    nothing = losses(sample(region(0, 0, 0, 0)))
    assert nothing == pytest.approx(plain, rel=1e-5)  # sums in another order


def test_mask_cells_of_unknown_truth_have_no_loss():
    """Logits of 5 everywhere: right on the source, wrong beside it, where nothing is known."""
    masks = TruthMasks([encode_at(np.ones((8, 4), bool), (10, 8), (64, 64))])
    box = torch.tensor([[8.0, 10.0, 16.0, 18.0]])  # the left half is the source
    sampled = Sampled(box, torch.tensor([0]), torch.tensor([0]), box)
    logits = torch.full((1, 2, 2 * SPEC.mask_pool, 2 * SPEC.mask_pool), 5.0)
    everywhere = IgnoreRegions(torch.ones(64, 64, dtype=torch.bool))

    def loss(ignored):
        truth = Truth(box, torch.tensor([0]), masks, ignored)
        return mask_loss(logits, [box], [sampled], [truth], SPEC).item()

    right, wrong = np.log1p(np.exp(-5)), np.log1p(np.exp(5))
    assert loss(None) == pytest.approx((right + wrong) / 2, rel=1e-4)
    assert loss(everywhere) == pytest.approx(right, rel=1e-4)


def small(name):
    """A network of the paper's with few channels."""
    return model_spec(
        name, channels=1, classes=("galaxy", "star"), rpn_batch=100_000, roi_batch=100_000,
        stem_channels=8, stage_channels=(16, 32, 64, 128), group_width=4, fpn_channels=16,
        box_head_dim=32, mask_head_dim=16, norm="GN", norm_groups=4,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["r50-fpn-cascade", "r101-c4"])
def test_other_heads_leave_ignore_regions_out(name):
    spec = small(name)
    plain, left_out = losses(sample(), spec), losses(sample(~region(0, 0, 30, 30)), spec)
    for key in plain:
        if key.startswith("loss_cls") or key == "loss_rpn_cls":
            assert left_out[key] != pytest.approx(plain[key], rel=1e-6), key


def test_class_weights_and_focus():
    torch.manual_seed(0)
    scores, labels = torch.randn(50, 3), torch.arange(50) % 3
    plain = torch.nn.functional.cross_entropy(scores, labels, reduction="none")
    assert class_loss(scores, labels, SPEC).item() == pytest.approx(plain.mean().item())
    weighted = dataclasses.replace(SPEC, class_weights=(1.0, 3.0))
    share = torch.tensor([1.0, 3.0, 1.0])[labels]
    expected = (share * plain).sum() / share.sum()
    assert class_loss(scores, labels, weighted).item() == pytest.approx(expected.item())
    focal = dataclasses.replace(SPEC, focal_gamma=2.0)
    probability = scores.softmax(1)[torch.arange(50), labels]
    expected = ((1 - probability) ** 2 * plain).mean()
    assert class_loss(scores, labels, focal).item() == pytest.approx(expected.item())
    both = dataclasses.replace(weighted, focal_gamma=1e-9)
    assert class_loss(scores, labels, both).item() == pytest.approx(
        class_loss(scores, labels, weighted).item(), rel=1e-5
    )


def test_crops_are_their_masks():
    rng = np.random.default_rng(2)
    bitmaps, corners = [], []
    for _ in range(40):
        bitmap = rng.random(rng.integers(1, 40, 2)) < 0.6
        bitmap[0] = bitmap[-1] = True
        bitmap[:, 0] = bitmap[:, -1] = True
        bitmaps.append(bitmap)
        corners.append([rng.integers(0, 100 - bitmap.shape[0] + 1), rng.integers(0, 60)])
    crops = crops_of(bitmaps, np.array(corners), (100, 100))
    for bitmap, corner, rle in zip(bitmaps, corners, crops, strict=True):
        found, place = decode_tight(rle)
        assert np.array_equal(found, bitmap)
        assert list(place) == corner


@pytest.mark.parametrize("changes", [{}, {"focal_gamma": 2.0}, {"class_weights": (1.0, 4.0)}])
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_an_object_of_weight_three_is_three_objects(changes, beta):
    """Class, box and mask losses of two objects and a background region."""
    spec = dataclasses.replace(SPEC, smooth_l1_beta=beta, **changes)
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[8.0, 10, 16, 18], [30, 30, 37, 38], [50, 5, 60, 15]])
    scores, deltas = torch.randn(3, 3, generator=generator), torch.randn(3, 8, generator=generator)
    logits = torch.randn(2, 2, 2 * spec.mask_pool, 2 * spec.mask_pool, generator=generator)
    shapes = [((8, 8), (10, 8)), ((8, 7), (30, 30))]
    masks = TruthMasks([encode_at(np.ones(s, bool), at, (64, 64)) for s, at in shapes])
    truth = Truth(boxes[:2], torch.tensor([0, 1]), masks)

    def of(rows, weights=None):
        """Losses of some of the rows, the objects first."""
        objects = [r for r in rows if r < 2]
        one = Sampled(
            boxes=boxes[rows] + 0.7,
            labels=torch.tensor([0, 1, 2])[rows],
            index=torch.tensor(objects),
            truth_boxes=boxes[objects],
            weights=weights,
        )
        every = [1.0, 1.0, 1.0, 1.0]
        found = class_and_box_losses(scores[rows], deltas[rows], [one], every, spec)
        found["loss_mask"] = mask_loss(
            logits[objects], [one.boxes[: len(objects)]], [one], [truth], spec
        )
        return {name: value.item() for name, value in found.items()}

    weighed = of([0, 1, 2], torch.tensor([3.0, 1.0]))
    assert weighed == pytest.approx(of([0, 0, 0, 1, 2]), rel=1e-5)
    assert of([0, 1, 2], torch.ones(2)) == pytest.approx(of([0, 1, 2]), rel=1e-5)
    assert weighed != pytest.approx(of([0, 1, 2]), rel=1e-2)


@pytest.mark.parametrize("name", ["tiny", "r50-fpn-cascade", "r101-c4"])
def test_weights_reach_the_losses_of_every_head(name):
    spec = SPEC if name == "tiny" else small(name)
    plain = sample()
    heavy = dataclasses.replace(plain, weights=np.array([50.0], np.float32))
    a, b = losses(plain, spec), losses(heavy, spec)
    assert b["loss_mask"] == pytest.approx(a["loss_mask"], rel=1e-4)  # one object alone
    for key in a:
        if key.startswith("loss_cls"):
            assert b[key] != pytest.approx(a[key], rel=1e-4), key
