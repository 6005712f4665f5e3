"""The built-in model: images of any survey, and nothing found where nothing is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import astroseg
from astroseg.cli.main import main
from astroseg.core.calibration import Calibration
from astroseg.core.errors import InputError
from astroseg.weights.builtin import BUILTIN, checkpoint_file
from astroseg.weights.checkpoint import read_header
from astroseg.weights.pretrained import weights_file

SHARED = Path(__file__).parents[4] / "shared" / "data"
RNG = np.random.default_rng(11)
PLACES = [(40 + 60 * i, 50 + 70 * j) for i in range(6) for j in range(5)]
"""(y, x) of isolated stars."""


def sky(seed: int = 0, shape: tuple[int, int] = (400, 400)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def stars(fwhm: float = 4.0, peak: float = 60.0) -> np.ndarray:
    """One band of stars on noise of 1."""
    y, x = np.mgrid[:400, :400]
    light = sum(np.exp(-4 * np.log(2) * ((y - v) ** 2 + (x - u) ** 2) / fwhm**2) for v, u in PLACES)
    return (sky(1) + peak * light).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    return astroseg.load("sky", device="cpu")


def found_at_stars(predictions) -> int:
    """How many of the stars have a detection; and no more than 3 others are there."""
    table = predictions.table
    near = 0
    for y, x in PLACES:
        near += bool((np.hypot(table["y"] - y, table["x"] - x) < 3).any())
    assert len(table) <= near + 3
    return near


@pytest.mark.parametrize("fwhm", [1.8, 4.0, 8.0])
def test_isolated_stars_of_any_seeing_are_found_once(model, fwhm):
    assert found_at_stars(model.predict(stars(fwhm))) >= 29


@pytest.mark.parametrize("fwhm", [1.8, 2.5, 4.0])
def test_stars_alone_are_stars(model, fwhm):
    table = model.predict(stars(fwhm)).table
    assert np.count_nonzero(table["class"] == "star") >= 0.9 * len(PLACES)


@pytest.mark.parametrize(
    ("scale", "level"), [(1e-20, 0.0), (3e4, 1e6), (1.0, -50.0)], ids=["cgs", "counts", "negative"]
)
def test_units_and_a_sky_left_in_make_no_difference(model, scale, level):
    plain = model.predict(stars())
    other = model.predict(stars() * np.float32(scale) + np.float32(level))
    assert found_at_stars(other) >= 29
    assert len(other) == pytest.approx(len(plain), abs=1)
    # Fluxes are above the sky, in the image's own unit.
    flux = np.median(plain.table["flux_0"])
    assert np.median(other.table["flux_0"]) == pytest.approx(scale * flux, rel=0.1)


def test_tiles_give_the_scores_of_the_whole_image():
    coadd = sky(2, (760, 760))
    coadd[:400, :400] = stars(peak=15.0)  # the other tiles have few
    coadd[400:, 400:] += stars()[:360, :360] - sky(1)[:360, :360]
    scores = []
    for tile, overlap in ((760, 0), (440, 120)):
        cut = astroseg.load("sky", device="cpu", tile_size=tile, overlap=overlap, score=0.1)
        table = cut.predict(coadd).table
        table.sort(["y", "x"])
        scores.append(np.array(table["score"]))
    whole, tiled = scores
    assert len(whole) == len(tiled) >= 50
    assert np.abs(tiled - whole).max() < 0.01


def test_one_two_three_and_five_bands(model):
    for count in (1, 2, 3, 5):
        bands = [sky(n) + stars() - sky(1) for n in range(10, 10 + count)]
        assert found_at_stars(model.predict(*bands)) >= 29


def test_nothing_is_found_on_noise_on_borders_and_in_empty_frames(model):
    noise = sky(3, (1000, 1000))
    assert len(model.predict(noise)) <= 1
    bordered = sky(4)
    bordered[:, :60] = 0
    bordered[300:] = np.nan
    bordered[100:200, 200:260] = 0
    assert len(model.predict(bordered)) <= 1
    with pytest.raises(astroseg.InputError, match="no noise"):
        model.predict(np.zeros((300, 300), np.float32))


def test_a_cutout_of_one_galaxy_is_one_detection(model):
    y, x = np.mgrid[:64, :64]
    galaxy = 40 * np.exp(-np.hypot((y - 30) / 1.4, x - 33) / 6)
    found = model.predict(sky(5, (64, 64)) + galaxy.astype(np.float32))
    assert len(found) == 1
    assert found.table["class"][0] == "galaxy"


def test_it_reports_what_is_more_likely_a_source_than_not(model):
    low = astroseg.load("sky", device="cpu", score=0.1).predict(stars(6.0, peak=5.5)).table
    raw = astroseg.load("sky", device="cpu", calibrated=False).predict(stars(6.0, peak=5.5)).table
    table = model.predict(stars(6.0, peak=5.5)).table
    assert 0 < len(table) < len(low)
    assert np.array_equal(table["score"], low["score"][low["score"] >= 0.5])
    assert raw["score"].min() >= 0.5  # of the network's own scores


def test_predict_without_a_checkpoint_writes_everything(tmp_path, capsys):
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRVAL1"], header["CRVAL2"] = 150.0, 2.0
    header["CRPIX1"], header["CRPIX2"] = 200.0, 200.0
    header["CDELT1"], header["CDELT2"] = -5e-5, 5e-5
    fits.writeto(tmp_path / "image.fits", stars(), header)
    out = tmp_path / "found"
    assert main(["predict", str(tmp_path / "image.fits"), "--out", str(out), "--quiet"]) == 0
    assert "detections in 1 images" in capsys.readouterr().out
    catalog = Table.read(out / "catalog.fits")
    assert len(catalog) >= 29
    assert {"ra", "dec", "class", "score", "prob_star"} <= set(catalog.colnames)
    with fits.open(next((out / "segmentation").iterdir())) as hdus:
        numbers = np.unique(hdus[0].data)
        assert hdus[0].header["CRVAL1"] == pytest.approx(150.0)
        assert hdus["OVERLAP"].data.shape == (400, 400)
    assert numbers.tolist() == list(range(len(catalog) + 1))
    row = catalog[0]
    assert abs(row["ra"] - 150) < 0.02
    assert next((out / "overlays").iterdir()).stat().st_size > 1000


def test_the_built_in_weights_say_what_they_are(capsys):
    for name in BUILTIN:
        file = checkpoint_file(name)
        assert file.stat().st_size < 5e6
        header = read_header(file)
        assert header.spec.name == name
        assert header.meta["contrast"] == "sky"
        calibration = Calibration.from_json(header.meta["calibration"])
        assert calibration.error < 0.02
        assert calibration.error < calibration.error_before
    assert main(["predict", "--model", "skye", "image.fits"]) == 2
    assert "sky" in capsys.readouterr().err


def test_training_can_start_from_it(tmp_path):
    from train_helpers import write_sky_set

    train = write_sky_set(tmp_path / "train", 4, size=64)
    run = astroseg.train(
        train, tmp_path / "run", weights="sky", steps=2, workers=0, device="cpu", quiet=True
    )
    header = read_header(run.checkpoint)
    assert header.spec.name == "sky"
    assert header.meta["contrast"] == "sky"


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"real survey data are not at {SHARED}")
def test_real_decals_pixels(model):
    found = model.predict(*(SHARED / f"decals_dr7_{band}.fits" for band in "grz"))
    table = found.table
    assert 50 <= len(table) <= 150
    # The large early-type galaxy in the middle is one, whole, and a galaxy.
    central = table[np.hypot(table["x"] - 202, table["y"] - 320) < 15]
    assert len(central) == 1
    assert central["class"][0] == "galaxy"
    assert central["area"][0] > 800


def test_a_folder_of_the_name_does_not_hide_the_built_in_model(tmp_path, monkeypatch):
    (tmp_path / "sky").mkdir()  # as `astrolabel simulate sky` makes one
    monkeypatch.chdir(tmp_path)
    assert checkpoint_file("sky").is_file()
    assert weights_file("sky") == checkpoint_file("sky")
    (tmp_path / "own").mkdir()
    with pytest.raises(InputError, match="there is no file and no built-in model 'own'"):
        checkpoint_file("own")
