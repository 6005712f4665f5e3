"""Weights by name, and training that starts from each kind of file."""

from __future__ import annotations

import dataclasses
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import (
    ResNet50_Weights,
    ResNet101_Weights,
    ResNeXt101_32X8D_Weights,
    Swin_B_Weights,
)
from torchvision.models.resnet import Bottleneck, ResNet
from train_helpers import write_sky_set
from web_helpers import Server, server

from astroseg.cli.main import main
from astroseg.cli.model_zoo import weights_table
from astroseg.core.config import DataConfig, configured
from astroseg.core.errors import InputError
from astroseg.engines import get_engine
from astroseg.models.spec import MODELS, ZOO_MEAN_BGR, ZOO_STD_X101_BGR, model_spec
from astroseg.training.architecture import training_spec
from astroseg.training.prepare import load_weights, prepare
from astroseg.weights.checkpoint import FIRST_CONVOLUTION, read_checkpoint, read_header
from astroseg.weights.pretrained import PRETRAINED, Pretrained, weights_file

__all__ = ["server"]

ENGINE = get_engine("torchvision")
CPU = torch.device("cpu")
SMALL = {"blocks": (1, 1, 1, 1), "fpn_channels": 8, "box_head_dim": 8, "mask_head_dim": 8}


# --- the table


@pytest.mark.parametrize("one", PRETRAINED.values(), ids=lambda one: one.name)
def test_entry_is_complete_and_its_digest_is_in_the_files_name(one: Pretrained) -> None:
    assert one.url.startswith("https://")
    assert set(one.models) <= set(MODELS)
    assert all(getattr(one, field.name) for field in dataclasses.fields(one) if
               field.name != "digest")  # fmt: skip
    if one.digest:
        kind, _, digits = one.digest.partition(":")
        assert re.fullmatch("sha256:[0-9a-f]{8}|md5:[0-9a-f]{6}", one.digest)
        assert re.search(rf"[-_]{digits}\.(pth|pkl)$", one.url), kind


def test_torchvisions_addresses_are_its_own() -> None:
    ours = {one.url for one in PRETRAINED.values() if "pytorch.org" in one.url}
    kinds = (ResNet50_Weights, ResNet101_Weights, ResNeXt101_32X8D_Weights, Swin_B_Weights)
    assert ours == {weights.url for kind in kinds for weights in kind}


def test_table_lists_what_fits_a_model_and_nothing_else() -> None:
    text = "\n".join(weights_table())
    for one in PRETRAINED.values():
        assert (f"\n{one.name} " in text) == bool(set(one.models) & set(MODELS))
    assert "CC BY-SA 3.0" in text


# --- names and files


def test_file_is_itself_and_a_name_is_downloaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setenv("ASTROSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "astroseg.weights.pretrained.fetch", lambda *a, **k: asked.append((a, k)) or Path("there")
    )
    (tmp_path / "a.pth").write_text("")
    assert weights_file(tmp_path / "a.pth", "r50-fpn") == tmp_path / "a.pth"
    assert asked == []
    assert weights_file("r50-fpn-coco", "r50-fpn", quiet=True) == Path("there")
    one = PRETRAINED["r50-fpn-coco"]
    folder = tmp_path / "cache" / "weights" / "r50-fpn-coco"
    assert asked == [((one.url, folder, one.digest), {"trusted": "", "quiet": True})]


@pytest.mark.parametrize(
    ("weights", "model", "words"),
    [
        ("r50-fpn-cocoa", "r50-fpn", "no pre-trained weights 'r50-fpn-cocoa'.*r50-fpn-coco"),
        ("none.pth", "r50-fpn", "none.pth: no such checkpoint"),
        ("folder/none", "r50-fpn", "no such checkpoint"),
        ("r50-fpn-coco", "r101-fpn", "are for r50-fpn, not r101-fpn; use r101-fpn-coco"),
        ("r50-fpn-coco", "tiny", "not tiny; train it from scratch"),
    ],
)
def test_what_is_neither_or_does_not_fit_is_refused_before_a_download(
    weights: str, model: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "astroseg.weights.pretrained.fetch", lambda *_, **__: pytest.fail("downloads")
    )
    with pytest.raises(InputError, match=words):
        weights_file(weights, model)


# --- training from them


@pytest.fixture
def small_r50(monkeypatch: pytest.MonkeyPatch) -> None:
    """r50-fpn with one block a stage and small heads."""
    monkeypatch.setattr("astroseg.models.spec.MODELS", {**MODELS, "r50-fpn": SMALL})


def classifier(path: Path) -> Path:
    torch.manual_seed(1)
    torch.save(ResNet(Bottleneck, [1, 1, 1, 1], 10).state_dict(), path)
    return path


def zoo(path: Path, classes: int) -> Path:
    spec = model_spec("r50-fpn", channels=3, classes=tuple(f"c{i}" for i in range(classes)))
    model = ENGINE.build(spec, seed=1)
    content = {name: value.numpy() for name, value in model.state_dict().items()}
    path.write_bytes(pickle.dumps({"model": content, "__author__": "x"}, protocol=2))
    return path


@pytest.mark.usefixtures("small_r50")
@pytest.mark.parametrize("bands", [3, 5])
def test_classifiers_scale_stride_and_order_reach_the_model(tmp_path: Path, bands: int) -> None:
    config = configured("train", model="r50-fpn", data=DataConfig(contrast="none"))
    spec = training_spec(config, bands, ("star",), classifier(tmp_path / "a.pth"))
    assert not spec.stride_in_1x1
    assert spec.norm == "FrozenBN"
    if bands == 3:
        assert spec.reverse_channels
        assert (spec.pixel_mean, spec.pixel_std) == (ZOO_MEAN_BGR, ZOO_STD_X101_BGR)
    else:
        assert np.allclose(spec.pixel_std, np.mean(ZOO_STD_X101_BGR))


@pytest.mark.usefixtures("small_r50")
@pytest.mark.parametrize(("contrast", "scale"), [("asinh", 1.0), ("lupton", 1.0)])
def test_fluxes_reach_a_classifiers_network_with_deviation_one(
    tmp_path: Path, contrast: str, scale: float
) -> None:
    from astroseg.data.contrast import PIXEL_STATISTICS

    config = configured("train", model="r50-fpn", data=DataConfig(contrast=contrast))
    spec = training_spec(config, 3, ("star",), classifier(tmp_path / "a.pth"))
    seen = PIXEL_STATISTICS[contrast][1] / np.mean(spec.pixel_std)
    assert 0.3 * scale <= seen <= 1.1 * scale
    assert spec.reverse_channels == (contrast != "asinh")


@pytest.mark.usefixtures("small_r50")
@pytest.mark.parametrize("kind", ["classifier", "zoo", "zoo of as many classes"])
@pytest.mark.parametrize("bands", [3, 5])
def test_run_starts_from_the_file_and_says_what_became_of_it(
    tmp_path: Path, kind: str, bands: int
) -> None:
    path = write_sky_set(tmp_path, 2, bands=bands)
    weights = (
        classifier(tmp_path / "a.pth")
        if kind == "classifier"
        else zoo(tmp_path / "a.pkl", 80 if kind == "zoo" else 2)
    )
    config = configured("train", model="r50-fpn", weights=str(weights), workers=0)
    plan = prepare(path, None, config, ENGINE, CPU, quiet=True)
    model = ENGINE.build(plan.spec, seed=5)
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    said = load_weights(plan, model)
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, fresh[k])}
    assert "backbone.bottom_up.res3.0.conv2.weight" in changed
    assert ("roi_heads.box_head.fc1.weight" in changed) == (kind != "classifier")
    kept = kind == "zoo of as many classes"
    assert ("roi_heads.box_predictor.cls_score.weight" in changed) == kept
    assert ("its class heads fit and were kept" in said) == kept
    assert (f"1 adapted ({FIRST_CONVOLUTION})" in said) == (bands == 5)
    assert ("6 mismatched" in said) == (kind == "zoo")
    assert ("ImageNet classifier of torchvision" in said) == (kind == "classifier")


@pytest.mark.usefixtures("small_r50")
def test_command_trains_from_a_classifier_and_its_model_goes_on_as_ours(tmp_path: Path) -> None:
    skies = write_sky_set(tmp_path / "sky", 2, size=64, sources=6)
    weights = classifier(tmp_path / "a.pth")

    def train(out: str, *more: Any) -> int:
        options = ["--model", "r50-fpn", "--steps", "1", "--device", "cpu", "--workers", "0"]
        options += ["--lr", "1e-9", "--batch-size", "1", "--quiet", "--out", str(tmp_path / out)]
        return main(["train", str(skies), *options, *map(str, more)])

    assert train("one", "--weights", weights) == 0
    last = tmp_path / "one" / "last.safetensors"
    spec = read_header(last).spec
    assert spec is not None
    assert not spec.stride_in_1x1
    assert train("one", "--weights", weights, "--resume") == 0
    assert train("two", "--weights", last) == 0


@pytest.mark.usefixtures("small_r50")
def test_command_downloads_weights_by_name_and_says_when_they_are_not_there(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    server: Server,
) -> None:
    server.content = zoo(tmp_path / "a.pkl", 80).read_bytes()
    name = "r50-fpn-coco"
    one = dataclasses.replace(PRETRAINED[name], url=server.url, digest="")
    monkeypatch.setattr("astroseg.weights.pretrained.PRETRAINED", {name: one})
    monkeypatch.setenv("ASTROSEG_CACHE", str(tmp_path / "cache"))
    skies = write_sky_set(tmp_path / "sky", 2, size=64, sources=6)
    command = ["train", str(skies), "--model", "r50-fpn", "--weights", name, "--steps", "1"]
    command += ["--device", "cpu", "--workers", "0", "--lr", "1e-9", "--batch-size", "1"]
    command += ["--quiet", "--out", str(tmp_path / "run")]
    server.code = 404
    assert main(command) == 2
    assert "404 Not Found" in capsys.readouterr().err
    server.code = 0
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    trusted = re.search("--weights-sha256 [0-9a-f]{64}", said)
    assert trusted is not None
    assert main([*command, *trusted[0].split()]) == 0
    assert main([*command[:-1], str(tmp_path / "again")]) == 0
    assert server.asked == ["", ""]
    stored, _ = read_checkpoint(tmp_path / "again" / "last.safetensors")
    given, _ = read_checkpoint(tmp_path / "a.pkl")
    conv = "backbone.bottom_up.res4.0.conv1.weight"
    assert torch.allclose(stored[conv], given[conv], atol=1e-6)


def test_command_refuses_a_hostile_file_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    skies = write_sky_set(tmp_path, 1)
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02cposix\nsystem\n(X\x04\x00\x00\x00truetR.")
    options = ["--model", "r50-fpn", "--out", str(tmp_path / "run"), "--quiet"]
    assert main(["train", str(skies), *options, "--weights", str(tmp_path / "a.pkl")]) == 2
    said = capsys.readouterr().err
    assert "could run code, for it asks for posix.system" in said
    assert said.count("\n") == 1
