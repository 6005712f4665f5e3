"""Every format gives the same planes, and what is wrong with a file is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray
from PIL import Image

from astroseg.core.errors import InputError
from astroseg.data.images import read_pixels

SHAPE = (6, 9)


@pytest.fixture
def cube() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(4, *SHAPE)).astype(np.float32)


def whole(path: Path, shape: tuple[int, int] | None = SHAPE) -> NDArray[np.float32]:
    return read_pixels([path], shape).whole()


def test_fits_cube_is_mapped_and_names_its_bands(tmp_path: Path, cube: NDArray[np.float32]) -> None:
    header = fits.Header({"BANDS": "g,r,i,z"})
    fits.PrimaryHDU(cube, header).writeto(tmp_path / "a.fits")
    pixels = read_pixels([tmp_path / "a.fits"])
    assert (pixels.whole() == cube).all()
    assert pixels.bands == ("g", "r", "i", "z")
    assert pixels.nbytes == 0
    assert (pixels.crop(1, 2, 3, 4, (2, 0)) == cube[[2, 0], 1:4, 2:6]).all()


def test_compressed_and_scaled_fits_are_read(tmp_path: Path) -> None:
    counts = np.arange(54, dtype=np.int16).reshape(SHAPE)
    hdu = fits.CompImageHDU(counts, compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "c.fits.fz")
    assert (whole(tmp_path / "c.fits.fz")[0] == counts).all()
    unsigned = fits.PrimaryHDU(counts.astype(np.uint16))  # stored with BZERO
    unsigned.writeto(tmp_path / "u.fits")
    assert (whole(tmp_path / "u.fits")[0] == counts).all()


def test_survey_file_gives_its_image_and_not_its_mask(
    tmp_path: Path, cube: NDArray[np.float32]
) -> None:
    hdus = fits.HDUList([fits.PrimaryHDU()])
    for kind, data in (("MASK", cube[1].astype(np.int32)), ("IMAGE", cube[0])):
        hdus.append(fits.ImageHDU(data, fits.Header({"EXTTYPE": kind})))
    hdus.writeto(tmp_path / "calexp.fits")
    assert (whole(tmp_path / "calexp.fits") == cube[:1]).all()


def test_real_survey_exposure_opens(real_data: Path) -> None:
    pixels = read_pixels([real_data / "hsc_ccd_maskedimage.fits"])
    assert pixels.shape == (200, 200)
    assert len(pixels.planes) == 1


def test_one_file_per_band(tmp_path: Path, cube: NDArray[np.float32]) -> None:
    files = []
    for band, plane in zip("gri", cube, strict=False):
        files.append(tmp_path / f"{band}.fits")
        fits.PrimaryHDU(plane, fits.Header({"FILTER": band})).writeto(files[-1])
    pixels = read_pixels(files, SHAPE)
    assert (pixels.whole() == cube[:3]).all()
    assert pixels.bands == ("g", "r", "i")


@pytest.mark.parametrize("last", [False, True])
def test_arrays_have_their_bands_first_or_last(
    tmp_path: Path, cube: NDArray[np.float32], last: bool
) -> None:
    stored = np.moveaxis(cube, 0, 2) if last else cube
    np.save(tmp_path / "a.npy", stored)
    np.savez(tmp_path / "a.npz", image=stored, other=np.zeros(3))
    for name in ("a.npy", "a.npz"):
        assert (whole(tmp_path / name) == cube).all()
        assert (whole(tmp_path / name, None) == cube).all()


def test_pictures_keep_their_colours_and_lose_their_alpha(tmp_path: Path) -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (*SHAPE, 4), dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert (whole(tmp_path / "a.png") == rgba[..., :3].transpose(2, 0, 1)).all()
    deep = np.random.default_rng(0).integers(0, 60000, SHAPE, dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "b.png")
    assert (whole(tmp_path / "b.png")[0] == deep).all()


def test_float_pages_of_a_tiff_are_bands(tmp_path: Path, cube: NDArray[np.float32]) -> None:
    pages = [Image.fromarray(plane) for plane in cube]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert (whole(tmp_path / "a.tif") == cube).all()


def test_wrong_size_and_missing_file_are_named(tmp_path: Path, cube: NDArray[np.float32]) -> None:
    np.save(tmp_path / "a.npy", cube)
    with pytest.raises(InputError, match=r"a\.npy: is 6x9 pixels .* dataset says 9x6"):
        whole(tmp_path / "a.npy", (9, 6))
    with pytest.raises(InputError, match=r"b\.npy: there is no such image; .*--images"):
        whole(tmp_path / "b.npy")


def test_bands_of_different_size_are_named(tmp_path: Path, cube: NDArray[np.float32]) -> None:
    np.save(tmp_path / "a.npy", cube[0])
    np.save(tmp_path / "b.npy", cube[0, :5])
    with pytest.raises(InputError, match=r"b\.npy: is 5x9 pixels, but a\.npy"):
        read_pixels([tmp_path / "a.npy", tmp_path / "b.npy"])


@pytest.mark.parametrize("name", ["a.fits", "a.npy", "a.png"])
def test_broken_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match=rf"{name}: cannot be read as an image"):
        whole(tmp_path / name)


def test_array_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}, {}], object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read"):
        whole(tmp_path / "a.npy")


def test_unknown_format_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.bmp").write_bytes(b"BM")
    with pytest.raises(InputError, match="no image format that is known"):
        whole(tmp_path / "a.bmp")
