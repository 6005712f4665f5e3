"""Every number that labels depend on, one module a stage: unit, default and reason."""

from astrolabel.core.config.catalog import ClassifyConfig, FusionConfig
from astrolabel.core.config.check import CheckConfig
from astrolabel.core.config.deblend import (
    DeblendConfig,
    HaloConfig,
    ModelConfig,
    PhotometryConfig,
    SkyConfig,
    StartConfig,
)
from astrolabel.core.config.detect import SOURCE_TABLE, DetectConfig, FitConfig, ResidualConfig
from astrolabel.core.config.importing import ImportConfig
from astrolabel.core.config.label import LabelConfig, preset
from astrolabel.core.config.mask import MaskConfig
from astrolabel.core.config.prepare import PrepareConfig
from astrolabel.core.config.simulate import SimulateConfig, smooth
from astrolabel.core.config.tile import TileConfig
from astrolabel.core.config.truth import TruthConfig

__all__ = [
    "SOURCE_TABLE",
    "CheckConfig",
    "ClassifyConfig",
    "DeblendConfig",
    "DetectConfig",
    "FitConfig",
    "FusionConfig",
    "HaloConfig",
    "ImportConfig",
    "LabelConfig",
    "MaskConfig",
    "ModelConfig",
    "PhotometryConfig",
    "PrepareConfig",
    "ResidualConfig",
    "SimulateConfig",
    "SkyConfig",
    "StartConfig",
    "TileConfig",
    "TruthConfig",
    "preset",
    "smooth",
]
