"""Transformer backbones: what is their own, beside the references."""

import re

import pytest
import torch
from engine_helpers import sample

from astroseg.core.errors import InputError
from astroseg.engines import get_engine
from astroseg.models.attention import drop_chances
from astroseg.models.layers import ChannelNorm
from astroseg.models.mask_rcnn import MaskRcnn
from astroseg.models.mvit import block_shapes, relative_positions
from astroseg.models.mvit import cut as cut_padded
from astroseg.models.mvit import join as join_padded
from astroseg.models.spec import model_spec
from astroseg.models.swin import SwinBlock, WindowAttention, cut, displacements, join, shift_mask

ENGINE = get_engine("torchvision")
CLASSES = ("galaxy", "star")
POSITIONS = re.compile("relative_position_bias|rel_pos_")
NAMES = ("swin-b", "mvitv2-b")


def spec_of(name, **overrides):
    return model_spec(name, **{"channels": 3, "classes": CLASSES, **overrides})


def narrow(name, **overrides):
    layers = {"stage_channels": (8, 16, 32, 64), "attention_heads": (1, 2, 2, 4)}
    heads = {"fpn_channels": 16, "box_conv_dim": 8, "box_head_dim": 16, "mask_head_dim": 16}
    return spec_of(name, **{**layers, **heads, "blocks": (2, 1, 2, 1), **overrides})


# --- structure


def shapes_of(name):
    with torch.device("meta"):
        return {k: tuple(v.shape) for k, v in MaskRcnn(spec_of(name)).state_dict().items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "swin-b",
            {
                "backbone.bottom_up.patch_embed.proj.weight": (128, 3, 4, 4),
                "backbone.bottom_up.patch_embed.norm.bias": (128,),
                "backbone.bottom_up.layers.0.blocks.1.attn.relative_position_bias_table": (169, 4),
                "backbone.bottom_up.layers.2.blocks.17.attn.relative_position_index": (49, 49),
                "backbone.bottom_up.layers.3.blocks.1.attn.qkv.weight": (3072, 1024),
                "backbone.bottom_up.layers.3.blocks.1.mlp.fc1.weight": (4096, 1024),
                "backbone.bottom_up.layers.2.downsample.reduction.weight": (1024, 2048),
                "backbone.bottom_up.layers.2.downsample.reduction.bias": None,
                "backbone.bottom_up.layers.3.downsample.reduction.weight": None,
                "backbone.bottom_up.norm3.weight": (1024,),
                "backbone.fpn_lateral2.weight": (256, 128, 1, 1),
                "backbone.fpn_lateral2.bias": None,
                "backbone.fpn_output5.norm.weight": (256,),
                "proposal_generator.rpn_head.conv.conv1.weight": (256, 256, 3, 3),
                "proposal_generator.rpn_head.conv.weight": None,
                "roi_heads.box_head.2.conv4.norm.weight": (256,),
                "roi_heads.box_head.2.conv1.bias": None,
                "roi_heads.box_head.0.fc1.weight": (1024, 12544),
                "roi_heads.box_head.0.fc2.weight": None,
                "roi_heads.mask_head.mask_fcn4.norm.bias": (256,),
            },
        ),
        (
            "mvitv2-b",
            {
                "backbone.bottom_up.patch_embed.proj.weight": (96, 3, 7, 7),
                "backbone.bottom_up.blocks.0.attn.pool_q.weight": (96, 1, 3, 3),
                "backbone.bottom_up.blocks.0.attn.rel_pos_h": (111, 96),
                "backbone.bottom_up.blocks.0.proj.weight": None,
                "backbone.bottom_up.blocks.2.attn.rel_pos_w": (55, 96),
                "backbone.bottom_up.blocks.2.attn.qkv.weight": (576, 96),
                "backbone.bottom_up.blocks.2.proj.weight": (192, 96),
                "backbone.bottom_up.blocks.5.proj.weight": (384, 192),
                "backbone.bottom_up.blocks.21.proj.weight": (768, 384),
                "backbone.bottom_up.blocks.23.mlp.fc1.weight": (3072, 768),
                "backbone.bottom_up.blocks.23.attn.rel_pos_h": (13, 96),
                "backbone.bottom_up.scale2_norm.weight": (96,),
                "backbone.bottom_up.scale5_norm.weight": (768,),
                "backbone.fpn_lateral5.weight": (256, 768, 1, 1),
                "proposal_generator.rpn_head.conv.conv0.weight": (256, 256, 3, 3),
                "roi_heads.box_head.1.conv1.norm.weight": (256,),
            },
        ),
    ],
)
def test_parameters_have_detectron2s_names_and_shapes(name, expected):
    state = shapes_of(name)
    assert {key: state.get(key) for key in expected} == expected


@pytest.mark.parametrize("name", NAMES)
def test_stages_come_at_strides_4_to_32(name):
    backbone = MaskRcnn(narrow(name)).backbone
    x = torch.zeros(2, 3, 64, 96)
    stages = [tuple(f.shape) for f in backbone.bottom_up(x)]
    assert stages == [(2, 8, 16, 24), (2, 16, 8, 12), (2, 32, 4, 6), (2, 64, 2, 3)]
    levels = [tuple(f.shape[-2:]) for f in backbone(x)]
    assert levels == [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]


def test_three_bands_are_seen_red_first_and_other_numbers_with_the_mean_scale():
    spec = spec_of("swin-b")
    assert spec.pixel_mean == (123.675, 116.280, 103.530)
    assert spec.pixel_std == (58.395, 57.120, 57.375)
    assert not spec.reverse_channels
    assert spec_of("swin-b", channels=5).pixel_std == (pytest.approx(57.63),) * 5


@pytest.mark.parametrize("name", NAMES)
def test_a_transformer_trains_from_scratch_as_it_is(name):
    assert spec_of(name).for_scratch() == spec_of(name)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"norm": "GN"}, "norm GN in a swin backbone"),
        ({"attention_heads": (4, 8)}, "for 4 stages"),
        ({"attention_heads": (3, 8, 16, 32)}, "divide the channels"),
        ({"stage_channels": (128, 128, 512, 1024)}, "double them"),
        ({"attention_window": 1}, "at least 2"),
        ({"drop_path": 1.0}, "from 0 to below 1"),
        ({"backbone": "vit"}, "use resnet"),
        ({"features": "dc5", "anchor_sizes": ((8.0,),), "fpn_extra_level": False}, "use fpn"),
        ({"deform_stages": ("res3",)}, "use a resnet"),
    ],
)
def test_fields_that_make_no_transformer_are_refused(wrong, words):
    with pytest.raises(InputError, match=words):
        spec_of("swin-b", **wrong)


def test_windows_that_cannot_be_halved_and_pooled_are_refused():
    with pytest.raises(InputError, match="multiple of 8"):
        spec_of("mvitv2-b", attention_window=28)


def test_a_channel_norm_levels_every_place_by_itself():
    x = torch.randn(2, 5, 3, 4) * 7 + 3
    y = ChannelNorm(5)(x)
    assert torch.allclose(y.mean(dim=1), torch.zeros(2, 3, 4), atol=1e-5)
    assert torch.allclose(y.var(dim=1, correction=0), torch.ones(2, 3, 4), atol=1e-4)


def test_blocks_are_skipped_more_often_the_later_they_come():
    chances = drop_chances(spec_of("swin-b"))
    assert len(chances) == 24
    assert chances[0] == 0
    assert chances[-1] == pytest.approx(0.4)
    blocks = [
        b for layer in MaskRcnn(narrow("swin-b")).backbone.bottom_up.layers for b in layer.blocks
    ]
    assert [b.drop_path.p for b in blocks] == pytest.approx([0, 0.08, 0.16, 0.24, 0.32, 0.4])


# --- windows


def test_windows_are_cut_row_by_row_and_joined_again():
    x = torch.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    windows = cut(x, 2)
    assert windows.shape == (2, 6, 4, 3)
    assert torch.equal(windows[1, 2], x[1, :2, 4:].reshape(4, 3))
    assert torch.equal(windows[0, 3], x[0, 2:, :2].reshape(4, 3))
    assert torch.equal(join(windows, 2, 4, 6), x)


def test_pairs_of_one_displacement_share_a_bias():
    index = displacements(3)
    assert index.shape == (9, 9)
    assert index.unique().tolist() == list(range(25))
    assert set(index.diagonal().tolist()) == {12}
    assert index[0, 1] == index[7, 8] == 11  # one to the right
    assert index[0, 3] == index[5, 8] == 7  # one down


def test_opposite_borders_do_not_see_each_other_in_a_shifted_grid():
    """A change at the upper left reaches no feature of the lower or right border."""
    torch.manual_seed(0)
    block = SwinBlock(8, 2, 4, shift=2, drop_chance=0.0).eval()
    x = torch.randn(1, 8, 8, 8)
    apart = shift_mask(8, 8, 4, 2, x.device)
    other = x.clone()
    other[0, 0, 0, 0] += 5
    moved = (block(x, apart) - block(other, apart)).abs().amax(dim=(0, 3)) > 1e-6
    assert moved[:2, :2].all()
    assert moved.sum() == 4
    unshifted = SwinBlock(8, 2, 4, shift=0, drop_chance=0.0).eval()
    moved = (unshifted(x, apart) - unshifted(other, apart)).abs().amax(dim=(0, 3)) > 1e-6
    assert moved[:4, :4].all()
    assert moved.sum() == 16


def test_attention_is_what_its_formula_says():
    torch.manual_seed(0)
    layer = WindowAttention(6, 2, 2)
    x = torch.randn(1, 1, 4, 6)
    query, key, value = layer.qkv(x)[0, 0].split(6, dim=1)
    bias = layer.relative_position_bias_table[layer.relative_position_index]
    heads = []
    for h in range(2):
        part = slice(3 * h, 3 * h + 3)
        scores = query[:, part] @ key[:, part].T / 3**0.5 + bias[..., h]
        heads.append(scores.softmax(dim=1) @ value[:, part])
    expected = layer.proj(torch.cat(heads, dim=1))
    assert torch.allclose(layer(x, None)[0, 0], expected, atol=1e-6)


# --- pooled attention


def test_pooled_blocks_have_the_strides_and_windows_of_their_places():
    shapes = block_shapes(spec_of("mvitv2-b"))
    assert [i for i, s in enumerate(shapes) if s.query_stride == 2] == [2, 5, 21]
    assert [i for i, s in enumerate(shapes) if not s.window] == [4, 20, 23]
    assert [s.key_stride for s in shapes] == [4, 4, 2, 2, 4, *[1] * 15, 2, 1, 1, 1]
    windows = [s.window for s in shapes if s.window]
    assert windows == [56, 56, 56, 28, 28, *[14] * 14, 14, 7]


def test_padded_windows_are_cut_and_joined_again():
    x = torch.randn(2, 5, 7, 3)
    windows = cut_padded(x, 4)
    assert windows.shape == (2 * 2 * 2, 4, 4, 3)
    assert torch.equal(windows[1, :, :3], x[0, :4, 4:])
    assert not windows[1, :, 3].any()
    assert torch.equal(join_padded(windows, 5, 7), x)


def test_relative_positions_count_from_the_farthest_key_to_the_farthest_query():
    table = torch.arange(7.0)[:, None]
    same = relative_positions(table, 4, 4)[..., 0]
    assert same[0].tolist() == [3, 2, 1, 0]
    assert same[:, 0].tolist() == [3, 4, 5, 6]
    coarse = relative_positions(table, 4, 2)[..., 0]  # each key stands for two
    assert coarse.tolist() == [[2, 0], [3, 1], [4, 2], [5, 3]]
    stretched = relative_positions(table, 8, 8)[..., 0]
    assert stretched.shape == (8, 8)
    assert stretched[0, 0] == pytest.approx(3)
    assert (stretched[1:, 0] > stretched[:-1, 0]).all()


# --- whole models


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_trains_two_steps_from_scratch_and_predicts(name):
    spec = narrow(name, score_threshold=0.0, drop_path=0.0).for_scratch()
    model = ENGINE.build(spec, seed=0)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(ENGINE.param_groups(model, "none"), lr=1e-3)
    for step in range(2):
        losses = ENGINE.losses(model, [sample(seed=step), sample(33, 71, ((2, 3),))])
        assert all(torch.isfinite(v) for v in losses.values())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        assert not [n for n, p in model.named_parameters() if p.grad is None]
        assert not [n for n, p in model.named_parameters() if not torch.isfinite(p.grad).all()]
        optimizer.step()
    assert not [n for n, p in model.named_parameters() if torch.equal(p, before[n])]
    image = sample(45, 61, ()).image
    [found] = ENGINE.predict(model, [image])
    assert len(found.scores) > 0
    assert found.boxes.min() >= 0
    assert found.boxes[:, 2].max() <= 61
    assert found.boxes[:, 3].max() <= 45
    assert {tuple(mask["size"]) for mask in found.masks} == {(45, 61)}


@pytest.mark.parametrize("name", NAMES)
def test_blocks_are_skipped_in_training_only(name):
    model = ENGINE.build(narrow(name, drop_path=0.9), seed=0)
    x = torch.randn(1, 3, 32, 32)
    torch.manual_seed(0)
    first, second = model.backbone(x)[0], model.backbone(x)[0]
    assert not torch.equal(first, second)
    model.eval()
    assert torch.equal(model.backbone(x)[0], model.backbone(x)[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_any_object_still_reaches_every_head(name):
    model = ENGINE.build(narrow(name, drop_path=0.0), seed=0)
    sum(ENGINE.losses(model, [sample(32, 32, ())]).values()).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize("name", NAMES)
def test_mixed_precision_trains_and_predicts(name):
    model = ENGINE.build(narrow(name, score_threshold=0.0), seed=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = ENGINE.losses(model, [sample()])
        sum(losses.values()).backward()
        assert len(ENGINE.predict(model, [sample().image])[0].scores)
    assert all(v.dtype == torch.float32 for v in losses.values())


@pytest.mark.parametrize("name", NAMES)
def test_heads_alone_train_in_the_first_stage_and_position_biases_never_decay(name):
    model = ENGINE.build(narrow(name))
    ENGINE.param_groups(model, "heads")
    free = {n for n, p in model.named_parameters() if p.requires_grad}
    assert free == {n for n in dict(model.named_parameters()) if ".bottom_up." not in n}
    decayed, plainly = ENGINE.param_groups(model, "none")
    names = {id(p): n for n, p in model.named_parameters()}
    assert not [n for p in decayed["params"] if POSITIONS.search(n := names[id(p)])]
    assert [n for p in plainly["params"] if POSITIONS.search(n := names[id(p)])]


@pytest.mark.parametrize("name", NAMES)
def test_checkpoints_survive_and_take_other_numbers_of_channels(name, tmp_path):
    image = sample().image
    model = ENGINE.build(narrow(name, score_threshold=0.0), seed=1)
    path = tmp_path / "a.safetensors"
    ENGINE.save(model, path, {})
    same = ENGINE.build(model.spec, seed=2)
    ENGINE.load(same, path)
    [a], [b] = ENGINE.predict(model, [image]), ENGINE.predict(same, [image])
    assert a.scores.tolist() == b.scores.tolist()
    five = ENGINE.build(narrow(name, channels=5))
    report = ENGINE.load(five, path, adapt_channels=True)
    assert report.adapted == ("backbone.bottom_up.patch_embed.proj.weight",)
