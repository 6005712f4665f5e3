"""How far a full-size network's answers are from Detectron2's, and where that comes from.

    python benchmarks/parity.py [--model r101-dc5] [--size 192] [--proposals 1000] [--threads 1]

The recorded references hold narrow networks to fixed limits; this compares networks of full
size with the same random weights on one picture of noise and bright spots:

- detections of both, and of Detectron2's model in float64: what two programs differ by
  beside what one differs from itself by rounding;
- losses of the second stage on the proposals that Detectron2 sampled, on those that each
  samples with the same seed, and where one has a proposal less, as when rounding decides
  about the last; of networks with one box head behind pooling.

Needs Detectron2.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import Any
from unittest import mock

import numpy as np
import torch
from engine_inputs import CLASSES

from astroseg.core.rle import encode_at
from astroseg.core.samples import Prediction, Sample
from astroseg.engines import get_engine
from astroseg.engines.detectron2 import engine as adapter
from astroseg.models.mask_targets import TruthMasks
from astroseg.models.roi_losses import Sampled, Truth, sample_proposals
from astroseg.models.spec import MODELS, ModelSpec, model_spec

SEEDS = 3
ANSWERS = ("bbox_pred", "anchor_deltas", "objectness_logits", "predictor")


def scene(size: int) -> Sample:
    """Noise with squares of 8 px on it."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(3, size, size)).astype(np.float32)
    boxes, masks = [], []
    for y, x in rng.integers(0, size - 8, (max(4, size**2 // 900), 2)).tolist():
        image[:, y : y + 8, x : x + 8] += rng.uniform(2, 6)
        boxes.append([x, y, x + 8, y + 8])
        masks.append(encode_at(np.ones((8, 8), bool), (y, x), (size, size)))
    labels = np.arange(len(boxes)) % len(CLASSES)
    return Sample(image, np.array(boxes, np.float32), labels.astype(np.int64), tuple(masks))


def lively(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Random weights that answer differently to different pixels, as trained ones do."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_mean"):
                value.copy_(0.05 * torch.randn(value.shape, generator=generator))
            elif name.endswith("running_var"):
                value.copy_(1.5 + torch.rand(value.shape, generator=generator))
            elif name.endswith("norm.weight"):
                value.copy_(0.6 + 0.2 * torch.rand(value.shape, generator=generator))
            elif name.endswith("cls_score.weight"):
                value.mul_(20)
            elif any(name.endswith(f"{answer}.weight") for answer in ANSWERS):
                value.mul_(3)
    return {name: value.contiguous() for name, value in model.state_dict().items()}


def in_double(engine: Any, model: torch.nn.Module, sample: Sample) -> Prediction:
    """Detectron2's answer with all its numbers in float64; the model is float32 again after."""
    pools = [m for m in model.modules() if type(m).__name__ == "ROIPooler"]
    hooks = [dict(pool._forward_pre_hooks) for pool in pools]
    image = adapter._image
    for pool in pools:
        pool._forward_pre_hooks.clear()  # that make the features float32
    model.double()
    with mock.patch.object(adapter, "_image", lambda *given: image(*given).double()):
        [found] = engine.predict(model, [sample.image])
    model.float()
    for pool, kept in zip(pools, hooks, strict=True):
        pool._forward_pre_hooks.update(kept)
    return found


def difference(a: Prediction, b: Prediction) -> str:
    """Of partners: the nearest box of the same class, if within a twentieth of a pixel."""
    apart = np.abs(a.boxes[:, None] - b.boxes[None]).max(axis=2)
    apart[a.labels[:, None] != b.labels[None]] = np.inf
    partner, near = apart.argmin(axis=1), apart.min(axis=1)
    same = near < 0.05
    score = np.abs(a.scores - b.scores[partner])[same].max()
    return (
        f"{same.sum()} of {len(same)} detections paired, boxes to {near[same].max():.1e} px, "
        f"scores to {score:.1e}"
    )


def compare_losses(ours: Any, theirs: Any, sample: Sample, spec: ModelSpec) -> None:
    """Print losses of the second stage on one sample of proposals, and on each one's own."""
    library = get_engine("detectron2")._library  # type: ignore[attr-defined]
    shape = (sample.image.shape[1], sample.image.shape[2])
    image = torch.tensor(sample.image)
    truth = Truth(torch.tensor(sample.boxes), torch.tensor(sample.labels), TruthMasks(sample.masks))
    instances = adapter._truth(sample, library.Instances(shape), library.Boxes)
    ours.train()
    theirs.train()
    with library.EventStorage(), torch.no_grad():
        images = theirs.preprocess_image([{"image": image}])
        features = theirs.backbone(images.tensor)
        [proposals], _ = theirs.proposal_generator(images, features, [instances])
        own = ours.backbone(ours._stack([image]))
        [boxes], _ = ours.proposal_generator(own, [shape], spec, [truth])
        place = (proposals.proposal_boxes.tensor - boxes).abs().amax(dim=1) > 0.01
        print(f"proposals in another place of the order: {int(place.sum())} of {len(boxes)}")
        heads = theirs.roi_heads
        names = heads.box_in_features
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            [drawn] = heads.label_and_sample_proposals([proposals], [instances])
            torch.manual_seed(seed)
            other = sample_proposals(boxes, truth, spec)
            torch.manual_seed(seed)
            fewer = sample_proposals(boxes[:-1], truth, spec)
            objects = int((drawn.gt_classes < len(CLASSES)).sum())
            same = Sampled(
                drawn.proposal_boxes.tensor,
                drawn.gt_classes,
                torch.zeros(objects, dtype=torch.int64),
                drawn.gt_boxes.tensor[:objects],
            )
            pooled = heads.box_pooler([features[n] for n in names], [drawn.proposal_boxes])
            wanted = heads.box_predictor.losses(
                heads.box_predictor(heads.box_head(pooled)), [drawn]
            )
            found = [
                ours.roi_heads.box_losses(own, [one], [truth], [shape], spec)
                for one in (same, other, fewer)
            ]
            for name, value in wanted.items():
                apart = [abs(float(losses[name] - value)) for losses in found]
                print(
                    f"seed {seed} {name} {float(value):.4f}: differs by {apart[0]:.1e} on its "
                    f"sample, {apart[1]:.1e} where each draws its own, {apart[2]:.1e} where one "
                    "has a proposal less"
                )


def main() -> None:
    """Compare one model."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", default="r101-dc5", choices=list(MODELS))
    parser.add_argument("--size", type=int, default=192, help="of the square picture, px")
    parser.add_argument("--proposals", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    if lacking := adapter.Detectron2Engine().available():
        sys.exit(lacking)
    torchvision, detectron2 = get_engine("torchvision"), get_engine("detectron2")
    spec = model_spec(
        given.model,
        channels=3,
        classes=CLASSES,
        score_threshold=0.3,
        pixel_mean=0.5,
        pixel_std=1.5,
        reverse_channels=False,
        rpn_pre_nms_top_n=(given.proposals, given.proposals),
        rpn_post_nms_top_n=(given.proposals, given.proposals),
        rpn_top_n_area=None,
        roi_batch=64,  # fewer than there are proposals, so that chance chooses
    )
    ours, theirs = torchvision.build(spec, seed=3), detectron2.build(spec, seed=3)
    theirs.load_state_dict(lively(ours))
    sample = scene(given.size)
    print(
        f"{given.model}, {given.size}x{given.size}, {given.proposals} proposals, "
        + ", ".join(f"{name} {version}" for name, version in detectron2.versions().items())
    )
    [a], [b] = (
        engine.predict(model, [sample.image])
        for engine, model in ((torchvision, ours), (detectron2, theirs))
    )
    exact = in_double(detectron2, theirs, sample)
    print(f"ours beside Detectron2's             {difference(a, b)}")
    print(f"Detectron2's beside its own float64  {difference(b, exact)}")
    print(f"ours beside Detectron2's float64     {difference(a, exact)}")
    if spec.features != "c4" and not spec.cascade_iou:
        compare_losses(ours, theirs, sample, spec)


if __name__ == "__main__":
    main()
