"""The Python API: files and arrays in, a table, masks, a map and a picture out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS
from train_helpers import write_sky_set

import astroseg
from astroseg.core.errors import InputError
from astroseg.data.images import read_pixels

mpl.use("agg")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("api")
    skies = write_sky_set(folder, 3, size=64, sources=8)
    done = astroseg.train(skies, folder / "run", steps=12, workers=0, device="cpu", quiet=True)
    return done.checkpoint, folder / "cubes" / "1.fits"


def test_arrays_and_files_give_the_same(run: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoint, file = run
    model = astroseg.load(checkpoint, score=0.01, device="cpu")
    cube = read_pixels([file]).whole()
    bands = []
    for name, plane in zip("gri", cube, strict=True):
        bands.append(tmp_path / f"{name}.fits")
        fits.PrimaryHDU(plane, fits.Header({"FILTER": f"HSC-{name.upper()}"})).writeto(bands[-1])
    found = model.predict(file)
    assert len(found) > 0
    for other in (
        model.predict(cube),
        model.predict(*cube),
        model.predict(*reversed(bands)),
        model.predict(cube[::-1], bands=("i", "r", "g")),
        model.predict(*(CCDData(plane, unit="adu") for plane in cube)),
    ):
        assert other.prediction.masks == found.prediction.masks
        np.testing.assert_allclose(other.table["flux_g"], found.table["flux_g"])


def test_predictions_are_a_table_masks_a_map_and_a_picture(
    run: tuple[Path, Path], tmp_path: Path
) -> None:
    checkpoint, file = run
    cube = read_pixels([file]).whole()
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [150.0, 2.0]
    wcs.wcs.crpix, wcs.wcs.cdelt = [32, 32], [-5e-5, 5e-5]
    model = astroseg.load(checkpoint, score=0.01, device="cpu")
    found = model.predict(cube, zeropoint=27.0, wcs=wcs)
    table = found.table
    assert len(table) == len(found) == len(found.masks)
    assert str(table["ra"].unit) == "deg"
    assert abs(table["ra"][0] - 150) < 0.01
    mask = found.masks[0]
    assert mask.sum() == table["area"][0]
    bright = found.prediction.masks and np.where(mask, cube[0], 0).sum()
    assert table["flux_g"][0] == pytest.approx(bright, rel=1e-5)
    _check_maps(found)
    axes = found.plot()
    assert axes.images
    assert "detections" in found._repr_html_()
    dataset = astroseg.read_dataset(found.to_coco(tmp_path / "coco"))
    assert dataset.objects == sum(m.any() for m in found.masks)
    assert read_pixels(dataset.images[0].files).shape == cube.shape[1:]


def _check_maps(found: Any) -> None:
    """Every mask's pixel shows it or a smaller one; the second plane only shared pixels."""
    areas = np.array([m.sum() for m in found.masks])
    count = np.sum(list(found.masks), axis=0)
    assert ((found.segmentation > 0) == (count > 0)).all()
    assert ((found.overlap > 0) == (count > 1)).all()
    for row, mask in enumerate(found.masks):
        shown = found.segmentation[mask] - 1
        assert (areas[shown] <= areas[row]).all()


@pytest.mark.parametrize(
    ("images", "problem"),
    [
        ((), "no images"),
        ((np.zeros((2, 2, 2, 2)),), "is no image"),
        ((np.zeros((4, 4)), np.zeros((4, 5)), np.zeros((4, 4))), "differ in shape"),
        ((np.ones((2, 64, 64)),), "bands"),
    ],
)
def test_arrays_that_are_no_image_are_refused(
    run: tuple[Path, Path], images: tuple[Any, ...], problem: str
) -> None:
    model = astroseg.load(run[0], device="cpu")
    with pytest.raises(InputError, match=problem):
        model.predict(*images)


def test_public_names_are_few_and_loaded_when_used() -> None:
    assert 10 <= len(dir(astroseg)) <= 13
    for name in dir(astroseg):
        assert getattr(astroseg, name) is not None
    code = (
        "import sys, astroseg; dir(astroseg); "
        "assert not {'torch', 'numpy', 'astropy', 'yaml'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
