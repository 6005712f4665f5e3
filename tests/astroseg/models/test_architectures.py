"""Cascade, deformable, C4 and DC5: what is their own, beside the references."""

import dataclasses

import pytest
import torch
from engine_helpers import sample

from astroseg.core.errors import InputError
from astroseg.engines import get_engine
from astroseg.models.backbone import Bottleneck
from astroseg.models.cascade import label_boxes, next_boxes
from astroseg.models.layers import DeformConv
from astroseg.models.mask_rcnn import MaskRcnn
from astroseg.models.mask_targets import TruthMasks
from astroseg.models.roi import select
from astroseg.models.roi_losses import Truth
from astroseg.models.spec import model_spec

ENGINE = get_engine("torchvision")
CLASSES = ("galaxy", "star")
NAMES = ("r50-fpn-cascade", "r50-fpn-deform", "r101-c4", "r101-dc5")


def spec_of(name, **overrides):
    return model_spec(name, **{"channels": 3, "classes": CLASSES, **overrides})


def narrow(name, **overrides):
    layers = {"stem_channels": 8, "stage_channels": (16, 32, 32, 64), "group_width": 4}
    heads = {"fpn_channels": 16, "box_head_dim": 16, "mask_head_dim": 16, "norm_groups": 4}
    return spec_of(name, **{**layers, **heads, "blocks": (1, 1, 1, 2), **overrides})


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


# --- structure


def shapes_of(name):
    with torch.device("meta"):
        return {k: tuple(v.shape) for k, v in MaskRcnn(spec_of(name)).state_dict().items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "r50-fpn-cascade",
            {
                "roi_heads.box_head.0.fc1.weight": (1024, 12544),
                "roi_heads.box_head.2.fc2.bias": (1024,),
                "roi_heads.box_predictor.1.cls_score.weight": (3, 1024),
                "roi_heads.box_predictor.2.bbox_pred.weight": (4, 1024),
                "roi_heads.mask_head.mask_fcn1.weight": (256, 256, 3, 3),
            },
        ),
        (
            "r50-fpn-deform",
            {
                "backbone.bottom_up.res2.0.conv2_offset.weight": None,
                "backbone.bottom_up.res3.0.conv2_offset.weight": (18, 128, 3, 3),
                "backbone.bottom_up.res5.2.conv2_offset.bias": (18,),
                "backbone.bottom_up.res5.2.conv2.weight": (512, 512, 3, 3),
                "backbone.bottom_up.res5.2.conv2.bias": None,
                "backbone.bottom_up.res5.2.conv2.norm.running_var": (512,),
            },
        ),
        (
            "r101-c4",
            {
                "backbone.stem.conv1.weight": (64, 3, 7, 7),
                "backbone.res4.22.conv3.weight": (1024, 256, 1, 1),
                "backbone.res5.0.conv1.weight": None,
                "proposal_generator.rpn_head.conv.weight": (1024, 1024, 3, 3),
                "proposal_generator.rpn_head.objectness_logits.weight": (15, 1024, 1, 1),
                "roi_heads.res5.0.conv1.weight": (512, 1024, 1, 1),
                "roi_heads.res5.2.conv3.norm.weight": (2048,),
                "roi_heads.box_predictor.bbox_pred.weight": (8, 2048),
                "roi_heads.mask_head.deconv.weight": (2048, 256, 2, 2),
                "roi_heads.mask_head.predictor.weight": (2, 256, 1, 1),
            },
        ),
        (
            "r101-dc5",
            {
                "backbone.res5.2.conv3.weight": (2048, 512, 1, 1),
                "proposal_generator.rpn_head.conv.weight": (2048, 2048, 3, 3),
                "roi_heads.box_head.fc1.weight": (1024, 2048 * 49),
                "roi_heads.mask_head.mask_fcn1.weight": (256, 2048, 3, 3),
            },
        ),
    ],
)
def test_parameters_have_detectron2s_names_and_shapes(name, expected):
    state = shapes_of(name)
    assert {key: state.get(key) for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "tensors", "millions"),
    [
        ("r50-fpn-cascade", 323, 72.038046),
        ("r50-fpn-deform", 333, 44.977178),
        ("r101-c4", 534, 54.95486),
        ("r101-dc5", 546, 191.398764),
    ],
)
def test_sizes_are_those_of_the_model_zoos_configurations(name, tensors, millions):
    """Counted in Detectron2's own models of its COCO configurations, 80 classes."""
    with torch.device("meta"):
        state = MaskRcnn(spec_of(name, classes=tuple(map(str, range(80))))).state_dict()
    assert len(state) == tensors
    assert sum(v.numel() for k, v in state.items() if "running" not in k) == millions * 1e6


def test_dilation_keeps_the_last_stage_at_stride_16_and_widens_its_reach():
    model = MaskRcnn(narrow("r101-dc5"))
    [features] = model.backbone(torch.zeros(1, 3, 70, 130))
    assert features.shape == (1, 64, 5, 9)
    assert model.spec.strides == (16,)
    assert {block.conv2.dilation for block in model.backbone.res5} == {(2, 2)}
    assert {block.conv2.dilation for block in model.backbone.res4} == {(1, 1)}


@pytest.mark.parametrize("name", ["r101-c4", "r101-dc5"])
def test_without_a_pyramid_images_are_padded_to_the_largest_only(name):
    model = MaskRcnn(narrow(name))
    assert model._stack([torch.zeros(3, 50, 33), torch.zeros(3, 20, 41)]).shape[-2:] == (50, 41)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"features": "c5"}, "use fpn, c4 or dc5"),
        ({"features": "c4", "mask_pool": 14, "box_pool": 14}, "box_pool twice mask_pool"),
        ({"deform_stages": ("res6",)}, "use some of res2, res3"),
        ({"cascade_iou": (0.5,)}, "1 IoUs and 0 weights"),
        ({"mask_margin": 1.5}, "give 0 to 1"),
        ({"features": "c4", "box_pool": 14, "mask_pool": 7, "mask_margin": 0.2}, "share a region"),
    ],
)
def test_variants_that_make_no_network_are_refused(wrong, words):
    one_level = {"anchor_sizes": ((8.0,),), "fpn_extra_level": False}
    extra = one_level if "features" in wrong else {}
    with pytest.raises(InputError, match=words):
        spec_of("r50-fpn", **wrong, **extra)


def test_a_small_network_has_neither_deformation_nor_another_kind_of_features():
    with pytest.raises(InputError, match="use a resnet"):
        spec_of("tiny", deform_stages=("res2",))
    with pytest.raises(InputError, match="of four stages"):
        spec_of("tiny", features="dc5", anchor_sizes=((5.0,),))


def test_a_cascade_does_not_run_on_a_shared_stage():
    cascade = {
        k: getattr(spec_of("r50-fpn-cascade"), k) for k in ("cascade_iou", "cascade_weights")
    }
    with pytest.raises(InputError, match="cascade on features c4"):
        spec_of("r101-c4", **cascade)


# --- deformable convolutions


@pytest.mark.parametrize("dilation", [1, 2])
def test_a_deformable_convolution_reads_where_its_offsets_point(dilation):
    torch.manual_seed(0)
    layer = DeformConv(4, 6, stride=1, dilation=dilation, groups=2, norm=None)
    x = torch.randn(1, 4, 9, 9)
    plain = torch.conv2d(x, layer.weight, padding=dilation, dilation=dilation, groups=2).relu()
    offset = torch.zeros(1, 18, 9, 9)
    assert torch.allclose(layer(x, offset), plain, atol=1e-5)
    offset[:, 1::2] = 1  # x of every place
    inner = slice(dilation, 8 - dilation)
    assert torch.allclose(layer(x, offset)[..., inner], plain.roll(-1, -1)[..., inner], atol=1e-5)


def test_a_deformable_block_starts_as_an_ordinary_one_and_learns_its_offsets():
    spec = narrow("r50-fpn-deform").for_scratch()
    model = ENGINE.build(spec, seed=0)
    block = model.backbone.bottom_up.res3[0]
    assert isinstance(block, Bottleneck)
    assert isinstance(block.conv2, DeformConv)
    assert not block.conv2_offset.weight.any()
    assert not isinstance(model.backbone.bottom_up.res2[0].conv2, DeformConv)
    sum(ENGINE.losses(model, [sample()]).values()).backward()
    assert block.conv2_offset.weight.grad.any()


# --- cascades


def test_a_later_head_asks_for_a_higher_overlap():
    truth = Truth(boxes([0, 0, 10, 10]), torch.tensor([1]), TruthMasks(()))
    found = boxes([0, 0, 10, 5.4], [0, 0, 10, 6.5], [0, 0, 10, 8])  # IoU 0.54, 0.65, 0.8
    for iou, objects in ((0.5, [0, 1, 2]), (0.6, [1, 2]), (0.7, [2])):
        labelled = label_boxes(found, truth, iou, spec_of("r50-fpn-cascade"))
        assert torch.equal(labelled.boxes[: len(objects)], found[objects])
        assert labelled.labels.tolist() == [1] * len(objects) + [2] * (3 - len(objects))
        assert torch.equal(labelled.truth_boxes, truth.boxes.repeat(len(objects), 1))


def test_boxes_that_a_head_moves_out_of_the_image_are_dropped():
    regions = [boxes([0, 0, 4, 4], [10, 10, 14, 14]), boxes([2, 2, 6, 6])]
    deltas = boxes([-20, 0, 0, 0], [10, 20, 0, 0], [0, 0, 0, 0])  # in tenths of the size
    first, second = next_boxes(regions, deltas, [(20, 30), (5, 5)], (10, 10, 5, 5))
    assert torch.allclose(first, boxes([14, 18, 18, 20]))
    assert torch.allclose(second, boxes([2, 2, 5, 5]))


def test_the_features_below_a_cascade_learn_from_the_mean_of_its_heads():
    """One head's gradient, alone, on the features is a third of what its loss would give."""
    spec = narrow("r50-fpn-cascade")
    heads = MaskRcnn(spec).roi_heads
    features = [torch.randn(1, 16, 32 // 2**i, 32 // 2**i, requires_grad=True) for i in range(5)]
    region = [boxes([8, 8, 40, 40])]
    gradients = []
    for stages in (3, 1):
        weights = spec.cascade_weights[:stages]
        fewer = dataclasses.replace(
            spec, cascade_weights=weights, cascade_iou=spec.cascade_iou[:stages]
        )
        scores, _ = heads._run(0, features, region, fewer)
        gradients += torch.autograd.grad(scores[0, 0], features[0])
    assert gradients[1].any()
    assert torch.allclose(gradients[0] * 3, gradients[1])


def test_one_box_for_all_classes_is_kept_for_each_class_that_scores():
    spec = spec_of("r50-fpn-cascade", score_threshold=0.3)
    scores = torch.tensor([[0.4, 0.5, 0.1], [0.1, 0.6, 0.3]])
    one = boxes([0, 0, 5, 5], [20, 20, 30, 30])
    found, score, label, _ = select(one[:, None], scores, spec)
    assert label.tolist() == [1, 1, 0]
    assert torch.equal(found, one[[1, 0, 0]])
    assert score.tolist() == pytest.approx([0.6, 0.5, 0.4])


# --- all of them


@pytest.mark.parametrize("name", ["r50-fpn-cascade", "r101-c4"])
def test_predictions_do_not_depend_on_how_many_regions_are_looked_at_at_once(name, monkeypatch):
    model = ENGINE.build(narrow(name, score_threshold=0.0).for_scratch(), seed=0)
    image = sample().image
    [whole] = ENGINE.predict(model, [image])
    monkeypatch.setattr("astroseg.models.roi.BOX_VALUES", 50_000)
    [parts] = ENGINE.predict(model, [image])
    assert parts.scores == pytest.approx(whole.scores, abs=1e-5)
    assert len(parts.boxes) == len(whole.boxes)


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_trains_two_steps_from_scratch_and_predicts(name):
    spec = narrow(name, score_threshold=0.0).for_scratch()
    model = ENGINE.build(spec, seed=0)
    optimizer = torch.optim.SGD(ENGINE.param_groups(model, "none"), lr=1e-3)
    for step in range(2):
        losses = ENGINE.losses(model, [sample(seed=step), sample(33, 71, ((2, 3),))])
        assert all(torch.isfinite(v) for v in losses.values())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        assert not [n for n, p in model.named_parameters() if p.grad is None]
        assert not [n for n, p in model.named_parameters() if not torch.isfinite(p.grad).all()]
        optimizer.step()
    image = sample(45, 61, ()).image
    [found] = ENGINE.predict(model, [image])
    assert len(found.scores) > 0
    assert found.boxes.min() >= 0
    assert found.boxes[:, 2].max() <= 61
    assert found.boxes[:, 3].max() <= 45
    assert {tuple(mask["size"]) for mask in found.masks} == {(45, 61)}


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_any_object_still_reaches_every_head(name):
    model = ENGINE.build(narrow(name).for_scratch(), seed=0)
    sum(ENGINE.losses(model, [sample(32, 32, ())]).values()).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize("name", ["r50-fpn-cascade", "r50-fpn-deform", "r101-c4"])
def test_mixed_precision_trains_and_predicts(name):
    model = ENGINE.build(narrow(name, score_threshold=0.0).for_scratch(), seed=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = ENGINE.losses(model, [sample()])
        sum(losses.values()).backward()
        assert len(ENGINE.predict(model, [sample().image])[0].scores)
    assert all(v.dtype == torch.float32 for v in losses.values())


@pytest.mark.parametrize(
    ("name", "frozen", "trained"),
    [
        ("r50-fpn-cascade", "backbone.bottom_up.res5.", "roi_heads.box_head.2."),
        ("r50-fpn-deform", "backbone.bottom_up.res5.0.conv2_offset.", "backbone.fpn_"),
        ("r101-c4", "backbone.res4.", "roi_heads.res5."),
        ("r101-dc5", "backbone.res5.", "roi_heads.box_head."),
    ],
)
def test_heads_alone_train_in_the_first_stage(name, frozen, trained):
    model = ENGINE.build(narrow(name).for_scratch())
    ENGINE.param_groups(model, "heads")
    free = {n: p.requires_grad for n, p in model.named_parameters()}
    assert [n for n in free if n.startswith(frozen)]
    assert not any(takes for n, takes in free.items() if n.startswith(frozen))
    assert all(takes for n, takes in free.items() if n.startswith(trained))
    assert all(takes for n, takes in free.items() if not n.startswith("backbone."))


@pytest.mark.parametrize("name", NAMES)
def test_checkpoints_survive_and_take_other_numbers_of_channels(name, tmp_path):
    image = sample().image
    model = ENGINE.build(narrow(name, score_threshold=0.0).for_scratch(), seed=1)
    path = tmp_path / "a.safetensors"
    ENGINE.save(model, path, {})
    same = ENGINE.build(model.spec, seed=2)
    ENGINE.load(same, path)
    [a], [b] = ENGINE.predict(model, [image]), ENGINE.predict(same, [image])
    assert a.scores.tolist() == b.scores.tolist()
    five = ENGINE.build(narrow(name, channels=5).for_scratch())
    report = ENGINE.load(five, path, adapt_channels=True)
    assert report.adapted == (f"{five.spec.bottom_up}stem.conv1.weight",)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_without_a_single_proposal_finds_nothing(name):
    model = ENGINE.build(narrow(name), seed=0)
    with torch.no_grad():  # what a network that diverged answers
        model.proposal_generator.rpn_head.anchor_deltas.weight.fill_(float("nan"))
    [found] = ENGINE.predict(model, [sample().image])
    assert len(found.scores) == len(found.boxes) == len(found.masks) == 0
