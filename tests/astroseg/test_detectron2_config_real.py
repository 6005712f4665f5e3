"""Users' configuration files, trained and applied by the real Detectron2."""

import importlib.util
import json
import shutil

import numpy as np
import pytest
from train_helpers import write_sky_set

from astroseg.cli import main
from astroseg.engines import get_engine
from astroseg.engines.detectron2_file import read_config
from astroseg.engines.detectron2_override import config_spec, frozen_norms
from astroseg.errors import InputError
from astroseg.weights import read_header

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")  # Detectron2's own
NEEDS_TIMM = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm is not installed"
)
CLASSES = ("galaxy", "star")

BASE = """
VERSION: 2
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  WEIGHTS: somewhere.pkl
  MASK_ON: True
  BACKBONE: {NAME: build_resnet_fpn_backbone}
  RESNETS:
    OUT_FEATURES: [res2, res3, res4, res5]
    NORM: BN
    STEM_OUT_CHANNELS: 8
    RES2_OUT_CHANNELS: 16
    WIDTH_PER_GROUP: 8
  FPN: {IN_FEATURES: [res2, res3, res4, res5], OUT_CHANNELS: 16}
  ANCHOR_GENERATOR: {SIZES: [[8], [16], [32], [64], [128]]}
  RPN: {IN_FEATURES: [p2, p3, p4, p5, p6], POST_NMS_TOPK_TRAIN: 100}
  ROI_HEADS: {NAME: StandardROIHeads, IN_FEATURES: [p2, p3, p4, p5], SCORE_THRESH_TEST: 0.0}
  ROI_BOX_HEAD: {NAME: FastRCNNConvFCHead, NUM_FC: 1, FC_DIM: 16, POOLER_RESOLUTION: 7}
  ROI_MASK_HEAD: {NAME: MaskRCNNConvUpsampleHead, NUM_CONV: 1, CONV_DIM: 16}
TEST: {DETECTIONS_PER_IMAGE: 20}
"""
OWN = """
_BASE_: base.yaml
MODEL:
  RESNETS: {DEFORM_ON_PER_STAGE: [False, False, True, True], DEFORM_MODULATED: True}
"""
NETWORK = """
from functools import partial
from pathlib import Path
import torch.nn as nn
from detectron2.config import LazyCall as L
from detectron2.layers import NaiveSyncBatchNorm, ShapeSpec
from detectron2.modeling import SwinTransformer
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead, FastRCNNOutputLayers, MaskRCNNConvUpsampleHead, StandardROIHeads,
)

with (Path(__file__).parent / "runs.txt").open("a") as file:
    file.write("run ")

model = L(GeneralizedRCNN)(
    backbone=L(FPN)(
        bottom_up=L(SwinTransformer)(
            depths=[1, 1, 1, 1], embed_dim=16, num_heads=[1, 2, 4, 8],
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
        ),
        in_features=("p0", "p1", "p2", "p3"), out_channels=16, square_pad=64,
        top_block=L(LastLevelMaxPool)(),
    ),
    proposal_generator=L(RPN)(
        in_features=["p2", "p3", "p4", "p5", "p6"],
        head=L(StandardRPNHead)(in_channels=16, num_anchors=1),
        anchor_generator=L(DefaultAnchorGenerator)(
            sizes=[[8], [16], [32], [64], [128]], aspect_ratios=[1.0],
            strides=[4, 8, 16, 32, 64], offset=0.0,
        ),
        anchor_matcher=L(Matcher)(
            thresholds=[0.3, 0.7], labels=[0, -1, 1], allow_low_quality_matches=True
        ),
        box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
        batch_size_per_image=64, positive_fraction=0.5,
        pre_nms_topk=(200, 100), post_nms_topk=(100, 100),
    ),
    roi_heads=L(StandardROIHeads)(
        num_classes=80, batch_size_per_image=64, positive_fraction=0.25,
        proposal_matcher=L(Matcher)(
            thresholds=[0.5], labels=[0, 1], allow_low_quality_matches=False
        ),
        box_in_features=["p2", "p3"],
        box_pooler=L(ROIPooler)(
            output_size=7, scales=(1 / 4, 1 / 8), sampling_ratio=0, pooler_type="ROIAlignV2"
        ),
        box_head=L(FastRCNNConvFCHead)(
            input_shape=ShapeSpec(channels=16, height=7, width=7), conv_dims=[16], fc_dims=[16],
            conv_norm=lambda c: NaiveSyncBatchNorm(c, stats_mode="N"),
        ),
        box_predictor=L(FastRCNNOutputLayers)(
            input_shape=ShapeSpec(channels=16), num_classes="${..num_classes}",
            box2box_transform=L(Box2BoxTransform)(weights=(10, 10, 5, 5)),
        ),
        mask_in_features="${.box_in_features}",
        mask_pooler="${.box_pooler}",
        mask_head=L(MaskRCNNConvUpsampleHead)(
            input_shape=ShapeSpec(channels=16, height=7, width=7),
            num_classes="${..num_classes}", conv_dims=[16, 16],
        ),
    ),
    pixel_mean=[100.0, 100.0, 100.0], pixel_std=[50.0, 50.0, 50.0], input_format="RGB",
)
"""
LAZY = "from .network import model\n\nmodel.backbone.norm = 'LN'\noptimizer = dict(lr=1.0)\n"


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "configs"
    folder.mkdir()
    texts = {"base.yaml": BASE, "own.yaml": OWN, "network.py": NETWORK, "lazy.py": LAZY}
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder


BOTH = pytest.mark.parametrize("name", ["own.yaml", pytest.param("lazy.py", marks=NEEDS_TIMM)])


@BOTH
def test_a_model_of_a_configuration_file_trains_and_predicts_without_it(tmp_path, files, name):
    skies = write_sky_set(tmp_path / "skies", 2, size=96, sources=8)
    run, out = tmp_path / "run", tmp_path / "out"
    train = ["train", str(skies), "--val", str(skies), "--config", str(files / name)]
    train += ["--out", str(run), "--device", "cpu", "--workers", "0", "--quiet", "--batch-size"]
    assert main([*train, "2", "--steps", "2"]) == 0
    assert main([*train, "2", "--steps", "2", "--resume"]) == 0
    header = read_header(run / "last.safetensors")
    assert header.engine == "detectron2"
    assert header.spec.config == read_config(files / name)
    runs = files / "runs.txt"
    before = runs.read_text() if runs.exists() else None
    kept = files / "kept.txt"
    if before is not None:
        runs.rename(kept)
    predict = ["predict", str(run / "last.safetensors"), str(skies), "--score", "0", "--quiet"]
    assert main([*predict, "--out", str(out), "--detections", "30"]) == 0
    assert len(json.loads((out / "predictions.json").read_text())) == 60
    assert not runs.exists()  # nothing of the user's was run again
    assert main([*predict, "--out", str(tmp_path / "b"), "--engine", "torchvision"]) == 2


@BOTH
def test_what_is_rebuilt_from_a_checkpoint_predicts_the_same(tmp_path, files, name):
    engine = get_engine("detectron2")
    text = read_config(files / name)
    shutil.rmtree(files)
    spec = config_spec(text, "own", channels=5, classes=CLASSES)
    model = engine.build(spec, seed=0)
    engine.save(model, tmp_path / "a.safetensors", {})
    again = engine.build(read_header(tmp_path / "a.safetensors").spec, seed=1)
    assert set(engine.load(again, tmp_path / "a.safetensors").loaded) == set(model.state_dict())
    image = np.random.default_rng(0).normal(100, 60, (5, 150, 70)).astype(np.float32)
    one, other = (engine.predict(m, [image])[0] for m in (model, again))
    assert len(one.scores) > 100  # more than Detectron2 keeps unless told
    assert np.array_equal(one.scores, other.scores)
    assert one.boxes[:, 3].max() > 140  # beyond the square the file pads to


@BOTH
def test_its_weights_go_on_with_other_bands_and_freeze_their_backbone(tmp_path, files, name):
    engine = get_engine("detectron2")
    text = read_config(files / name)
    three, five = (config_spec(text, "own", channels=c, classes=CLASSES) for c in (3, 5))
    engine.save(engine.build(three, seed=0), tmp_path / "a.safetensors", {})
    model = engine.build(five, seed=1)
    report = engine.load(model, tmp_path / "a.safetensors", adapt_channels=True)
    [first] = report.adapted
    engine.param_groups(model, "heads")
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert first in frozen
    assert frozen == {n for n in dict(model.named_parameters()) if ".bottom_up." in n}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "", "not a Detectron2 configuration"),
        ("a.yaml", "epochs: 3", "has no MODEL"),
        ("a.yaml", "- 1", "has no MODEL"),
        ("a.yaml", "MODEL: [", "ParserError"),
        ("a.yaml", "MODEL: {NO_SUCH_KEY: 1}", "NO_SUCH_KEY"),
        ("a.yaml", "MODEL: {DEVICE: !!python/object/apply:eval [1]}", "Python code"),
        ("a.yaml", "_BASE_: base.yaml\nMODEL: {MASK_ON: False}", "no mask head"),
        ("a.yaml", "MODEL: {META_ARCHITECTURE: RetinaNet}", "RetinaNet"),
        ("a.py", "optimizer = 1", "defines no `model`"),
        ("a.py", "model = undefined", "cannot be run.*undefined"),
        ("a.py", "import torch\nfrom detectron2.config import LazyCall as L\n"
         "model = L(torch.load)(f='x')", "not a layer"),
        ("a.py", "from .network import model\nmodel.roi_heads.mask_head.act = lambda x: x",
         r"mask_head\.act is"),
        ("a.py", "from .network import model\n"
         "[model.roi_heads.pop(k) for k in list(model.roi_heads) if 'mask' in k]", "no mask head"),
        ("a.py", "import torch\nfrom detectron2.config import LazyCall as L\n"
         "model = L(torch.nn.Linear)(in_features=1)", "GeneralizedRCNN"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_says_why(files, name, text, words):
    (files / name).write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        read_config(files / name)
    assert str(files / name) in str(caught.value)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: no such file"):
        read_config(tmp_path / "none.yaml")


def test_a_failing_file_leaves_pythons_import_alone(files):
    own = __builtins__["__import__"]
    (files / "a.py").write_text("from .network import nothing")
    with pytest.raises(InputError):
        read_config(files / "a.py")
    assert __builtins__["__import__"] is own


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("build_resnet_fpn_backbone", "my_backbone", "my_backbone"),
        ("NAME: StandardROIHeads", "NAME: MyHeads", "MyHeads"),
        ("MASK_ON: True", "MASK_ON: True\n  KEYPOINT_ON: True", "keypoint"),
    ],
)
def test_a_model_that_cannot_be_built_or_trained_says_why(files, old, new, words):
    (files / "a.yaml").write_text(BASE.replace(old, new))
    spec = config_spec(read_config(files / "a.yaml"), "a", channels=3, classes=CLASSES)
    with pytest.raises(InputError, match=words):
        get_engine("detectron2").build(spec)


def test_frozen_norms_want_weights(tmp_path, files, capsys):
    (files / "a.yaml").write_text(BASE.replace("NORM: BN", "NORM: FrozenBN"))
    assert frozen_norms(read_config(files / "a.yaml"))
    skies = write_sky_set(tmp_path / "skies", 1, size=64, sources=4)
    config = str(files / "a.yaml")
    assert main(["train", str(skies), "--config", config, "--out", str(tmp_path / "run")]) == 2
    assert "give --weights" in capsys.readouterr().err


def test_a_run_tells_what_it_changes(tmp_path, files, capfd):
    skies = write_sky_set(tmp_path / "skies", 1, size=64, sources=4)
    command = ["train", str(skies), "--config", str(files / "own.yaml"), "--steps", "1"]
    command += ["--device", "cpu", "--workers", "0", "--keep-limits"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    told = "".join(capfd.readouterr())
    assert "MODEL.ROI_HEADS.NUM_CLASSES: 80 -> 2" in told
    assert "DETECTIONS_PER_IMAGE" not in told  # as asked
