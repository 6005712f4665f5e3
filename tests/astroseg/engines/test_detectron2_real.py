"""The engine detectron2 with the real library, beside the engine that always installs."""

import dataclasses
import importlib.util

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou
from train_helpers import write_sky_set

from astroseg.cli.main import main
from astroseg.core.errors import AstrosegError, InputError
from astroseg.core.rle import decode_tight, encode_at
from astroseg.core.samples import Sample
from astroseg.engines import get_engine
from astroseg.models.mask_targets import TruthMasks
from astroseg.models.norms import group_norms
from astroseg.models.sizes import TRANSFORMERS
from astroseg.models.spec import model_spec
from astroseg.weights.checkpoint import FIRST_CONVOLUTION, read_header

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from astroseg.engines.detectron2.engine import RleMasks

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")  # Detectron2's own
CLASSES = ("galaxy", "star")
ANSWERS = tuple(
    f"{layer}.weight"
    for layer in ("cls_score", "bbox_pred", "anchor_deltas", "objectness_logits", "predictor")
)
"""Ends of the names of the weights that give the answers; they start small."""


@pytest.fixture(scope="module")
def detectron2():
    return get_engine("detectron2")


@pytest.fixture(scope="module")
def torchvision():
    return get_engine("torchvision")


NEEDS_TIMM = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm is not installed"
)
NAMES = (
    "r50-fpn",
    "r101-fpn",
    "x101-fpn",
    "r50-fpn-cascade",
    "r50-fpn-deform",
    "r101-dc5",
    "r101-c4",
    pytest.param("swin-b", marks=NEEDS_TIMM),
    pytest.param("mvitv2-b", marks=NEEDS_TIMM),
    "tiny",
)


def narrow(channels=3, name="r50-fpn", **overrides):
    """A model of an eighth of the width, with few proposals."""
    values = {
        "stem_channels": 16,
        "stage_channels": (32, 64, 128, 256),
        "group_width": 8,
        "fpn_channels": 32,
        "box_head_dim": 64,
        "mask_head_dim": 32,
        "rpn_pre_nms_top_n": (200, 200),
        "rpn_post_nms_top_n": (200, 200),
        "rpn_batch": 64,
        "roi_batch": 64,
        "pixel_mean": 0.5,
        "pixel_std": 1.5,
        "score_threshold": 0.0,
        **overrides,
    }
    if name.startswith("x101"):
        values |= {"groups": 4, "group_width": 4}
    if name in TRANSFORMERS:
        values |= {
            "stage_channels": (16, 32, 64, 128),
            "attention_heads": (1, 2, 4, 8),
            "box_conv_dim": 32,
            "drop_path": 0.0,  # no random choice
        }
    if name == "tiny":
        values = {"score_threshold": 0.0, **overrides}
    return model_spec(name, channels=channels, classes=CLASSES, **values)


def enliven(model):
    """Weights that answer differently to different pixels, as trained ones do."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_mean"):
                value.copy_(torch.randn(value.shape, generator=generator) * 0.05)
            elif name.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=generator) + 1.5)
            elif "conv2_offset" in name:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
            elif "norm.weight" in name:
                value.copy_(torch.rand(value.shape, generator=generator) * 0.2 + 0.6)
            elif name.endswith(ANSWERS):
                value.mul_(10)
    return model


def sample(size=96, channels=3, count=12, seed=0):
    """Noise with bright ellipses."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(channels, size, size)).astype(np.float32)
    rows, columns = np.mgrid[:size, :size]
    boxes, masks = [], []
    for _ in range(count):
        x, y = rng.uniform(5, size - 5, 2)
        a, b = rng.uniform(2, 9, 2)
        mask = ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1
        image += 4 * mask
        r, c = np.nonzero(mask)
        y0, y1, x0, x1 = r.min(), r.max() + 1, c.min(), c.max() + 1
        boxes.append([x0, y0, x1, y1])
        masks.append(encode_at(mask[y0:y1, x0:x1], (y0, x0), (size, size)))
    labels = np.arange(count) % 2
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Sample(image, boxes, labels.astype(np.int64), tuple(masks))


def decode(rle):
    """(H, W) bool."""
    mask, (y0, x0) = decode_tight(rle)
    whole = np.zeros(rle["size"], bool)
    whole[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]] = mask
    return whole


def assert_same_predictions(a, b):
    """To rounding; detections of equal score may change places."""
    assert len(a.scores) == len(b.scores) > 20
    apart = np.abs(a.boxes[:, None] - b.boxes[None]).max(-1)
    apart[a.labels[:, None] != b.labels[None]] = np.inf
    partner = apart.argmin(1)
    assert len(set(partner)) == len(partner)
    assert apart.min(1).max() < 0.01  # px
    assert np.abs(a.scores - b.scores[partner]).max() < 1e-5
    differing = total = 0
    for mask, other in zip(a.masks, (b.masks[i] for i in partner), strict=True):
        differing += int((decode(mask) != decode(other)).sum())
        total += int(decode(mask).sum())
    assert differing <= 1e-3 * total  # pixels whose probability is a half


@pytest.mark.parametrize("order", [("torchvision", "detectron2"), ("detectron2", "torchvision")])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [3, 5])
def test_a_checkpoint_of_either_engine_gives_the_same_predictions_in_the_other(
    tmp_path, order, name, channels
):
    first, second = (get_engine(name) for name in order)
    spec = narrow(channels, name, reverse_channels=channels == 3)
    model = enliven(first.build(spec, seed=0))
    first.save(model, tmp_path / "a.safetensors", {"contrast": "asinh"})
    assert read_header(tmp_path / "a.safetensors").engine == order[0]
    other = second.build(read_header(tmp_path / "a.safetensors").spec, seed=1)
    report = second.load(other, tmp_path / "a.safetensors")
    assert set(report.loaded) == set(model.state_dict())
    image = sample(channels=channels).image[:, :90, :83].copy()
    assert_same_predictions(first.predict(model, [image])[0], second.predict(other, [image])[0])


def test_norms_held_at_a_sample_give_the_same_predictions_in_both(
    tmp_path, torchvision, detectron2
):
    ours = torchvision.build(narrow(name="tiny"), seed=0)
    for norm in group_norms(ours):
        torch.nn.init.uniform_(norm.weight, 0.5, 1)
    torchvision.save(ours, tmp_path / "m.safetensors", {})
    theirs = detectron2.build(narrow(name="tiny"))
    detectron2.load(theirs, tmp_path / "m.safetensors")
    image = sample().image
    windows = [image[:, :64, :64], 9 * image[:, 32:, 32:]]
    alone = torchvision.predict(ours, [image])[0]
    with (
        torchvision.norms_held(ours, lambda: windows),
        detectron2.norms_held(theirs, lambda: windows),
    ):
        found = [e.predict(m, [image])[0] for e, m in ((torchvision, ours), (detectron2, theirs))]
    assert_same_predictions(*found)
    assert not np.array_equal(found[0].scores, alone.scores)


def full_models(name, folder):
    """A model of full size in both engines, by way of a checkpoint, and a 512x512 image."""
    torchvision, detectron2 = get_engine("torchvision"), get_engine("detectron2")
    spec = model_spec(name, channels=3, classes=CLASSES, score_threshold=0.3)
    spec = dataclasses.replace(spec, rpn_post_nms_top_n=(1000, 1000), pixel_std=(57.0,) * 3)
    model = enliven(torchvision.build(spec, seed=0))
    torchvision.save(model, folder / "a.safetensors", {})
    other = detectron2.build(spec, seed=1)
    detectron2.load(other, folder / "a.safetensors")
    image = np.clip(sample(512, count=80).image * 30 + 60, 0, 255)
    return (torchvision, model), (detectron2, other), image


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r50-fpn", pytest.param("swin-b", marks=NEEDS_TIMM)])
def test_models_of_full_size_agree_between_engines_on_512_px(tmp_path, name):
    *both, image = full_models(name, tmp_path)
    assert_same_predictions(*(engine.predict(model, [image])[0] for engine, model in both))


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_the_other_engines_given_the_same_samples(name, torchvision, detectron2):
    # Rounding may swap two proposals and so the random sample: this seed has no such pair.
    model = enliven(torchvision.build(narrow(name=name), seed=2))
    other = detectron2.build(narrow(name=name), seed=1)
    other.load_state_dict(model.state_dict())
    batch = [sample(), sample(80, seed=1), sample(64, count=0)]
    found = []
    for engine, built in ((torchvision, model), (detectron2, other)):
        torch.manual_seed(5)
        found.append(engine.losses(built, batch))
    assert set(found[0]) == set(found[1])
    for loss, value in found[0].items():
        assert value.item() == pytest.approx(found[1][loss].item(), abs=1e-4, rel=1e-5), loss


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient_also_without_objects(detectron2, name):
    model = detectron2.build(narrow(name=name), seed=0)
    sum(detectron2.losses(model, [sample(), sample(70, seed=1)]).values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.zero_grad(set_to_none=True)
    sum(detectron2.losses(model, [sample(64, count=0)]).values()).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_box_without_area_does_no_harm(detectron2):
    whole = sample()
    boxes = whole.boxes.copy()
    boxes[1, 2] = boxes[1, 0]
    broken = Sample(whole.image, boxes, whole.labels, whole.masks)
    losses = detectron2.losses(detectron2.build(narrow(), seed=0), [broken])
    assert all(torch.isfinite(v) for v in losses.values())


def test_masks_are_cut_as_its_own_bitmasks_are():
    from detectron2.structures import BitMasks

    truth = sample(60, count=9)
    bitmaps = np.stack([decode(rle) for rle in truth.masks])
    boxes = torch.from_numpy(truth.boxes) + torch.rand(9, 4) * 4 - 2
    index = torch.tensor([8, 2, 2, 5])
    ours = RleMasks(TruthMasks(truth.masks))[index].crop_and_resize(boxes[index], 28)
    theirs = BitMasks(torch.from_numpy(bitmaps))[index].crop_and_resize(boxes[index], 28)
    assert torch.equal(ours, theirs)


def test_a_seed_gives_the_same_weights_and_leaves_the_generator_alone(detectron2):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    a, b = (detectron2.build(narrow(), seed=1) for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(a.roi_heads.box_head.fc1.weight, b.roi_heads.box_head.fc1.weight)


@pytest.mark.parametrize("name", ["r50-fpn", "r50-fpn-cascade", "r101-c4"])
def test_thresholds_change_after_training(detectron2, name):
    model = enliven(detectron2.build(narrow(name=name, nms_threshold=1.0), seed=0))
    image = sample().image
    every = detectron2.predict(model, [image])[0]
    middle = float(np.median(every.scores))
    detectron2.set_thresholds(model, score=middle)
    assert 0 < len(detectron2.predict(model, [image])[0].scores) < len(every.scores)
    detectron2.set_thresholds(model, score=0.0, detections=5)
    assert np.array_equal(detectron2.predict(model, [image])[0].scores, every.scores[:5])
    detectron2.set_thresholds(model, detections=1000, nms=0.1)
    assert len(detectron2.predict(model, [image])[0].scores) < len(every.scores)
    with pytest.raises(InputError, match="between 0 and 1"):
        detectron2.set_thresholds(model, score=50)


def test_a_prediction_does_not_depend_on_its_batch_and_leaves_the_mode(detectron2):
    model = enliven(detectron2.build(narrow(), seed=0))
    a, b = sample().image, sample().image[:, :40].copy()
    together, alone = detectron2.predict(model, [b, a])[1], detectron2.predict(model, [a])[0]
    assert np.array_equal(together.boxes, alone.boxes)
    assert together.masks == alone.masks
    assert model.training
    with pytest.raises(InputError, match="3 channels"):
        detectron2.predict(model, [np.zeros((5, 32, 32), np.float32)])


@pytest.mark.parametrize(
    ("name", "frozen"), [("r50-fpn", "backbone.bottom_up."), ("r101-c4", "backbone.")]
)
def test_the_first_stage_trains_heads_and_pyramid_only_and_batch_norms_stay(
    detectron2, name, frozen
):
    model = detectron2.build(narrow(name=name, norm="BN"), seed=0)
    every = set(dict(model.named_parameters()))
    detectron2.param_groups(model, "heads")
    trains = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trains == {n for n in every if not n.startswith(frozen)}
    norm = model.get_submodule(f"{frozen}stem.conv1.norm")
    before = norm.running_mean.clone()
    detectron2.losses(model, [sample()])
    assert torch.equal(norm.running_mean, before)
    detectron2.param_groups(model, "none")
    assert all(p.requires_grad for p in model.parameters())
    detectron2.losses(model, [sample()])
    assert not torch.equal(norm.running_mean, before)


@pytest.mark.parametrize("name", ["r50-fpn", "r50-fpn-deform", "r101-c4", *NAMES[7:]])
def test_mixed_precision_trains_with_losses_in_full_precision(detectron2, name):
    model = enliven(detectron2.build(narrow(name=name), seed=0))
    torch.manual_seed(0)
    full = detectron2.losses(model, [sample(count=0)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(0)
        losses = detectron2.losses(model, [sample(count=0)])
        sum(losses.values()).backward()
        assert len(detectron2.predict(model, [sample().image])[0].scores)
    assert all(v.dtype == torch.float32 for v in losses.values())
    [name, *_] = [name for name in losses if name.startswith("loss_cls")]
    assert losses[name].item() == pytest.approx(full[name].item(), rel=0.05)


def test_weights_that_are_not_finite_are_a_problem_the_user_can_mend(detectron2):
    model = detectron2.build(narrow(), seed=0)
    with torch.no_grad():
        model.proposal_generator.rpn_head.conv.weight.fill_(float("nan"))
    with pytest.raises(AstrosegError, match="lower --lr"):
        detectron2.losses(model, [sample()])


def test_the_first_convolution_is_spread_over_other_bands(tmp_path, detectron2):
    three = detectron2.build(narrow(reverse_channels=False), seed=0)
    detectron2.save(three, tmp_path / "a.safetensors", {})
    five = detectron2.build(narrow(5), seed=1)
    report = detectron2.load(five, tmp_path / "a.safetensors", adapt_channels=True)
    assert report.adapted == (FIRST_CONVOLUTION,)


@pytest.mark.parametrize("engine", ["torchvision", "detectron2"])
@pytest.mark.parametrize("name", NAMES)
def test_two_steps_of_training_change_what_is_predicted(engine, name):
    engine = get_engine(engine)
    norm = {} if name in (*TRANSFORMERS, "tiny") else {"norm": "BN"}
    model = engine.build(narrow(name=name, **norm), seed=0)
    image = sample().image
    before = engine.predict(model, [image])[0]
    optimizer = torch.optim.SGD(engine.param_groups(model, "none"), lr=0.01)
    for step in range(2):
        torch.manual_seed(step)
        optimizer.zero_grad()
        sum(engine.losses(model, [sample(), sample(80, seed=1)]).values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    after = engine.predict(model, [image])[0]
    assert len(after.scores)
    assert not np.array_equal(before.scores, after.scores)


@pytest.mark.parametrize("shape", [(1100, 40), (30, 1090)])
@pytest.mark.parametrize("name", [NAMES[7], NAMES[8]])
def test_images_beyond_the_square_of_its_projects_are_not_cropped(detectron2, name, shape):
    overrides = {"rpn_pre_nms_top_n": (3000, 3000), "rpn_post_nms_top_n": (3000, 3000)}
    model = detectron2.build(narrow(name=name, **overrides), seed=0)
    found = detectron2.predict(model, [np.zeros((3, *shape), np.float32)])[0]
    assert (found.boxes[:, 2:].max(0) > [shape[1] - 6, shape[0] - 6]).all()


def test_tiny_starts_alike_in_both_engines(torchvision, detectron2):
    ours, theirs = (
        engine.build(narrow(name="tiny"), seed=0) for engine in (torchvision, detectron2)
    )
    for name, value in ours.state_dict().items():
        other = theirs.state_dict()[name]
        assert other.mean().item() == pytest.approx(value.mean().item(), abs=0.05), name
        if value.numel() > 500:
            assert other.std().item() == pytest.approx(value.std().item(), rel=0.2), name


def test_tiny_searches_small_images_less_and_keeps_one_class_per_source(detectron2):
    # The boxes that were compared, not those drawn anew around the masks.
    spec = narrow(name="tiny", nms_any_class=0.3, tight_boxes=False)
    model = enliven(detectron2.build(spec, seed=0))
    found = detectron2.predict(model, [sample().image])[0]
    assert 0 < len(found.scores) <= 100  # of 300 proposals on 256x256, the least
    boxes = torch.from_numpy(found.boxes)
    overlap = box_iou(boxes, boxes).fill_diagonal_(0)
    assert overlap.max() <= 0.3
    detectron2.set_thresholds(model, detections=3)
    assert np.array_equal(detectron2.predict(model, [sample().image])[0].scores, found.scores[:3])


@pytest.mark.slow
def test_the_same_command_line_trains_and_predicts_with_it(tmp_path):
    skies = write_sky_set(tmp_path / "skies", 2, size=64, sources=8)
    run = tmp_path / "run"
    train = ["train", str(skies), "--val", str(skies), "--model", "r50-fpn", "--out", str(run)]
    train += ["--engine", "detectron2", "--device", "cpu", "--workers", "0", "--quiet"]
    assert main([*train, "--steps", "2", "--batch", "2"]) == 0
    assert main([*train, "--steps", "2", "--batch", "2", "--resume"]) == 0
    assert read_header(run / "last.safetensors").engine == "detectron2"
    for engine in ("auto", "torchvision"):
        out = tmp_path / engine
        command = ["predict", str(run / "last.safetensors"), str(skies), "--out", str(out)]
        assert (
            main([*command, "--engine", engine, "--score", "0.01", "--detections", "20", "--quiet"])
            == 0
        )
        assert (out / "predictions.json").is_file()


@pytest.mark.parametrize("name", ["r50-fpn", "r50-fpn-cascade", "r101-c4"])
def test_ignore_regions_are_in_no_loss_of_anchors_and_proposals(name, detectron2, torchvision):
    """Every anchor and proposal counts, so that nothing is random but what is left out."""
    spec = narrow(name=name, rpn_batch=100_000, roi_batch=100_000, roi_positive=0.5)
    theirs = enliven(detectron2.build(spec, seed=0))
    ours = torchvision.build(spec)
    ours.load_state_dict(theirs.state_dict())
    ignored = np.zeros((96, 96), bool)
    ignored[:, 40:] = True
    one = dataclasses.replace(sample(count=4), ignored=ignored)
    found = [
        {k: v.item() for k, v in engine.losses(model, [one]).items()}
        for engine, model in ((detectron2, theirs), (torchvision, ours))
    ]
    plain = detectron2.losses(theirs, [dataclasses.replace(one, ignored=None)])
    for key, value in found[0].items():
        if key != "loss_mask":
            assert value == pytest.approx(found[1][key], rel=2e-4, abs=1e-6), key
        if "cls" in key:
            assert value != pytest.approx(plain[key].item(), rel=2e-4), key
