"""Box-local RLE equals what pycocotools does on whole frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from astroseg.core.rle import decode_tight, encode_at

masks = arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def coco(mask: NDArray[np.bool_]) -> dict[str, object]:
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}


@given(masks)
def test_decoding_gives_the_mask_in_its_tight_box(mask: NDArray[np.bool_]) -> None:
    bitmap, (y, x) = decode_tight(coco(mask))
    frame = np.zeros_like(mask)
    frame[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] = bitmap
    assert (frame == mask).all()
    if mask.any():
        for edge in (bitmap[0], bitmap[-1], bitmap[:, 0], bitmap[:, -1]):
            assert edge.any()
    else:
        assert bitmap.shape == (0, 0)


@given(masks, st.integers(-8, 8), st.integers(-8, 8))
def test_encoding_at_a_corner_equals_pycocotools_of_the_frame(
    mask: NDArray[np.bool_], y: int, x: int
) -> None:
    frame = np.zeros((40, 40), np.bool_)
    frame[14 + y : 14 + y + mask.shape[0], 14 + x : 14 + x + mask.shape[1]] = mask
    image = frame[14:26, 14:24]
    assert encode_at(mask, (y, x), (12, 10)) == coco(image)


@pytest.mark.parametrize(
    ("rle", "problem"),
    [
        ({"size": [4, 4], "counts": [3, 4]}, "cover 7 pixels"),
        ({"size": [4, 4], "counts": [20, -4]}, "negative"),
        ({"size": [4, 4], "counts": ""}, "empty"),
        ({"size": [4, 4], "counts": "zzzzzzzzzz"}, "COCO does not use"),
        ({"size": [4, 4], "counts": 5}, "not text or a list"),
        ({"size": [4], "counts": [16]}, "size"),
    ],
)
def test_broken_rle_is_refused_before_it_reaches_pycocotools(
    rle: dict[str, object], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        decode_tight(rle)
