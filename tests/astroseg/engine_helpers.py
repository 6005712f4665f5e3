"""Samples for tests of the engines."""

import numpy as np

from astroseg.core.rle import encode_at
from astroseg.core.samples import Sample


def sample(height=48, width=64, corners=((5, 7), (30, 20), (12, 40)), seed=0):
    """Noise with bright rectangles 8 wide and 6 high."""
    image = np.random.default_rng(seed).normal(size=(3, height, width)).astype(np.float32)
    boxes, masks = [], []
    for y, x in corners:
        image[:, y : y + 6, x : x + 8] += 5
        boxes.append([x, y, x + 8, y + 6])
        masks.append(encode_at(np.ones((6, 8), bool), (y, x), (height, width)))
    labels = np.arange(len(corners)) % 2
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Sample(image, boxes, labels.astype(np.int64), tuple(masks))
