"""The engine detectron2 as far as it goes without Detectron2."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from astroseg.cli import model_zoo
from astroseg.cli.model_zoo import models_table
from astroseg.core.errors import InputError
from astroseg.core.rle import encode_at
from astroseg.engines import get_engine
from astroseg.engines.detectron2.config import refusals, settings
from astroseg.engines.detectron2.engine import Detectron2Engine, RleMasks
from astroseg.engines.detectron2.lazy import lazy
from astroseg.engines.detectron2.library import GUIDE, need_timm
from astroseg.models.mask_targets import TruthMasks
from astroseg.models.spec import MODELS, ModelSpec, model_spec

CLASSES = ("galaxy", "star")


def spec(name="r50-fpn", **overrides):
    return model_spec(name, **{"channels": 3, "classes": CLASSES, **overrides})


# --- the library


@pytest.fixture
def forgotten(monkeypatch):
    """Detectron2 as never imported; whatever a test imports by its name is forgotten too."""

    def known():
        return [n for n in sys.modules if n == "detectron2" or n.startswith("detectron2.")]

    for name in known():
        monkeypatch.delitem(sys.modules, name)
    yield monkeypatch
    for name in known():
        del sys.modules[name]


def package(folder, init="", modeling=None):
    """A library called detectron2."""
    (folder / "detectron2").mkdir()
    (folder / "detectron2" / "__init__.py").write_text(init)
    if modeling is not None:
        (folder / "detectron2" / "config.py").write_text(
            "LazyConfig = get_cfg = instantiate = None"
        )
        (folder / "detectron2" / "modeling.py").write_text(modeling)


def without_timm(monkeypatch):
    """Hide timm, also those of its modules that an earlier test imported."""
    for name in ["timm", "timm.models.layers", *sys.modules]:
        if name.partition(".")[0] == "timm":
            monkeypatch.setitem(sys.modules, name, None)


def test_without_detectron2_the_error_and_the_list_of_models_say_how_to_get_it(forgotten):
    forgotten.setitem(sys.modules, "detectron2", None)
    with pytest.raises(InputError, match="--engine torchvision") as caught:
        get_engine("detectron2")
    assert GUIDE in str(caught.value)
    assert GUIDE in models_table()
    assert GUIDE in Detectron2Engine().available()
    assert get_engine("auto").name == "torchvision"


def test_the_list_of_models_says_what_its_transformers_lack(forgotten):
    forgotten.setitem(sys.modules, "detectron2", None)
    assert "pip install timm" not in models_table()  # without Detectron2 that is no matter
    forgotten.setattr(model_zoo, "get_engine", lambda name: get_engine("torchvision"))
    without_timm(forgotten)
    assert "swin-b and mvitv2-b from timm" in models_table()


def test_another_library_of_that_name_is_recognised(forgotten, tmp_path):
    package(tmp_path)
    forgotten.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="is not the Detectron2") as caught:
        get_engine("detectron2")
    assert str(tmp_path) in str(caught.value)


def test_an_older_library_of_that_name_lacks_what_is_used(forgotten, tmp_path):
    package(tmp_path, modeling="build = None")
    forgotten.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="build_model"):
        get_engine("detectron2")


def test_a_detectron2_that_does_not_import_says_why_and_what_works(forgotten, tmp_path):
    package(tmp_path, modeling="import no_such_library_fvcore")
    forgotten.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="no_such_library_fvcore") as caught:
        get_engine("detectron2")
    assert "iopath 0.1.9" in str(caught.value)
    assert GUIDE in str(caught.value)


def test_nothing_imports_detectron2_until_it_is_asked_for():
    code = (
        "import sys, astroseg.cli.main, astroseg.training.train, astroseg.inference.predict\n"
        "import astroseg.engines.detectron2.engine, astroseg.engines.detectron2.library\n"
        "from astroseg.engines import get_engine\n"
        "get_engine('auto')\n"
        "assert 'detectron2' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- the configuration


def test_every_limit_that_hides_crowded_sources_is_set():
    keys = settings(spec())
    assert keys["TEST.DETECTIONS_PER_IMAGE"] == 1000
    for when in ("PRE_NMS_TOPK_TRAIN", "PRE_NMS_TOPK_TEST"):
        assert keys[f"MODEL.RPN.{when}"] == keys[f"MODEL.RPN.{when.replace('PRE', 'POST')}"] == 6000
    assert keys["MODEL.RPN.BATCH_SIZE_PER_IMAGE"] == 512
    assert keys["MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE"] == 512
    assert keys["MODEL.ROI_HEADS.POSITIVE_FRACTION"] == 0.33
    assert keys["MODEL.ROI_HEADS.SCORE_THRESH_TEST"] == 0.5
    assert keys["MODEL.ROI_HEADS.NMS_THRESH_TEST"] == 0.3
    assert keys["MODEL.ANCHOR_GENERATOR.SIZES"] == [[8], [16], [32], [64], [128]]
    assert keys["INPUT.MASK_FORMAT"] == "bitmask"


@pytest.mark.parametrize(
    ("name", "depth", "groups", "width"),
    [("r50-fpn", 50, 1, 64), ("r101-fpn", 101, 1, 64), ("x101-fpn", 101, 32, 8)],
)
def test_names_become_depth_and_groups(name, depth, groups, width):
    keys = settings(spec(name))
    assert keys["MODEL.RESNETS.DEPTH"] == depth
    assert keys["MODEL.RESNETS.NUM_GROUPS"] == groups
    assert keys["MODEL.RESNETS.WIDTH_PER_GROUP"] == width
    assert keys["MODEL.RPN.IN_FEATURES"] == ["p2", "p3", "p4", "p5", "p6"]
    assert keys["MODEL.ROI_HEADS.IN_FEATURES"] == ["p2", "p3", "p4", "p5"]


def test_any_number_of_bands_and_classes():
    keys = settings(spec(channels=5, classes=("a", "b", "c"), pixel_mean=0.5, pixel_std=2.0))
    assert keys["MODEL.PIXEL_MEAN"] == [0.5] * 5
    assert keys["MODEL.PIXEL_STD"] == [2.0] * 5
    assert keys["MODEL.ROI_HEADS.NUM_CLASSES"] == 3


def test_from_scratch_all_norms_are_group_norms():
    keys = settings(spec().for_scratch())
    places = ("RESNETS", "FPN", "ROI_MASK_HEAD")
    assert {keys[f"MODEL.{place}.NORM"] for place in places} == {"GN"}


def test_pyramids_stages_and_cascades_find_their_places():
    c4, dc5 = settings(spec("r101-c4")), settings(spec("r101-dc5"))
    for keys, stage, heads, dilation in (
        (c4, "res4", "Res5ROIHeads", 1),
        (dc5, "res5", "StandardROIHeads", 2),
    ):
        assert keys["MODEL.BACKBONE.NAME"] == "build_resnet_backbone"
        places = ("RESNETS.OUT", "RPN.IN", "ROI_HEADS.IN")
        assert all(keys[f"MODEL.{place}_FEATURES"] == [stage] for place in places)
        assert keys["MODEL.ROI_HEADS.NAME"] == heads
        assert keys["MODEL.RESNETS.RES5_DILATION"] == dilation
        assert keys["MODEL.ANCHOR_GENERATOR.SIZES"] == [[8, 16, 32, 64, 128]]
    deform = settings(spec("r50-fpn-deform"))
    assert deform["MODEL.RESNETS.DEFORM_ON_PER_STAGE"] == [False, True, True, True]
    cascade = settings(spec("r50-fpn-cascade"))
    assert cascade["MODEL.ROI_HEADS.NAME"] == "CascadeROIHeads"
    assert cascade["MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG"] is True
    assert cascade["MODEL.ROI_BOX_CASCADE_HEAD.IOUS"] == [0.5, 0.6, 0.7]


CASCADE = {"cascade_iou": (0.5, 0.8), "cascade_weights": ((9.0, 9.0, 5.0, 5.0),) * 2}
OTHERS = {
    "attention_heads": {"attention_heads": (3, 6, 12, 24)},
    "channels": {"channels": 4, "pixel_mean": (0.0,) * 4, "pixel_std": (1.0,) * 4},
    "classes": {"classes": ("one",)},
    # A "mvit" has four stages.
    "backbone": {
        "backbone": "mvit",
        "norm": "LN",
        "blocks": (2, 2, 2),
        "stage_channels": (96, 192, 384),
        "attention_heads": (1, 2, 4),
        "attention_window": 56,
        "anchor_sizes": ((8,), (16,), (32,), (64,)),
    },
    "features": {
        "features": "dc5",
        "fpn_extra_level": False,
        "anchor_sizes": ((8.0, 16.0),),
    },
    "deform_stages": {"deform_stages": ("res5",)},
    "cascade_iou": CASCADE,
    "cascade_weights": CASCADE | {"cascade_weights": ((1.0, 1.0, 1.0, 1.0),) * 2},
    "norm": {"norm": "GN"},
    "norm_groups": {"norm_groups": 8, "norm": "GN"},
    "head_norm": {"head_norm": "GN"},
    "blocks": {"blocks": (3, 4, 23, 3)},
    "stage_channels": {"stage_channels": (128, 256, 512, 1024)},
    "anchor_sizes": {"anchor_sizes": ((9,), (16,), (32,), (64,), (128,))},
    "aspect_ratios": {"aspect_ratios": (1.0,)},
    "fpn_extra_level": {
        "fpn_extra_level": False,
        "anchor_sizes": ((8,), (16,), (32,), (64,)),
    },
    "rpn_top_n_area": {"rpn_top_n_area": 65536.0},
    "nms_any_class": {"nms_any_class": 0.7},
    "class_weights": {"class_weights": (1.0, 2.0)},
}


def other(field):
    """A spec that differs in that field."""
    if field.name in OTHERS:
        return dataclasses.replace(spec(), **OTHERS[field.name])
    value = getattr(spec(), field.name)
    if isinstance(value, tuple):
        changed = tuple(v + 1 for v in value)
    else:
        changed = not value if isinstance(value, bool) else value / 2 or 0.25
    return dataclasses.replace(spec(), **{field.name: changed})


# Of prediction's frame, and of heads that this engine refuses (below).
BESIDE_THE_NETWORK = (
    "least_side",
    "targets",
    "target_mean",
    "target_std",
    "target_components",
    "target_floor",
)


@pytest.mark.parametrize(
    "field",
    # The name decides nothing, the order of the channels is the engine's own business, and
    # a configuration file has tests of its own.
    [
        field
        for field in dataclasses.fields(ModelSpec)
        if field.name
        not in (
            "name",
            "reverse_channels",
            "config",
            "config_program",
            "tight_boxes",
            "ignore_cover",
            *BESIDE_THE_NETWORK,
        )
    ],
    ids=lambda field: field.name,
)
def test_no_field_of_a_spec_is_silently_ignored(field):
    changed = other(field)
    assert refusals(changed) or settings(changed) != settings(spec())


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"blocks": (1, 1, 1, 1)}, "3, 4, 6, 3"),
        ({"stage_channels": (64, 64, 64, 64)}, "double"),
        ({"norm": "GN", "norm_groups": 8}, "32 groups"),
        ({**CASCADE, "roi_iou": 0.6}, "begins with roi_iou"),
        ({"nms_any_class": 0.7}, "nms_any_class"),
        ({"canonical_size": 64.0}, "canonical_size"),
        ({"class_weights": (1.0, 2.0)}, "neither weights nor focus"),
        ({"mask_margin": 0.2}, "no margin"),
        ({"targets": ("redshift",), "target_mean": (0.5,), "target_std": (0.2,)}, "no head for"),
    ],
)
def test_what_its_configuration_cannot_say_is_refused(overrides, words):
    assert words in Detectron2Engine().refusal(dataclasses.replace(spec(), **overrides))


def test_no_model_without_a_mask_margin_is_refused():
    engine = Detectron2Engine()
    for name in MODELS:
        assert engine.refusal(spec(name, mask_margin=0.0)) is None
        assert engine.refusal(spec(name, mask_margin=0.0).for_scratch()) is None
        if name != "sky":
            assert engine.refusal(spec(name)) is None


# --- the lazy configuration


LAZY = ("swin-b", "mvitv2-b", "tiny")


def calls(node, end):
    """All calls of that name inside a lazy configuration."""
    if isinstance(node, list):
        return [call for one in node for call in calls(one, end)]
    if not isinstance(node, dict):
        return []
    inside = [call for one in node.values() for call in calls(one, end)]
    return [node, *inside] if node.get("_target_", "").endswith(end) else inside


@pytest.mark.parametrize("name", LAZY)
def test_lazy_configurations_have_the_limits_of_the_spec_and_pad_without_cropping(name):
    tree = lazy(spec(name, channels=5, classes=("a", "b", "c")))
    predictors = calls(tree, "FastRCNNOutputLayers")
    assert len(predictors) == (1 if name == "tiny" else 3)
    for one in predictors:
        assert one["test_topk_per_image"] == 1000
        assert one["num_classes"] == 3
        assert one["test_score_thresh"] == 0.5
    [rpn] = calls(tree, "RPN")
    if name != "tiny":
        assert rpn["pre_nms_topk"] == rpn["post_nms_topk"] == [6000, 6000]
        assert rpn["batch_size_per_image"] == tree["roi_heads"]["batch_size_per_image"] == 512
        assert calls(tree, "DefaultAnchorGenerator")[0]["sizes"] == [[8], [16], [32], [64], [128]]
    assert tree["backbone"]["square_pad"] == 0
    assert len(tree["pixel_mean"]) == len(tree["pixel_std"]) == 5
    entrance = tree["backbone"]["bottom_up"]
    entrance = entrance.get("stem", entrance)
    assert entrance.get("in_chans", entrance.get("in_channels")) == 5


# Of networks with other backbones these fields mean nothing.
RESNETS_OWN = {"groups", "group_width", "stride_in_1x1", "deform_stages", "features", "mask_pool"}
LAZY_OTHERS = {
    "tiny": {
        "blocks": (2, 1, 1),
        "stage_channels": (32, 40, 48),
        "norm": "BN",
        "norm_groups": 4,
        "head_norm": "GN",
        "anchor_sizes": ((4.0,), (10.0,), (24.0,)),
    },
    "swin-b": {
        "blocks": (2, 2, 6, 2),
        "stage_channels": (96, 192, 384, 768),
        "attention_heads": (2, 4, 8, 16),
        "head_norm": "GN",
        "anchor_sizes": ((4,), (16,), (32,), (64,), (128,)),
        "cascade_iou": (0.5, 0.6, 0.8),
        "cascade_weights": ((1.0, 1.0, 1.0, 1.0),) * 3,
    },
}
UNUSED = {
    "tiny": RESNETS_OWN
    | {"attention_heads", "attention_window", "drop_path", "box_conv_dim"}
    | {"cascade_iou", "cascade_weights"},  # come together
    # A cascade has IoUs and weights of its own, and layer norm no groups.
    "swin-b": RESNETS_OWN | {"stem_channels", "norm", "norm_groups", "roi_iou", "box_weights"},
}
# The last two are read from the spec when they are applied.
ELSEWHERE = {"name", "reverse_channels", "backbone", "classes", "channels", "fpn_extra_level"} | {
    "config",
    "config_program",
    "rpn_top_n_area",
    "nms_any_class",
    "tight_boxes",
    "ignore_cover",
    "class_weights",
    "focal_gamma",
    "mask_margin",
    *BESIDE_THE_NETWORK,
}


@pytest.mark.parametrize(
    ("name", "field"),
    [
        (name, field.name)
        for name in LAZY_OTHERS
        for field in dataclasses.fields(ModelSpec)
        if field.name not in UNUSED[name] | ELSEWHERE
    ],
)
def test_no_field_of_a_lazy_configuration_is_silently_ignored(name, field):
    plain = spec(name)
    values = LAZY_OTHERS[name]
    if field in values:
        change = values[field]
    else:
        value = getattr(plain, field)
        if isinstance(value, tuple):
            change = tuple(v + 1 for v in value)
        elif field in ("rpn_convs", "box_convs", "box_head_layers"):
            change = value + 1
        else:
            change = value // 2 or 0.25
    changed = dataclasses.replace(plain, **{field: change})

    def words(tree):
        return repr(tree).replace(repr(changed), "").replace(repr(plain), "")

    assert words(lazy(changed)) != words(lazy(plain))


def test_lazy_configurations_refuse_what_their_parts_cannot_do():
    refuse = Detectron2Engine().refusal
    assert "fully connected" in refuse(spec("swin-b", box_head_layers=0))
    assert "halve the resolution" in refuse(spec("tiny", stage_channels=(16, 32, 48)))


def test_without_timm_a_transformer_says_what_to_install(monkeypatch):
    without_timm(monkeypatch)
    with pytest.raises(InputError, match=r"swin-b from timm.*pip install timm.*torchvision"):
        need_timm("swin-b")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"blocks": (3, 4, 23, 2)}, "blocks"),
        ({"deform_stages": ("res5",)}, "not deformable"),
        ({"box_head_layers": 2}, "fully connected"),
    ],
)
def test_c4_heads_have_one_form_only(overrides, words):
    changed = dataclasses.replace(spec("r101-c4"), **overrides)
    assert words in Detectron2Engine().refusal(changed)


# --- truth masks


def test_masks_chosen_twice_are_cut_like_masks_chosen_once():
    rng = np.random.default_rng(0)
    rles = [encode_at(rng.random((9, 11)) < 0.6, (3 * i, 2 * i), (40, 50)) for i in range(6)]
    truth = TruthMasks(rles)
    boxes = torch.rand(6, 4, generator=torch.Generator().manual_seed(0)) * 15
    boxes[:, 2:] += boxes[:, :2] + 4
    whole = truth.targets(torch.arange(6), boxes, 14) > 0.5
    assert whole.any()
    chosen = RleMasks(truth)[torch.tensor([5, 0, 3, 3])][torch.tensor([True, False, True, True])]
    assert len(chosen) == 3
    cut = chosen.crop_and_resize(boxes[[5, 3, 3]], 14)
    assert cut.dtype == torch.bool
    assert torch.equal(cut, whole[[5, 3, 3]])
