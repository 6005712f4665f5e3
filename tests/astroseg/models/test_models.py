"""The parts of the networks, against numbers worked out by hand."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from astroseg.core.errors import InputError
from astroseg.core.rle import decode_tight
from astroseg.engines.common import made_prediction
from astroseg.models import boxes as bx
from astroseg.models.mask_rcnn import MaskRcnn
from astroseg.models.mask_targets import TruthMasks
from astroseg.models.roi import pool, region_levels, select
from astroseg.models.roi_losses import Truth, sample_proposals
from astroseg.models.rpn import RpnHead
from astroseg.models.spec import MODELS, ModelSpec, from_dict, model_spec, to_dict

CLASSES = ("galaxy", "star")


def spec_of(name="tiny", **overrides):
    return model_spec(name, **{"channels": 3, "classes": CLASSES, **overrides})


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32)


def random_boxes(rng, count, size=100.0):
    corner = torch.from_numpy(rng.uniform(0, size, (count, 2)))
    side = torch.from_numpy(rng.uniform(2, 30, (count, 2)))
    return torch.cat((corner, corner + side), dim=1).float()


# --- specs


def test_an_unknown_model_is_refused_with_the_names_there_are():
    with pytest.raises(InputError, match="unknown model 'r50'; use one of tiny, sky, r50-fpn"):
        spec_of("r50")


def test_an_unknown_setting_is_refused():
    with pytest.raises(InputError, match="no setting anchors"):
        spec_of(anchors=3)


@pytest.mark.parametrize("name", MODELS)
def test_a_spec_survives_json(name):
    spec = spec_of(name)
    assert from_dict(json.loads(json.dumps(to_dict(spec)))) == spec


def test_one_number_scales_all_channels():
    spec = spec_of(channels=5, pixel_mean=2, pixel_std=4.0)
    assert spec.pixel_mean == (2.0,) * 5
    assert spec.pixel_std == (4.0,) * 5


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"channels": 0}, "channels"),
        ({"classes": ()}, "classes"),
        ({"classes": ("a", "a")}, "each once"),
        ({"pixel_mean": (1.0, 2.0)}, "pixel_mean has 2 values for 3"),
        ({"pixel_std": 0.0}, "positive"),
        ({"anchor_sizes": ((4.0,),)}, "anchor sizes"),
        ({"score_threshold": 1.5}, "between 0 and 1"),
        ({"detections_per_image": 0}, "at least 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong, words):
    with pytest.raises(InputError, match=words):
        spec_of(**wrong)


def test_the_large_models_have_the_papers_limits():
    spec = spec_of("r101-fpn")
    assert spec.anchor_sizes == ((8,), (16,), (32,), (64,), (128,))
    assert spec.strides == (4, 8, 16, 32, 64)
    assert spec.rpn_pre_nms_top_n == (6000, 6000)
    assert (spec.rpn_batch, spec.roi_batch, spec.roi_positive) == (512, 512, 0.33)
    assert (spec.score_threshold, spec.nms_threshold, spec.detections_per_image) == (0.5, 0.3, 1000)


def test_the_small_model_searches_every_area_of_sky_alike():
    spec = spec_of("tiny")
    assert spec.top_n((256, 256), prediction=True) == (500, 300)
    assert spec.top_n((512, 1024), prediction=True) == (4000, 2400)
    assert spec.top_n((8, 8), prediction=False) == (100, 100)
    assert spec_of("r50-fpn").top_n((2000, 2000), prediction=True) == (6000, 6000)


# --- boxes


def test_anchors_are_unrounded_and_ratios_are_height_by_width():
    cell = bx.cell_anchors((8,), (0.5, 1.0, 2.0))
    wide, high = 8 * 2**0.5 / 2, 8 / 2**0.5 / 2
    expected = boxes([-wide, -high, wide, high], [-4, -4, 4, 4], [-high, -wide, high, wide])
    assert torch.allclose(cell, expected)


def test_anchors_sit_at_the_centres_of_feature_pixels_row_by_row():
    cell = boxes([-1, -2, 1, 2])
    [grid] = bx.grid_anchors([(2, 3)], [4], [cell], torch.device("cpu"), 0.5)
    expected = boxes(
        [1, 0, 3, 4], [5, 0, 7, 4], [9, 0, 11, 4], [1, 4, 3, 8], [5, 4, 7, 8], [9, 4, 11, 8]
    )
    assert torch.equal(grid, expected)
    [corner] = bx.grid_anchors([(2, 3)], [4], [cell], torch.device("cpu"), 0.0)
    assert torch.equal(corner, expected - 2)
    assert spec_of("r50-fpn").anchor_offset == 0  # what the model zoo was trained with


def test_deltas_move_and_scale_each_axis_by_the_reference():
    reference = boxes([10, 20, 14, 28])  # 4 wide, 8 high, centre (12, 24)
    found = bx.decode(reference, boxes([0.5, 0.25, 0, 0]), (1, 1, 1, 1))
    assert torch.allclose(found[0], boxes([12, 22, 16, 30]))
    found = bx.decode(reference, boxes([0, 0, np.log(2), 0]), (1, 1, 1, 1))
    assert torch.allclose(found[0], boxes([8, 20, 16, 28]))
    found = bx.decode(reference, boxes([5, 0, 0, 5 * np.log(3)]), (10, 10, 5, 5))
    assert torch.allclose(found[0], boxes([12, 12, 16, 36]))


def test_decoding_undoes_encoding():
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 50), random_boxes(rng, 50)
    weights = (10.0, 10.0, 5.0, 5.0)
    assert torch.allclose(bx.decode(a, bx.encode(a, b, weights), weights)[:, 0], b, atol=1e-4)


def test_absurd_deltas_are_clamped():
    found = bx.decode(boxes([0, 0, 16, 16]), boxes([0, 0, 100, 100]), (1, 1, 1, 1))
    assert torch.allclose(found[0, 0, 2:] - found[0, 0, :2], torch.tensor([1000.0, 1000.0]))


def test_clipping_keeps_x_within_the_width_and_y_within_the_height():
    found = bx.clip(boxes([-3, -4, 50, 60], [1, 2, 3, 4]), (30, 40))
    assert torch.equal(found, boxes([0, 0, 40, 30], [1, 2, 3, 4]))


def test_boxes_grow_about_their_centres_and_not_beyond_the_image():
    found = bx.grown(boxes((10, 20, 20, 40), (0, 30, 8, 64)), 0.5, (64, 50))
    assert found.tolist() == [[7.5, 15, 22.5, 45], [0, 21.5, 10, 64]]


def brute_match(found, truth, low, high, best):
    iou = box_iou(found, truth).numpy()
    label = np.where(iou.max(1) >= high, 1, np.where(iou.max(1) >= low, -1, 0))
    if best:
        for column in iou.T:
            label[(column == column.max()) & (column > 0)] = 1
    return iou.argmax(1), label


@pytest.mark.parametrize("budget", [7, 64, 10**6])
def test_matching_in_chunks_equals_matching_at_once(budget):
    rng = np.random.default_rng(1)
    found, truth = random_boxes(rng, 300), random_boxes(rng, 12)
    index, label = bx.match(found, truth, 0.5, budget=budget)
    wanted_index, wanted_label = brute_match(found, truth, 0.5, 0.5, False)
    assert np.array_equal(index.numpy(), wanted_index)
    assert np.array_equal(label.numpy(), wanted_label)


def anchors_of(spec, height, width):
    cells = [bx.cell_anchors(sizes, spec.aspect_ratios) for sizes in spec.anchor_sizes]
    shapes = [(height // stride, width // stride) for stride in spec.strides]
    offset = spec.anchor_offset
    levels = bx.grid_anchors(shapes, spec.strides, cells, torch.device("cpu"), offset)
    return bx.Anchors(levels, shapes, spec.strides, cells, offset)


@pytest.mark.parametrize("name", ["tiny", "r50-fpn"])
@pytest.mark.parametrize("budget", [1, 3000, 10**7])
def test_matching_anchors_by_windows_equals_matching_all_pairs(name, budget):
    spec = spec_of(name)
    anchors = anchors_of(spec, 64, 96)
    rng = np.random.default_rng(2)
    truth = bx.clip(random_boxes(rng, 30, 90.0), (64, 96))
    truth = truth[(truth[:, 2:] > truth[:, :2]).all(dim=1)]
    truth = torch.cat((truth, truth[:2], boxes([0, 0, 96, 64], [40, 40, 41, 41])))
    index, label = bx.match_anchors(anchors, truth, spec.rpn_iou, budget=budget)
    wanted_index, wanted_label = brute_match(torch.cat(anchors.levels), truth, *spec.rpn_iou, True)
    assert np.array_equal(index.numpy(), wanted_index)
    assert np.array_equal(label.numpy(), wanted_label)
    assert set(label.tolist()) == {-1, 0, 1}


def test_without_truth_everything_is_background():
    for index, label in (
        bx.match(boxes([0, 0, 4, 4]), torch.zeros(0, 4), 0.5),
        bx.match_anchors(anchors_of(spec_of(), 8, 8), torch.zeros(0, 4), (0.3, 0.7)),
    ):
        assert not index.any()
        assert not label.any()


def test_a_truth_that_no_anchor_overlaps_makes_no_objects():
    anchors = anchors_of(spec_of(), 8, 8)
    assert not bx.match_anchors(anchors, boxes([90, 90, 95, 95]), (0.3, 0.7))[1].any()


def test_sampled_proposals_carry_the_class_box_and_mask_of_their_truth():
    rng = np.random.default_rng(5)
    masks = TruthMasks([])
    truth = Truth(random_boxes(rng, 20, 500.0), torch.arange(20) % 2, masks)
    near = truth.boxes + torch.from_numpy(rng.uniform(-0.2, 0.2, (20, 4))).float()
    spec = spec_of(roi_batch=64, roi_positive=0.5)
    sampled = sample_proposals(torch.cat((near, random_boxes(rng, 200, 500.0))), truth, spec)
    count = len(sampled.index)
    assert count == 32
    assert torch.equal(sampled.labels[:count], sampled.index % 2)
    assert (sampled.labels[count:] == 2).all()
    assert torch.equal(sampled.truth_boxes, truth.boxes[sampled.index])
    overlap = box_iou(sampled.boxes, truth.boxes)
    assert torch.equal(overlap[:count].argmax(1), sampled.index)
    assert (overlap[:count].max(1).values >= 0.5).all()
    assert (overlap[count:] < 0.5).all()


def test_without_proposals_the_truth_itself_is_sampled():
    truth = Truth(boxes([0, 0, 8, 8], [20, 20, 30, 30]), torch.tensor([1, 0]), TruthMasks([]))
    sampled = sample_proposals(torch.zeros(0, 4), truth, spec_of())
    assert sorted(sampled.labels.tolist()) == [0, 1]


def test_sampling_limits_the_objects_and_fills_with_backgrounds():
    label = torch.tensor([1] * 50 + [0] * 500 + [-1] * 30, dtype=torch.int8)
    objects, others = bx.sample(label, 100, 0.33)
    assert (len(objects), len(others)) == (33, 67)
    assert (label[objects] == 1).all()
    assert (label[others] == 0).all()
    assert len(objects.unique()) == 33
    few, rest = bx.sample(label, 400, 0.5)
    assert (len(few), len(rest)) == (50, 350)


# --- pooling and heads


def test_regions_pool_from_the_level_of_their_size():
    squares = boxes(*[[0, 0, side, side] for side in (1, 55, 56, 112, 223, 224, 448, 2000)])
    assert region_levels(squares, spec_of("r50-fpn")).tolist() == [0, 0, 0, 1, 1, 2, 3, 3]
    squares = boxes(*[[0, 0, side, side] for side in (3, 15, 16, 31, 32, 100)])
    assert region_levels(squares, spec_of("tiny")).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("name", ["tiny", "r50-fpn"])
@pytest.mark.parametrize("axis", [0, 1])
def test_pooling_a_ramp_gives_the_coordinates_of_the_cells(name, axis):
    """Features whose value is their pixel's coordinate: any shift or swap shows."""
    spec = spec_of(name)
    features = []
    for stride in spec.strides:
        count = 1024 // stride
        ramp = (torch.arange(count) + 0.5) * stride
        ramp = ramp[None, :] if axis == 0 else ramp[:, None]
        features.append(ramp.expand(count, count)[None, None].contiguous())
    rng = np.random.default_rng(2)
    corner = torch.from_numpy(rng.uniform(100, 400, (40, 2)))
    side = torch.from_numpy(10 ** rng.uniform(0.5, 2.6, (40, 2)))
    regions = torch.cat((corner, corner + side), dim=1).float()
    size = 7
    pooled = pool(features, [regions], size, spec)[:, 0]
    low, high = regions[:, axis], regions[:, axis + 2]
    cells = low[:, None] + (torch.arange(size) + 0.5) / size * (high - low)[:, None]
    wanted = cells[:, None, :] if axis == 0 else cells[:, :, None]
    assert torch.allclose(pooled, wanted.expand_as(pooled), atol=2e-3)


def test_pooling_keeps_the_regions_whole_pixels_under_mixed_precision():
    spec = spec_of("tiny")
    features = [torch.zeros(1, 1, 1024 // stride, 1024 // stride) for stride in spec.strides]
    features[0][..., 501] = 1
    region = [boxes([1001, 1001, 1005, 1005])]
    exact = pool(features, region, 4, spec)
    half = pool([f.bfloat16() for f in features], region, 4, spec)
    assert exact.any()
    assert half.dtype == torch.bfloat16
    assert torch.allclose(exact, half.float(), atol=0.01)


def test_pooling_keeps_the_order_of_boxes_and_images():
    spec = spec_of("tiny")
    features = [torch.full((2, 1, 64, 64), 10.0 * level) for level in range(3)]
    for feature in features:
        feature[1] += 1
    first = boxes([0, 0, 100, 100], [0, 0, 4, 4])
    second = boxes([0, 0, 20, 20])
    assert pool(features, [first, second], 2, spec)[:, 0, 0, 0].tolist() == [20, 0, 11]


def test_rpn_answers_come_in_the_order_of_the_anchors():
    head = RpnHead(1, 2)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.conv.weight[0, 0, 1, 1] = 1
        head.objectness_logits.weight[:, 0, 0, 0] = torch.tensor([1.0, 2.0])
        head.anchor_deltas.weight[:, 0, 0, 0] = torch.arange(8) + 1.0
    feature = torch.zeros(1, 1, 3, 4)
    feature[0, 0, 1, 2] = 1
    logits, deltas = head(feature)
    place = (1 * 4 + 2) * 2  # row 1, column 2, two anchors each
    assert torch.nonzero(logits[0]).flatten().tolist() == [place, place + 1]
    assert logits[0, place : place + 2].tolist() == [1, 2]
    assert deltas[0, place].tolist() == [1, 2, 3, 4]
    assert deltas[0, place + 1].tolist() == [5, 6, 7, 8]


def two_boxes_of_two_classes():
    box = boxes([0, 0, 10, 10], [0, 0, 10, 8])[:, None].repeat(1, 2, 1)  # IoU 0.8
    scores = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]])
    return box, scores


def test_the_background_is_the_last_class():
    box = boxes([0, 0, 10, 10])[:, None].repeat(1, 2, 1)
    spec = spec_of(score_threshold=0.5, nms_any_class=None)
    assert not len(select(box, torch.tensor([[0.05, 0.05, 0.9]]), spec)[0])
    assert select(box, torch.tensor([[0.05, 0.9, 0.05]]), spec)[2].tolist() == [1]


def test_suppression_is_by_class_unless_any_class_is_asked_for():
    box, scores = two_boxes_of_two_classes()
    spec = spec_of(score_threshold=0.5, nms_threshold=0.3, nms_any_class=None)
    assert select(box, scores, spec)[2].tolist() == [0, 1]
    one = dataclasses.replace(spec, nms_any_class=0.7)
    assert select(box, scores, one)[2].tolist() == [0]


def test_detections_come_best_first_with_their_probabilities():
    rng = np.random.default_rng(3)
    box = random_boxes(rng, 3000, 5000.0)[:, None].repeat(1, 2, 1)
    scores = torch.from_numpy(rng.dirichlet((1, 1, 1), 3000)).float()
    _, found, label, probability = select(box, scores, spec_of(score_threshold=0.01))
    assert len(found) > 2000
    assert (found[:-1] >= found[1:]).all()
    assert torch.equal(probability[torch.arange(len(label)), label], found)
    assert set(map(tuple, probability.tolist())) <= set(map(tuple, scores[:, :2].tolist()))


@pytest.mark.parametrize(("margin", "side"), [(0.0, 12), (0.5, 18)])
def test_a_mask_reaches_beyond_its_box_by_the_margin(margin, side):
    """A box that is too small for its source, and a head that answers yes everywhere."""
    spec = spec_of(mask_margin=margin, tight_boxes=True)
    heads = MaskRcnn(spec).roi_heads
    box = boxes((20, 20, 32, 32))
    heads.classify = lambda *_: (box[:, None].expand(-1, 2, -1), torch.tensor([[0.9, 0.0, 0.1]]))
    heads.mask_logits = lambda features, boxes, spec: torch.full((len(boxes), 2, 14, 14), 5.0)
    features = [torch.zeros(1, spec.fpn_channels, 64 // s, 64 // s) for s in spec.strides]
    found = heads.detect(features, box, (64, 64), spec)
    made = made_prediction(
        spec, found.boxes, found.scores, found.labels, found.masks, (64, 64),
        limited=found.limited, regions=found.regions,
    )  # fmt: skip
    assert found.boxes.tolist() == box.tolist()
    [bitmap], [corner] = zip(*map(decode_tight, made.masks), strict=True)
    assert bitmap.shape == (side, side)
    assert corner == (26 - side // 2, 26 - side // 2)
    assert made.boxes.tolist() == [[26 - side / 2] * 2 + [26 + side / 2] * 2]


def test_the_limit_of_detections_grows_with_the_area_beyond_the_papers_tile():
    spec = spec_of(detections_per_image=1000, rpn_top_n_area=None)
    assert spec.most_detections((500, 500)) == spec.most_detections((1000, 1000)) == 1000
    assert spec.most_detections((2000, 1000)) == 2000
    small = spec_of(detections_per_image=1000, rpn_top_n_area=256.0**2)
    assert small.most_detections((512, 512)) == 4000


def test_non_finite_answers_are_dropped():
    box, scores = two_boxes_of_two_classes()
    box[0, 0, 0] = float("nan")
    assert (
        select(box, scores, spec_of(score_threshold=0.1))[1].tolist()
        == [
            pytest.approx(0.6),
            pytest.approx(0.1),
        ][:1]
    )


# --- networks


def small(name, **overrides):
    """A model of a large kind with narrow layers."""
    narrow = {"stem_channels": 16, "stage_channels": (16, 16, 32, 32), "group_width": 4}
    heads = {"fpn_channels": 16, "box_head_dim": 16, "mask_head_dim": 16, "norm_groups": 4}
    return spec_of(name, **{**narrow, **heads, "blocks": (1, 1, 1, 1), **overrides})


@pytest.fixture(scope="module")
def r50():
    with torch.device("meta"):
        return MaskRcnn(spec_of("r50-fpn", classes=tuple(map(str, range(80)))))


def test_parameters_have_detectron2s_names_and_shapes(r50):
    state = {name: tuple(value.shape) for name, value in r50.state_dict().items()}
    expected = {
        "backbone.bottom_up.stem.conv1.weight": (64, 3, 7, 7),
        "backbone.bottom_up.stem.conv1.norm.running_var": (64,),
        "backbone.bottom_up.res2.0.shortcut.weight": (256, 64, 1, 1),
        "backbone.bottom_up.res2.0.conv1.weight": (64, 64, 1, 1),
        "backbone.bottom_up.res2.2.conv3.norm.bias": (256,),
        "backbone.bottom_up.res4.5.conv2.weight": (256, 256, 3, 3),
        "backbone.bottom_up.res5.0.conv3.weight": (2048, 512, 1, 1),
        "backbone.fpn_lateral2.weight": (256, 256, 1, 1),
        "backbone.fpn_lateral5.bias": (256,),
        "backbone.fpn_output4.weight": (256, 256, 3, 3),
        "proposal_generator.rpn_head.conv.weight": (256, 256, 3, 3),
        "proposal_generator.rpn_head.objectness_logits.weight": (3, 256, 1, 1),
        "proposal_generator.rpn_head.anchor_deltas.weight": (12, 256, 1, 1),
        "roi_heads.box_head.fc1.weight": (1024, 12544),
        "roi_heads.box_head.fc2.weight": (1024, 1024),
        "roi_heads.box_predictor.cls_score.weight": (81, 1024),
        "roi_heads.box_predictor.bbox_pred.weight": (320, 1024),
        "roi_heads.mask_head.mask_fcn4.weight": (256, 256, 3, 3),
        "roi_heads.mask_head.deconv.weight": (256, 256, 2, 2),
        "roi_heads.mask_head.predictor.weight": (80, 256, 1, 1),
    }
    assert {name: state.get(name) for name in expected} == expected
    # 53 convolutions with four norm values each, 8 of the pyramid, 3 of the RPN, 4 of the
    # box head and 6 of the mask head with biases: what the model zoo's file holds.
    assert len(state) == 53 * 5 + 2 * (8 + 3 + 4 + 6)


def test_r50_has_the_published_number_of_parameters(r50):
    # 44.4 million is quoted for R50-FPN Mask R-CNN on COCO's 80 classes, norms included.
    count = sum(v.numel() for n, v in r50.state_dict().items() if "running" not in n)
    assert count == pytest.approx(44.4e6, rel=0.005)


def strides_of(block):
    return block.conv1.stride[0], block.conv2.stride[0]


def test_the_stride_is_in_the_1x1_of_r101_and_in_the_3x3_of_x101():
    with torch.device("meta"):
        r101, x101 = MaskRcnn(spec_of("r101-fpn")), MaskRcnn(spec_of("x101-fpn"))
    assert strides_of(r101.backbone.bottom_up.res3[0]) == (2, 1)
    assert strides_of(x101.backbone.bottom_up.res3[0]) == (1, 2)
    assert strides_of(x101.backbone.bottom_up.res2[0]) == (1, 1)
    grouped = x101.backbone.bottom_up.res3[0].conv2
    assert (grouped.groups, tuple(grouped.weight.shape)) == (32, (512, 16, 3, 3))
    assert len(r101.backbone.bottom_up.res4) == len(x101.backbone.bottom_up.res4) == 23


@pytest.mark.parametrize("spec", [spec_of(), small("r50-fpn"), small("x101-fpn", groups=2)])
def test_pyramid_levels_have_the_strides_the_anchors_are_laid_for(spec):
    model = MaskRcnn(spec)
    levels = model.backbone(torch.zeros(1, 3, 128, 64))
    assert [tuple(f.shape[-2:]) for f in levels] == [(128 // s, 64 // s) for s in spec.strides]


def test_blocks_of_the_small_network_start_as_the_identity():
    bottom_up = MaskRcnn(spec_of()).backbone.bottom_up
    x = bottom_up.stem(torch.randn(1, 3, 16, 16))
    block = bottom_up.res2[0]
    assert torch.allclose(block(x), torch.relu(block.shortcut(x)))


def test_images_are_scaled_channel_by_channel_and_padded_with_the_mean():
    model = MaskRcnn(spec_of(pixel_mean=(1.0, 2.0, 3.0), pixel_std=(1.0, 10.0, 100.0)))
    image = torch.stack([torch.full((5, 9), float(v)) for v in (2, 12, 103)])
    stack = model._stack([image, torch.zeros(3, 8, 3)])
    assert stack.shape == (2, 3, 8, 16)
    assert (stack[0, :, :5, :9] == 1).all()
    assert not stack[0, :, 5:].any()
    assert not stack[0, :, :, 9:].any()


def test_reversing_channels_is_the_same_as_giving_them_reversed():
    straight, reverse = (
        MaskRcnn(spec_of(pixel_mean=(1.0, 2.0, 3.0), reverse_channels=flag))
        for flag in (False, True)
    )
    image = torch.randn(3, 8, 8)
    assert torch.equal(reverse._stack([image]), straight._stack([image.flip(0)]))


def test_a_spec_for_training_from_scratch_freezes_no_statistics():
    spec = small("r50-fpn").for_scratch()
    assert isinstance(spec, ModelSpec)
    names = MaskRcnn(spec).state_dict()
    assert not any("running" in name for name in names)
    assert "backbone.fpn_lateral2.norm.weight" in names
    assert "roi_heads.mask_head.mask_fcn1.norm.weight" in names
    assert spec_of("tiny").for_scratch() == spec_of("tiny")
