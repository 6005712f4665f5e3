"""The stream of samples: what it holds, and that nothing outside seed and step changes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image
from train_helpers import SIGMA, sky, write_sky_set

from astroseg.core.config import DataConfig
from astroseg.core.errors import InputError
from astroseg.core.rle import decode_tight
from astroseg.data.dataset import Dataset, ImageRecord, read_dataset
from astroseg.data.images import Pixels
from astroseg.data.loader import Cache, Samples, Stream, Ticket
from astroseg.data.look import (
    band_order,
    dataset_bands,
    look_at,
    resolve_contrast,
    survey,
    warn_of_sky,
)
from astroseg.data.sky_noise import _without_fills

ASINH = DataConfig(contrast="asinh", noise="dataset")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return read_dataset(write_sky_set(tmp_path, 3))


def samples(dataset: Dataset, config: DataConfig = ASINH, **changes: object) -> Samples:
    channels = len(config.bands) or 3
    options = {"seed": 0, "crop": 1.0, "flips": False, "cache_bytes": 10**6} | changes
    return Samples(dataset, survey(dataset, config.bands, channels, config), config, **options)


def test_whole_sample_is_the_scaled_cube_with_tight_boxes(dataset: Dataset) -> None:
    sample = samples(dataset).sample(1)
    image, found = sky(32, 4, 2)
    np.testing.assert_allclose(sample.image, np.arcsinh(image / SIGMA), rtol=1e-6)
    assert sample.image_id == 2
    assert len(sample.labels) == len(found)
    for (bitmap, (y, x), label), box, own, mask in zip(
        found, sample.boxes, sample.labels, sample.masks, strict=True
    ):
        assert box.tolist() == [x, y, x + bitmap.shape[1], y + bitmap.shape[0]]
        assert own == label
        assert (decode_tight(mask)[0] == bitmap).all()


def test_bands_are_chosen_by_name_and_in_order(dataset: Dataset) -> None:
    config = DataConfig(contrast="asinh", noise="dataset", bands=("i", "g"))
    chosen = samples(dataset, config).sample(0).image
    assert (chosen == samples(dataset).sample(0).image[[2, 0]]).all()


def test_missing_band_is_named(dataset: Dataset) -> None:
    with pytest.raises(InputError, match=r"1\.fits: has the bands g, r, i, but g, y are wanted"):
        survey(dataset, ("g", "y"), 2, ASINH)


def test_image_of_another_band_count_is_named(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(InputError, match=r"1\.fits: has 3 bands, not 5; .*--bands"):
        survey(dataset, (), 5, ASINH)


def test_nan_pixels_are_counted_and_refused_or_zero(tmp_path: Path) -> None:
    path = write_sky_set(tmp_path, 2)
    with fits.open(tmp_path / "cubes" / "2.fits", mode="update") as hdus:
        hdus[0].data[1, 3, 4:7] = np.nan
        hdus[0].data[0, 0, 0] = np.inf
    dataset = read_dataset(path)
    with pytest.raises(InputError, match=r"2\.fits: has 4 pixels that are NaN .*--nan zero"):
        survey(dataset, (), 3, ASINH)
    filled = samples(dataset, DataConfig(contrast="asinh", nan="zero")).sample(1).image
    assert np.isfinite(filled).all()
    assert (filled[1, 3, 4:7] == 0).all()


def test_image_of_another_size_is_named(tmp_path: Path) -> None:
    path = write_sky_set(tmp_path, 1)
    document = json.loads(path.read_text())
    document["images"][0]["height"] = 31
    for item in document["annotations"]:
        item["segmentation"] = [[1, 1, 3, 1, 3, 3, 1, 3]]
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"1\.fits: is 32x32 pixels .* says 31x32"):
        survey(read_dataset(path), (), 3, ASINH)


def test_view_depends_on_seed_and_place_alone(dataset: Dataset) -> None:
    make = samples(dataset, crop=0.5, flips=True)
    again = samples(dataset, crop=0.5, flips=True, cache_bytes=0)
    for place in range(20):
        first, second = make[Ticket(place, 0)], again[Ticket(place, 0)]
        assert (first.image == second.image).all()
        assert list(first.masks) == list(second.masks)
    other = samples(dataset, crop=0.5, flips=True, seed=1)[Ticket(0, 0)]
    assert not np.array_equal(other.image, make[Ticket(0, 0)].image)


@pytest.mark.parametrize(("ranks", "parts"), [(1, 1), (1, 4), (2, 2), (4, 1)])
def test_ranks_and_parts_share_out_the_same_steps(ranks: int, parts: int) -> None:
    alone = Stream(7, 4, 6, seed=3)
    shares = [Stream(7, 4, 6, 3, parts, rank, ranks) for rank in range(ranks)]
    for step in range(6):
        together = {t.place: t.index for share in shares for t in share.tickets(step)}
        assert together == {t.place: t.index for t in alone.tickets(step)}
    late = list(shares[0].micro_batches(2))
    assert late == list(shares[0].micro_batches())[2 * parts :]


def test_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    with pytest.raises(InputError, match="batch of 6 cannot be shared evenly by 2 processes"):
        Stream(7, 6, 1, 0, 2, 0, 2)


def test_cache_stays_below_its_limit_and_drops_the_oldest() -> None:
    cache = Cache(10)
    made: list[str] = []

    def get(key: str, size: int) -> None:
        cache.get(key, lambda: made.append(key) or key, lambda _: size)

    get("a", 4)
    get("b", 4)
    get("a", 4)
    get("c", 4)  # b goes
    get("a", 4)
    get("b", 4)
    get("huge", 11)  # never held
    get("huge", 11)
    assert made == ["a", "b", "c", "b", "huge", "huge"]


def test_contrast_is_asinh_for_fluxes_and_none_for_pictures(
    tmp_path: Path, dataset: Dataset
) -> None:
    assert resolve_contrast(DataConfig(), dataset) == "asinh"
    pictures = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 8, "width": 8}],
        "annotations": [],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "b.json").write_text(json.dumps(pictures))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.jpg")
    assert resolve_contrast(DataConfig(), read_dataset(tmp_path / "b.json")) == "none"
    assert resolve_contrast(DataConfig(contrast="lupton"), dataset) == "lupton"


def test_bands_are_found_by_filter_and_by_order_where_headers_say_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = ImageRecord(1, "a.fits", (tmp_path / "a.fits",), 2, 2)
    planes = tuple(np.zeros((2, 2), np.float32) for _ in range(3))

    def order(*names: str) -> tuple[int, ...]:
        return band_order(record, Pixels(planes, names), ("g", "r", "i"), 3)

    assert order("HSC-I", "HSC-R", "HSC-G") == (2, 1, 0)
    assert not caplog.records
    assert order("H  )", "H", "H H") == (0, 1, 2)
    assert "taken as g, r, i in the order given" in caplog.text
    with pytest.raises(InputError, match="has the bands g, r, z"):
        order("g", "r", "z")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_picture_stands_for_three_colours(tmp_path: Path, dtype: Any) -> None:
    names = []
    for k, shape in enumerate(((8, 8), (8, 8, 3))):
        names.append(f"{k}.png")
        kind = dtype if k == 0 else np.uint8
        Image.fromarray(np.full(shape, 100, kind)).save(tmp_path / names[-1])
    document = {
        "images": [
            {"id": k, "file_name": name, "height": 8, "width": 8} for k, name in enumerate(names)
        ],
        "annotations": [],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "b.json").write_text(json.dumps(document))
    dataset = read_dataset(tmp_path / "b.json")
    bands, channels = dataset_bands(DataConfig(), dataset)
    assert (bands, channels) == (("red", "green", "blue"), 3)
    looks = survey(dataset, bands, channels, DataConfig(contrast="none"))
    assert [look.order for look in looks] == [(0, 0, 0), (0, 1, 2)]


def test_noise_does_not_depend_on_pixels_without_data_or_on_sources() -> None:
    rng = np.random.default_rng(0)
    sky = rng.normal(0, 2.0, (1, 200, 200)).astype(np.float32)
    sky[:, 90:110, 90:130] += 500
    record = ImageRecord(1, "a.npy", (Path("a.npy"),), 200, 200)
    for empty in (np.nan, 0.0, -999.0, 0.37):
        for width in (0, 90):
            image = sky.copy()
            image[:, :, :width] = empty
            config = DataConfig(contrast="asinh", nan="zero")
            two = np.concatenate([image, sky])  # of the other band all is observed
            for some in (image, two):
                look = look_at(record, Pixels(tuple(some)), (), len(some), config)
                assert look.scaling.sigma == pytest.approx([2.0] * len(some), rel=0.02)


@pytest.mark.parametrize("fill", [0.0, -999.0])
@pytest.mark.parametrize("dead", ["columns", "rows", "pixels", "two values"])
def test_noise_does_not_depend_on_dead_columns_or_pixels(dead: str, fill: float) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(0, 2.0, (1, 200, 200)).astype(np.float32)
    empty = rng.random((200, 200)) < 0.4
    if dead in ("columns", "two values"):
        empty = np.arange(200) % 3 == 0
    if dead == "rows":
        empty = (np.arange(200) % 2 == 0)[:, None]
    image[0] = np.where(empty, fill, image[0])
    if dead == "two values":
        image[0, :, 1::3] = 1.5
    record = ImageRecord(1, "a.npy", (Path("a.npy"),), 200, 200)
    look = look_at(record, Pixels(tuple(image)), (), 1, DataConfig(contrast="asinh"))
    assert look.scaling.sigma == pytest.approx([2.0], rel=0.03)


def test_counts_of_few_photons_have_no_fill_values() -> None:
    rng = np.random.default_rng(0)
    for mean in (0.1, 1.0, 30.0, 1e5):
        counts = np.sort(rng.poisson(mean, 40_000)).astype(np.float64)
        assert _without_fills(counts) is counts


def test_a_sky_that_was_not_subtracted_is_said(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    records, looks = [], []
    for number, level in enumerate((0.5, 40.0, 100.0)):
        image = rng.normal(level, 2.0, (1, 200, 200)).astype(np.float32)
        records.append(ImageRecord(number, f"{number}.npy", (Path(f"{number}.npy"),), 200, 200))
        config = DataConfig(contrast="asinh")
        looks.append(look_at(records[-1], Pixels(tuple(image)), (), 1, config))
    warn_of_sky(records[:1], looks[:1])
    assert not caplog.records
    warn_of_sky(records, looks)
    (said,) = caplog.messages
    assert said.startswith("2.npy, one of 2 such images: its sky lies 50")


def test_a_large_image_is_measured_on_strips_and_checked_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from astroseg.data import look

    rng = np.random.default_rng(0)
    image = rng.normal(0, 2.0, (2, 600, 300)).astype(np.float32)
    image[1] *= 3
    image[:, :40] = 0  # nothing was observed there
    record = ImageRecord(1, "a.npy", (Path("a.npy"),), 600, 300)
    config = DataConfig(contrast="asinh")
    pixels = Pixels(tuple(image))
    whole = look_at(record, pixels, (), 2, config)
    monkeypatch.setattr(look, "SAMPLE_PIXELS", 300 * 160)
    read: list[int] = []
    crop = Pixels.crop

    def counted(self: Pixels, y0: int, x0: int, height: int, *rest: Any) -> Any:
        read.append(height)
        return crop(self, y0, x0, height, *rest)

    monkeypatch.setattr(Pixels, "crop", counted)
    sampled = look_at(record, pixels, (), 2, config)
    assert np.allclose(sampled.scaling.sigma, whole.scaling.sigma, rtol=0.03)
    assert np.allclose(sampled.scaling.sigma, (2, 6), rtol=0.03)
    assert max(read) <= 20
    image[1, 599, 299] = np.inf
    with pytest.raises(InputError, match="has 1 pixels that are NaN or infinite"):
        look_at(record, pixels, (), 2, config)
    look_at(record, pixels, (), 2, DataConfig(contrast="asinh", nan="zero"))
