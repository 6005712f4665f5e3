"""What each step of detection is worth: the default recipe without it, or with a plainer one.

    python benchmarks/ablation.py [--seeds 21 22 23] [--size 700] [--density 100] [--bright 0]
                                  [--steps NAME ...] [--probabilities 0.1 0.3 0.5 ...]

All recipes label the same scenes; columns and scenes are those of benchmarks/labels.py. The
source probability has most of its work with bright objects: --bright 6 adds as many large
galaxies and saturated stars to each scene. --probabilities prints the default recipe at other
values of `detect.source_probability` instead: its curve of completeness against purity.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from labels import print_table

from astrolabel.core.config import LabelConfig, preset
from astrolabel.simulate import SimulateConfig

STEPS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "sep's peaks": {"detect.peaks": "sep"},
    "coarse peaks only": {"detect.log_widths_fwhm": (0.43,)},
    "one residual search": {"detect.residual.rounds": 1},
    "no residual search, no close pairs": {"detect.residual.rounds": 0},
    "peaks on ridges": {"detect.log_ridge": 0.0},
    "no close pairs": {"detect.residual.pair_gain": math.inf},
    "peaks on saturated regions": {"detect.join_saturated": False},
    "every candidate": {"detect.source_probability": 0.0},
    "sure sources only": {"detect.source_probability": 0.7},
    "models without shares": {"deblend.share_excess": 0.0},
    "sep's noise": {"detect.noise": "sep"},
    "bands by their noise": {"detect.combine": "weighted"},
    "masks at 5 sigma only": {"mask.faint": 1.0},
    "groups at 5 sigma": {"deblend.grouping_sigma": 5.0},
}
"""What is set by the name of its row."""


def changed(config: Any, values: Mapping[str, Any]) -> Any:
    """A configuration with some fields set, named by dots: ``detect.residual.rounds``."""
    for name, value in values.items():
        first, dot, rest = name.partition(".")
        inner = changed(getattr(config, first), {rest: value}) if dot else value
        config = dataclasses.replace(config, **{first: inner})
    return config


def recipes(names: list[str]) -> dict[str, LabelConfig]:
    """The default recipe without each of these steps."""
    return {name: changed(preset("default"), STEPS[name]) for name in names}


def at_probability(value: float) -> LabelConfig:
    """The default recipe at another source probability."""
    return changed(preset("default"), {"detect.source_probability": value})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[21, 22, 23])
    parser.add_argument("--size", type=int, default=700)
    parser.add_argument("--density", type=float, nargs="+", default=[100.0])
    parser.add_argument("--bright", type=int, default=0)
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--probabilities", type=float, nargs="+", default=[])
    options = parser.parse_args()
    chosen = {str(p): at_probability(p) for p in options.probabilities} or recipes(options.steps)
    for density in options.density:
        scenes = [
            SimulateConfig(
                seed=seed,
                size=options.size,
                density_per_arcmin2=density,
                bright=options.bright,
            )
            for seed in options.seeds
        ]
        print_table(scenes, chosen)


if __name__ == "__main__":
    main()
