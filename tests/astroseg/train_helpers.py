"""Small skies of round sources, and an engine that learns in milliseconds."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.io import fits
from numpy.typing import NDArray
from scipy import ndimage

from astroseg.core.rle import decode_tight, encode_at
from astroseg.core.samples import Prediction, Sample
from astroseg.weights.checkpoint import (
    Header,
    LoadReport,
    place,
    read_checkpoint,
    write_checkpoint,
)

CLASSES = ("galaxy", "star")
SIGMA = 2.0
"""Noise of every band of the small skies."""


def sky(
    size: int, sources: int, seed: int, bands: int = 3
) -> tuple[NDArray[np.float32], list[tuple[NDArray[np.bool_], tuple[int, int], int]]]:
    """(bands, size, size) float32, and each source's bitmap, corner and label."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, SIGMA, (bands, size, size))
    found = []
    yy, xx = np.mgrid[:size, :size]
    for _ in range(sources):
        y, x = rng.uniform(0, size, 2)
        label = int(rng.integers(2))
        width = 1.5 if label else rng.uniform(1.8, 3.0)
        light = 60 * np.exp(-0.5 * ((yy - y) ** 2 + (xx - x) ** 2) / width**2)
        mask = light > 6
        if not mask.any():
            continue
        # Stars are blue here and galaxies red.
        image += light * np.linspace(1 - 0.5 * label, 0.5 + 0.5 * label, bands)[::-1, None, None]
        bitmap, corner = decode_tight(encode_at(mask, (0, 0), (size, size)))
        found.append((bitmap, corner, label))
    return image.astype(np.float32), found


def write_sky_set(
    folder: Path, images: int, *, size: int = 32, sources: int = 4, seed: int = 0, bands: int = 3
) -> Path:
    """A COCO file in astrolabel's layout, with FITS cubes."""
    (folder / "cubes").mkdir(parents=True, exist_ok=True)
    entries, annotations = [], []
    names = list("grizy")[:bands]
    for number in range(1, images + 1):
        image, found = sky(size, sources, 1000 * seed + number, bands)
        cube = f"cubes/{number}.fits"
        fits.PrimaryHDU(image).writeto(folder / cube)
        entries.append(
            {
                "id": number,
                "file_name": f"images/{number}.png",
                "height": size,
                "width": size,
                "astro": {"cube": cube, "bands": names, "sky_sigma": [SIGMA] * bands},
            }
        )
        for bitmap, corner, label in found:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "segmentation": encode_at(bitmap, corner, (size, size)),
                    "bbox": [corner[1], corner[0], bitmap.shape[1], bitmap.shape[0]],
                    "area": int(bitmap.sum()),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
    document = {"images": entries, "annotations": annotations, "categories": categories}
    path = folder / "coco.json"
    path.write_text(json.dumps(document))
    return path


class Net(torch.nn.Module):
    """Per-pixel scores of the classes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = torch.nn.Conv2d(channels, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Conv2d(8, len(CLASSES), 1)
        self.score = 0.5

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(self.body(image))))


class Killed(BaseException):
    """Stands for a crash inside this process."""


class SmallEngine:
    """An engine with everything a trainer can get wrong: randomness, buffers, frozen parts.

    ``stop_at`` crashes it at that call of `losses`: with an exception, or, if `for_real`,
    by killing the process. ``share`` of the pixels count, chosen at random.
    """

    name = "small"

    def __init__(
        self, stop_at: int = -1, for_real: bool = False, nan_at: int = -1, share: float = 0.5
    ) -> None:
        self.calls, self.share = 0, share
        self.stop_at, self.for_real, self.nan_at = stop_at, for_real, nan_at
        self.seen: list[list[Sample]] = []

    def available(self) -> str | None:
        return None

    def refusal(self, spec: Any) -> str | None:
        return None

    def versions(self) -> dict[str, str]:
        return {"small": "1"}

    def build(self, spec: Any, seed: int | None = None) -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            if seed is not None:
                torch.manual_seed(seed)
            model = Net(spec.channels)
        model.spec = spec
        return model.train()

    def losses(self, model: Any, batch: Sequence[Sample]) -> dict[str, torch.Tensor]:
        if model.training and torch.is_grad_enabled():
            if self.calls == self.stop_at:
                if self.for_real:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise Killed
            self.calls += 1
            self.seen.append(list(batch))
        total, extra = torch.zeros(()), torch.zeros(())
        for sample in batch:
            score = model(torch.from_numpy(sample.image)[None])[0]
            target = torch.zeros_like(score)
            for label, mask in zip(sample.labels, sample.masks, strict=True):
                bitmap, (y, x) = decode_tight(mask)
                height, width = bitmap.shape
                target[label, y : y + height, x : x + width] += torch.from_numpy(bitmap).float()
            # As proposals are: a random part of the pixels counts.
            chosen = torch.rand(score.shape) < self.share
            total = total + torch.nn.functional.binary_cross_entropy_with_logits(
                score[chosen], target.clamp(max=1)[chosen]
            )
            extra = extra + score.square().mean()
        if self.calls == self.nan_at:
            total = total * float("nan")
        return {"loss_pixels": total / len(batch), "loss_size": 0.01 * extra / len(batch)}

    def predict(self, model: Any, batch: Sequence[NDArray[np.float32]]) -> list[Prediction]:
        training = model.training
        model.eval()
        with torch.inference_mode():
            scores = [torch.sigmoid(model(torch.from_numpy(i)[None]))[0].numpy() for i in batch]
        model.train(training)
        return [_components(score, model.score) for score in scores]

    def norms_held(self, model: Any, sample: Any) -> Any:
        return nullcontext()  # it has no norms

    def set_thresholds(
        self, model: Any, *, score: float | None = None, nms: Any = None, detections: Any = None
    ) -> None:
        model.score = model.score if score is None else score

    def param_groups(self, model: Any, freeze: str) -> list[dict[str, Any]]:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(freeze == "none" or not name.startswith("body"))
        trained = [p for p in model.parameters() if p.requires_grad]
        return [
            {"params": [p for p in trained if p.ndim > 1]},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]

    def save(self, model: Any, path: str | Path, meta: Mapping[str, str]) -> None:
        header = Header(model.spec, self.name, self.versions(), meta)
        write_checkpoint(path, model.state_dict(), header)

    def load(
        self,
        model: Any,
        path: str | Path,
        *,
        allow_missing: Sequence[str] = (),
        adapt_channels: bool = False,
    ) -> LoadReport:
        tensors, header = read_checkpoint(path)
        return place(model, model.spec, tensors, header, file=path, allow_missing=allow_missing)


def _components(score: NDArray[np.float32], threshold: float) -> Prediction:
    """Connected pixels likelier set than not, as detections of the likelier class."""
    regions, _ = ndimage.label(score.max(axis=0) > 0.5)
    rows = []
    for number, where in enumerate(ndimage.find_objects(regions), 1):
        bitmap = regions[where] == number
        values = score[:, where[0], where[1]][:, bitmap].mean(axis=1)
        corner = (where[0].start, where[1].start)
        if values.max() < threshold:
            continue
        rows.append((float(values.max()), int(values.argmax()), bitmap, corner))
    rows.sort(key=lambda row: -row[0])
    boxes = [[x, y, x + b.shape[1], y + b.shape[0]] for _, _, b, (y, x) in rows]
    return Prediction(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array([row[0] for row in rows], np.float32),
        labels=np.array([row[1] for row in rows], np.int64),
        masks=tuple(encode_at(row[2], row[3], score.shape[1:]) for row in rows),
    )
