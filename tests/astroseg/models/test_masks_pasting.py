"""Masks between RLE, the mask head's grid and the image."""

import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torchvision.ops import roi_align

from astroseg.core.rle import decode_tight, encode_at
from astroseg.models.mask_targets import TruthMasks
from astroseg.models.pasting import paste_masks


def ellipse(size, x, y, a, b, angle):
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    u = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    v = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    return (u / a) ** 2 + (v / b) ** 2 <= 1


def tight_box(mask):
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def rle_of(mask):
    return encode_at(mask, (0, 0), mask.shape)


def decoded(rle):
    with warnings.catch_warnings():
        # pycocotools' arrays do not know NumPy 2's copy argument; the pixels are right.
        warnings.simplefilter("ignore", DeprecationWarning)
        return coco_mask.decode(rle).astype(bool)


def dense_targets(masks, index, regions, side):
    """The same on whole images: what the box-local way must equal."""
    rows = torch.cat((index[:, None].float(), regions), dim=1)
    images = torch.from_numpy(np.stack(masks)[:, None].astype(np.float32))
    return (roi_align(images, rows, side, aligned=True, sampling_ratio=0)[:, 0] >= 0.5).float()


def random_masks(rng, shape, count):
    masks = []
    while len(masks) < count:
        x, y = rng.uniform(0, shape[1]), rng.uniform(0, shape[0])
        a, b = rng.uniform(1, 12, 2)
        mask = ellipse(shape, x, y, a, b, rng.uniform(0, 3))
        if mask.any():
            masks.append(mask)
    return masks


@pytest.mark.parametrize("side", [14, 28])
def test_targets_from_rle_equal_those_cut_from_whole_masks_also_at_the_image_edges(side):
    rng = np.random.default_rng(1)
    masks = random_masks(rng, (50, 40), 60)
    index = torch.arange(60).repeat(3)
    boxes = torch.tensor(np.array([tight_box(m) for m in masks]), dtype=torch.float32).repeat(3, 1)
    boxes = boxes + torch.from_numpy(rng.normal(0, 1.5, boxes.shape).astype(np.float32))
    boxes[:, 0::2] = boxes[:, 0::2].clamp(0, 40)
    boxes[:, 1::2] = boxes[:, 1::2].clamp(0, 50)
    fits = (boxes[:, 2:] - boxes[:, :2] > 0.5).all(dim=1)
    index, boxes = index[fits], boxes[fits]
    touching = (boxes[:, :2] == 0).any() and (boxes[:, 2] == 40).any() and (boxes[:, 3] == 50).any()
    assert touching
    found = TruthMasks([rle_of(m) for m in masks]).targets(index, boxes, side)
    wanted = dense_targets(masks, index, boxes, side)
    # Sums in another order: cells covered by half to the last bit may fall either way.
    assert (found != wanted).float().mean() < 1e-4


def test_a_target_of_an_asymmetric_mask_is_neither_mirrored_nor_transposed():
    mask = np.zeros((20, 30), bool)
    mask[4:12, 10:14] = True
    mask[10:12, 10:26] = True  # an L: upright left, foot to the right
    box = torch.tensor([[10.0, 4.0, 26.0, 12.0]])
    target = TruthMasks([rle_of(mask)]).targets(torch.tensor([0]), box, 8)[0].numpy() > 0
    assert np.array_equal(target, mask[4:12, 10:26][:, ::2])


@pytest.mark.parametrize("corner", [(0, 0), (0, 17), (27, 0), (27, 17)])
def test_a_mask_in_the_corner_of_the_image_reaches_it_as_on_the_whole_image(corner):
    y, x = corner
    mask = np.zeros((30, 20), bool)
    mask[y : y + 3, x : x + 3] = True
    index, box = torch.tensor([0]), torch.tensor([[x, y, x + 3, y + 3]], dtype=torch.float32)
    target = TruthMasks([rle_of(mask)]).targets(index, box, 28)
    assert torch.equal(target, dense_targets([mask], index, box, 28))
    assert target[0, -1 if y else 0, -1 if x else 0] == 1


def test_an_empty_mask_gives_an_empty_target():
    masks = TruthMasks([rle_of(np.zeros((9, 9), bool))])
    assert masks.targets(torch.tensor([0]), torch.tensor([[1.0, 1, 5, 5]]), 14).sum() == 0


def test_no_regions_give_no_targets():
    assert TruthMasks([]).targets(torch.zeros(0).long(), torch.zeros(0, 4), 14).shape == (0, 14, 14)


def test_targets_cost_memory_by_the_object_not_by_the_image():
    small = [encode_at(np.ones((9, 7), bool), (50 * i, 40 * i), (20000, 20000)) for i in range(100)]
    boxes = torch.tensor([[40.0 * i, 50 * i, 40 * i + 7, 50 * i + 9] for i in range(100)])
    tracemalloc.start()
    targets = TruthMasks(small).targets(torch.arange(100), boxes, 14)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert targets.bool().all()
    # 400 MB a mask if it were laid out whole; a column of the image is 20 kB.
    assert peak < 10e6


def grid_sampled(probability, box, shape):
    """Pasting by torch's sampler over the whole image: an independent way to say the rule."""
    x0, y0, x1, y1 = box
    y = (torch.arange(shape[0]) + 0.5 - y0) / (y1 - y0) * 2 - 1
    x = (torch.arange(shape[1]) + 0.5 - x0) / (x1 - x0) * 2 - 1
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None].float()
    image = torch.from_numpy(probability)[None, None]
    return torch.nn.functional.grid_sample(image, grid, align_corners=False)[0, 0].numpy()


def test_pasting_samples_the_answer_at_pixel_centres():
    rng = np.random.default_rng(2)
    shape = (40, 60)
    for _ in range(200):
        probability = rng.random((14, 14), dtype=np.float32)
        corner = rng.uniform(-4, 50, 2)
        box = np.concatenate((corner, corner + rng.uniform(0.3, 25, 2))).astype(np.float32)
        [rle] = paste_masks(probability[None], box[None], shape)
        dense = grid_sampled(probability, box, shape)
        differs = decoded(rle) != (dense >= 0.5)
        assert np.allclose(dense[differs], 0.5, atol=1e-5)


@pytest.mark.parametrize("side", [14, 28])
def test_a_truth_mask_resampled_and_pasted_comes_back(side):
    rng = np.random.default_rng(3)
    shape = (120, 100)
    ious, shifts, areas = [], [], []
    for _ in range(100):
        mask = ellipse(shape, *rng.uniform(25, 75, 2), *rng.uniform(2.5, 14, 2), rng.uniform(0, 3))
        box = np.array(tight_box(mask), np.float32)
        target = TruthMasks([rle_of(mask)]).targets(
            torch.tensor([0]), torch.from_numpy(box)[None], side
        )
        [rle] = paste_masks(target.numpy(), box[None], shape)
        back = decoded(rle)
        ious.append((mask & back).sum() / (mask | back).sum())
        areas.append(back.sum() / mask.sum())
        shifts.append(np.mean(np.nonzero(back), axis=1) - np.mean(np.nonzero(mask), axis=1))
    # The grid's cells are 0.2 to 2 px: only pixels cut by a cell's edge may be lost. Half a
    # pixel off would show as a mean shift of 0.5 and a median IoU below 0.9.
    assert np.median(ious) > 0.97
    assert min(ious) > 0.85
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.02
    assert abs(np.mean(areas) - 1) < 0.03


def test_a_box_without_a_pixel_centre_gives_an_empty_mask():
    [rle] = paste_masks(
        np.ones((1, 14, 14), np.float32), np.array([[3.6, 3, 4.4, 9]], "f4"), (9, 9)
    )
    assert coco_mask.area(rle) == 0
    assert rle["size"] == [9, 9]


def test_masks_of_the_whole_frame_and_of_full_columns_decode_in_any_reader():
    boxes = np.array([[0, 0, 8, 6], [2, 0, 5, 6]], np.float32)
    whole, columns = paste_masks(np.ones((2, 28, 28), np.float32), boxes, (6, 8))
    assert decoded(whole).all()
    assert np.array_equal(decoded(columns).any(axis=0), [0, 0, 1, 1, 1, 0, 0, 0])
    assert decode_tight(columns)[1] == (0, 2)


def test_pasting_never_makes_a_frame():
    rng = np.random.default_rng(4)
    corner = rng.uniform(0, 960, (800, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(4, 40, (800, 2))), axis=1)
    tracemalloc.start()
    masks = paste_masks(np.ones((800, 28, 28), np.float32), boxes.astype(np.float32), (1000, 1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(masks) == 800
    # Dense they would be 800 MB; the RLEs are some hundred kB.
    assert peak < 5e6
