"""What of a user's Detectron2 configuration is astroseg's to say, and what that changes.

A configuration is kept as JSON, with the model's part of either kind: keys and values ("yacs",
its ``.yaml``) or calls and arguments ("lazy", its ``.py``). It is kept as the user wrote it;
bands, classes, pixel statistics and limits come from the `ModelSpec` beside it each time the
model is built. Needs no library.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from astroseg.core.errors import InputError
from astroseg.models.spec import ModelSpec

Tree = dict[str, Any]

_EVERY = 1_000_000
"""Detections per image where a configuration has no limit."""

# Where Detectron2's keys and values have the fields of a spec.
_YACS: Mapping[str, tuple[str, ...]] = {
    "rpn_pre_nms_top_n": ("MODEL.RPN.PRE_NMS_TOPK_TRAIN", "MODEL.RPN.PRE_NMS_TOPK_TEST"),
    "rpn_post_nms_top_n": ("MODEL.RPN.POST_NMS_TOPK_TRAIN", "MODEL.RPN.POST_NMS_TOPK_TEST"),
    "rpn_batch": ("MODEL.RPN.BATCH_SIZE_PER_IMAGE",),
    "roi_batch": ("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE",),
    "detections_per_image": ("TEST.DETECTIONS_PER_IMAGE",),
    "score_threshold": ("MODEL.ROI_HEADS.SCORE_THRESH_TEST",),
    "nms_threshold": ("MODEL.ROI_HEADS.NMS_THRESH_TEST",),
}
# The same of its calls: argument and default of every box predictor.
_PREDICTOR = {
    "detections_per_image": ("test_topk_per_image", 100),
    "score_threshold": ("test_score_thresh", 0.0),
    "nms_threshold": ("test_nms_thresh", 0.5),
}
_TRAINING_LIMITS = ("rpn_pre_nms_top_n", "rpn_post_nms_top_n", "rpn_batch", "roi_batch")
RAISED = (*_TRAINING_LIMITS, "detections_per_image")
"""Limits that hide sources of a dense field: raised to the spec's defaults, the paper's."""

# Arguments of Detectron2's calls that would get in the way, and the value that lets it be.
_FREE = (
    ("square_pad", 0),  # it pads small images to a square, and crops larger ones to it
    ("freeze_at", 0),  # stages of training freeze, not the model
    ("frozen_stages", -1),
    ("vis_period", 0),  # pictures for Detectron2's own log
)

_NOT_LISTED = ("MODEL.DEVICE",)


def write_text(kind: str, tree: Tree) -> str:
    """A configuration as a checkpoint keeps it."""
    return json.dumps({"kind": kind, "tree": tree}, sort_keys=True)


def read_text(text: str) -> tuple[str, Tree]:
    """Undo `write_text`.

    Raises
    ------
    InputError : it is none.
    """
    try:
        found = json.loads(text)
        kind, tree = found["kind"], dict(found["tree"])
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as problem:
        raise InputError(
            f"the Detectron2 configuration inside a checkpoint is broken ({problem!r})",
            remedy="train again, or copy the checkpoint again if it was cut short",
        ) from problem
    if kind not in ("yacs", "lazy"):
        raise InputError(
            f"a Detectron2 configuration of the unknown kind {kind!r}",
            remedy="use the version of astroseg that wrote the checkpoint",
        )
    return kind, tree


def config_spec(
    text: str,
    name: str,
    *,
    channels: int,
    classes: tuple[str, ...],
    keep_limits: bool = False,
    program: str = "",
) -> ModelSpec:
    """The spec of a configuration's model, for images of that many bands.

    Its fields hold what the program needs to know and what may be changed; those that
    describe the network mean nothing, as ``config`` does that.

    Parameters
    ----------
    keep_limits : leave those of `RAISED` as they are.
    program : text of the file, where the model cannot be built without running it.
    """
    kind, tree = read_text(text)
    values = _yacs_values(tree) if kind == "yacs" else _lazy_values(tree)
    own_mean, own_std = values.pop("pixel_mean"), values.pop("pixel_std")
    if len(own_mean) != channels:
        own_mean, own_std = ((sum(own) / len(own),) * channels for own in (own_mean, own_std))
    if values["detections_per_image"] < 0:
        values["detections_per_image"] = _EVERY
    if not keep_limits:
        for field in RAISED:
            values[field] = _larger(values[field], getattr(ModelSpec, field))
    return ModelSpec(
        name=name,
        channels=channels,
        classes=classes,
        config=text,
        config_program=program,
        pixel_mean=tuple(own_mean),
        pixel_std=tuple(own_std),
        reverse_channels=values.pop("blue_first") and channels == 3,
        **values,
    )


def _larger(own: Any, least: Any) -> Any:
    if isinstance(own, tuple):
        return tuple(max(pair) for pair in zip(own, least, strict=True))
    return max(own, least)


def _yacs_values(tree: Tree) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field, places in _YACS.items():
        found = tuple(_get(tree, place) for place in places)
        values[field] = found if len(found) > 1 else found[0]
    model = tree["MODEL"]
    return values | {
        "pixel_mean": model["PIXEL_MEAN"],
        "pixel_std": model["PIXEL_STD"],
        "blue_first": tree["INPUT"]["FORMAT"] == "BGR",
        "stride_in_1x1": model["RESNETS"]["STRIDE_IN_1X1"],
    }


def _lazy_values(tree: Tree) -> dict[str, Any]:
    rpn, heads = tree["proposal_generator"], tree["roi_heads"]
    _, predictor = next(_predictors(tree))
    values = {field: predictor.get(*place) for field, place in _PREDICTOR.items()}
    strides = [node["stride_in_1x1"] for _, node in _nodes(tree) if "stride_in_1x1" in node]
    return values | {
        "rpn_pre_nms_top_n": tuple(rpn["pre_nms_topk"]),
        "rpn_post_nms_top_n": tuple(rpn["post_nms_topk"]),
        "rpn_batch": rpn["batch_size_per_image"],
        "roi_batch": heads["batch_size_per_image"],
        "pixel_mean": tree["pixel_mean"],
        "pixel_std": tree["pixel_std"],
        "blue_first": tree.get("input_format") == "BGR",
        "stride_in_1x1": bool(strides) and strides[0],  # Detectron2's default is not to
    }


def frozen_norms(text: str) -> bool:
    """Whether the network's batch norms keep the statistics of weights made before."""
    kind, tree = read_text(text)
    if kind == "yacs":
        model = tree["MODEL"]
        return "resnet" in model["BACKBONE"]["NAME"] and model["RESNETS"]["NORM"] == "FrozenBN"
    return any("FrozenBN" in node.values() for _, node in _nodes(tree))


def overrides(spec: ModelSpec) -> dict[str, Any]:
    """Where the spec has its way in its configuration: places, dotted, and their values."""
    kind, tree = read_text(spec.config)
    return _yacs_overrides(spec) if kind == "yacs" else _lazy_overrides(spec, tree)


def _yacs_overrides(spec: ModelSpec) -> dict[str, Any]:
    values: dict[str, Any] = {
        "MODEL.DEVICE": "cpu",  # the trainer moves it
        "MODEL.WEIGHTS": "",  # --weights says what to start from
        "MODEL.BACKBONE.FREEZE_AT": 0,  # stages of training freeze, not the model
        "MODEL.PIXEL_MEAN": list(spec.pixel_mean),
        "MODEL.PIXEL_STD": list(spec.pixel_std),
        "MODEL.ROI_HEADS.NUM_CLASSES": len(spec.classes),
        "INPUT.FORMAT": "BGR" if spec.reverse_channels else "RGB",
        "INPUT.MASK_FORMAT": "bitmask",
    }
    for field, places in _YACS.items():
        value = getattr(spec, field)
        pairs = zip(places, value if isinstance(value, tuple) else (value,), strict=True)
        values |= dict(pairs)
    return values


def _lazy_overrides(spec: ModelSpec, tree: Tree) -> dict[str, Any]:
    values: dict[str, Any] = {
        "pixel_mean": list(spec.pixel_mean),
        "pixel_std": list(spec.pixel_std),
        "input_format": "BGR" if spec.reverse_channels else "RGB",
        "proposal_generator.pre_nms_topk": list(spec.rpn_pre_nms_top_n),
        "proposal_generator.post_nms_topk": list(spec.rpn_post_nms_top_n),
        "proposal_generator.batch_size_per_image": spec.rpn_batch,
        "roi_heads.batch_size_per_image": spec.roi_batch,
    }
    for place, _ in _predictors(tree):
        for field, (argument, _) in _PREDICTOR.items():
            values[f"{place}.{argument}"] = getattr(spec, field)
    own_classes = tree["roi_heads"].get("num_classes")
    for place, node in _nodes(tree):
        found = {argument: value for argument, value in _FREE if argument in node}
        # A mask head of one mask for all classes has one.
        if place.startswith("roi_heads") and node.get("num_classes", _FREE) == own_classes:
            found["num_classes"] = len(spec.classes)
        if bands := _entrance(place, node):
            found[bands] = spec.channels
        values |= {f"{place}.{name}".lstrip("."): value for name, value in found.items()}
    return values


def _entrance(place: str, node: Tree) -> str:
    """Name of the argument that says the number of bands, "" if this call has none."""
    if place.endswith(".stem") and "in_channels" in node:
        return "in_channels"
    last = str(node.get("_target_", "")).rsplit(".", 1)[-1]
    known = last in ("SwinTransformer", "MViT", "ViT")
    own = place.startswith("backbone") and "in_chans" in node
    return "in_chans" if known or own else ""


def _predictors(tree: Tree) -> Iterator[tuple[str, Tree]]:
    """Places and arguments of the box predictors: one, or one per head of a cascade."""
    heads = tree["roi_heads"]
    if "box_predictor" in heads:
        yield "roi_heads.box_predictor", heads["box_predictor"]
    for i, one in enumerate(heads.get("box_predictors", ())):
        yield f"roi_heads.box_predictors.{i}", one


def _nodes(node: Any, place: str = "") -> Iterator[tuple[str, Tree]]:
    """All calls inside a tree, with their places."""
    if isinstance(node, dict):
        yield place, node
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in pairs:
        if isinstance(value, dict | list):
            yield from _nodes(value, f"{place}.{key}".lstrip("."))


def _get(tree: Any, place: str) -> Any:
    for part in place.split("."):
        key = int(part) if isinstance(tree, list) else part
        if isinstance(tree, dict) and key not in tree:
            return None
        tree = tree[key]
    return tree


def applied(spec: ModelSpec) -> tuple[str, Tree]:
    """Kind and tree of the spec's configuration, as it is built."""
    kind, tree = read_text(spec.config)
    tree = copy.deepcopy(tree)
    for place, value in overrides(spec).items():
        *path, last = place.split(".")
        node = _get(tree, ".".join(path)) if path else tree
        node[last] = value
    return kind, tree


def changes(spec: ModelSpec) -> list[str]:
    """What of the user's configuration is not built as written, one line each."""
    _, tree = read_text(spec.config)
    defaults = dict(_PREDICTOR.values())
    lines = []
    for place, value in overrides(spec).items():
        own = _get(tree, place)
        if own is None:
            own = defaults.get(place.rsplit(".", 1)[-1])
        if own != value and place not in _NOT_LISTED:
            was = "unset" if own is None else json.dumps(own)
            lines.append(f"{place}: {was} -> {json.dumps(value)}")
    return lines


def with_pixels(spec: ModelSpec, pixels: Mapping[str, Any]) -> ModelSpec:
    """The spec with other pixel statistics: numbers for all bands, or one for each."""
    values: dict[str, Any] = dict(pixels)
    for name in ("pixel_mean", "pixel_std"):
        if isinstance(values.get(name), int | float):
            values[name] = (float(values[name]),) * spec.channels
    return dataclasses.replace(spec, **values)
