"""What a run is prepared with: the model's structure, its pixel scale, and transfer."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from train_helpers import SmallEngine, sky, write_sky_set

from astroseg.core.config import DataConfig, configured
from astroseg.core.errors import InputError
from astroseg.data.contrast import PIXEL_STATISTICS, measure
from astroseg.models.spec import ZOO_MEAN_BGR, model_spec
from astroseg.training.architecture import as_built_in, pixel_overrides, training_spec
from astroseg.training.prepare import prepare
from astroseg.training.train import train
from astroseg.weights.builtin import checkpoint_file
from astroseg.weights.checkpoint import read_header

CPU = torch.device("cpu")


def test_model_from_scratch_has_group_norm() -> None:
    config = configured("train", model="r50-fpn", data=DataConfig(contrast="asinh"))
    spec = training_spec(config, 5, ("star",))
    assert (spec.norm, spec.head_norm, spec.channels) == ("GN", "GN", 5)


def test_settings_of_the_network_hold_for_given_weights_too() -> None:
    weights = checkpoint_file("sky")
    config = as_built_in(configured("train", weights="sky", **{"model.rpn_batch": 64}))
    spec = training_spec(config, 4, ("galaxy", "star"), weights)
    assert spec == dataclasses.replace(read_header(weights).spec, rpn_batch=64)


@pytest.mark.parametrize("contrast", ["asinh", "lupton", "lupton-hc", "zscale"])
@pytest.mark.parametrize("model", ["tiny", "r50-fpn", "x101-fpn"])
def test_pixels_reach_a_network_at_the_scale_it_learns_from(model: str, contrast: str) -> None:
    classes = ("star",)
    spec = model_spec(model, channels=3, classes=classes, **pixel_overrides(model, contrast, 3))
    mean, std = PIXEL_STATISTICS[contrast]
    seen = std / np.mean(spec.pixel_std)
    # tiny wants deviation 1; R50's weights 8-bit amplitudes, X101's have them divided out.
    wanted = {"tiny": 1.0, "r50-fpn": 57.0, "x101-fpn": 1.0}[model]
    assert 0.3 * wanted <= seen <= 1.1 * wanted
    assert np.allclose(spec.pixel_mean, mean)
    assert spec.reverse_channels == (model != "tiny" and contrast != "asinh")


def test_pictures_keep_the_model_zoos_scale() -> None:
    assert pixel_overrides("r50-fpn", "none", 3) == {}
    spec = model_spec("r50-fpn", channels=3, classes=("cat",))
    assert spec.pixel_mean == ZOO_MEAN_BGR


def test_asinh_statistics_are_of_the_right_size() -> None:
    image, _ = sky(200, 60, 0)
    values = measure("asinh", image)(image)
    mean, std = PIXEL_STATISTICS["asinh"]
    assert abs(values.mean() - mean) < std
    assert 0.5 < values.std() / std < 2


def test_band_names_and_contrast_are_resolved_from_the_data(tmp_path: Path) -> None:
    path = write_sky_set(tmp_path, 2, bands=5)
    config = configured("train", data=DataConfig(bands=("z", "g")), device="cpu", workers=0)
    plan = prepare(path, None, config, SmallEngine(), CPU, quiet=True)
    assert plan.config.data.contrast == "asinh"
    assert plan.config.data.bands == ("z", "g")
    assert plan.spec.channels == 2
    every = prepare(path, None, configured("train", workers=0), SmallEngine(), CPU, quiet=True)
    assert every.config.data.bands == ("g", "r", "i", "z", "y")


def test_dataset_without_an_object_is_refused(tmp_path: Path) -> None:
    path = write_sky_set(tmp_path, 2, sources=0)
    with pytest.raises(InputError, match="labels no objects"):
        prepare(path, None, configured("train"), SmallEngine(), CPU, quiet=True)
    good = write_sky_set(tmp_path / "good", 2)
    with pytest.raises(InputError, match="labels no objects"):
        prepare(good, path, configured("train"), SmallEngine(), CPU, quiet=True)


def test_checkpoints_structure_goes_on_with_other_bands_and_classes(tmp_path: Path) -> None:
    path = write_sky_set(tmp_path / "a", 2)
    config = configured("train", steps=1, device="cpu", workers=0)
    first = train(path, tmp_path / "run", config, engine=SmallEngine(), quiet=True).checkpoint
    header = read_header(first)
    assert header.spec is not None
    follow = configured("train", weights=str(first), data=DataConfig(contrast="lupton"))
    spec = training_spec(follow, 4, ("a", "b", "c"), first)
    assert (spec.classes, spec.channels) == (("a", "b", "c"), 4)
    assert spec.norm == header.spec.norm
    assert np.allclose(spec.pixel_mean, PIXEL_STATISTICS["lupton"][0])


def test_set_of_ordinary_pictures_trains(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(1, 4):
        # Pictures of a natural set differ in size.
        pixels = rng.integers(0, 255, (20 + number, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg")
        images.append(
            {"id": number, "file_name": f"{number}.jpg", "height": 20 + number, "width": 30}
        )
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 17 + number % 2,
                "segmentation": [[3, 3, 12, 3, 12, 9, 3, 9]],
                "iscrowd": 0,
            }
        )
    categories = [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}]
    path = tmp_path / "set.json"
    document = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(document))
    config = configured("train", steps=2, device="cpu", workers=0)
    result = train(path, tmp_path / "run", config, engine=SmallEngine(), quiet=True)
    meta = read_header(result.checkpoint).meta
    assert meta["contrast"] == "none"
    assert meta["category_ids"] == "[17, 18]"
