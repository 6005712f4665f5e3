"""Damaged and impossible FITS files are refused before their pixels are read."""

import gzip
import os
import random
import zlib

import numpy as np
import pytest
from astropy.io import fits

from astrolabel.core.errors import InputError
from astrolabel.io.integrity import check_headers, check_sums
from astrolabel.io.layers import find_layers


def summed(path):
    """Three HDUs with sums: empty, float pixels, tile-compressed integers."""
    rng = np.random.default_rng(1)
    hdus = [
        fits.PrimaryHDU(),
        fits.ImageHDU(rng.normal(0, 1, (48, 50)).astype("f4"), name="IMAGE"),
        fits.CompImageHDU(rng.integers(0, 99, (48, 50)).astype("i2"), name="MASK"),
    ]
    fits.HDUList(hdus).writeto(path, checksum=True)
    return path.read_bytes()


def cards(*lines):
    return "".join(line.ljust(80) for line in (*lines, "END")).ljust(2880).encode()


def image(*axes, bitpix=-32):
    lines = [
        "SIMPLE  =                    T",
        f"BITPIX  = {bitpix:20d}",
        f"NAXIS   = {len(axes):20d}",
    ]
    return [*lines, *(f"NAXIS{n}  = {axis:20d}" for n, axis in enumerate(axes, start=1))]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_every_flipped_bit_is_seen_where_sums_are_given(tmp_path, suffix):
    raw = summed(tmp_path / "sound.fits")
    data = gzip.compress(raw, mtime=0) if suffix else raw
    path = tmp_path / f"a.fits{suffix}"
    path.write_bytes(data)
    check_sums(path)
    draw = random.Random(2)
    for _ in range(60):
        # The first ten bytes of gzip are flags and a date; a flipped date harms nothing.
        place, bit = draw.randrange(10 if suffix else 0, len(data)), draw.randrange(8)
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        path.write_bytes(changed)
        if suffix and unpacked(changed) == raw:
            continue  # a bit that pads a block, or a copy from another place of the same bytes
        with pytest.raises(InputError, match=r"a\.fits"):
            check_sums(path)


def unpacked(data):
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return None


def test_a_file_cut_anywhere_inside_an_hdu_is_refused(tmp_path):
    raw = summed(tmp_path / "sound.fits")
    whole = {0}  # lengths at which whole HDUs end
    with fits.open(tmp_path / "sound.fits", disable_image_compression=True) as hdus:
        whole |= {hdu.fileinfo()["datLoc"] + hdu.fileinfo()["datSpan"] for hdu in hdus}
    path = tmp_path / "a.fits"
    for size in [1, 79, 2879, *range(2880, len(raw), 1440)]:
        if size not in whole:
            path.write_bytes(raw[:size])
            with pytest.raises(InputError):
                check_headers(path)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (image(-5, 200), "an axis of -5"),
        (image(10**6, 10**6), "more than the file has"),
        (image(10**40, 2), "a wrong NAXIS1"),
        (image(5, 5, bitpix=7), "BITPIX 7"),
        (["SIMPLE  =                    T", "BITPIX  = 8", "NAXIS   = 900"], "NAXIS 900"),
        (["SIMPLE  =                    T", "BITPIX  = 8"], "no NAXIS"),
        (["HELLO   =                    T"], "does not begin with SIMPLE"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_header_that_cannot_be_true_ends_at_once(tmp_path, lines, problem, packed):
    path = tmp_path / "a.fits"
    data = cards(*lines)
    path.write_bytes(gzip.compress(data) if packed else data)
    if packed and "more than the file" in problem:
        problem = "more than a file of its size can hold"
    with pytest.raises(InputError, match=problem):
        find_layers(path)


def test_a_header_without_an_end_is_refused(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(cards(*image(4, 4)).replace(b"END", b"   ") + b" " * 2880 * 3)
    with pytest.raises(InputError, match="cut short"):
        check_headers(path)


def test_a_compressed_file_that_grows_without_end_is_refused(tmp_path):
    bomb = gzip.compress(cards(*image(2**20, 2**14)) + bytes(2**22))
    (tmp_path / "a.fits.gz").write_bytes(bomb)
    with pytest.raises(InputError, match="more than a file of its size can hold"):
        check_headers(tmp_path / "a.fits.gz")


def test_a_compressed_image_of_more_pixels_than_its_bytes_is_refused(tmp_path):
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.zeros((32, 32), "i2"))]).writeto(path)
    raw = path.read_bytes()
    wide = raw.replace(b"ZNAXIS1 =                   32", b"ZNAXIS1 =         320000000000")
    assert wide != raw
    path.write_bytes(wide)
    with pytest.raises(InputError, match="declares an image of"):
        check_headers(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.fits")
    with pytest.raises(InputError, match="pipe"):
        find_layers(tmp_path / "a.fits")


def test_a_compressed_image_that_lacks_a_card_of_its_compression_is_refused(tmp_path):
    path = tmp_path / "a.fits"
    hdu = fits.CompImageHDU(np.ones((6, 8), "f4"), compression_type="RICE_1", quantize_level=4)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    data = path.read_bytes()
    assert b"ZVAL3   " in data
    path.write_bytes(data.replace(b"ZVAL3   ", b"XVAL3   "))
    with pytest.raises(InputError, match=r"a\.fits: not a readable FITS file .*ZVAL3"):
        find_layers(path)
