"""Checkpoints: what goes in comes out, and what does not fit is refused by name."""

import dataclasses
import json
import os
import pickle
import random

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from astroseg.core.errors import InputError, OutputError
from astroseg.engines import get_engine
from astroseg.models.spec import model_spec
from astroseg.weights.checkpoint import (
    CLASS_HEADS,
    FIRST_CONVOLUTION,
    Header,
    read_checkpoint,
    read_header,
    spread_channels,
    write_checkpoint,
)

ENGINE = get_engine("torchvision")
META = {"bands": "g,r,i", "contrast": "asinh", "data_sha256": "ab12"}


def tiny(**overrides):
    values = {"channels": 3, "classes": ("galaxy", "star"), "score_threshold": 0.0, **overrides}
    return model_spec("tiny", **values)


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(1, 1, (3, 48, 56)).astype(np.float32)


def assert_same_predictions(a, b):
    for field in ("boxes", "scores", "labels"):
        assert np.array_equal(getattr(a, field), getattr(b, field))
    assert a.masks == b.masks


def test_a_saved_model_read_into_a_fresh_one_predicts_bit_for_bit_the_same(tmp_path, image):
    model = ENGINE.build(tiny(), seed=1)
    ENGINE.save(model, tmp_path / "a.safetensors", META)
    other = ENGINE.build(read_header(tmp_path / "a.safetensors").spec, seed=2)
    [before] = ENGINE.predict(model, [image])
    [unloaded] = ENGINE.predict(other, [image])
    assert not np.array_equal(before.scores, unloaded.scores)
    report = ENGINE.load(other, tmp_path / "a.safetensors")
    assert_same_predictions(before, ENGINE.predict(other, [image])[0])
    assert len(report.loaded) == len(model.state_dict())
    assert report.skipped == report.mismatched == report.missing == report.adapted == ()


def test_the_header_says_what_the_model_is_and_what_it_was_trained_on(tmp_path):
    spec = tiny(nms_threshold=0.4)
    ENGINE.save(ENGINE.build(spec), tmp_path / "a.safetensors", META)
    header = read_header(tmp_path / "a.safetensors")
    assert header == Header(spec, "torchvision", ENGINE.versions(), META)


def test_frozen_statistics_travel_with_the_weights(tmp_path):
    spec = model_spec(
        "r50-fpn",
        channels=3,
        classes=("a",),
        blocks=(1, 1, 1, 1),
        stem_channels=8,
        stage_channels=(8, 8, 8, 8),
        group_width=4,
        fpn_channels=8,
        box_head_dim=8,
        mask_head_dim=8,
    )
    model = ENGINE.build(spec)
    model.backbone.bottom_up.stem.conv1.norm.running_mean.fill_(3.0)
    ENGINE.save(model, tmp_path / "a.safetensors", {})
    other = ENGINE.build(spec)
    ENGINE.load(other, tmp_path / "a.safetensors")
    assert (other.backbone.bottom_up.stem.conv1.norm.running_mean == 3).all()


def test_another_architecture_is_refused_with_the_difference(tmp_path):
    ENGINE.save(ENGINE.build(tiny()), tmp_path / "a.safetensors", {})
    wide = ENGINE.build(tiny(fpn_channels=16))
    with pytest.raises(InputError, match="fpn_channels is 32 in the file, 16 in the model"):
        ENGINE.load(wide, tmp_path / "a.safetensors")


def test_a_difference_that_no_shape_shows_is_refused_too(tmp_path):
    ENGINE.save(ENGINE.build(tiny()), tmp_path / "a.safetensors", {})
    other = ENGINE.build(tiny(anchor_sizes=((4,), (10,), (24,))))
    with pytest.raises(InputError, match="anchor_sizes"):
        ENGINE.load(other, tmp_path / "a.safetensors")


def test_thresholds_may_differ_from_the_checkpoint(tmp_path):
    ENGINE.save(ENGINE.build(tiny()), tmp_path / "a.safetensors", {})
    other = ENGINE.build(tiny(score_threshold=0.9, nms_threshold=0.2, detections_per_image=7))
    ENGINE.load(other, tmp_path / "a.safetensors")
    assert other.spec.detections_per_image == 7


def test_other_classes_need_to_be_asked_for_even_where_shapes_agree(tmp_path):
    model = ENGINE.build(tiny(), seed=1)
    ENGINE.save(model, tmp_path / "a.safetensors", {})
    other = ENGINE.build(tiny(classes=("star", "galaxy")), seed=2)
    fresh = other.roi_heads.box_predictor.cls_score.weight.clone()
    with pytest.raises(InputError, match=r"trained for the classes \['galaxy', 'star'\]"):
        ENGINE.load(other, tmp_path / "a.safetensors")
    report = ENGINE.load(other, tmp_path / "a.safetensors", allow_missing=CLASS_HEADS)
    assert torch.equal(other.roi_heads.box_predictor.cls_score.weight, fresh)
    assert len(report.mismatched) == 6
    assert torch.equal(other.roi_heads.box_head.fc1.weight, model.roi_heads.box_head.fc1.weight)


def test_transfer_to_more_classes_keeps_all_but_the_class_heads(tmp_path):
    ENGINE.save(ENGINE.build(tiny(), seed=1), tmp_path / "a.safetensors", {})
    other = ENGINE.build(tiny(classes=("a", "b", "c")))
    report = ENGINE.load(other, tmp_path / "a.safetensors", allow_missing=CLASS_HEADS)
    assert set(report.mismatched) | set(report.loaded) == set(other.state_dict())
    assert "6 mismatched" in str(report)


def test_more_channels_need_to_be_asked_for_and_a_grey_image_gives_the_same(tmp_path):
    model = ENGINE.build(tiny(), seed=1)
    ENGINE.save(model, tmp_path / "a.safetensors", {})
    five = ENGINE.build(tiny(channels=5))
    with pytest.raises(InputError, match=r"stem\.conv1\.weight"):
        ENGINE.load(five, tmp_path / "a.safetensors")
    report = ENGINE.load(five, tmp_path / "a.safetensors", adapt_channels=True)
    assert report.adapted == (FIRST_CONVOLUTION,)
    grey = torch.randn(1, 1, 16, 16)
    a = model.backbone.bottom_up.stem(grey.repeat(1, 3, 1, 1))
    b = five.backbone.bottom_up.stem(grey.repeat(1, 5, 1, 1))
    assert torch.allclose(a, b, atol=1e-5)


def test_spreading_to_the_same_number_of_equal_channels_changes_nothing():
    weight = torch.randn(4, 1, 3, 3).repeat(1, 3, 1, 1)
    assert torch.allclose(spread_channels(weight, 3), weight)


def foreign(tmp_path, change):
    """A model-zoo-like file: tensors only."""
    tensors = {k: v.contiguous() for k, v in ENGINE.build(tiny(), seed=1).state_dict().items()}
    change(tensors)
    save_file(tensors, tmp_path / "f.safetensors")
    return tmp_path / "f.safetensors"


def test_a_tensor_too_many_is_refused_unless_allowed(tmp_path):
    path = foreign(tmp_path, lambda t: t.update({"roi_heads.extra": torch.zeros(1)}))
    with pytest.raises(InputError, match=r"the model has no roi_heads\.extra"):
        ENGINE.load(ENGINE.build(tiny()), path)
    report = ENGINE.load(ENGINE.build(tiny()), path, allow_missing=["roi_heads.ex*"])
    assert report.skipped == ("roi_heads.extra",)


def test_a_tensor_too_few_is_refused_unless_allowed_and_the_model_stays_as_it_was(tmp_path):
    path = foreign(tmp_path, lambda t: t.pop("roi_heads.box_head.fc1.bias"))
    model = ENGINE.build(tiny(), seed=5)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(InputError, match=r"the file has no roi_heads\.box_head\.fc1\.bias"):
        ENGINE.load(model, path)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    report = ENGINE.load(model, path, allow_missing=["*.fc1.bias"])
    assert report.missing == ("roi_heads.box_head.fc1.bias",)


class Evil:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize("write", [pickle.dump, lambda o, f: torch.save(o, f)])
@pytest.mark.parametrize("name", ["a.pth", "a.pkl"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, name, write):
    trap = tmp_path / "ran"
    with (tmp_path / name).open("wb") as file:
        write({"model": Evil(trap)}, file)
    with pytest.raises(InputError, match="could run code"):
        read_checkpoint(tmp_path / name)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("key", "before"),
    [("", ""), ("model", ""), ("model", "module."), ("state_dict", "model."), ("", "module.")],
)
def test_a_torch_file_of_plain_tensors_is_read(tmp_path, key, before):
    model = ENGINE.build(tiny(), seed=1)
    content = {before + name: value for name, value in model.state_dict().items()}
    torch.save({key: content, "iteration": 5} if key else content, tmp_path / "a.pth")
    other = ENGINE.build(tiny(), seed=2)
    ENGINE.load(other, tmp_path / "a.pth")
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())


def test_a_torch_file_of_something_else_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="something else than tensors"):
        read_checkpoint(tmp_path / "a.pth")


def test_a_cut_file_a_missing_one_and_a_text_are_named(tmp_path):
    ENGINE.save(ENGINE.build(tiny()), tmp_path / "a.safetensors", {})
    content = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.pth").write_text("hello, this is no checkpoint")
    for name, words in (
        ("cut.safetensors", "not a readable safetensors"),
        ("none.safetensors", "no such checkpoint"),
        ("text.pth", "not a readable safetensors"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            read_checkpoint(tmp_path / name)
        assert caught.value.file == str(tmp_path / name)


def test_no_bit_that_flips_goes_unseen(tmp_path):
    """Refused, or read as what was written: where the flip was in the name of the hash."""
    path, draw = tmp_path / "a.safetensors", random.Random(3)
    written = {"a": torch.arange(64, dtype=torch.float32), "b": torch.ones(3, dtype=torch.float16)}
    write_checkpoint(path, written, Header(meta={"bands": "g,r,i"}))
    sound, (_, header) = path.read_bytes(), read_checkpoint(path)
    refused = 0
    for _ in range(300):
        changed = bytearray(sound)
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        try:
            tensors, found = read_checkpoint(path)
        except InputError:
            refused += 1
            continue
        assert found == header
        assert all(torch.equal(tensors[name], value) for name, value in written.items())
    assert refused > 240


def test_a_checkpoint_of_an_earlier_version_has_no_hash(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", {"schema": "1"})
    assert (read_checkpoint(tmp_path / "a.safetensors")[0]["a"] == 1).all()


def test_a_header_of_a_newer_version_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"schema": "99"})
    with pytest.raises(InputError, match="newer than 1"):
        read_header(tmp_path / "a.safetensors")


def test_a_failed_write_leaves_the_old_checkpoint_and_no_part(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, {"a": torch.zeros(2)}, Header())

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("astroseg.weights.checkpoint.save_file", full)
    with pytest.raises(OutputError, match="no space left"):
        write_checkpoint(path, {"a": torch.ones(2)}, Header())
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    assert (read_checkpoint(path)[0]["a"] == 0).all()


def test_a_header_made_by_another_program_version_names_the_field(tmp_path):
    spec = dataclasses.asdict(tiny()) | {"colour": 1}
    metadata = {"schema": "1", "architecture": json.dumps(spec)}
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata)
    with pytest.raises(InputError, match="unknown fields \\['colour'\\]"):
        read_header(tmp_path / "a.safetensors")
