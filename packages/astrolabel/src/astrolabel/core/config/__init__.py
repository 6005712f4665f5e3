"""Every number that labels depend on, one module a stage: unit, default and reason."""

from pathlib import Path

from astrolabel.core.config.catalog import ClassifyConfig
from astrolabel.core.config.deblend import DeblendConfig
from astrolabel.core.config.detect import DetectConfig, GlareConfig, HiddenConfig, StructureConfig
from astrolabel.core.config.label import LabelConfig, preset
from astrolabel.core.config.mask import MaskConfig
from astrolabel.core.config.prepare import PrepareConfig
from astrolabel.core.config.simulate import SimulateConfig, smooth
from astrolabel.core.config.tile import TileConfig
from astrolabel.core.config.truth import TruthConfig

__all__ = [
    "ClassifyConfig",
    "DeblendConfig",
    "DetectConfig",
    "GlareConfig",
    "HiddenConfig",
    "LabelConfig",
    "MaskConfig",
    "PrepareConfig",
    "SimulateConfig",
    "StructureConfig",
    "TileConfig",
    "TruthConfig",
    "preset",
    "smooth",
]

SOURCE_TABLE = Path(__file__).with_name("source_probability.json")
