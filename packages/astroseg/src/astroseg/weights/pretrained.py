"""Weights to start from, by name: where they are, whose they are, what they are for.

``--weights NAME`` downloads them once (`astroseg.weights.download`). Published hashes are short:
Detectron2's model zoo says that a file's name ends with the first digits of its MD5,
torchvision's file names with those of their SHA-256. They distinguish a broken file from a
whole one; what guards against a hostile one is that reading it runs nothing. Of the backbones that
Detectron2 distributes no digit is published: those are used only once the user names the
whole hash (``--weights-sha256``), which the first attempt shows.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from astroseg.core.errors import InputError
from astroseg.weights.builtin import BUILTIN, checkpoint_file
from astroseg.weights.download import cache_folder, fetch


@dataclass(frozen=True)
class Pretrained:
    """One file of weights.

    Attributes
    ----------
    name : for ``--weights``.
    url : of the file.
    digest : "sha256:..." or "md5:...", the digits that are published of its hash; "" if
        none are.
    models : names of the models it fits.
    data : what it was trained on.
    colours : order and scale in which its network saw 8-bit pictures.
    licence : of the weights, as their publisher has it.
    source : page that says so.
    """

    name: str
    url: str
    digest: str
    models: tuple[str, ...]
    data: str
    colours: str
    licence: str
    source: str


_ZOO = "https://dl.fbaipublicfiles.com/detectron2/"
_ZOO_PAGE = "https://github.com/facebookresearch/detectron2/blob/main/MODEL_ZOO.md"
_ZOO_LICENCE = "CC BY-SA 3.0"
_TORCHVISION = "https://download.pytorch.org/models/"
_TORCHVISION_PAGE = "https://docs.pytorch.org/vision/stable/models.html"
_VITDET_PAGE = "https://github.com/facebookresearch/detectron2/tree/main/projects/ViTDet"
# Its page states none; the model zoo's own is that of the models on another page.
_VITDET_LICENCE = "Apache-2.0 (of Detectron2; none stated for the weights)"
_SWIN_PAGE = "https://github.com/microsoft/Swin-Transformer"
_MVIT_PAGE = "https://github.com/facebookresearch/mvit"
# The weights carry none of their own; torchvision's code is under this one.
_TORCHVISION_LICENCE = "BSD-3-Clause (of torchvision; none stated for the weights)"

_BGR = "blue first, mean subtracted"
_BGR_SCALED = "blue first, mean subtracted, deviation divided out"
_RGB_DIVIDED = "red first, mean subtracted, deviation divided out"
_RGB_SCALED = "red first (turned on reading), mean subtracted, deviation divided out"

_R50 = ("r50-fpn", "r50-fpn-deform", "r50-fpn-cascade")
_R101 = ("r101-fpn", "r101-c4", "r101-dc5")
_X101 = ("x101-fpn",)


def _detector(model: str, config: str, file: str, colours: str = _BGR) -> Pretrained:
    return Pretrained(
        name=f"{model}-coco",
        url=f"{_ZOO}{config}/{file}",
        digest="md5:" + file.removesuffix(".pkl").rpartition("_")[2],
        models=(model,),
        data="COCO train2017",
        colours=colours,
        licence=_ZOO_LICENCE,
        source=_ZOO_PAGE,
    )


def _backbone(name: str, file: str, models: tuple[str, ...], colours: str = _BGR) -> Pretrained:
    url = f"{_ZOO}ImageNetPretrained/{file}"
    data = "ImageNet-1k, backbone only"
    return Pretrained(name, url, "", models, data, colours, _ZOO_LICENCE, _ZOO_PAGE)


def _transformer(model: str, folder: str, file: str) -> Pretrained:
    """A detector of the ViTDet project, whose heads the models here have."""
    return Pretrained(
        name=f"{model}-coco",
        url=f"{_ZOO}ViTDet/COCO/{folder}/{file}",
        digest="md5:" + file.removesuffix(".pkl").rpartition("_")[2],
        models=(model,),
        data="ImageNet-21k, then COCO train2017",
        colours=_RGB_DIVIDED,
        licence=_VITDET_LICENCE,
        source=_VITDET_PAGE,
    )


def _transformer_backbone(
    model: str, pictures: str, file: str, licence: str, source: str
) -> Pretrained:
    return Pretrained(
        name=f"{model}-imagenet{pictures}",
        url=f"{_ZOO}ImageNetPretrained/{file}",
        digest="",
        models=(model,),
        data=f"ImageNet-{pictures}, backbone only",
        colours=_RGB_DIVIDED,
        licence=licence,
        source=source,
    )


def _classifier(
    name: str, file: str, models: tuple[str, ...], colours: str = _RGB_SCALED
) -> Pretrained:
    return Pretrained(
        name=name,
        url=_TORCHVISION + file,
        digest="sha256:" + file.removesuffix(".pth").rpartition("-")[2],
        models=models,
        data="ImageNet-1k, backbone only",
        colours=colours,
        licence=_TORCHVISION_LICENCE,
        source=_TORCHVISION_PAGE,
    )


_SEGMENTATION = "COCO-InstanceSegmentation/mask_rcnn_"

_ENTRIES: tuple[Pretrained, ...] = (
    _detector("r50-fpn", f"{_SEGMENTATION}R_50_FPN_3x/137849600", "model_final_f10217.pkl"),
    _detector("r101-fpn", f"{_SEGMENTATION}R_101_FPN_3x/138205316", "model_final_a3ec72.pkl"),
    _detector(
        "x101-fpn",
        f"{_SEGMENTATION}X_101_32x8d_FPN_3x/139653917",
        "model_final_2d9806.pkl",
        _BGR_SCALED,
    ),
    _detector("r101-c4", f"{_SEGMENTATION}R_101_C4_3x/138363239", "model_final_a2914c.pkl"),
    _detector("r101-dc5", f"{_SEGMENTATION}R_101_DC5_3x/138363294", "model_final_0464b7.pkl"),
    _detector(
        "r50-fpn-deform",
        "Misc/mask_rcnn_R_50_FPN_3x_dconv_c3-c5/144998336",
        "model_final_821d0b.pkl",
    ),
    _detector(
        "r50-fpn-cascade",
        "Misc/cascade_mask_rcnn_R_50_FPN_3x/144998488",
        "model_final_480dd8.pkl",
    ),
    _transformer("swin-b", "cascade_mask_rcnn_swin_b_in21k/f342979038", "model_final_246a82.pkl"),
    _transformer(
        "mvitv2-b", "cascade_mask_rcnn_mvitv2_b_in21k/f325820315", "model_final_8c3da3.pkl"
    ),
    _backbone("r50-imagenet", "MSRA/R-50.pkl", _R50),
    _backbone("r101-imagenet", "MSRA/R-101.pkl", _R101),
    _backbone("x101-imagenet", "FAIR/X-101-32x8d.pkl", _X101, _BGR_SCALED),
    _transformer_backbone(
        "swin-b",
        "22k",
        "swin/swin_base_patch4_window7_224_22k.pth",
        "MIT (of Swin-Transformer)",
        _SWIN_PAGE,
    ),
    _transformer_backbone(
        "mvitv2-b", "21k", "mvitv2/MViTv2_B_in21k.pyth", "Apache-2.0 (of MViT)", _MVIT_PAGE
    ),
    _transformer_backbone(
        "mvitv2-b", "1k", "mvitv2/MViTv2_B_in1k.pyth", "Apache-2.0 (of MViT)", _MVIT_PAGE
    ),
    _classifier("torchvision-resnet50-v1", "resnet50-0676ba61.pth", _R50),
    _classifier("torchvision-resnet50-v2", "resnet50-11ad3fa6.pth", _R50),
    _classifier("torchvision-resnet101-v1", "resnet101-63fe2227.pth", _R101),
    _classifier("torchvision-resnet101-v2", "resnet101-cd907fc2.pth", _R101),
    _classifier("torchvision-resnext101-v1", "resnext101_32x8d-8ba56ff5.pth", _X101),
    _classifier("torchvision-resnext101-v2", "resnext101_32x8d-110c445d.pth", _X101),
    _classifier("torchvision-swin-b-v1", "swin_b-68c6b09e.pth", ("swin-b",), _RGB_DIVIDED),
)

PRETRAINED: Mapping[str, Pretrained] = MappingProxyType({one.name: one for one in _ENTRIES})
"""Every file by its name."""


def weights_file(
    weights: str | Path, model: str = "", *, trusted: str = "", quiet: bool = False
) -> Path:
    """The file that ``--weights`` means: itself, a built-in model, or the download of that name.

    Parameters
    ----------
    model : it is for; weights of another are refused before they are downloaded.
    trusted : the whole SHA-256 of a download that the user vouches for.

    Raises
    ------
    InputError
        When there is neither, or as `astroseg.weights.download.fetch`.
    """
    path, name = Path(weights), str(weights)
    if path.is_file() or name in BUILTIN:
        return checkpoint_file(weights)
    if name not in PRETRAINED:
        # Whoever gives a folder or a suffix means a file.
        if path.suffix or len(path.parts) > 1:
            raise InputError("no such checkpoint", file=path, remedy="check the name")
        close = difflib.get_close_matches(name, PRETRAINED, n=3) or list(PRETRAINED)
        raise InputError(
            f"there is no file and no pre-trained weights {name!r}",
            remedy=f"give a file, or one of those that astroseg models lists: {', '.join(close)}",
        )
    one = PRETRAINED[name]
    if model and model not in one.models:
        fitting = [other.name for other in PRETRAINED.values() if model in other.models]
        raise InputError(
            f"weights {name} are for {', '.join(one.models)}, not {model}",
            remedy=f"use {', '.join(fitting)}" if fitting else "train it from scratch",
        )
    # Two files of one name, as two editions have, must not meet.
    folder = cache_folder() / "weights" / re.sub(r"[^\w.-]", "_", name)
    return fetch(one.url, folder, one.digest, trusted=trusted, quiet=quiet)
