"""Whether a FITS file is whole and unchanged, found out before any of its pixels is read.

One pass over the bytes in blocks of a megabyte. Headers must be headers, and sizes neither
negative nor larger than the file can hold. CHECKSUM and DATASUM must agree where they are given
(FITS standard 4.0, section 4.4.2.7). Of a compressed file the pass reaches the checksum at its
end.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import lzma
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from astrolabel.core.errors import InputError
from astrolabel.core.files import regular_size

BLOCK = 2880
"""Bytes of a FITS block (FITS standard 4.0, section 3.1)."""
CARD = 80
CHUNK = 360 * BLOCK
"""Bytes held at a time: about a megabyte, whole blocks."""
MAX_HEADER_BLOCKS = 20_000
"""Longest header that is read: 720,000 cards. Survey coadds have some hundreds."""
MAX_AXES = 16
"""Most axes of an array: numpy's and every survey's are fewer; the standard allows 999."""
MAX_RATIO = 2000
"""Most that pixels may be compressed: deflate reaches 1032."""
MAX_BYTES = 2**38
"""Longest file, decompressed: 256 GiB, a hundred times a survey's coadd."""

_OPENERS = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open))
_VALUE = re.compile(r"^([A-Z0-9_-]+) *= *('(?:[^']|'')*'|[^/ ]*)")


class _Bytes(Protocol):
    """What is read here: a file, or one that decompresses."""

    def read(self, size: int, /) -> bytes: ...

    def seek(self, offset: int, whence: int, /) -> int: ...


@dataclass
class _Hdu:
    """Sizes and sums that one header gives.

    Attributes
    ----------
    cards : values by keyword, as text, of the cards that matter here.
    total : FITS checksum of the header's bytes.
    """

    cards: dict[str, str] = field(default_factory=dict)
    total: int = 0

    @property
    def data_sum(self) -> str:
        """What DATASUM gives; without digits where there is none."""
        text = self.cards.get("DATASUM", "")
        return text if text.isdigit() else ""

    @property
    def has_sums(self) -> bool:
        """Whether there is a sum to compare with; zeros stand for one that is not known."""
        return bool(self.data_sum or self.cards.get("CHECKSUM", "").strip("0"))


def check_headers(path: Path) -> None:
    """Refuse a file whose headers cannot be true; cheap, and remembered for a file unchanged.

    Compressed files are read to their end, where their own checksum is.

    Raises
    ------
    InputError
        For a file that is not a regular one, a header without an end, a size that is negative
        or more than the file holds.
    """
    regular_size(path)
    info = path.stat()
    _headers_of(path, info.st_size, info.st_mtime_ns, info.st_ino)


@functools.lru_cache(maxsize=4096)
def _headers_of(path: Path, size: int, mtime_ns: int, inode: int) -> None:
    _walk(path, size, sums=False)


def check_sums(path: Path) -> None:
    """`check_headers`, and verify CHECKSUM and DATASUM of every HDU that has them.

    Raises
    ------
    InputError
        Naming the HDU that is damaged.
    """
    _walk(path, regular_size(path), sums=True)


def _walk(path: Path, size: int, *, sums: bool) -> None:
    with path.open("rb") as probe:
        magic = probe.read(6)
    opener = next((o for start, o in _OPENERS if magic.startswith(start)), None)
    try:
        if opener is None:
            if magic[:2] in (b"PK", b"\x1f\x9d"):
                raise _damaged(path, "is a zip or compress archive", "decompress it first")
            with path.open("rb") as stream:
                _hdus(path, stream, size, sums, packed=False)
        else:
            with opener(path, "rb") as stream:
                _hdus(path, stream, min(size * MAX_RATIO, MAX_BYTES), sums, packed=True)
    except InputError:
        raise
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise _damaged(path, f"it is damaged or cut short: {error}") from error


def _hdus(path: Path, stream: _Bytes, size: int, sums: bool, packed: bool) -> None:
    """Walk over the HDUs; `size` is what the file holds, or may hold when decompressed."""
    at, number = 0, 0
    while True:
        first = stream.read(BLOCK)
        start = b"SIMPLE  =" if number == 0 else b"XTENSION="
        if number and not first.startswith(start):
            # Whatever follows the last HDU is allowed by the standard (special records),
            # but a file that is cut or flipped there has another reason.
            if not first.strip(b"\0 "):
                _drain(path, stream, at, size)
                return
            raise _damaged(path, f"after HDU {number - 1} comes no HDU")
        if not first.startswith(start):
            raise _damaged(path, "it does not begin with SIMPLE")
        hdu, length = _header(path, stream, first, number)
        at += length
        data = _data_bytes(path, hdu.cards, number)
        padded = -(-data // BLOCK) * BLOCK
        if at + padded > size:
            why = "than a file of its size can hold" if packed else "than the file has"
            raise _damaged(path, f"HDU {number} declares {data} bytes of data, more {why}")
        _pixels_possible(path, hdu.cards, number, at + padded)
        if packed or (sums and hdu.has_sums):
            total = _sum_of(path, stream, padded, number, sums)
            if sums:
                _compare(path, hdu, total, number)
        else:  # nothing to compare the data with
            stream.seek(padded, 1)
        at += padded
        number += 1


def _header(path: Path, stream: _Bytes, block: bytes, number: int) -> tuple[_Hdu, int]:
    """(values and sum of a header, its length in bytes), the first block given."""
    hdu, blocks = _Hdu(), 0
    while True:
        blocks += 1
        if len(block) < BLOCK:
            raise _damaged(path, f"the header of HDU {number} is cut short")
        if blocks > MAX_HEADER_BLOCKS:
            raise _damaged(path, f"the header of HDU {number} has no END")
        hdu.total = _added(hdu.total, block)
        text = block.decode("latin-1")
        for k in range(0, BLOCK, CARD):
            card = text[k : k + CARD]
            if card.rstrip() == "END":
                return hdu, blocks * BLOCK
            if found := _VALUE.match(card):
                hdu.cards.setdefault(found[1], found[2].strip("' "))
        block = stream.read(BLOCK)


def _data_bytes(path: Path, cards: Mapping[str, str], number: int) -> int:
    """Bytes of an HDU's data, without padding."""
    bitpix = _whole(path, cards, "BITPIX", number)
    if abs(bitpix) not in (8, 16, 32, 64):
        raise _damaged(path, f"HDU {number} has BITPIX {bitpix}")
    axes = _whole(path, cards, "NAXIS", number)
    if not 0 <= axes <= MAX_AXES:
        raise _damaged(path, f"HDU {number} has NAXIS {axes}")
    lengths = [_whole(path, cards, f"NAXIS{n}", number) for n in range(1, axes + 1)]
    if any(n < 0 for n in lengths):
        raise _damaged(path, f"HDU {number} has an axis of {min(lengths)} pixels")
    if not lengths:
        return 0
    if lengths[0] == 0 and cards.get("GROUPS") == "T":  # random groups: no image of ours
        lengths = lengths[1:]
    extra = _whole(path, cards, "PCOUNT", number, 0)
    groups = _whole(path, cards, "GCOUNT", number, 1)
    if extra < 0 or groups < 0:
        raise _damaged(path, f"HDU {number} has PCOUNT {extra}, GCOUNT {groups}")
    return abs(bitpix) // 8 * groups * (extra + math.prod(lengths))


def _pixels_possible(path: Path, cards: Mapping[str, str], number: int, size: int) -> None:
    """Refuse a tile-compressed image of more pixels than the bytes so far can stand for."""
    if cards.get("ZIMAGE") != "T":
        return
    axes = _whole(path, cards, "ZNAXIS", number)
    if not 0 < axes <= MAX_AXES:
        raise _damaged(path, f"HDU {number} has ZNAXIS {axes}")
    lengths = [_whole(path, cards, f"ZNAXIS{n}", number) for n in range(1, axes + 1)]
    if any(n < 0 for n in lengths) or math.prod(lengths) > MAX_RATIO * size:
        raise _damaged(path, f"HDU {number} declares an image of {lengths} pixels in {size} bytes")


def _whole(
    path: Path, cards: Mapping[str, str], key: str, number: int, default: int | None = None
) -> int:
    text = cards.get(key)
    if text is None and default is not None:
        return default
    # Twenty digits: more than any size has; Python refuses to read some thousands.
    if text is None or not re.fullmatch(r"[+-]?\d{1,20}", text):
        raise _damaged(path, f"HDU {number} has {'no' if text is None else 'a wrong'} {key}")
    return int(text)


def _sum_of(path: Path, stream: _Bytes, length: int, number: int, sums: bool) -> int:
    """FITS checksum of the next bytes, which must be there."""
    total, left = 0, length
    while left:
        chunk = stream.read(min(left, CHUNK))
        if not chunk:
            raise _damaged(path, f"the data of HDU {number} are cut short")
        left -= len(chunk)
        if sums:
            while len(chunk) % 4 and left:  # a decompressor may give any number of bytes
                more = stream.read(min(left, 4 - len(chunk) % 4))
                if not more:
                    raise _damaged(path, f"the data of HDU {number} are cut short")
                chunk, left = chunk + more, left - len(more)
            total = _added(total, chunk)
    return total


def _added(total: int, chunk: bytes) -> int:
    """A ones' complement sum of 32-bit words and another chunk of them."""
    total += int(np.frombuffer(chunk, ">u4").sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _compare(path: Path, hdu: _Hdu, data: int, number: int) -> None:
    if hdu.data_sum and int(hdu.data_sum) % 0xFFFFFFFF != data % 0xFFFFFFFF:
        raise _damaged(path, f"the data of HDU {number} do not have the DATASUM of its header")
    if hdu.cards.get("CHECKSUM", "").strip("0"):
        total = hdu.total + data
        if total % 0xFFFFFFFF:
            raise _damaged(path, f"HDU {number} does not have the CHECKSUM of its header")


def _drain(path: Path, stream: _Bytes, at: int, size: int) -> None:
    """Read to the end, where a compressed file has its checksum."""
    while chunk := stream.read(CHUNK):
        at += len(chunk)
        if at > size:
            raise _damaged(path, f"it goes on for more than {size} bytes")


def _damaged(path: Path, what: str, remedy: str = "fetch or write it again") -> InputError:
    return InputError(f"not a readable FITS file ({what})", file=path, remedy=remedy)
