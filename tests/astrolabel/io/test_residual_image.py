import dataclasses

import numpy as np
import pytest
from fits_files import SIGMA, gaussian, scene, write_calexp
from PIL import Image

from astrolabel.core.config import LabelConfig, TileConfig
from astrolabel.core.errors import InputError
from astrolabel.io import coco
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.io.residual_image import STEP_SIGMA, read_residual, write_residual
from astrolabel.label import work
from astrolabel.label.pipeline import make_coco


def test_a_residual_comes_back_within_half_a_step(tmp_path):
    chi = np.random.default_rng(0).normal(0, 3, (40, 50)).astype(np.float32)
    chi[3, 4] = np.nan
    write_residual(tmp_path / "a.png", chi)
    back = read_residual(tmp_path / "a.png")
    assert np.isnan(back[3, 4])
    assert np.isnan(back).sum() == 1
    assert np.nanmax(np.abs(back - chi)) <= STEP_SIGMA / 2 + 1e-6


def test_the_largest_residuals_stay_the_largest(tmp_path):
    write_residual(tmp_path / "a.png", np.array([[1e9, -1e9, 0]], np.float32))
    assert read_residual(tmp_path / "a.png").tolist() == [[31.75, -31.75, 0]]


def test_another_picture_is_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    for name in ("a.png", "b.png"):
        with pytest.raises(InputError, match=rf"{name}.*label again"):
            read_residual(tmp_path / name)
    with pytest.raises(InputError, match=r"none\.png: no such file"):
        read_residual(tmp_path / "none.png")


def run(folder, out):
    config = LabelConfig(tile=TileConfig(size=96, margin_px=24))
    return make_coco(find_coadds(Inputs((folder,))), config, out, progress=False)


def test_where_the_models_are_right_noise_is_left_and_nothing_else(tmp_path):
    image, positions = scene()
    mask = np.zeros(image.shape, np.int32)
    mask[100:110, 20:40] = 1 << 8
    write_calexp(tmp_path / "in", "i", image, mask=mask)
    document = coco.read(run(tmp_path / "in", tmp_path / "out").coco)
    left = np.zeros(image.shape, np.float32)
    for entry in document["images"]:
        chi = read_residual(tmp_path / "out" / entry["astro"]["residual"])
        assert chi.shape == (entry["height"], entry["width"])
        y0, x0 = entry["astro"]["origin"]
        left[y0 : y0 + chi.shape[0], x0 : x0 + chi.shape[1]] = chi
    assert np.isnan(left[100:110, 20:40]).all()
    assert np.isnan(left).sum() == 200
    # Stars of up to 100 sigma a pixel went in.
    assert (image / SIGMA).max() > 50
    for y, x in positions:
        part = left[int(y) - 4 : int(y) + 5, int(x) - 4 : int(x) + 5]
        assert 0.6 < np.nanstd(part) < 1.5


def test_what_no_model_explains_is_left(tmp_path, monkeypatch):
    image = np.random.default_rng(0).normal(0, SIGMA, (64, 64)).astype(np.float32)
    image += gaussian(image.shape, 20, 20, 300 * SIGMA)
    image += gaussian(image.shape, 44, 44, 300 * SIGMA)
    write_calexp(tmp_path / "in", "i", image)
    make = work.make_deblender

    class Half:
        """Fails on every blend but the first."""

        name = "half"

        def __init__(self, config):
            self.real = make(config)

        def fit(self, blend):
            fit = self.real.fit(blend)
            state = "failed:meant to" if Half.calls else "ok"
            Half.calls += 1
            one = dataclasses.replace(fit.sources[0], state=state)
            return dataclasses.replace(fit, sources=(one,))

        calls = 0

    monkeypatch.setattr(work, "make_deblender", Half)
    document = coco.read(run(tmp_path / "in", tmp_path / "out").coco)
    chi = read_residual(tmp_path / "out" / document["images"][0]["astro"]["residual"])
    peaks = sorted([chi[18:23, 18:23].max(), chi[42:47, 42:47].max()])
    assert peaks[0] < 3.5
    assert peaks[1] > 4


def test_a_tile_without_its_residual_is_labelled_again(tmp_path):
    image, _ = scene()
    write_calexp(tmp_path / "in", "i", image)
    result = run(tmp_path / "in", tmp_path / "out")
    first = result.coco.read_bytes()
    path = tmp_path / "out" / coco.read(result.coco)["images"][0]["astro"]["residual"]
    content = path.read_bytes()
    path.unlink()
    assert run(tmp_path / "in", tmp_path / "out").coco.read_bytes() == first
    assert path.read_bytes() == content
