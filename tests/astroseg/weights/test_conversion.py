"""Checkpoints of other programs: the same network comes out, and nothing in them runs."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from astroseg.core.config import configured
from astroseg.core.errors import InputError
from astroseg.engines import get_engine
from astroseg.inference.predict import predict
from astroseg.models.spec import ModelSpec, model_spec
from astroseg.weights.checkpoint import (
    CLASS_HEADS,
    FIRST_CONVOLUTION,
    matches,
    place,
    read_checkpoint,
    read_header,
)
from astroseg.weights.conversion import BACKBONE_LACKS, convert, is_pickle, read_converted

ENGINE = get_engine("torchvision")
SMALL = {"blocks": (1, 1, 2, 1), "fpn_channels": 8, "box_head_dim": 8, "mask_head_dim": 8}


def small(**overrides: Any) -> ModelSpec:
    """A ResNet of four stages and the usual width, with small heads."""
    values = {"channels": 3, "classes": ("galaxy", "star"), **SMALL, **overrides}
    return model_spec("r50-fpn", **values)


def lively(model: torch.nn.Module) -> torch.nn.Module:
    """With statistics of every norm away from 0 and 1."""
    generator = torch.Generator().manual_seed(3)
    for name, value in model.state_dict().items():
        if name.endswith("running_mean"):
            value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
        elif name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif value.ndim == 1:
            value.copy_(torch.rand(value.shape, generator=generator) * 0.4 + 0.5)
    return model.eval()


def classifier(groups: int = 1, width: int = 64, blocks: tuple[int, ...] = SMALL["blocks"]) -> Any:
    torch.manual_seed(1)
    net = ResNet(Bottleneck, list(blocks), 10, groups=groups, width_per_group=width)
    return lively(net)


def stages(net: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """Features of a torchvision ResNet."""
    x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
    found = []
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        x = layer(x)
        found.append(x)
    return found


def dump(content: Any, path: Path, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def arrays(model: torch.nn.Module) -> dict[str, Any]:
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


# --- torchvision


@pytest.mark.parametrize(
    ("groups", "width", "blocks"),
    [(1, 64, (1, 1, 2, 1)), (32, 8, (1, 2, 1, 1)), (1, 64, (3, 4, 6, 3))],
)
def test_converted_classifier_gives_the_same_features_of_a_picture(
    tmp_path: Path, groups: int, width: int, blocks: tuple[int, ...]
) -> None:
    net = classifier(groups, width, blocks)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    fields = dict(read_header(tmp_path / "net.pth").fields)
    spec = small(groups=groups, group_width=width, blocks=blocks, **fields)
    model = ENGINE.build(spec).eval()
    report = ENGINE.load(model, tmp_path / "net.pth")
    assert report.origin == "ImageNet classifier of torchvision or timm"
    picture = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (3, 64, 96)).astype(np.float32)
    )
    # torchvision's preprocessing: red first, values up to 1.
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    seen = (picture / 255 - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        wanted = stages(net, seen[None])
        found = model.backbone.bottom_up(model._stack([picture]))
    for a, b in zip(wanted, found, strict=True):
        assert a.abs().max() > 0.1
        assert (a - b).abs().max() <= 1e-5 * a.abs().max()


def test_converted_classifier_leaves_only_its_own_head_and_ours(tmp_path: Path) -> None:
    torch.save(classifier().state_dict(), tmp_path / "net.pth")
    model = ENGINE.build(small(stride_in_1x1=False))
    report = ENGINE.load(model, tmp_path / "net.pth")
    bottom_up = {name for name in model.state_dict() if ".bottom_up." in name}
    assert set(report.loaded) == bottom_up
    assert {name for name in report.skipped if "num_batches" not in name} == {
        "fc.weight",
        "fc.bias",
    }
    assert set(report.missing) == set(model.state_dict()) - bottom_up


def test_classifier_needs_the_stride_it_was_trained_with(tmp_path: Path) -> None:
    torch.save(classifier().state_dict(), tmp_path / "net.pth")
    with pytest.raises(InputError, match="needs a model with stride_in_1x1 False"):
        ENGINE.load(ENGINE.build(small()), tmp_path / "net.pth")


def test_classifier_for_five_bands_sees_a_grey_sky_as_before(tmp_path: Path) -> None:
    torch.save(classifier().state_dict(), tmp_path / "net.pth")
    three = ENGINE.build(small(stride_in_1x1=False)).eval()
    five = ENGINE.build(small(stride_in_1x1=False, channels=5)).eval()
    ENGINE.load(three, tmp_path / "net.pth")
    report = ENGINE.load(five, tmp_path / "net.pth", adapt_channels=True)
    assert report.adapted == (FIRST_CONVOLUTION,)
    grey = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        a = three.backbone.bottom_up(grey.repeat(1, 3, 1, 1))[-1]
        b = five.backbone.bottom_up(grey.repeat(1, 5, 1, 1))[-1]
    assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_other_depth_is_refused_by_the_block_that_has_no_place(tmp_path: Path) -> None:
    torch.save(classifier(blocks=(1, 1, 3, 1)).state_dict(), tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"the model has no res4\.2\."):
        ENGINE.load(ENGINE.build(small(stride_in_1x1=False)), tmp_path / "net.pth")


def test_backbone_with_a_hole_is_refused(tmp_path: Path) -> None:
    state = classifier().state_dict()
    del state["layer3.0.bn2.running_var"]
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"the file has no .*res4\.0\.conv2\.norm\.running_var"):
        ENGINE.load(ENGINE.build(small(stride_in_1x1=False)), tmp_path / "net.pth")


def test_classifier_in_safetensors_is_converted_too(tmp_path: Path) -> None:
    net = classifier()
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, tmp_path / "a.safetensors")
    tensors, header = read_checkpoint(tmp_path / "a.safetensors")
    assert torch.equal(tensors["res3.0.shortcut.norm.bias"], net.layer2[0].downsample[1].bias)
    assert read_header(tmp_path / "a.safetensors") == header
    assert header.fields["stride_in_1x1"] is False


def test_shallow_resnet_and_torchvisions_detector_are_refused_with_the_reason() -> None:
    shallow = ResNet(BasicBlock, [1, 1, 1, 1], 10).state_dict()
    with pytest.raises(InputError, match="two convolutions a block"):
        convert(shallow, Path("resnet18.pth"))
    with pytest.raises(InputError, match="half a pixel off"):
        convert({"backbone.body.conv1.weight": torch.zeros(1)}, Path("maskrcnn.pth"))


def test_lone_backbone_that_does_not_tell_its_conventions_is_refused() -> None:
    state = {"stem.conv1.weight": torch.zeros(1), "res2.0.conv1.weight": torch.zeros(1)}
    with pytest.raises(InputError, match="neither its order of colours"):
        convert(state, Path("converted.pkl"))


# --- Detectron2 and DeepDISC


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_model_zoo_pickle_loads_all_but_the_class_heads(tmp_path: Path, protocol: int) -> None:
    model = lively(ENGINE.build(small(classes=tuple(f"c{i}" for i in range(5))), seed=1))
    content = {
        "model": arrays(model),
        "__author__": "Detectron2 Model Zoo",
        "matching_heuristics": True,
    }
    path = dump(content, tmp_path / "model_final_abc123.pkl", protocol)
    other = ENGINE.build(small(), seed=2)
    with pytest.raises(InputError, match=r"cls_score\.bias is \(6,\) in the file, \(3,\)"):
        ENGINE.load(other, path)
    report = ENGINE.load(other, path, allow_missing=CLASS_HEADS)
    assert len(report.mismatched) == 6
    assert set(report.loaded) | set(report.mismatched) == set(other.state_dict())
    for name in report.loaded:
        assert torch.equal(other.state_dict()[name], model.state_dict()[name])


def test_buffers_of_old_detectron2_may_stay_out_and_are_reported(tmp_path: Path) -> None:
    content = arrays(ENGINE.build(small()))
    extras = {"pixel_mean", "proposal_generator.anchor_generator.cell_anchors.0"}
    content |= {name: np.zeros(3, np.float32) for name in extras}
    path = dump({"model": content}, tmp_path / "old.pkl")
    assert set(ENGINE.load(ENGINE.build(small()), path).skipped) == extras


def test_head_that_the_model_lacks_is_not_dropped_in_silence(tmp_path: Path) -> None:
    content = arrays(ENGINE.build(small())) | {"roi_heads.redshift_fc.weight": np.zeros((2, 2))}
    path = dump({"model": content}, tmp_path / "redshift.pkl")
    with pytest.raises(InputError, match=r"the model has no roi_heads\.redshift_fc\.weight"):
        ENGINE.load(ENGINE.build(small()), path, allow_missing=CLASS_HEADS)


@pytest.mark.parametrize("zipped", [True, False])
def test_trainers_checkpoint_with_optimizer_and_schedule_is_read(
    tmp_path: Path, zipped: bool
) -> None:
    model = ENGINE.build(small(), seed=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    state = OrderedDict((f"module.{k}", v) for k, v in model.state_dict().items())
    content: dict[str, Any] = {
        "model": state,
        "optimizer": optimizer.state_dict(),
        "scheduler": {"base_lrs": [0.1], "last_epoch": 3},
        "iteration": 3,
    }
    path = tmp_path / "model_0000003.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    other = ENGINE.build(small(), seed=2)
    report = ENGINE.load(other, path)
    assert len(report.loaded) == len(model.state_dict())
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())


def test_prediction_with_a_file_that_tells_no_model_says_what_to_do(tmp_path: Path) -> None:
    torch.save(classifier().state_dict(), tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"does not say what model.*astroseg train"):
        predict(tmp_path / "net.pth", ["a.fits"], tmp_path / "out", configured("predict"))


# --- Caffe2's backbones


def caffe2_names(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """A backbone as Detectron2 distributes MSRA's: from our names to theirs."""
    norms = {"weight": "gamma", "bias": "beta"}
    branches = {"shortcut": "1", "conv1": "2a", "conv2": "2b", "conv3": "2c"}
    found: dict[str, Any] = {}
    for name, value in state.items():
        if not name.startswith("backbone.bottom_up."):
            continue
        parts = name.removeprefix("backbone.bottom_up.").split(".")
        end = "w" if parts[-2] != "norm" else f"bn_{norms.get(parts[-1], parts[-1])}"
        if parts[0] == "stem":
            place = "conv1" if end == "w" else "res_conv1"
        else:
            place = f"{parts[0]}_{parts[1]}_branch{branches[parts[2]]}"
        found[f"{place}_{end}"] = value.numpy().copy()
    return found


@pytest.mark.parametrize("nested", [True, False])
def test_caffe2_backbone_loads_whole(tmp_path: Path, nested: bool) -> None:
    model = lively(ENGINE.build(small(), seed=1))
    content = caffe2_names(model.state_dict())
    content |= {"fc1000_w": np.zeros((4, 2)), "fc1000_b": np.zeros(4), "conv1_b": np.zeros(64)}
    path = dump({"blobs": content, "cfg": "x: 1"} if nested else content, tmp_path / "R-50.pkl")
    other = ENGINE.build(small(), seed=2)
    report = ENGINE.load(other, path)
    assert report.origin == "ImageNet backbone of Caffe2"
    assert report.skipped == ("fc1000_b", "fc1000_w", "stem.conv1.bias")
    bottom_up = [name for name in model.state_dict() if ".bottom_up." in name]
    assert list(report.loaded) == sorted(bottom_up)
    for name in bottom_up:
        assert torch.equal(other.state_dict()[name], model.state_dict()[name])


def test_short_norm_names_of_caffe2_mean_the_same() -> None:
    names = {"s": "weight", "b": "bias", "rm": "running_mean", "riv": "running_var"}
    state = {f"res2_0_branch2a_bn_{k}": torch.full((1,), i) for i, k in enumerate(names)}
    found = convert(state, Path("x.pkl")).tensors
    assert [int(found[f"res2.0.conv1.norm.{name}"]) for name in names.values()] == [0, 1, 2, 3]


def test_caffe2_detector_is_refused_by_its_names() -> None:
    state = {"res2_0_branch2a_w": torch.zeros(1), "fpn_inner_res5_2_sum_w": torch.zeros(1)}
    with pytest.raises(InputError, match="belong to no backbone: fpn_inner_res5_2_sum_w"):
        convert(state, Path("x.pkl"))


def test_lone_backbone_goes_where_the_model_keeps_each_stage(tmp_path: Path) -> None:
    class Split(torch.nn.Module):
        """As Detectron2's C4 models: the last stage among the heads."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone = torch.nn.Module()
            self.roi_heads = torch.nn.Module()
            bottom_up = ENGINE.build(small()).backbone.bottom_up
            for name in ("stem", "res2", "res3", "res4"):
                setattr(self.backbone, name, getattr(bottom_up, name))
            self.roi_heads.res5 = bottom_up.res5

    path = dump(caffe2_names(ENGINE.build(small(), seed=1).state_dict()), tmp_path / "R.pkl")
    tensors, header = read_checkpoint(path)
    report = place(Split(), small(), tensors, header, file=path)
    assert "roi_heads.res5.0.conv3.weight" in report.loaded
    assert report.missing == ()
    tensors.pop("res5.0.conv3.weight")
    with pytest.raises(InputError, match=r"the file has no roi_heads\.res5\.0\.conv3\.weight"):
        place(Split(), small(), tensors, header, file=path)


# --- hostile and broken files


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return (os.mkdir, (self.path,))


def hidden(trap: Trap, kind: str) -> Any:
    array = np.empty(1, object)
    array[0] = trap
    good = {"a": np.zeros(2, np.float32)}
    return {
        "bare": trap,
        "beside the model": {"model": good, "__author__": trap},
        "in the model": {"model": good | {"b": trap}},
        "as a key": {"model": good, (1, trap): 0},
        "in an array of objects": {"model": {"a": array}},
        "below a dictionary": {"model": OrderedDict(a=[{"b": trap}])},
    }[kind]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "kind",
    [
        "bare",
        "beside the model",
        "in the model",
        "as a key",
        "in an array of objects",
        "below a dictionary",
    ],
)
def test_pickle_that_runs_code_is_refused_by_the_codes_name(
    tmp_path: Path, kind: str, protocol: int
) -> None:
    trap = tmp_path / "ran"
    path = dump(hidden(Trap(trap), kind), tmp_path / "a.pkl", protocol)
    with pytest.raises(InputError, match=r"could run code, for it asks for (posix|nt)\.mkdir"):
        read_checkpoint(path)
    assert not trap.exists()
    pickle.loads(path.read_bytes())  # so the trap is one
    assert trap.exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", ["bare", "beside the model", "in the model"])
def test_torch_file_that_runs_code_is_refused(tmp_path: Path, kind: str, zipped: bool) -> None:
    trap = tmp_path / "ran"
    content = hidden(Trap(trap), kind)
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="could run code"):
        read_checkpoint(tmp_path / "a.pth")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("stream", "named"),
    [
        # Functions of numpy itself, a method by a dotted name, builtins, and the torch
        # function that unpickles once more, without limits.
        (b"\x80\x02cnumpy\nload\n.", "numpy.load"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", "numpy.ndarray.tofile"),
        (b"\x80\x02c__builtin__\neval\n.", "eval"),
        (b"\x80\x02cbuiltins\ngetattr\n.", "builtins.getattr"),
        (b"\x80\x02ctorch.storage\n_load_from_bytes\n.", "torch.storage._load_from_bytes"),
        (b"\x80\x02c_codecs\ndecode\n.", "_codecs.decode"),
        (b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.", "rot13"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.", "persistent"),
        (b"\x80\x02\x82\x01.", "extension code"),
        (b"\x80\x02.", "refused"),
        (b"\x80\x02R.", "refused"),
    ],
)
def test_stream_made_by_hand_is_refused(tmp_path: Path, stream: bytes, named: str) -> None:
    (tmp_path / "a.pkl").write_bytes(stream)
    with pytest.raises(InputError, match="refused") as caught:
        read_converted(tmp_path / "a.pkl")
    assert named in str(caught.value)


def changed_dtype(kind: str, state: tuple[Any, ...], raw: Any, shape: Any) -> bytes:
    """A pickle of one array whose type's state, bytes and shape are given."""

    class Reduced:
        def __init__(self, *parts: Any) -> None:
            self.parts = parts

        def __reduce__(self) -> Any:
            return self.parts

    dtype = Reduced(np.dtype, (kind, False, True), state)
    reconstruct = np.zeros(1).__reduce__()[0]
    array = Reduced(reconstruct, (np.ndarray, (0,), b"b"), (1, shape, dtype, False, raw))
    return pickle.dumps({"a": array}, protocol=2)


PLAIN = (3, "<", None, None, None, -1, -1, 0)


@pytest.mark.parametrize(
    ("kind", "state", "raw", "shape", "words"),
    [
        # An object type that denies holding objects: numpy would follow these bytes.
        ("O", (3, "|", None, None, None, -1, -1, 0), b"\x41" * 8, (1,), "an array of no numbers"),
        ("f4", PLAIN, b"\0" * 8, (1000,), "8 bytes for an array of shape"),
        ("f4", PLAIN, b"\0" * 8, (-2,), "the shape"),
        ("f4", PLAIN, b"\0" * 8, ("2",), "the shape"),
        ("f4", (3, "x", None, None, None, -1, -1, 0), b"\0" * 8, (2,), "the byte order"),
        ("f4", (3,), b"\0" * 8, (2,), "refused"),
    ],
)
def test_array_that_lies_about_itself_is_refused(
    tmp_path: Path, kind: str, state: tuple[Any, ...], raw: Any, shape: Any, words: str
) -> None:
    (tmp_path / "a.pkl").write_bytes(changed_dtype("f4", PLAIN, b"\0" * 8, (2,)))
    assert read_converted(tmp_path / "a.pkl").tensors["a"].tolist() == [0, 0]
    (tmp_path / "a.pkl").write_bytes(changed_dtype(kind, state, raw, shape))
    with pytest.raises(InputError, match=words):
        read_converted(tmp_path / "a.pkl")


def test_reader_itself_cannot_be_changed_by_what_it_reads(tmp_path: Path) -> None:
    # A state for the function that makes bytes: other default arguments.
    stream = b"\x80\x02c_codecs\nencode\nN}X\x0c\0\0\0__defaults__)s\x86b."
    (tmp_path / "a.pkl").write_bytes(stream)
    with pytest.raises(InputError, match="a state for a function"):
        read_converted(tmp_path / "a.pkl")


@pytest.mark.parametrize("kind", ["pkl", "pth", "old.pth"])
def test_file_cut_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    content = {"model": {"a.weight": torch.arange(20.0), "b": torch.zeros(2, 2)}}
    path = tmp_path / f"a.{kind}"
    if kind == "pkl":
        dump({"model": {k: v.numpy() for k, v in content["model"].items()}}, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "pth")
    whole = path.read_bytes()
    assert torch.equal(read_checkpoint(path)[0]["a.weight"], torch.arange(20.0))
    for size in range(4, len(whole) - 1, 13):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError):
            read_checkpoint(path)


@pytest.mark.parametrize(
    "value", ["text", np.array(["a"]), np.array([1, None], object), [1.0], None]
)
def test_what_is_no_tensor_is_refused_by_its_name(tmp_path: Path, value: Any) -> None:
    path = dump({"model": {"a": np.zeros(1), "odd": value}}, tmp_path / "a.pkl")
    with pytest.raises(InputError, match=r"'odd' is (of the type|an array of no numbers)"):
        read_converted(path)


def test_arrays_of_any_byte_order_scalars_and_empty_ones_are_read(tmp_path: Path) -> None:
    content = {
        "big": np.arange(3, dtype=">f4"),
        "scalar": np.float32(2),
        "none": np.zeros((0, 2), np.float32),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }
    found = read_converted(dump(content, tmp_path / "a.pkl", 4)).tensors
    assert found["big"].tolist() == [0, 1, 2]
    assert found["scalar"].item() == 2
    assert found["none"].shape == (0, 2)
    assert found["columns"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_safetensors_whose_length_begins_like_a_pickle_is_none(tmp_path: Path) -> None:
    for size in range(40, 130):
        save_file({"a": torch.zeros(1)}, tmp_path / "a.bin", {"pad": "x" * size})
        start = (tmp_path / "a.bin").read_bytes()[:1]
        assert not is_pickle(tmp_path / "a.bin")
        if start == b"\x80":
            return
    pytest.fail("no header of 128 bytes was made")


def test_what_a_backbone_lacks_is_no_part_of_a_backbone() -> None:
    for name in ENGINE.build(small()).state_dict():
        assert matches(name, BACKBONE_LACKS) == (".bottom_up." not in name), name
