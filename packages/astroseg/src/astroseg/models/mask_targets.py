"""What the mask head should answer: truth masks resampled to regions, on the model's device.

Memory grows with the objects' pixels, not with objects times the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import roi_align

from astroseg.core.crops import Crops, from_rles
from astroseg.core.samples import Rle


class TruthMasks:
    """Masks of one image, decoded and moved to the device when a region first asks for them."""

    def __init__(self, masks: Sequence[Rle], device: torch.device | str = "cpu") -> None:
        self._masks, self._device = masks, torch.device(device)

    def __len__(self) -> int:
        return len(self._masks)

    @cached_property
    def _crops(self) -> Crops:
        return self._masks if isinstance(self._masks, Crops) else from_rles(self._masks)

    @cached_property
    def _stacks(self) -> list[torch.Tensor]:
        return [to_device(stack, self._device).float()[:, None] for stack in self._crops.stacks]

    @cached_property
    def _places(self) -> torch.Tensor:
        """(N, 4): stack, row, and the (x, y) of the crop's first pixel, of each mask."""
        crops = self._crops
        origin = crops.corners[:, ::-1] - 1
        columns = np.column_stack([crops.stack, crops.row, origin])
        return to_device(columns, self._device)

    def targets(self, index: torch.Tensor, regions: torch.Tensor, side: int) -> torch.Tensor:
        """Masks resampled to regions, 1 where at least half of a cell is covered.

        Parameters
        ----------
        index : (N,) mask of each region.
        regions : (N, 4) XYXY inside the image.
        side : of the result, px.

        Returns
        -------
        (N, side, side) float32, 0 or 1, on the masks' device.
        """
        regions = regions.to(self._device).float()
        output = regions.new_zeros(len(index), side, side)
        if not len(index):
            return output
        places = self._places[index.to(self._device)]
        for number, stack in enumerate(self._stacks):
            members = torch.nonzero(places[:, 0] == number).flatten()
            chosen = places[members]
            shifted = regions[members] - chosen[:, 2:].repeat(1, 2)
            boxes = torch.cat((chosen[:, 1:2].to(shifted), shifted), dim=1)
            cut = roi_align(stack, boxes, side, aligned=True, sampling_ratio=0)
            output[members] = (cut[:, 0] >= 0.5).to(output)
        return output


class IgnoreRegions:
    """Where an image has no truth: what is found there is neither right nor wrong.

    Parameters
    ----------
    bitmap : (H, W) bool, on the model's device.
    """

    def __init__(self, bitmap: torch.Tensor) -> None:
        sums = bitmap.to(torch.int64).cumsum(0).cumsum(1)
        self._sums = torch.nn.functional.pad(sums, (1, 0, 1, 0))

    def cover(self, boxes: torch.Tensor) -> torch.Tensor:
        """(N,) fraction of the pixels of boxes (N, 4), inside the image, that lie in a region."""
        height, width = (n - 1 for n in self._sums.shape)
        x0, x1 = (boxes[:, i].round().long().clamp(0, width) for i in (0, 2))
        y0, y1 = (boxes[:, i].round().long().clamp(0, height) for i in (1, 3))
        sums = self._sums
        inside = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
        return inside / ((x1 - x0) * (y1 - y0)).clamp(min=1)

    def cells(self, regions: torch.Tensor, side: int) -> torch.Tensor:
        """(N, side, side) bool, whether the centres of a grid over each region lie in it."""
        height, width = (n - 1 for n in self._sums.shape)
        middle = (torch.arange(side, device=regions.device) + 0.5) / side
        x = regions[:, :1] + middle * (regions[:, 2:3] - regions[:, :1])
        y = regions[:, 1:2] + middle * (regions[:, 3:] - regions[:, 1:2])
        column = x.floor().long().clamp(0, width - 1)[:, None, :].expand(-1, side, -1)
        row = y.floor().long().clamp(0, height - 1)[:, :, None].expand(-1, -1, side)
        sums = self._sums
        value = sums[row + 1, column + 1] - sums[row, column + 1]
        return value - sums[row + 1, column] + sums[row, column] > 0


def to_device(array: NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """An array on a device; to a GPU by pinned memory, while the program goes on."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
