"""The whole recipe of a labelling run, its hash and its presets.

The dataclasses are frozen and hold plain values only, so that a configuration can be
written into the COCO file, read back and hashed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from astrolabel.core.config.catalog import ClassifyConfig
from astrolabel.core.config.check import CheckConfig
from astrolabel.core.config.deblend import DeblendConfig, HaloConfig
from astrolabel.core.config.detect import DetectConfig, ResidualConfig
from astrolabel.core.config.mask import MaskConfig
from astrolabel.core.config.prepare import PrepareConfig
from astrolabel.core.config.tile import TileConfig
from astrolabel.core.config.truth import TruthConfig
from astrolabel.core.errors import InputError


@dataclass(frozen=True)
class LabelConfig:
    """Everything `make-coco` needs beyond the input files."""

    preset: str = "default"
    tile: TileConfig = field(default_factory=TileConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)
    deblend: DeblendConfig = field(default_factory=DeblendConfig)
    mask: MaskConfig = field(default_factory=MaskConfig)
    classify: ClassifyConfig = field(default_factory=ClassifyConfig)
    truth: TruthConfig = field(default_factory=TruthConfig)
    check: CheckConfig = field(default_factory=CheckConfig)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def digest(self) -> str:
        """Hash of all values, 16 hex digits; equal configurations give equal hashes."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def preset(name: str) -> LabelConfig:
    """The named recipe.

    ``default`` is the best known; ``paper`` is the recipe of section 3.2 to the letter:
    sep alone, with its own background's rms and its default deblending, tiles on their own.
    """
    if name == "default":
        return LabelConfig()
    if name == "paper":
        return LabelConfig(
            preset="paper",
            tile=TileConfig(margin_px=0, max_no_data=0.3, overlaps="keep"),
            detect=DetectConfig(
                combine="sum",
                noise="sep",
                deblend_contrast=0.005,
                peaks="sep",
                join_saturated=False,
                source_probability=0.0,
                residual=ResidualConfig(rounds=0),
            ),
            deblend=DeblendConfig(halo=HaloConfig(reach_fwhm=0), share_excess=0.0),
            mask=MaskConfig(faint=1.0, min_area=1),
        )
    raise InputError(f"unknown preset {name!r}", remedy="choose default or paper")
