"""Every format gives the same planes, and what is wrong with a file is said."""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from astropy.io import fits
from numpy.typing import NDArray
from PIL import Image

from astroseg.core.errors import InputError
from astroseg.data import images
from astroseg.data.bands import canonical
from astroseg.data.headers import filter_card, zeropoint
from astroseg.data.images import read_pixels
from astroseg.data.inputs import expand, image_record, image_records

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


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux says it")
@pytest.mark.parametrize("suffix", ["fits", "npy"])
def test_memory_of_a_mapped_file_is_given_back(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAPPED_AT_ONCE", 8 << 20)
    big = np.random.default_rng(0).normal(size=(2, 2000, 2000)).astype(np.float32)
    path = tmp_path / f"a.{suffix}"
    fits.writeto(path, big) if suffix == "fits" else np.save(path, big)
    pixels = read_pixels([path])

    def held() -> int:
        """kB of this process."""
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))

    before = held()
    for y in range(0, 2000, 20):
        assert (pixels.crop(y, 0, 20, 2000) == big[:, y : y + 20]).all()
    assert held() - before < 16_000  # of 32 MB
    for place in range(0, 2000, 50):  # small windows touch a page a row
        assert (pixels.crop(place, place, 20, 20) == big[:, place:, place:][:, :20, :20]).all()
    assert held() - before < 16_000


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
    with pytest.raises(
        InputError, match=rf"{name}: (cannot be read as an image|not a readable FITS file)"
    ):
        whole(tmp_path / name)


def test_array_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}, {}], object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read"):
        whole(tmp_path / "a.npy")


def test_unknown_format_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.bmp").write_bytes(b"BM")
    with pytest.raises(InputError, match="no image format that is known"):
        whole(tmp_path / "a.bmp")


def deep_png(data: NDArray[np.uint16], colour: int = 2) -> bytes:
    """A PNG of 16 bits a colour, which Pillow cannot write; `colour` is PNG's type."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    height, width = data.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in data)
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_pictures_keep_all_their_bits_and_bands(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 60000, (*SHAPE, 4), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(deep_png(deep[..., :3]))
    assert (whole(tmp_path / "a.png") == deep[..., :3].transpose(2, 0, 1)).all()
    bands = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "a.tif", deep, **bands)
    assert (whole(tmp_path / "a.tif") == deep.transpose(2, 0, 1)).all()
    alpha = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
    opaque = np.where(np.arange(4) < 3, deep, np.uint16(65535))
    opaque[0, :, 3] = 0
    tifffile.imwrite(tmp_path / "b.tif", opaque, **alpha)
    assert (whole(tmp_path / "b.tif") == deep[..., :3].transpose(2, 0, 1)).all()
    # As tifffile itself calls the fourth of four bands.
    tifffile.imwrite(tmp_path / "d.tif", deep, **alpha)
    assert (whole(tmp_path / "d.tif") == deep.transpose(2, 0, 1)).all()
    assert not read_pixels([tmp_path / "a.png"]).eight_bit
    (tmp_path / "grey.png").write_bytes(deep_png(deep[..., :2], colour=4))
    assert (whole(tmp_path / "grey.png") == deep[..., 0]).all()
    infrared = {"photometric": "rgb", "extrasamples": ["unspecified"]}
    tifffile.imwrite(tmp_path / "c.tif", deep.astype(np.uint8), **infrared)
    assert (whole(tmp_path / "c.tif") == deep.astype(np.uint8).transpose(2, 0, 1)).all()


def test_a_tiff_gives_its_largest_image_and_names_another(
    tmp_path: Path, cube: NDArray[np.float32], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, cube[0, ::3, ::3], subfiletype=1)
    tifffile.imwrite(path, cube[1], append=True)
    assert (whole(path) == cube[1]).all()
    assert not caplog.records
    tifffile.imwrite(path, cube[1] > 0, append=True)
    assert (whole(path) == cube[1]).all()
    assert "reads image 1 and not 2" in caplog.text


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_lzw_tiffs_are_read(tmp_path: Path, cube: NDArray[np.float32], dtype: Any) -> None:
    pages = [Image.fromarray((50 * np.abs(plane)).astype(dtype)) for plane in cube]
    pages[0].save(
        tmp_path / "a.tif", compression="tiff_lzw", save_all=True, append_images=pages[1:]
    )
    assert (whole(tmp_path / "a.tif") == (50 * np.abs(cube)).astype(dtype)).all()


def test_deep_colours_of_an_lzw_tiff_keep_their_bits(tmp_path: Path) -> None:
    # OpenCV's default. Pillow writes 8 bits, so the bytes of 16 go in as pixels twice as many.
    stored = np.random.default_rng(0).integers(0, 1 << 16, (5, 4, 3)).astype("<u2")
    path = tmp_path / "a.tif"
    Image.fromarray(stored.view(np.uint8).reshape(5, 8, 3)).save(path, compression="tiff_lzw")
    with tifffile.TiffFile(path, mode="r+b") as file:
        assert file.byteorder == "<"
        file.pages.first.tags["ImageWidth"].overwrite(4)
        file.pages.first.tags["BitsPerSample"].overwrite((16, 16, 16))
    assert (read_pixels([path]).whole() == stored.transpose(2, 0, 1)).all()


def lzw(data: bytes) -> bytes:
    """As TIFF packs it, though no shorter: bytes as 9-bit codes, between codes to start anew."""
    parts = [data[i : i + 200] for i in range(0, len(data), 200)]
    codes = [code for part in parts for code in (256, *part)] + [257]
    bits = "".join(f"{code:09b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def write_packed(path: Path, stored: NDArray[Any], planar: int, packing: int) -> None:
    """A TIFF of packed bands, which tifffile alone does not write: every tag is of shorts.

    Parameters
    ----------
    planar : 1 where the bands of a pixel follow each other, 2 for one after another.
    packing : 5 for LZW.
    """
    order = "<" if stored.dtype.str[0] in "<|" else ">"
    bands, height, width = stored.shape
    laid = list(stored) if planar == 2 else [np.moveaxis(stored, 0, -1)]
    segments = [lzw(part.tobytes()) for part in laid]
    tags = {
        256: [width], 257: [height], 258: [8 * stored.itemsize] * bands, 259: [packing],
        262: [2 if bands == 3 else 1], 273: [], 277: [bands], 278: [height],
        279: [len(one) for one in segments], 284: [planar], 338: [0] * (bands - 1),
        339: ["uif".index(stored.dtype.kind) + 1] * bands,
    }  # fmt: skip
    if bands != 5:
        del tags[338]  # grey and colours have no more bands
    data, directory = b"", b""
    for one in segments:
        tags[273].append(8 + len(data))
        data += one + b"\0" * (len(one) % 2)
    for tag, values in tags.items():
        value = struct.pack(f"{order}{len(values)}H", *values)
        if len(value) > 4:
            value, data = struct.pack(f"{order}I", 8 + len(data)), data + value
        directory += struct.pack(f"{order}HHI", tag, 3, len(values)) + value.ljust(4, b"\0")
        data += b"\0" * (len(data) % 2)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(data))
    count = struct.pack(f"{order}H", len(tags))
    path.write_bytes(head + data + count + directory + b"\0" * 4)


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("bands", [1, 3, 5])
@pytest.mark.parametrize("kind", ["u1", "i1", "<u2", ">u2", "<i2", ">i2", "<f4", ">f4", ">f8"])
def test_a_packed_tiff_is_read_as_it_is_or_not_at_all(
    tmp_path: Path, kind: str, bands: int, planar: int
) -> None:
    # What Pillow makes of some of these is something else.
    stored = np.random.default_rng(0).integers(-100, 100, (bands, 6, 7)).astype(kind)
    write_packed(tmp_path / "a.tif", stored, planar, 5)
    try:
        seen = read_pixels([tmp_path / "a.tif"]).whole()
    except InputError as error:
        assert f"(LZW, {bands} x {stored.dtype.name}); pip install 'astroseg[tiff]'" in str(error)  # noqa: PT017
        assert (kind, bands) not in [("u1", 1), ("<u2", 1), (">u2", 1), ("u1", 3)]
    else:
        assert (seen == stored.astype(np.float32)).all()


def test_a_compression_of_later_pythons_is_named(tmp_path: Path) -> None:
    stored = np.zeros((5, 6, 7), np.uint16)
    write_packed(tmp_path / "a.tif", stored, 1, 50000)
    # With the package it is decoded, and is no Zstandard.
    with pytest.raises(InputError, match=r"\(ZSTD, 5 x uint16\); pip install|cannot be read"):
        read_pixels([tmp_path / "a.tif"]).whole()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pictures_in_which_0_is_white_are_turned_over(tmp_path: Path, dtype: Any) -> None:
    stored = np.arange(6, dtype=dtype).reshape(2, 3)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite")
    seen = read_pixels([tmp_path / "a.tif"]).whole()
    assert (seen[0] == np.iinfo(dtype).max - stored).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_pictures_are_upright_as_viewers_show_them(
    tmp_path: Path, orientation: int, suffix: str
) -> None:
    stored = np.arange(24, dtype=np.uint8).reshape(4, 6)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    if suffix == "png":
        Image.fromarray(stored).save(path, exif=exif)
    else:  # of 16 bits, which another reader takes
        stored = stored.astype(np.uint16)
        tifffile.imwrite(path, stored, extratags=[(274, 3, 1, orientation, True)])
    upright = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1],
        5: stored.T, 6: stored.T[:, ::-1], 7: stored.T[::-1, ::-1], 8: stored.T[::-1],
    }[orientation]  # fmt: skip
    assert (read_pixels([path]).planes[0] == upright).all()


def test_extensions_named_after_bands_are_bands(tmp_path: Path, cube: NDArray[np.float32]) -> None:
    hdus = [fits.ImageHDU(cube[k], name=name) for k, name in enumerate(("G", "R", "Z"))]
    masks = [fits.ImageHDU(cube[3], name=name) for name in ("G_MASK", "IVAR_R", "WHT")]
    fits.HDUList([fits.PrimaryHDU(), *hdus, *masks]).writeto(tmp_path / "a.fits")
    pixels = read_pixels([tmp_path / "a.fits"])
    assert pixels.bands == ("G", "R", "Z")
    assert (pixels.whole() == cube[:3]).all()


@pytest.mark.parametrize("cards", [{}, {"BAND0": "g", "BAND1": "r", "BAND2": "z"}])
def test_cubes_may_have_bands_last_or_axes_of_one(
    tmp_path: Path, cube: NDArray[np.float32], cards: dict[str, str]
) -> None:
    header = fits.Header({"BANDS": "grz"} | cards)
    for number, data in enumerate((cube[:3], cube[None, :3], np.moveaxis(cube[:3], 0, 2))):
        fits.PrimaryHDU(np.ascontiguousarray(data), header).writeto(tmp_path / f"{number}.fits")
        pixels = read_pixels([tmp_path / f"{number}.fits"])
        assert (pixels.whole() == cube[:3]).all()
        assert pixels.bands == (("g", "r", "z") if cards else ())


TAN = {
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0,
    "CRPIX1": 5.0, "CRPIX2": 3.0, "CD1_1": -1e-4, "CD2_2": 1e-4,
}  # fmt: skip
CDELT = {k: v for k, v in TAN.items() if k[:2] != "CD"} | {"CDELT1": -1e-4, "CDELT2": 1e-4}


@pytest.mark.parametrize("extensions", [False, True])
@pytest.mark.parametrize(
    ("cards", "shift"),
    [
        (TAN | {"CRPIX1": 9.0}, 4.0),  # a cutout from elsewhere
        (TAN | {"CD1_1": 1e-4}, 8.0),  # mirrored
        (TAN | {"CD1_1": -2e-4, "CD2_2": 2e-4}, 5.0),  # other pixels
        (TAN | {"CRPIX1": 5.1}, None),
        (CDELT, None),
        ({}, None),
        (TAN | {"CD1_1": 0.0}, None),  # no WCS at all
    ],
)
def test_bands_that_lie_apart_on_the_sky_are_refused(
    tmp_path: Path,
    cube: NDArray[np.float32],
    cards: dict[str, Any],
    shift: float | None,
    extensions: bool,
) -> None:
    hdus = [fits.ImageHDU(cube[k], fits.Header(c), name=n)
            for k, (c, n) in enumerate(((TAN, "G"), (cards, "R")))]  # fmt: skip
    if extensions:
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "gr.fits")
        files = [tmp_path / "gr.fits"]
    else:
        files = [tmp_path / "g.fits", tmp_path / "r.fits"]
        for file, hdu in zip(files, hdus, strict=True):
            fits.PrimaryHDU(hdu.data, hdu.header).writeto(file)
    if shift is None:
        assert (read_pixels(files).whole() == cube[:2]).all()
        return
    with pytest.raises(InputError, match=rf"has the band .* {shift:.3g} px from .* on the sky"):
        read_pixels(files)


def test_several_images_that_are_no_bands_are_named_and_chosen_from(
    tmp_path: Path, cube: NDArray[np.float32]
) -> None:
    chips = [fits.ImageHDU(cube[k], name="SCI", ver=k + 1) for k in range(2)]
    fits.HDUList([fits.PrimaryHDU(), *chips]).writeto(tmp_path / "flc.fits")
    with pytest.raises(InputError, match=r"several images \(SCI,1; SCI,2\)"):
        read_pixels([tmp_path / "flc.fits"])
    assert (whole(tmp_path / "flc.fits[SCI,2]") == cube[1]).all()
    assert (whole(tmp_path / "flc.fits[1]") == cube[0]).all()


def test_unnamed_images_are_chosen_by_number_and_maps_of_integers_passed_over(
    tmp_path: Path, cube: NDArray[np.float32]
) -> None:
    segments = fits.ImageHDU(np.ones(cube[0].shape, np.int32))
    image = fits.HDUList([fits.PrimaryHDU(cube[0]), segments])
    image.writeto(tmp_path / "image.fits")
    assert (whole(tmp_path / "image.fits") == cube[0]).all()
    fits.HDUList([*image, fits.ImageHDU(cube[1])]).writeto(tmp_path / "two.fits")
    with pytest.raises(InputError, match=r"several images \(0; 1; 2\).*two.fits\[0\]"):
        read_pixels([tmp_path / "two.fits"])
    assert (whole(tmp_path / "two.fits[2]") == cube[1]).all()


@pytest.mark.parametrize("suffix", [".fits.gz", ".fits.bz2"])
def test_packed_fits_are_read(tmp_path: Path, cube: NDArray[np.float32], suffix: str) -> None:
    fits.PrimaryHDU(cube).writeto(tmp_path / f"cube{suffix}")
    assert (whole(tmp_path / f"cube{suffix}") == cube).all()
    (tmp_path / "cube.fits").write_bytes((tmp_path / f"cube{suffix}").read_bytes())
    assert (whole(tmp_path / "cube.fits") == cube).all()


def test_filter_and_zero_point_of_the_primary_header_count(
    tmp_path: Path, cube: NDArray[np.float32]
) -> None:
    primary = fits.PrimaryHDU()
    primary.header["FILTER"], primary.header["FLUXMAG0"] = "HSC-G", 10 ** (0.4 * 27)
    fits.HDUList([primary, fits.ImageHDU(cube[0], name="IMAGE")]).writeto(tmp_path / "g.fits")
    pixels = read_pixels([tmp_path / "g.fits"])
    assert pixels.bands == ("HSC-G",)
    assert pixels.zeropoint == pytest.approx((27.0,))
    assert "SIMPLE" not in pixels.header


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"MAGZERO": 30.0}, 30.0),
        ({"BUNIT": "nJy"}, 31.4),
        ({"PHOTFLAM": 7.0331885e-20, "PHOTPLAM": 8045.0}, 25.947),  # ACS/WFC F814W handbook
        ({"MAGZPT": 25.0}, math.nan),  # Vega, per second
        ({"FLUXMAG0": 0.0}, math.nan),
        ({"MAGZERO": -99.0}, math.nan),
        # The same electrons, counted for 100 s.
        (
            {"PHOTFLAM": 7.0331885e-20, "PHOTPLAM": 8045.0, "BUNIT": "ELECTRONS", "EXPTIME": 100.0},
            30.947,
        ),
        ({"PHOTFLAM": 7.0331885e-20, "PHOTPLAM": 8045.0, "BUNIT": "ELECTRONS"}, math.nan),
        ({"BUNIT": "MJy/sr", "PIXAR_SR": 2.29e-14}, 28.0),  # JWST, 0.031"
        ({"BUNIT": "MJy/sr"}, math.nan),
        ({"BUNIT": "uJy"}, 23.9),
        ({"BUNIT": "no unit"}, math.nan),
        ({"BSOFTEN": 100.0, "EXPTIME": 10.0}, 27.5),  # Pan-STARRS
        ({"FLUXMAG0": "63095734448.0194"}, 27.0),
        ({"MAGZP": 26.325}, 26.325),  # ZTF
        ({"MAGZP": 20.5, "TELESCOP": "WISE"}, math.nan),  # Vega
        ({"PHOTZP": 25.0, "PHOTSYS": "VEGA"}, math.nan),
        ({"TELESCOP": "GALEX", "BAND": 1}, 20.08),
        ({"BUNIT": "Nanomaggies"}, 22.5),
        ({"BUNIT": "microJy"}, 23.9),
        ({"BUNIT": "NJY"}, 31.4),
        ({"BUNIT": "MJY"}, math.nan),  # mega or milli
        ({"BUNIT": "MJy/sr", "CDELT1": -8.6e-6, "CDELT2": 8.6e-6}, 28.02),
    ],
)
def test_zero_points_by_survey(cards: dict[str, Any], expected: float) -> None:
    assert zeropoint(cards) == pytest.approx(expected, abs=2e-3, nan_ok=True)


@pytest.mark.parametrize(
    ("name", "band"),
    [
        ("HSC-R2", "r"), ("WFCSloanG", "g"), ("SDSS-r", "r"), ("sdss_z", "z"),
        ("g DECam SDSS c0001 4720.0 1520.0", "g"),
        ("F814W", "f814w"), ("r.MP9601", "r"), ("Ks", "k"), ("red", "red"), ("VIS", "vis"),
        ("H  )", "h"), ("g r", None), ("clear", None), ("", None),
        ("HSC-I2", "i"), ("rSDSS", "r"), ("SDSSg_65mm~empty", "g"), ("F158", "f158"),
        ("W-S-I+", "i"), ("W-C-RC", "r"), ("W-J-B", "johnson-b"), ("J0378", "j0378"),
        ("W-J-V", "johnson-v"), ("W-C-IC", "i"), ("W-S-Z+", "z"), ("W-J-U", "u"),
        ("W-S-ZR", None), ("W-J-VR", None), ("V", "johnson-v"), ("Bessell-B", "johnson-b"),
        ("Rc", "r"), ("IRAC1", "ch1"), ("IRAC_4", "ch4"), ("irac.I2", "ch2"), ("IRAC 3.6um", None),
        ("I1", "i"), ("WISE3", "w3"), ("unWISE-W1", "w1"), ("GALEX-NUV", "nuv"), ("zg", "g"),
        ("ZTF_r", "r"), ("I_E", "vis"), ("NISP-Y", "y"), ("NIR_H", "h"), ("EUC_VIS", "vis"),
        ("H158", "f158"), ("W146", "f146"), ("Z087", "f087"), ("roman_F062", "f062"),
        ("VISTA Z", "z"), ("VISTA-Ks", "k"), ("UKIDSS-J", "j"), ("NIRCam.F200W", "f200w"),
        ("CLEAR1L;F606W", "f606w"), ("WFC3_IR_F160W", "f160w"), ("F322W2", "f322w2"),
        ("NB0816", "nb816"), ("N816", "nb816"), ("NB118", "nb118"), ("IA484", "ib484"),
        ("H-alpha", "halpha"), ("Ha", "halpha"), ("HSC-Y", "y"), ("VR DECam SDSS c0007", None),
    ],
)  # fmt: skip
def test_filters_are_known_by_any_spelling(name: str, band: str | None) -> None:
    assert canonical(name) == band


@pytest.mark.parametrize(
    ("cards", "name"),
    [
        ({"FILTER1": "CLEAR1L", "FILTER2": "F814W"}, "F814W"),  # ACS
        ({"FILTER1": "open1-6", "FILTER2": "r_G0303"}, "r_G0303"),  # GMOS
        ({"FILTNAM1": "F606W", "FILTNAM2": ""}, "F606W"),  # WFPC2
        ({"FILTER": "F444W", "PUPIL": "F405N"}, "F405N"),  # NIRCam
        ({"FILTER": "F444W", "PUPIL": "GRISMR"}, "F444W"),
        ({"FILTER": "CLEAR", "PUPIL": "F150W"}, "F150W"),  # NIRISS
        ({"FPA.FILTER": "g.00000"}, "g.00000"),  # Pan-STARRS
        ({"ESO INS FILT1 NAME": "i_SDSS"}, "i_SDSS"),
        ({"TELESCOP": "WISE", "BAND": 2}, "w2"),
        ({"TELESCOP": "GALEX", "BAND": 1}, "NUV"),
        ({"FILTER": "N/A", "FILTER2": "Ks"}, "Ks"),
        ({"LSST BUTLER DATAID BAND": "g"}, "g"),
        ({"FILTER": True, "BAND": 3}, ""),
    ],
)
def test_the_filter_is_found_in_the_headers_of_surveys(cards: dict[str, Any], name: str) -> None:
    assert filter_card(cards) == name


def test_panstarrs_pixels_become_fluxes(tmp_path: Path) -> None:
    flux = np.array([[-5.0, 0.0], [3.0, 4e4]])
    stored = 2.5 / math.log(10) * np.arcsinh((flux - 7) / (2 * 30.0))
    header = fits.Header({"BSOFTEN": 30.0, "BOFFSET": 7.0, "EXPTIME": 100.0})
    fits.writeto(tmp_path / "a.fits", stored.astype(np.float32), header)
    pixels = read_pixels([tmp_path / "a.fits"])
    assert pixels.planes[0] == pytest.approx(flux, rel=1e-4, abs=1e-4)
    assert pixels.zeropoint == (30.0,)


def test_inputs_may_be_folders_patterns_lists_and_named_bands(
    tmp_path: Path, cube: NDArray[np.float32], caplog: pytest.LogCaptureFixture
) -> None:
    for name, plane in zip("abc", cube, strict=False):
        np.save(tmp_path / f"{name}.npy", plane)
    names = [str(tmp_path / f"{name}.npy") for name in "abc"]
    (tmp_path / "list.txt").write_text("# tiles\n" + "\n".join(names) + "\n")
    for given in (tmp_path, tmp_path / "?.npy", tmp_path / "list.txt"):
        assert expand([str(given)]) == names
    for gap in ("", " "):
        record = image_record(f"r={names[1]},{gap}g={names[0]}", 5)
        assert (record.bands, [f.name for f in record.files]) == (("r", "g"), ["b.npy", "a.npy"])
    assert not caplog.records
    fits.PrimaryHDU(cube[0], fits.Header({"FILTER": "HSC-R2"})).writeto(tmp_path / "r.fit")
    image_record(f"r={tmp_path / 'r.fit'}", 1)
    assert not caplog.records
    image_record(f"g={tmp_path / 'r.fit'}", 1)
    assert "is given as the band g, and its header says HSC-R2" in caplog.text
    (tmp_path / "near.txt").write_text("r=b.npy,g=a.npy\r\nc.npy\n", encoding="utf-8-sig")
    assert expand([str(tmp_path / "near.txt")]) == [f"r={names[1]},g={names[0]}", names[2]]
    with pytest.raises(InputError, match="has no image"):
        expand([str(tmp_path / "*.fits")])


def test_images_of_one_name_are_told_apart(tmp_path: Path, cube: NDArray[np.float32]) -> None:
    files = [tmp_path / name for name in ("x/a.npy", "y/a.npy", "y/b.npy")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        np.save(file, cube)
    records = image_records([str(file) for file in files])
    assert [r.name for r in records] == [str(files[0]), str(files[1]), "b.npy"]
    assert [r.id for r in records] == [1, 2, 3]


def test_an_array_without_pixels_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 0, 9), np.float32))
    with pytest.raises(InputError, match=r"a\.npy: has no pixels"):
        read_pixels([tmp_path / "a.npy"])


def test_a_cut_off_tiff_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", noise, compression="zlib", photometric="minisblack")
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:3000])
    with pytest.raises(InputError, match=r"a\.tif: cannot be read as an image"):
        read_pixels([tmp_path / "a.tif"])


def test_a_picture_that_would_fill_the_memory_is_named(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + pixels)
    with pytest.raises(InputError, match=r"a\.png: cannot be read as an image"):
        whole(tmp_path / "a.png")
