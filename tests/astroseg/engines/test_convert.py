"""Weights of Detectron2 and DeepDISC become checkpoints that predict takes as they are."""

import dataclasses

import numpy as np
import pytest
import torch

from astroseg.cli.main import main
from astroseg.core.config import configured
from astroseg.core.config.convert import ConvertConfig
from astroseg.core.errors import InputError, OutputError
from astroseg.data.units import Units
from astroseg.engines import get_engine
from astroseg.engines.convert import convert
from astroseg.inference.model import load
from astroseg.inference.predict import predict
from astroseg.models.spec import model_spec
from astroseg.weights.checkpoint import read_header

ENGINE = get_engine("torchvision")
CLASSES = ("galaxy", "star")
CONFIG = ConvertConfig(model="tiny", classes=CLASSES, bands=("g", "r", "i"), contrast="lupton")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A model as Detectron2's checkpointer writes it, with a head we lack."""
    model = ENGINE.build(model_spec("tiny", channels=3, classes=CLASSES), seed=0)
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.weight.mul_(50)
    state = dict(model.state_dict())
    path = tmp_path_factory.mktemp("theirs") / "model_final.pth"
    torch.save({"model": state, "iteration": 9}, path)
    torch.save(
        {"model": state | {"roi_heads.redshift_fc.weight": torch.ones(2, 2)}},
        path.with_name("redshift.pth"),
    )
    return path, model


def test_a_converted_checkpoint_predicts_what_the_weights_predict(tmp_path, theirs):
    path, model = theirs
    out = tmp_path / "model.safetensors"
    command = ["convert", str(path), "--model", "tiny", "--classes", "galaxy,star"]
    command += ["--bands", "g,r,i", "--contrast", "none", "--out", str(out)]
    assert main(command) == 0
    header = read_header(out)
    assert header.spec.classes == CLASSES
    assert header.meta["contrast"] == "none"
    image = np.random.default_rng(0).uniform(0, 255, (3, 64, 64)).astype(np.float32)
    np.save(tmp_path / "a.npy", image)
    config = configured("predict", score=0.0, source_iou=1.0, overlays=0, device="cpu")
    found = predict(out, [str(tmp_path / "a.npy")], tmp_path / "p", config, quiet=True)
    ENGINE.set_thresholds(model, score=0.0)
    assert found.detections == len(ENGINE.predict(model, [image])[0].scores) > 0


def test_heads_we_lack_are_left_out_by_name_alone(tmp_path, theirs):
    path = theirs[0].with_name("redshift.pth")
    with pytest.raises(InputError, match="redshift_fc"):
        convert(path, tmp_path / "a.safetensors", CONFIG)
    skipping = dataclasses.replace(CONFIG, skip=("roi_heads.redshift*",))
    report = convert(path, tmp_path / "a.safetensors", skipping)
    assert report.skipped == ("roi_heads.redshift_fc.weight",)
    with pytest.raises(OutputError, match="exists already"):
        convert(path, tmp_path / "a.safetensors", skipping)


def test_what_is_not_told_or_does_not_fit_is_said_in_a_line(tmp_path, theirs):
    path, _ = theirs
    out = tmp_path / "a.safetensors"
    for change, words in (
        ({"model": ""}, "--model"),
        ({"classes": ()}, "classes of the model are not given"),
        ({"bands": ()}, "bands of the model are not given"),
        ({"classes": ("one",)}, "does not fit"),
        ({"bands": ("g", "r")}, "does not fit"),
        ({"model": "r50-fpn"}, "does not fit"),
    ):
        with pytest.raises(InputError, match=words):
            convert(path, out, dataclasses.replace(CONFIG, **change))
    assert not out.exists()


def test_the_order_of_the_channels_and_the_pixels_statistics_are_told(tmp_path):
    spec = model_spec("r50-fpn", channels=3, classes=CLASSES, stem_channels=64)
    assert spec.reverse_channels
    state = ENGINE.build(model_spec("tiny", channels=3, classes=CLASSES), seed=0).state_dict()
    torch.save({"model": dict(state)}, tmp_path / "a.pth")
    config = dataclasses.replace(CONFIG, pixel_mean=(1.0, 2.0, 3.0), pixel_std=(4.0, 5.0, 6.0))
    convert(tmp_path / "a.pth", tmp_path / "a.safetensors", config)
    made = read_header(tmp_path / "a.safetensors").spec
    assert (made.pixel_mean, made.pixel_std) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))


def test_scalings_and_units_that_are_said_are_those_of_prediction(tmp_path, theirs):
    config = dataclasses.replace(CONFIG, stretch=100.0, zeropoint=(30.0,), pixel_scale=0.263)
    out = tmp_path / "a.safetensors"
    convert(theirs[0], out, config)
    job = load(out, device="cpu")._job
    assert (job.data.stretch, job.data.q) == (100.0, 10.0)
    assert job.units == Units((0.263, 0.263), (30.0, 30.0, 30.0))
    with pytest.raises(InputError, match="2 zero points for 3 bands"):
        dataclasses.replace(CONFIG, zeropoint=(1.0, 2.0)).check()
