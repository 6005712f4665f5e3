"""A user's Detectron2 configuration, as far as that goes without Detectron2."""

import copy
import functools
import json

import pytest
import torch
from train_helpers import write_sky_set

from astroseg.cli.main import main
from astroseg.core.config import configured
from astroseg.core.errors import InputError
from astroseg.engines import get_engine
from astroseg.engines.detectron2.file import ConfigFile, build_config, digest
from astroseg.engines.detectron2.keep import find, keep, revive
from astroseg.engines.detectron2.override import (
    applied,
    changes,
    config_spec,
    frozen_norms,
    read_text,
    with_pixels,
    write_text,
)
from astroseg.models.spec import from_dict, model_spec, structure_differences, to_dict
from astroseg.training.architecture import configuration
from astroseg.training.train import train
from astroseg.weights.checkpoint import Header, write_checkpoint

CLASSES = ("galaxy", "star")
YACS = {
    "MODEL": {
        "WEIGHTS": "some.pkl",
        "DEVICE": "cuda",
        "PIXEL_MEAN": [103.0, 116.0, 123.0],
        "PIXEL_STD": [1.0, 1.0, 1.0],
        "BACKBONE": {"NAME": "build_resnet_fpn_backbone", "FREEZE_AT": 2},
        "RESNETS": {"NORM": "FrozenBN", "STRIDE_IN_1X1": False},
        "RPN": {
            "PRE_NMS_TOPK_TRAIN": 2000,
            "PRE_NMS_TOPK_TEST": 9000,
            "POST_NMS_TOPK_TRAIN": 1000,
            "POST_NMS_TOPK_TEST": 1000,
            "BATCH_SIZE_PER_IMAGE": 256,
        },
        "ROI_HEADS": {
            "NUM_CLASSES": 80,
            "BATCH_SIZE_PER_IMAGE": 600,
            "SCORE_THRESH_TEST": 0.05,
            "NMS_THRESH_TEST": 0.4,
        },
    },
    "INPUT": {"FORMAT": "BGR", "MASK_FORMAT": "polygon"},
    "TEST": {"DETECTIONS_PER_IMAGE": 100},
}
LAZY = {
    "_target_": "detectron2.modeling.meta_arch.rcnn.GeneralizedRCNN",
    "pixel_mean": [123.0, 116.0, 103.0],
    "pixel_std": [58.0, 57.0, 56.0],
    "backbone": {
        "bottom_up": {
            "stem": {"in_channels": 3, "norm": "GN"},
            "stages": {"stride_in_1x1": True, "norm": "GN"},
            "freeze_at": 2,
        },
        "square_pad": 1024,
    },
    "proposal_generator": {
        "pre_nms_topk": [2000, 1000],
        "post_nms_topk": [1000, 1000],
        "batch_size_per_image": 256,
    },
    "roi_heads": {
        "num_classes": 80,
        "batch_size_per_image": 512,
        "box_predictors": [
            {"num_classes": 80, "test_score_thresh": 0.05},
            {"num_classes": 80, "test_score_thresh": 0.05},
        ],
        "mask_head": {"num_classes": 1},
    },
}
TEXTS = {"yacs": write_text("yacs", YACS), "lazy": write_text("lazy", LAZY)}
both = pytest.mark.parametrize("kind", TEXTS)


def spec(kind, channels=3, **options):
    return config_spec(TEXTS[kind], "own", channels=channels, classes=CLASSES, **options)


@both
def test_limits_that_hide_crowded_sources_are_raised_and_larger_ones_left(kind):
    made = spec(kind)
    before = (6000, 9000) if kind == "yacs" else (6000, 6000)
    assert made.rpn_pre_nms_top_n == before
    assert made.rpn_post_nms_top_n == (6000, 6000)
    assert made.rpn_batch == 512
    assert made.roi_batch == (600 if kind == "yacs" else 512)
    assert made.detections_per_image == 1000
    assert made.score_threshold == 0.05
    assert made.nms_threshold == (0.4 if kind == "yacs" else 0.5)  # Detectron2's default


@both
def test_limits_are_left_where_that_is_asked(kind):
    made = spec(kind, keep_limits=True)
    assert made.rpn_post_nms_top_n == (1000, 1000)
    assert made.rpn_batch == 256
    assert made.detections_per_image == 100
    assert not any("TOPK" in line or "topk" in line for line in changes(made))


def test_no_limit_of_detections_stays_none():
    tree = copy.deepcopy(YACS)
    tree["TEST"]["DETECTIONS_PER_IMAGE"] = -1
    text = write_text("yacs", tree)
    made = config_spec(text, "own", channels=3, classes=CLASSES, keep_limits=True)
    assert made.detections_per_image > 10_000


@both
def test_bands_classes_and_pixels_come_from_the_data_and_the_text_stays(kind):
    made = with_pixels(spec(kind, channels=5), {"pixel_mean": 0.5, "pixel_std": 2.0})
    assert made.config == TEXTS[kind]
    assert not made.reverse_channels
    built_kind, tree = applied(made)
    assert built_kind == kind
    if kind == "yacs":
        model = tree["MODEL"]
        assert model["PIXEL_MEAN"] == [0.5] * 5
        assert model["ROI_HEADS"]["NUM_CLASSES"] == 2
        assert model["BACKBONE"]["FREEZE_AT"] == 0
        assert tree["INPUT"] == {"FORMAT": "RGB", "MASK_FORMAT": "bitmask"}
    else:
        assert tree["pixel_std"] == [2.0] * 5
        bottom_up = tree["backbone"]["bottom_up"]
        assert bottom_up["stem"]["in_channels"] == 5
        assert bottom_up["freeze_at"] == tree["backbone"]["square_pad"] == 0
        heads = tree["roi_heads"]
        assert heads["num_classes"] == 2
        for one in heads["box_predictors"]:
            assert (one["num_classes"], one["test_topk_per_image"]) == (2, 1000)
        assert heads["mask_head"]["num_classes"] == 1  # one mask for all classes
    assert read_text(made.config)[1] == (YACS if kind == "yacs" else LAZY)


def test_colours_of_the_file_are_kept_for_three_bands():
    assert spec("yacs").reverse_channels
    assert spec("yacs").pixel_mean == (103.0, 116.0, 123.0)
    assert not spec("lazy").reverse_channels


@both
def test_every_value_that_is_changed_is_told_with_both_values(kind):
    lines = changes(spec(kind))
    place = "TEST.DETECTIONS_PER_IMAGE"
    if kind == "lazy":
        place = "roi_heads.box_predictors.1.test_topk_per_image"
    assert f"{place}: 100 -> 1000" in lines
    assert not any("DEVICE" in line or "test_nms_thresh" in line for line in lines)


def test_frozen_norms_are_found():
    assert frozen_norms(TEXTS["yacs"])
    assert not frozen_norms(TEXTS["lazy"])
    assert frozen_norms(TEXTS["lazy"].replace('"GN"', '"FrozenBN"'))


@both
def test_a_checkpoints_header_keeps_it(kind):
    made = spec(kind)
    assert from_dict(json.loads(json.dumps(to_dict(made)))) == made
    other = model_spec("r50-fpn", channels=3, classes=CLASSES)
    [difference] = [d for d in structure_differences(made, other) if "configuration" in d]
    assert len(difference) < 100


def test_its_checkpoint_is_refused_by_another_model_with_the_option_that_takes_it(tmp_path):
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, {"a": torch.zeros(1)}, Header(spec("yacs"), "detectron2"))
    engine = get_engine("torchvision")
    model = engine.build(model_spec("tiny", channels=3, classes=CLASSES))
    with pytest.raises(InputError, match="use --config with its file of own"):
        engine.load(model, path)


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "other", "tree": {}}'])
def test_a_broken_text_is_refused(text):
    with pytest.raises(InputError, match="Detectron2 configuration"):
        read_text(text)


def test_the_other_engine_refuses_such_a_model():
    engine = get_engine("torchvision")
    assert "configuration file" in engine.refusal(spec("yacs"))
    with pytest.raises(InputError, match="--engine detectron2"):
        engine.build(spec("yacs"))


def test_the_other_engine_is_refused_before_the_file_is_read(tmp_path):
    skies = write_sky_set(tmp_path / "skies", 1, size=64, sources=4)
    config = configured("train", model_config="none.yaml", engine="torchvision", device="cpu")
    with pytest.raises(InputError, match=r"none\.yaml: --config is for engine detectron2"):
        train(skies, tmp_path / "run", config, quiet=True)
    assert not (tmp_path / "run").exists()


def test_model_and_config_exclude_each_other(capsys):
    given = ["--model", "r50-fpn", "--model-config", "a.yaml"]
    assert main(["train", "a.json", "--out", "run", *given]) == 2
    assert "give --model or --model-config" in capsys.readouterr().err


# --- names that a checkpoint may call


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "torch.nn.functional.torch.load",
        "torch.nn.modules.module.torch.hub.load",
        "torch.nn.parallel.distributed.os.system",
        "torch.nn.init.kaiming_normal_",
        "torch.nn.Module.load_state_dict",
        "torch.nn.modules",
        "torch.nn.NoSuchLayer",
        "torch.nn",
        ["torch.nn.Linear"],
        "astroseg.cli.main",
        "",
    ],
)
def test_a_checkpoint_cannot_call_anything_but_layers(name):
    with pytest.raises(InputError, match="must not call it"):
        find(name)
    with pytest.raises(InputError, match="must not call it"):
        revive({"model": [{"_target_": name}]}, {})
    with pytest.raises(InputError, match="must not call it"):
        revive({"_partial_": name, "arguments": {}}, {})


def test_layers_come_back_from_plain_values():
    tree = {
        "_target_": torch.nn.Linear,
        "in_features": 3,
        "norm_layer": functools.partial(torch.nn.LayerNorm, eps=1e-6),
        "act": torch.nn.GELU,
        "many": (1, [2.5, None, True, "x"]),
    }
    own = {}
    kept = keep(tree, "model", own)
    assert not own
    again = revive(json.loads(json.dumps(kept)), own)
    assert again["_target_"] is torch.nn.Linear
    assert again["act"] is torch.nn.GELU
    assert again["norm_layer"].func is torch.nn.LayerNorm
    assert again["norm_layer"].keywords == {"eps": 1e-6}
    assert again["many"] == [1, [2.5, None, True, "x"]]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (lambda channels: None, "<lambda>"),
        (torch.float32, "dtype"),
        (json.dumps, "dumps"),
        (functools.partial(torch.nn.Linear, 3), "partial"),
    ],
)
def test_what_a_checkpoint_cannot_keep_comes_from_the_file_again(value, name):
    own = {}
    kept = keep({"_target_": torch.nn.Linear, "more": [{"act": value}]}, "model", own)
    place = "model.more[0].act"
    assert own == {place: value}
    assert kept["more"] == [{"act": {"_own_": place, "is": kept["more"][0]["act"]["is"]}}]
    assert name in kept["more"][0]["act"]["is"]
    assert revive(json.loads(json.dumps(kept)), own)["more"][0]["act"] is value
    with pytest.raises(InputError, match=r"more\[0\]\.act is of the .* give --config"):
        revive(kept, {})


def test_a_users_class_is_called_by_its_place():
    class Own:
        pass

    own = {}
    kept = keep({"_target_": Own}, "model", own)
    assert json.loads(json.dumps(kept)) == kept
    assert revive(kept, own)["_target_"] is Own


def test_a_model_with_parts_of_its_file_wants_the_same_file():
    made = spec("lazy", program="model = 1")
    with pytest.raises(InputError, match=f"--config .*{digest('model = 1')}"):
        build_config(made, None)
    for file in (
        ConfigFile(made.config, "model = 2", {"model.act": 1}),
        ConfigFile(TEXTS["yacs"], "model = 1", {"model.act": 1}),
    ):
        with pytest.raises(InputError, match="gives another model"):
            build_config(made, None, file)


def test_another_text_of_the_file_does_not_change_what_weights_mean():
    assert not structure_differences(spec("lazy", program="a"), spec("lazy", program="b"))


def test_a_run_begun_with_such_a_file_is_not_resumed_without(tmp_path):
    stored = {"spec": to_dict(spec("lazy", program="model = 1"))}
    with pytest.raises(InputError, match=digest("model = 1")):
        configuration(configured("train", model="tiny"), "auto", stored)


def test_prediction_refuses_a_file_that_its_model_does_not_need(tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    made = model_spec("tiny", channels=3, classes=CLASSES)
    write_checkpoint(path, {"a": torch.zeros(1)}, Header(made, "torchvision"))
    given = ["predict", str(path), "a.fits", "--out", str(tmp_path / "out"), "--config", "a.py"]
    assert main(given) == 2
    assert "leave --config out" in capsys.readouterr().err
