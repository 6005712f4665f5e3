"""Prediction end to end with a small trained model: files, seams, resumption, mismatches."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO
from train_helpers import SIGMA, SmallEngine, sky, write_sky_set

from astroseg.core.config import Config, DataConfig, configured
from astroseg.core.errors import InputError
from astroseg.core.rle import decode_tight, encode_at
from astroseg.core.samples import Prediction
from astroseg.data.inputs import image_record
from astroseg.data.look import look_at, read_record
from astroseg.inference.coadd import Frame
from astroseg.inference.predict import frame_catalog, predict
from astroseg.training.train import train
from astroseg.weights.checkpoint import read_header

CONFIG = configured("predict", device="cpu", overlays=1)


@pytest.fixture(scope="module")
def skies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sky_set(tmp_path_factory.mktemp("skies"), 4, size=48)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, skies: Path) -> Path:
    folder = tmp_path_factory.mktemp("model")
    schedule = folder / "short.toml"
    schedule.write_text('batch = 4\n[[stages]]\nsteps = 60\nlr = 0.05\noptimizer = "adamw"\n')
    config = configured("train", schedule=str(schedule), device="cpu", workers=0)
    return train(skies, folder / "run", config, engine=SmallEngine(), quiet=True).checkpoint


def run(checkpoint: Path, inputs: list[Any], out: Path, config: Config = CONFIG) -> Any:
    engine = SmallEngine()
    return predict(checkpoint, list(map(str, inputs)), out, config, engine=engine, quiet=True)


def test_results_open_in_pycocotools_and_lie_on_the_sources(
    tmp_path: Path, skies: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(checkpoint, [skies], tmp_path / "out")
    truth = COCO(str(skies))
    found = truth.loadRes(str(result.results))
    assert result.images == 4
    assert len(found.anns) == result.detections > 4
    hits = 0
    for item in found.anns.values():
        bitmap, (y, x) = decode_tight(item["segmentation"])
        box = [x, y, bitmap.shape[1], bitmap.shape[0]]
        assert item["bbox"] == box
        for other in truth.imgToAnns[item["image_id"]]:
            ox, oy, ow, oh = other["bbox"]
            hits += ox <= x + box[2] / 2 <= ox + ow and oy <= y + box[3] / 2 <= oy + oh
    assert hits >= 0.8 * len(found.anns)


def test_beside_the_results_lie_provenance_catalog_and_overlays(
    tmp_path: Path, skies: Path, checkpoint: Path
) -> None:
    out = tmp_path / "out"
    result = run(checkpoint, [skies], out)
    info = json.loads((out / "predictions.info.json").read_text())
    assert info["info"]["contrast"] == "asinh"
    assert info["info"]["engine"] == "small"
    assert len(info["info"]["checkpoint_sha256"]) == 64
    assert [image["id"] for image in info["images"]] == [1, 2, 3, 4]
    assert info["categories"] == [{"id": 1, "name": "galaxy"}, {"id": 2, "name": "star"}]
    table = Table.read(result.catalog)
    assert len(table) == result.detections
    assert {"ra", "dec", "class", "score", "a", "b", "theta", "flux_g"} <= set(table.colnames)
    (picture,) = (out / "overlays").iterdir()
    with Image.open(picture) as image:
        assert image.size == (192, 192)  # four times enlarged
        colours = {tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3)}
    assert colours & {(53, 201, 255), (255, 212, 59)}
    assert not (out / "parts").exists()


def test_equal_runs_write_equal_files_also_for_names_as_long_as_a_file_system_takes(
    tmp_path: Path, checkpoint: Path
) -> None:
    name = "é" * 125 + ".fits"  # 255 bytes
    header = fits.Header({"BANDS": "g,r,i"})
    fits.writeto(tmp_path / name, sky(48, 6, seed=3)[0], header)
    files = []
    for out in (tmp_path / "a", tmp_path / "b"):
        run(checkpoint, [tmp_path / name], out)
        files.append({f.relative_to(out): f.read_bytes() for f in out.rglob("*") if f.is_file()})
    assert files[0] == files[1]
    assert Path("overlays") / f"000001_{75 * 'é'}.png" in files[0]
    assert list(read_header(checkpoint).meta) == sorted(read_header(checkpoint).meta)


def test_a_header_that_cannot_be_used_is_named_once(
    tmp_path: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--XXX", "BANDS": "g,r,i"})
    fits.writeto(tmp_path / "a.fits", sky(48, 6, seed=3)[0], header)
    table = Table.read(run(checkpoint, [tmp_path / "a.fits"], tmp_path / "out").catalog)
    assert np.isnan(np.ma.filled(table["ra"], np.nan)).all()
    assert len([r for r in caplog.records if "its WCS cannot be used" in r.getMessage()]) == 1


def test_image_given_by_name_gives_what_the_dataset_gives(
    tmp_path: Path, skies: Path, checkpoint: Path
) -> None:
    cube = skies.parent / "cubes" / "1.fits"
    from_set = json.loads(run(checkpoint, [skies], tmp_path / "a").results.read_text())
    # The bare cube does not know its noise; estimated, some pixels fall otherwise.
    alone = json.loads(run(checkpoint, [cube], tmp_path / "b").results.read_text())
    expected = [row for row in from_set if row["image_id"] == 1]
    assert abs(len(alone) - len(expected)) <= 2
    # Three files of one band each are the same image.
    planes = fits.getdata(cube)
    names = []
    for number, plane in enumerate(planes):
        names.append(str(tmp_path / f"calexp-{number}-9813-4,5.fits"))
        fits.PrimaryHDU(plane).writeto(names[-1])
    split = json.loads(run(checkpoint, [",".join(names)], tmp_path / "c").results.read_text())
    assert split == alone
    with pytest.raises(InputError, match=r"none\.fits: there is no such image"):
        run(checkpoint, [f"{names[0]},{tmp_path}/none.fits"], tmp_path / "d")


def test_tiles_find_what_the_whole_image_finds(tmp_path: Path, checkpoint: Path) -> None:
    image, _ = sky(150, 60, 77)
    np.save(tmp_path / "a.npy", image)
    whole = json.loads(run(checkpoint, [tmp_path / "a.npy"], tmp_path / "a").results.read_text())
    tiled_config = configured("predict", CONFIG, tile_size=64, overlap=32)
    tiled = run(checkpoint, [tmp_path / "a.npy"], tmp_path / "b", tiled_config)
    rows = json.loads(tiled.results.read_text())
    masks = {row["segmentation"]["counts"] for row in whole}
    same = sum(row["segmentation"]["counts"] in masks for row in rows)
    # Blends wider than the overlap are cut; all else is the same to the pixel.
    assert same >= 0.9 * len(whole)
    assert len(rows) <= 1.1 * len(whole)


def test_interrupted_run_goes_on_and_ends_with_the_same_files(
    tmp_path: Path, skies: Path, checkpoint: Path
) -> None:
    class Breaks(SmallEngine):
        left = 2

        def predict(self, model: Any, batch: Any) -> Any:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            return super().predict(model, batch)

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        predict(checkpoint, [str(skies)], out, CONFIG, engine=Breaks(), quiet=True)
    assert len(list((out / "parts").glob("*.json"))) == 2
    assert not (out / "predictions.json").exists()
    rest = Breaks()  # two more are enough now
    predict(checkpoint, [str(skies)], out, CONFIG, engine=rest, quiet=True)
    expected = run(checkpoint, [skies], tmp_path / "fresh").results.read_bytes()
    assert (out / "predictions.json").read_bytes() == expected


def test_parts_of_other_settings_are_not_used(
    tmp_path: Path, skies: Path, checkpoint: Path
) -> None:
    class Breaks(SmallEngine):
        def predict(self, model: Any, batch: Any) -> Any:
            found = super().predict(model, batch)
            if (tmp_path / "out" / "parts" / "3.json").exists():
                raise KeyboardInterrupt
            return found

    with pytest.raises(KeyboardInterrupt):
        predict(checkpoint, [str(skies)], tmp_path / "out", CONFIG, engine=Breaks(), quiet=True)
    every = json.loads(run(checkpoint, [skies], tmp_path / "all").results.read_text())
    middle = float(np.median([row["score"] for row in every]))
    strict = configured("predict", CONFIG, score=middle)
    rows = json.loads(run(checkpoint, [skies], tmp_path / "out", strict).results.read_text())
    assert 0 < len(rows) < len(every)
    assert min(row["score"] for row in rows) >= middle - 1e-6  # six digits are written


def image(bands: int, size: int = 32) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, SIGMA, (bands, size, size)).astype(np.float32)


def test_image_of_another_band_count_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    np.save(tmp_path / "a.npy", image(5))
    with pytest.raises(InputError, match=r"a\.npy: has 5 bands, not 3"):
        run(checkpoint, [tmp_path / "a.npy"], tmp_path / "out")


def test_image_of_other_bands_is_refused_by_name(tmp_path: Path, checkpoint: Path) -> None:
    fits.PrimaryHDU(image(3), fits.Header({"BANDS": "r,i,z"})).writeto(tmp_path / "a.fits")
    with pytest.raises(InputError, match=r"a\.fits: has the bands r, i, z, but g, r, i are wanted"):
        run(checkpoint, [tmp_path / "a.fits"], tmp_path / "out")


def test_an_order_of_bands_that_nothing_confirms_is_said(
    tmp_path: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fits.PrimaryHDU(image(3), fits.Header({"BANDS": "g,r,i"})).writeto(tmp_path / "a.fits")
    run(checkpoint, [tmp_path / "a.fits"], tmp_path / "named")
    assert "order given" not in caplog.text
    np.save(tmp_path / "a.npy", image(3))
    run(checkpoint, [tmp_path / "a.npy"], tmp_path / "out")
    assert "are taken as g, r, i in the order given" in caplog.text


def test_bands_that_headers_call_alike_have_columns_of_their_own(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.fits" for number in range(3)]
    for file, plane in zip(files, image(3), strict=True):
        fits.PrimaryHDU(plane, fits.Header({"FILTER": "g"})).writeto(file)
    record, data = image_record(",".join(map(str, files)), 1), DataConfig(contrast="asinh")
    pixels = read_record(record)
    frame = Frame(record, pixels, look_at(record, pixels, (), 3, data), data)
    mask = encode_at(np.ones((4, 4), np.bool_), (5, 5), pixels.shape)
    found = Prediction(
        np.array([[5, 5, 9, 9]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), (mask,)
    )
    row = frame_catalog(frame, found, ("galaxy",))[0]
    fluxes = [plane[5:9, 5:9].sum() for plane in image(3)]
    assert [row[f"flux_{number}"] for number in range(3)] == pytest.approx(fluxes, rel=1e-5)


def test_dataset_of_other_classes_is_refused(tmp_path: Path, skies: Path, checkpoint: Path) -> None:
    document = json.loads(skies.read_text())
    document["categories"] = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    (tmp_path / "cats.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="classes cat, dog, but not the model's galaxy, star"):
        run(checkpoint, [tmp_path / "cats.json"], tmp_path / "out")


def test_a_dataset_may_name_more_than_the_models_classes(
    tmp_path: Path, skies: Path, checkpoint: Path
) -> None:
    document = json.loads(skies.read_text())
    more = ["_background_", "galaxy", "quasar", "star"]  # as LabelMe's converter lists them
    document["categories"] = [{"id": 10 + i, "name": name} for i, name in enumerate(more)]
    path = skies.parent / "more.json"  # beside the images
    path.write_text(json.dumps(document))
    expected, rows = (
        json.loads(run(checkpoint, [file], tmp_path / file.stem).results.read_text())
        for file in (skies, path)
    )
    numbers = {1: 11, 2: 13}
    assert [row["category_id"] for row in rows] == [numbers[r["category_id"]] for r in expected]
    assert rows


def test_dataset_with_other_ids_of_the_same_classes_gets_its_own(
    tmp_path: Path, skies: Path, checkpoint: Path
) -> None:
    document = json.loads(skies.read_text())
    document["categories"] = [{"id": 5, "name": "star"}, {"id": 9, "name": "galaxy"}]
    del document["annotations"]  # images alone are enough to predict
    (tmp_path / "other.json").write_text(json.dumps(document))
    config = dataclasses.replace(
        CONFIG, data=dataclasses.replace(CONFIG.data, images=str(skies.parent))
    )
    result = run(checkpoint, [tmp_path / "other.json"], tmp_path / "out", config)
    expected = json.loads(run(checkpoint, [skies], tmp_path / "b").results.read_text())
    rows = json.loads(result.results.read_text())
    ids = {1: 9, 2: 5}
    assert [r["category_id"] for r in rows] == [ids[r["category_id"]] for r in expected]


def test_file_that_is_no_checkpoint_is_refused(tmp_path: Path, skies: Path) -> None:
    with pytest.raises(InputError, match=r"coco\.json"):
        run(skies, [skies], tmp_path / "out")
