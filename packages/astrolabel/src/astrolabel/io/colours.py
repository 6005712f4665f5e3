"""The colours of classes in every picture and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PALETTE = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00")
"""Okabe and Ito's colours, which the colour-blind distinguish, less the ones that are too
dark on sky: the first categories (galaxy, star) get blue and orange, the safest pair."""
IGNORED = "#c8c8c8"
"""Ignore regions are grey and dotted: no class, so no colour."""


def colours(categories: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Outline colour (``#rrggbb``) by category id, in the order of the categories."""
    return {item["id"]: PALETTE[n % len(PALETTE)] for n, item in enumerate(categories)}
