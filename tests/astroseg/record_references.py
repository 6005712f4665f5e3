"""Record what Detectron2 answers for small copies of the models, as reference files.

    python tests/astroseg/record_references.py [NAME ...]

Runs wherever Detectron2 and astroseg are installed. Every file holds one model: its spec,
its weights (random, in half precision), two images with their truth, and Detectron2's
losses, gradients and detections, with the versions that gave them. The depths are the real
ones, the widths are not. So that no random choice stands between two programs, every anchor
and every proposal is in the sample of the losses.

All answers are computed in float64. In float32 the rounding of another processor or torch
moves a gradient of MViTv2 by one part in a thousand, which no useful bound allows.

Detectron2's deformable convolution has no gradient on CPUs; there its forward pass is
torchvision's operator anyway, which is put in its place.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torchvision
from safetensors.torch import save_file

from astroseg.models.mask_rcnn import MaskRcnn
from astroseg.models.spec import ModelSpec, model_spec, to_dict

FOLDER = Path(__file__).parent / "references"
SIZES = ((90, 110), (96, 72))  # (height, width): neither multiples of 32 nor equal

_NARROW = {
    "stem_channels": 8,
    "stage_channels": (16, 32, 64, 128),
    "group_width": 4,
    "fpn_channels": 16,
    "box_head_dim": 32,
    "mask_head_dim": 16,
    "rpn_batch": 20_000,
    "rpn_pre_nms_top_n": (1000, 1000),
    "rpn_post_nms_top_n": (300, 300),
    "roi_batch": 2000,
    "roi_positive": 0.5,
    "score_threshold": 0.3,
    "detections_per_image": 40,
}
_NARROW_TRANSFORMER = {
    **{key: value for key, value in _NARROW.items() if key not in ("stem_channels", "group_width")},
    "stage_channels": (8, 16, 32, 64),
    "attention_heads": (1, 2, 4, 8),
    "box_conv_dim": 16,
    "drop_path": 0.0,  # no random choice
}
_NARROWER = {**_NARROW, "stem_channels": 4, "stage_channels": (8, 16, 32, 64), "group_width": 2}
_EVERY_SAMPLE = {
    key: _NARROW[key]
    for key in ("rpn_batch", "roi_batch", "score_threshold", "detections_per_image")
}
SMALL = {
    # Small as it is; pixels as the other models' pictures have them.
    "tiny": {**_EVERY_SAMPLE, "tight_boxes": False, "pixel_mean": 30.0, "pixel_std": 20.0},
    "r50-fpn": _NARROW,
    "r101-fpn": _NARROWER,
    "x101-fpn": {**_NARROWER, "groups": 2},
    "r50-fpn-deform": _NARROW,
    "r50-fpn-cascade": _NARROW,
    "r101-c4": _NARROWER,
    "r101-dc5": _NARROWER,
    "swin-b": _NARROW_TRANSFORMER,
    "mvitv2-b": _NARROW_TRANSFORMER,
}


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Make float64 of all that is written for float32: tensors made, and those converted."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with (
            mock.patch.object(torch, "float32", torch.float64),
            mock.patch.object(torch.Tensor, "float", torch.Tensor.double),
        ):
            yield
    finally:
        torch.set_default_dtype(before)


def small_spec(name: str) -> ModelSpec:
    """The model of that name, as deep as it is and narrow."""
    return model_spec(name, channels=3, classes=("galaxy", "star"), **SMALL[name])


def scene(seed: int, height: int, width: int) -> dict[str, np.ndarray]:
    """Gaussian sources on noise: image (3, H, W) uint8, boxes, labels, masks (N, H, W).

    The boxes are a little off the pixels' edges: cells of a mask's target that lie exactly half
    inside it, or anchors that overlap two objects alike, would be decided by rounding.
    """
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:height, :width]
    image = rng.normal(20, 4, (3, height, width))
    boxes, labels, masks = [], [], []
    while len(masks) < 9:
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        b, a = np.sort(rng.uniform(2, 7, 2))
        t = rng.uniform(0, np.pi)
        u = ((xx - x) * np.cos(t) + (yy - y) * np.sin(t)) / a
        v = ((yy - y) * np.cos(t) - (xx - x) * np.sin(t)) / b
        profile = np.exp(-(u * u + v * v) / 2)
        mask = profile > 0.2
        if mask.sum() < 20:
            continue
        image += profile * rng.uniform(40, 180, (3, 1, 1))
        rows, columns = np.nonzero(mask)
        tight = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        moved = tight + rng.uniform(-0.2, 0.2, 4)
        boxes.append(np.clip(moved, 0, [width, height, width, height]))
        labels.append(len(masks) % 2)
        masks.append(mask)
    return {
        "image": np.clip(image, 0, 255).astype(np.uint8),
        "boxes": np.array(boxes, np.float32),
        "labels": np.array(labels, np.int64),
        "masks": np.array(masks),
    }


# Deviations over an image of what the answering layers say: boxes move by a tenth to a fifth
# of their size, and scores and masks fall on both sides of their thresholds.
LIVELY = {
    "objectness_logits": 2.0,
    "anchor_deltas": 0.3,
    "cls_score": 2.0,
    "bbox_pred": 1.0,
    "mask_head.predictor": 3.0,
}


def lively_weights(spec: ModelSpec, seed: int, image: np.ndarray) -> dict[str, torch.Tensor]:
    """Random weights under which every part matters: norms, offsets, scores, boxes."""
    torch.manual_seed(seed)
    model = MaskRcnn(spec)
    state = model.state_dict()
    for name, value in state.items():
        if name.endswith("running_mean"):
            value.normal_(0, 0.05)
        elif name.endswith("running_var"):
            value.uniform_(1.5, 2.5)
        elif name.endswith("norm.weight"):
            value.uniform_(0.6, 0.8)
        elif name.endswith("norm.bias"):
            value.normal_(0, 0.05)
        elif "conv2_offset" in name:
            value.normal_(0, 1.0 if name.endswith("bias") else 0.05)
        elif spec.backbone in ("swin", "mvit") and name.startswith(spec.bottom_up):
            # Of 24 pooled blocks as large as their shortcuts, rounding would grow too far.
            _enliven(name, value, 0.3 if spec.backbone == "mvit" else 1.0)
    for name, module in model.named_modules():
        for end, deviation in LIVELY.items():
            if name.endswith(end):
                # At stride 2 features change so fast that rounding moves scores by 1e-5.
                _answer_with(module, deviation / (3 if spec.backbone == "small" else 1))
    with torch.no_grad():
        model.eval()([torch.tensor(image, dtype=torch.float32)])
    state = model.state_dict()
    return {k: v.half() if v.is_floating_point() else v.short() for k, v in state.items()}


def _enliven(name: str, value: torch.Tensor, branch: float) -> None:
    """Give a transformer's parameter a size at which attention differs from an average.

    Parameters
    ----------
    branch : rough size of what a block adds to its shortcut.
    """
    if "norm" in name:
        value.normal_(0, 0.1).add_(1.0 if name.endswith("weight") else 0.0)
    elif name.endswith("bias"):
        value.normal_(0, 0.05)
    elif "relative_position_bias" in name:
        value.normal_()
    elif "rel_pos" in name:
        value.normal_(0, 0.2)
    elif name.endswith(("attn.proj.weight", "mlp.fc2.weight")):
        value.normal_(0, branch * value.shape[1] ** -0.5)
    elif value.ndim == 2 and value.is_floating_point():
        value.normal_(0, value.shape[1] ** -0.5)


def _answer_with(layer: torch.nn.Module, deviation: float) -> None:
    """Make every channel of a layer's first answer have mean 0 and that deviation."""

    def scale(module, given, answer):
        handle.remove()
        every = answer.transpose(0, 1).flatten(1)
        factor = deviation / every.std(dim=1)
        module.weight.mul_(factor.reshape(-1, *[1] * (module.weight.ndim - 1)))
        module.bias.copy_((module.bias - every.mean(dim=1)) * factor)
        return module.forward(given[0])

    handle = layer.register_forward_hook(scale)


def detectron2_model(spec: ModelSpec) -> torch.nn.Module:
    """Detectron2's model of that spec, on the CPU."""
    from detectron2.modeling import build_model

    from astroseg.engines import get_engine

    if spec.backbone == "small":
        # No configuration of Detectron2's says it: put together from its parts.
        return get_engine("detectron2").build(spec)
    return build_model(configuration(spec))


def configuration(spec: ModelSpec):
    """Detectron2's configuration of the same model."""
    from detectron2.config import get_cfg

    cfg = get_cfg()
    model = cfg.MODEL
    model.DEVICE, model.MASK_ON, model.META_ARCHITECTURE = "cpu", True, "GeneralizedRCNN"
    model.PIXEL_MEAN, model.PIXEL_STD = list(spec.pixel_mean), list(spec.pixel_std)
    model.BACKBONE.FREEZE_AT = 0
    if spec.backbone == "resnet":
        _configure_resnet(cfg, spec)
    else:
        model.BACKBONE.NAME = _register_transformer(spec)
    if spec.features == "fpn":
        model.FPN.OUT_CHANNELS, model.FPN.NORM = spec.fpn_channels, spec.head_norm
        model.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
        model.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    _configure_stages(cfg, spec)
    return cfg


def _configure_resnet(cfg, spec: ModelSpec) -> None:
    """The backbone, and which of its stages are used."""
    model, net = cfg.MODEL, cfg.MODEL.RESNETS
    net.DEPTH = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101}[spec.blocks]
    net.NUM_GROUPS, net.WIDTH_PER_GROUP = spec.groups, spec.group_width
    net.STEM_OUT_CHANNELS, net.RES2_OUT_CHANNELS = spec.stem_channels, spec.stage_channels[0]
    net.STRIDE_IN_1X1 = spec.stride_in_1x1
    net.DEFORM_ON_PER_STAGE = [stage in spec.deform_stages for stage in spec.stages]
    if spec.features == "fpn":
        model.BACKBONE.NAME = "build_resnet_fpn_backbone"
        net.OUT_FEATURES = model.FPN.IN_FEATURES = list(spec.stages)
    else:
        level = "res4" if spec.features == "c4" else "res5"
        net.OUT_FEATURES = model.RPN.IN_FEATURES = model.ROI_HEADS.IN_FEATURES = [level]
        net.RES5_DILATION = 2 if spec.features == "dc5" else 1


def _register_transformer(spec: ModelSpec) -> str:
    """Tell Detectron2 of a pyramid on a transformer; returns the name to ask for it."""
    from detectron2.modeling import BACKBONE_REGISTRY
    from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool

    def build(cfg, shape):
        bottom_up, names = _swin(spec) if spec.backbone == "swin" else _mvit(spec)
        fpn = cfg.MODEL.FPN
        top = LastLevelMaxPool()
        return FPN(bottom_up, names, fpn.OUT_CHANNELS, norm=fpn.NORM, top_block=top)

    build.__name__ = f"{spec.name} of seed {len(list(BACKBONE_REGISTRY))}"
    BACKBONE_REGISTRY.register(build)
    return build.__name__


def _swin(spec: ModelSpec) -> tuple[torch.nn.Module, list[str]]:
    """Detectron2's Swin and the names of its stages."""
    from detectron2.modeling import SwinTransformer

    network = SwinTransformer(
        embed_dim=spec.stage_channels[0],
        depths=list(spec.blocks),
        num_heads=list(spec.attention_heads),
        window_size=spec.attention_window,
        drop_path_rate=spec.drop_path,
    )
    return network, ["p0", "p1", "p2", "p3"]


def _mvit(spec: ModelSpec) -> tuple[torch.nn.Module, list[str]]:
    """Detectron2's MViT, which needs timm, and the names of its stages."""
    from detectron2.modeling import MViT

    network = MViT(
        embed_dim=spec.stage_channels[0],
        depth=sum(spec.blocks),
        num_heads=spec.attention_heads[0],
        last_block_indexes=tuple(int(n) - 1 for n in np.cumsum(spec.blocks)),
        adaptive_window_size=spec.attention_window,
        residual_pooling=True,
        drop_path_rate=spec.drop_path,
        norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6),
    )
    return network, [f"scale{i}" for i in (2, 3, 4, 5)]


def _configure_stages(cfg, spec: ModelSpec) -> None:
    """Proposals and heads."""
    model = cfg.MODEL
    model.ANCHOR_GENERATOR.SIZES = [list(sizes) for sizes in spec.anchor_sizes]
    rpn, roi, box, mask = model.RPN, model.ROI_HEADS, model.ROI_BOX_HEAD, model.ROI_MASK_HEAD
    rpn.BATCH_SIZE_PER_IMAGE, rpn.POSITIVE_FRACTION = spec.rpn_batch, spec.rpn_positive
    rpn.PRE_NMS_TOPK_TRAIN, rpn.PRE_NMS_TOPK_TEST = spec.rpn_pre_nms_top_n
    rpn.POST_NMS_TOPK_TRAIN, rpn.POST_NMS_TOPK_TEST = spec.rpn_post_nms_top_n
    rpn.CONV_DIMS = [-1] * spec.rpn_convs
    box.NUM_CONV, box.CONV_DIM = spec.box_convs, spec.box_conv_dim
    box.NORM = mask.NORM = spec.head_norm
    roi.NAME = "Res5ROIHeads" if spec.features == "c4" else "StandardROIHeads"
    roi.NUM_CLASSES = len(spec.classes)
    roi.BATCH_SIZE_PER_IMAGE, roi.POSITIVE_FRACTION = spec.roi_batch, spec.roi_positive
    roi.SCORE_THRESH_TEST, roi.NMS_THRESH_TEST = spec.score_threshold, spec.nms_threshold
    box.NAME, box.NUM_FC = "FastRCNNConvFCHead", spec.box_head_layers
    box.FC_DIM, box.POOLER_RESOLUTION = spec.box_head_dim, spec.box_pool
    mask.NAME, mask.NUM_CONV = "MaskRCNNConvUpsampleHead", spec.mask_head_layers
    mask.CONV_DIM, mask.POOLER_RESOLUTION = spec.mask_head_dim, spec.mask_pool
    if spec.cascade_weights:
        roi.NAME, box.CLS_AGNOSTIC_BBOX_REG = "CascadeROIHeads", True
        model.ROI_BOX_CASCADE_HEAD.IOUS = spec.cascade_iou
        model.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS = spec.cascade_weights
    cfg.TEST.DETECTIONS_PER_IMAGE = spec.detections_per_image


def _differentiable_deformation() -> None:
    """Put torchvision's operator in the place of Detectron2's, which has no CPU gradient.

    To be called before Detectron2's layers are imported: where its extension is not compiled
    an empty one stands in, as its layer exists only with one.
    """
    import detectron2

    try:
        from detectron2 import _C  # noqa: F401
    except ImportError:
        detectron2._C = sys.modules["detectron2._C"] = types.ModuleType("detectron2._C")
    from detectron2.layers import deform_conv

    def operator(x, offset, weight, stride, padding, dilation, groups=1, deform_groups=1):
        return torchvision.ops.deform_conv2d(
            x, offset, weight, stride=stride, padding=padding, dilation=dilation
        )

    deform_conv.deform_conv = operator


def _input(one: dict[str, np.ndarray], spec: ModelSpec) -> dict:
    from detectron2.structures import BitMasks, Boxes, Instances

    height, width = one["image"].shape[1:]
    truth = Instances((height, width))
    truth.gt_boxes = Boxes(torch.tensor(one["boxes"]))
    truth.gt_classes = torch.tensor(one["labels"])
    truth.gt_masks = BitMasks(torch.tensor(one["masks"]))
    image = torch.tensor(one["image"][:: -1 if spec.reverse_channels else 1].copy())
    return {"image": image, "height": height, "width": width, "instances": truth}


def _train(model: torch.nn.Module, batch: list[dict]) -> tuple[dict, dict]:
    """Losses, and the norm of each parameter's gradient of their sum."""
    from detectron2.utils.events import EventStorage

    model.train()
    with EventStorage(0):
        losses = model(batch)
    sum(losses.values()).backward()
    norms = {
        name: parameter.grad.norm().item()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    return {name: value.item() for name, value in losses.items()}, norms


def _detect(model: torch.nn.Module, one: dict) -> dict[str, torch.Tensor]:
    """Detections of an image; ties are pixels within 1e-4 of the masks' threshold."""
    from detectron2.layers.mask_ops import _do_paste_mask

    model.eval()
    with torch.no_grad():
        raw = model.inference([one], do_postprocess=False)[0]
        found = model([one])[0]["instances"]
    shape = one["height"], one["width"]
    soft = [
        _do_paste_mask(mask[None], box[None], *shape, skip_empty=False)[0][0]
        for mask, box in zip(raw.pred_masks, raw.pred_boxes.tensor, strict=True)
    ]
    return {
        "boxes": found.pred_boxes.tensor,
        "scores": found.scores,
        "labels": found.pred_classes,
        "masks": _packed(found.pred_masks),
        "ties": _packed((torch.stack(soft) - 0.5).abs() < 1e-4),
    }


def _packed(masks: torch.Tensor) -> torch.Tensor:
    """(N, H, W) bool as bits, (N, ceil(H * W / 8))."""
    return torch.from_numpy(np.packbits(masks.numpy().reshape(len(masks), -1), axis=1))


def _robust(exact: list[dict], rounded: list[dict]) -> bool:
    """Whether rounding neither adds nor loses a detection, nor leaves a box without area."""
    for one, other in zip(exact, rounded, strict=True):
        if len(one["boxes"]) != len(other["boxes"]):
            return False
        if (one["boxes"][:, 2:] - one["boxes"][:, :2]).min() <= 0.05:
            return False
        if (one["scores"] - other["scores"]).abs().max() > 1e-4:
            return False
    return True


def record(name: str) -> Path:
    """Write the reference file of one model, from the first seed that gives a robust one."""
    _differentiable_deformation()
    for seed in range(100):
        tensors, metadata, rounded = answers(name, seed)
        if _robust(_found(tensors), rounded):
            break
    path = FOLDER / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata)
    return path


def _found(tensors: dict[str, torch.Tensor]) -> list[dict]:
    return [
        {key: tensors[f"found.{i}.{key}"] for key in ("boxes", "scores")} for i in range(len(SIZES))
    ]


def answers(name: str, seed: int) -> tuple[dict[str, torch.Tensor], dict[str, str], list[dict]]:
    """What a reference file holds, and the same detections as float32 gives them."""
    spec = small_spec(name)
    scenes = [scene(seed + i, *size) for i, size in enumerate(SIZES)]
    weights = lively_weights(spec, seed, scenes[0]["image"])
    model = detectron2_model(spec)
    model.load_state_dict({key: value.float() for key, value in weights.items()})
    rounded = [_detect(model, _input(one, spec)) for one in scenes]
    with double_precision():
        model = detectron2_model(spec).double()
        model.load_state_dict({key: value.double() for key, value in weights.items()})
        batch = [_input(one, spec) for one in scenes]
        losses, norms = _train(model, batch)
        exact = [_detect(model, given) for given in batch]
    tensors = {f"weights.{key}": value for key, value in weights.items()}
    for i, (one, found) in enumerate(zip(scenes, exact, strict=True)):
        truth = {key: torch.tensor(one[key]) for key in ("image", "boxes", "labels")}
        truth["masks"] = _packed(torch.tensor(one["masks"]))
        tensors |= {f"truth.{i}.{key}": value for key, value in truth.items()}
        tensors |= {
            f"found.{i}.{key}": value.to(torch.float32) if value.is_floating_point() else value
            for key, value in found.items()
        }
    metadata = {
        "spec": json.dumps(to_dict(spec)),
        "losses": json.dumps(losses),
        "gradient_norms": json.dumps(norms),
        "versions": json.dumps(_versions()),
        "seed": str(seed),
        "command": f"python tests/astroseg/record_references.py {name}",
    }
    return tensors, metadata, rounded


def _versions() -> dict[str, str]:
    import detectron2

    return {
        "detectron2": detectron2.__version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }


def main() -> None:
    """Record the models named, or all."""
    parser = argparse.ArgumentParser(description="Record references from Detectron2.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SMALL)}")
    names = parser.parse_args().names or list(SMALL)
    torch.set_num_threads(1)
    for name in names:
        path = record(name)
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
