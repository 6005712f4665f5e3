"""Transformer classifiers of other publishers: the same network comes out of their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from torchvision.models.swin_transformer import SwinTransformer

from astroseg.core.errors import InputError
from astroseg.engines import get_engine
from astroseg.models.spec import ModelSpec, model_spec
from astroseg.weights.checkpoint import read_header
from astroseg.weights.conversion import convert

ENGINE = get_engine("torchvision")
WIDTHS, HEADS, BLOCKS = (8, 16, 32, 64), (1, 2, 2, 4), (2, 2, 3, 1)
UP = "backbone.bottom_up."


def narrow(name: str, **overrides: Any) -> ModelSpec:
    layers = {"stage_channels": WIDTHS, "attention_heads": HEADS, "blocks": BLOCKS}
    heads = {"fpn_channels": 16, "box_conv_dim": 8, "box_head_dim": 16, "mask_head_dim": 16}
    fixed = {"channels": 3, "classes": ("galaxy", "star"), **layers, **heads, **overrides}
    return model_spec(name, **fixed)


def lively(net: torch.nn.Module) -> torch.nn.Module:
    """With every weight of a size that matters, also tables that begin at zero."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in net.parameters():
            offset = 1.0 if value.ndim == 1 else 0.0
            value.copy_(offset + 0.2 * torch.randn(value.shape, generator=generator))
    return net.eval()


def compare(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    """Stages of (N, C, H, W), ours after a fresh norm and (N, H, W, C) before it."""
    assert len(found) == len(wanted) == 4
    for ours, theirs in zip(found, wanted, strict=True):
        normed = functional.layer_norm(theirs, theirs.shape[-1:]).permute(0, 3, 1, 2)
        assert normed.std() > 0.1
        assert (ours - normed).abs().max() < 1e-4


def loaded(name: str, path: Path, **overrides: Any) -> Any:
    model = ENGINE.build(narrow(name, **overrides), seed=0).eval()
    report = ENGINE.load(model, path)
    state = {k for k in model.state_dict() if k.startswith(UP)}
    # The norms on the way out are the detector's; an index is made, not learned.
    fresh = {k for k in state if k.startswith((f"{UP}norm", f"{UP}scale"))}
    made = {k for k in state if k.endswith("position_index")}
    assert set(report.loaded) | made == state - fresh
    assert {k.split(".")[0] for k in report.skipped} <= {"norm", "head"}
    return model, report


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))


# --- torchvision


@pytest.fixture
def swin() -> Any:
    # The last stage is one window of a picture of 224 px, which torchvision does not shift;
    # its only block is not shifted here either.
    return lively(SwinTransformer([4, 4], WIDTHS[0], list(BLOCKS), list(HEADS), [7, 7]))


def test_swin_of_torchvision_gives_the_same_features(
    tmp_path: Path, swin: Any, picture: torch.Tensor
) -> None:
    torch.save(swin.state_dict(), tmp_path / "net.pth")
    model, report = loaded("swin-b", tmp_path / "net.pth")
    assert report.origin == "ImageNet classifier Swin of torchvision"
    assert not dict(read_header(tmp_path / "net.pth").fields)
    wanted, x = [], picture
    with torch.no_grad():
        for i, part in enumerate(swin.features):
            x = part(x)
            if i % 2:
                wanted.append(x)
        compare(model.backbone.bottom_up(picture), wanted)


def test_swin_for_five_bands_is_spread(tmp_path: Path, swin: Any) -> None:
    torch.save(swin.state_dict(), tmp_path / "net.pth")
    model = ENGINE.build(narrow("swin-b", channels=5))
    report = ENGINE.load(model, tmp_path / "net.pth", adapt_channels=True)
    assert report.adapted == (f"{UP}patch_embed.proj.weight",)


def test_swin_of_another_depth_is_refused(tmp_path: Path, swin: Any) -> None:
    torch.save(swin.state_dict(), tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"the model has no .*layers\.2\.blocks\.2\."):
        ENGINE.load(ENGINE.build(narrow("swin-b", blocks=(2, 2, 2, 1))), tmp_path / "net.pth")


def test_swin_of_larger_windows_is_refused(tmp_path: Path) -> None:
    net = SwinTransformer([4, 4], WIDTHS[0], list(BLOCKS), list(HEADS), [12, 12])
    torch.save(net.state_dict(), tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"bias_table is \(529, 1\) in the file, \(169, 1\)"):
        ENGINE.load(ENGINE.build(narrow("swin-b")), tmp_path / "net.pth")


# --- the authors'


def of_authors(name: str) -> dict[str, torch.Tensor]:
    """A backbone by its authors' names, which are Detectron2's, with a classifier's rest."""
    state = ENGINE.build(narrow(name), seed=1).state_dict()
    fresh = (f"{UP}norm", f"{UP}scale")
    found = {
        key.removeprefix(UP): value
        for key, value in state.items()
        if key.startswith(UP) and not key.startswith(fresh)
    }
    found |= {"norm.weight": torch.ones(64), "norm.bias": torch.zeros(64)}
    found |= {"head.weight": torch.ones(10, 64), "head.bias": torch.zeros(10)}
    return found


@pytest.mark.parametrize(
    ("name", "key", "origin"),
    [
        ("swin-b", "model", "ImageNet classifier Swin"),
        ("mvitv2-b", "model_state", "ImageNet classifier MViTv2"),
    ],
)
def test_authors_backbones_are_placed_whole(
    tmp_path: Path, name: str, key: str, origin: str
) -> None:
    tensors = of_authors(name)
    if name == "swin-b":
        tensors["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    torch.save({key: tensors, "epoch": 3, "cfg": "TRAIN: {}"}, tmp_path / "net.pyth")
    model = ENGINE.build(narrow(name), seed=2)
    report = ENGINE.load(model, tmp_path / "net.pyth")
    assert report.origin == origin
    state = model.state_dict()
    kept = {k for k in tensors if k.split(".")[0] not in ("norm", "head") and "mask" not in k}
    assert set(report.loaded) == {UP + k for k in kept}
    assert all(torch.equal(state[UP + k], tensors[k]) for k in kept)


def test_hole_in_a_transformer_is_refused(tmp_path: Path) -> None:
    tensors = of_authors("mvitv2-b")
    del tensors["blocks.3.attn.pool_k.weight"]
    torch.save(tensors, tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"the file has no .*blocks\.3\.attn\.pool_k"):
        ENGINE.load(ENGINE.build(narrow("mvitv2-b")), tmp_path / "net.pth")


@pytest.mark.parametrize(
    "name", ["layers.0.blocks.0.attn.logit_scale", "layers.0.blocks.0.attn.q_bias", "pos_embed"]
)
def test_other_edition_of_a_transformer_is_refused_by_what_it_has_more(name: str) -> None:
    tensors = of_authors("swin-b") | {name: torch.zeros(1)}
    with pytest.raises(InputError, match=f"ImageNet classifier Swin, but has {name}"):
        convert(tensors, Path("net.pth"))


# --- timm


def of_timm(name: str) -> dict[str, torch.Tensor]:
    """The authors' tensors by timm's names."""
    starts = [sum(BLOCKS[:i]) for i in range(4)]
    found = {}
    for key, value in of_authors(name).items():
        part = key.split(".")
        if part[-1] == "relative_position_index":
            continue
        if part[0] == "layers" and part[2] == "downsample":
            part[1] = str(int(part[1]) + 1)
        if part[0] == "blocks":
            block = int(part[1])
            stage = max(i for i in range(4) if starts[i] <= block)
            rest = ["shortcut_proj_attn" if part[2] == "proj" else part[2], *part[3:]]
            part = ["stages", str(stage), "blocks", str(block - starts[stage]), *rest]
        if part[0] == "head":
            part.insert(1, "fc")
        found[".".join(part)] = value
    return found


@pytest.mark.parametrize("name", ["swin-b", "mvitv2-b"])
def test_timms_names_mean_the_same_places(name: str) -> None:
    ours = convert(of_authors(name), Path("a.pth"))
    timms = convert(of_timm(name), Path("b.pth"))
    assert timms.origin == f"{ours.origin} of timm"
    for key in timms.tensors.keys() - {"head.fc.weight", "head.fc.bias"}:
        assert torch.equal(timms.tensors[key], ours.tensors[key])
    missing = {k for k in ours.tensors.keys() - timms.tensors.keys() if k.split(".")[0] != "head"}
    assert all(k.endswith("relative_position_index") for k in missing)


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm", reason="timm is not installed")


def test_swin_of_timm_gives_the_same_features(
    tmp_path: Path, timm: Any, picture: torch.Tensor
) -> None:
    net = lively(
        timm.models.swin_transformer.SwinTransformer(
            embed_dim=WIDTHS[0], depths=BLOCKS, num_heads=HEADS, num_classes=10
        )
    )
    torch.save(net.state_dict(), tmp_path / "net.pth")
    model, report = loaded("swin-b", tmp_path / "net.pth")
    assert report.origin == "ImageNet classifier Swin of timm"
    wanted = []
    with torch.no_grad():
        x = net.patch_embed(picture)
        for layer in net.layers:
            x = layer(x)
            wanted.append(x)
        compare(model.backbone.bottom_up(picture), wanted)


def test_residual_network_of_timm_gives_the_same_features(
    tmp_path: Path, timm: Any, picture: torch.Tensor
) -> None:
    net = timm.models.resnet.ResNet(
        timm.models.resnet.Bottleneck, (1, 1, 2, 1), num_classes=10
    ).eval()
    torch.save(net.state_dict(), tmp_path / "net.pth")
    spec = model_spec(
        "r50-fpn", channels=3, classes=("a",), blocks=(1, 1, 2, 1), stride_in_1x1=False
    )
    model = ENGINE.build(spec).eval()
    ENGINE.load(model, tmp_path / "net.pth")
    with torch.no_grad():
        last = model.backbone.bottom_up(picture.flip(1))[-1]
        wanted = net.forward_features(picture)
    assert (last - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_mvit_of_timm_gives_the_same_features_of_the_first_stage(
    tmp_path: Path, timm: Any, picture: torch.Tensor
) -> None:
    # From the second stage on Detectron2's network, and so ours, has coarser keys in the last
    # block of a stage than the classifier; the weights are the same.
    config = timm.models.mvitv2.MultiScaleVitCfg(
        depths=BLOCKS, embed_dim=WIDTHS, num_heads=HEADS, expand_attn=True
    )
    net = lively(timm.models.mvitv2.MultiScaleVit(config, (224, 224), num_classes=10))
    torch.save(net.state_dict(), tmp_path / "net.pth")
    model, report = loaded("mvitv2-b", tmp_path / "net.pth")
    assert report.origin == "ImageNet classifier MViTv2 of timm"
    with torch.no_grad():
        x, size = net.patch_embed(picture)
        x, size = net.stages[0](x, size)
        first = model.backbone.bottom_up(picture)[:1]
    wanted = functional.layer_norm(x, x.shape[-1:], eps=1e-6).reshape(1, *size, -1)
    assert wanted.std() > 0.1
    assert (first[0] - wanted.permute(0, 3, 1, 2)).abs().max() < 1e-4
