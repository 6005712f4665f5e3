"""Damaged and impossible FITS files are refused before their pixels are read."""

import gzip
import os
import random

import numpy as np
import pytest
from astropy.io import fits

from astroseg.core.errors import InputError
from astroseg.data.images import read_pixels


def summed(path):
    """Float pixels and tile-compressed integers, with sums."""
    rng = np.random.default_rng(1)
    hdus = [
        fits.PrimaryHDU(rng.normal(0, 1, (48, 50)).astype("f4")),
        fits.CompImageHDU(rng.integers(0, 99, (48, 50)).astype("i2"), name="MASK"),
    ]
    fits.HDUList(hdus).writeto(path, checksum=True)
    return path.read_bytes()


def cards(*lines):
    return "".join(line.ljust(80) for line in (*lines, "END")).ljust(2880).encode()


@pytest.mark.parametrize("packed", [False, True])
def test_every_single_bit_flip_is_found(packed, tmp_path):
    data = summed(tmp_path / "whole.fits")
    assert read_pixels([tmp_path / "whole.fits"]).shape == (48, 50)
    if packed:
        data = gzip.compress(data, mtime=0)
    draw = random.Random(1)
    path = tmp_path / ("a.fits.gz" if packed else "a.fits")
    for _ in range(60):
        changed = bytearray(data)
        changed[draw.randrange(10, len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(InputError, match=path.name):
            read_pixels([path])


def test_a_changed_file_is_looked_at_again(tmp_path):
    path = tmp_path / "a.fits"
    data = summed(path)
    read_pixels([path])
    path.write_bytes(data[:3000] + bytes([data[3000] ^ 1]) + data[3001:])
    os.utime(path, (1, 1))
    with pytest.raises(InputError, match="DATASUM"):
        read_pixels([path])


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ((-5, 200), "axis of -5"),
        ((100_000, 100_000), "more than the file has"),
        ((10**25, 2), "wrong NAXIS1"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused(axes, said, tmp_path):
    path = tmp_path / "a.fits"
    lines = ["SIMPLE  =                    T", "BITPIX  =                  -32",
             "NAXIS   =                    2"]  # fmt: skip
    lines += [f"NAXIS{n}  = {axis:20d}" for n, axis in enumerate(axes, 1)]
    path.write_bytes(cards(*lines) + bytes(2880))
    with pytest.raises(InputError, match=said):
        read_pixels([path])
