"""What the mask head should answer: truth masks resampled to regions, from RLE.

A mask is decoded once, into its tight box, when the first region needs it, so memory grows
with the objects' pixels, not with objects times the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import roi_align

from astroseg.core.rle import decode_tight
from astroseg.core.samples import Rle

# Regions resampled together are stacked at a common size; sides are rounded up to a power
# of two from this one on, so a stack is at most four times its masks' pixels.
SMALLEST_SIDE = 8


class TruthMasks:
    """Masks of one image, as RLE until a region asks for them."""

    def __init__(self, masks: Sequence[Rle]) -> None:
        self._masks = masks
        self._crops: dict[int, tuple[NDArray[np.uint8], int, int]] = {}

    def __len__(self) -> int:
        return len(self._masks)

    def _crop(self, index: int) -> tuple[NDArray[np.uint8], int, int]:
        """A mask in its box with one more pixel around, and the place of the first pixel.

        The margin is background, except beyond the image's edge, where it repeats the edge:
        resampling then gives what it would give on the whole image.
        """
        if index not in self._crops:
            rle = self._masks[index]
            height, width = rle["size"]
            mask, (y0, x0) = decode_tight(rle)
            crop = np.pad(mask.astype(np.uint8), 1)
            if x0 == 0:
                crop[:, 0] = crop[:, 1]
            if x0 + mask.shape[1] == width:
                crop[:, -1] = crop[:, -2]
            if y0 == 0:
                crop[0] = crop[1]
            if y0 + mask.shape[0] == height:
                crop[-1] = crop[-2]
            self._crops[index] = crop, x0 - 1, y0 - 1
        return self._crops[index]

    def targets(self, index: torch.Tensor, regions: torch.Tensor, side: int) -> torch.Tensor:
        """Masks resampled to regions, 1 where at least half of a cell is covered.

        Parameters
        ----------
        index : (N,) mask of each region.
        regions : (N, 4) XYXY inside the image.
        side : of the result, px.

        Returns
        -------
        (N, side, side) float32, 0 or 1.
        """
        output = torch.zeros(len(index), side, side)
        stacks: dict[int, list[int]] = {}
        chosen = index.tolist()
        for n, i in enumerate(chosen):
            longest = max(SMALLEST_SIDE, *self._crop(i)[0].shape)
            stacks.setdefault(1 << (longest - 1).bit_length(), []).append(n)
        for size, members in stacks.items():
            owners = sorted({chosen[n] for n in members})
            stack = np.zeros((len(owners), 1, size, size), dtype=np.float32)
            origin = np.zeros((len(owners), 2), dtype=np.float32)
            for k, i in enumerate(owners):
                crop, x0, y0 = self._crop(i)
                stack[k, 0, : crop.shape[0], : crop.shape[1]] = crop
                origin[k] = x0, y0
            place = {i: k for k, i in enumerate(owners)}
            rows = torch.tensor([place[chosen[n]] for n in members])
            shift = torch.from_numpy(origin).float()[rows].repeat(1, 2)
            boxes = torch.cat((rows[:, None].float(), regions[members].float() - shift), dim=1)
            cut = roi_align(
                torch.from_numpy(stack).float(), boxes, side, aligned=True, sampling_ratio=0
            )
            output[members] = (cut[:, 0] >= 0.5).float()
        return output
