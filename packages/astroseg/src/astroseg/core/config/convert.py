"""What the weights of another program do not say of themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from astroseg.core.config.data import Contrast
from astroseg.core.errors import InputError


@dataclass(frozen=True)
class ConvertConfig:
    """What a file of weights does not say itself."""

    model: str = ""
    """Name in `astroseg.models.sizes.MODELS`, or empty with `config`."""
    config: str = ""
    """Detectron2 configuration file the model was trained with, for models beyond the list: it
    needs Detectron2, here and in prediction."""
    classes: tuple[str, ...] = ()
    """Names in the order of the model's labels."""
    bands: tuple[str, ...] = ()
    """Bands of the images it was trained on, in order, the bluest first for the colours of the
    Lupton contrasts and zscale, which put the reddest band first."""
    contrast: str = "lupton"
    """How their pixels were scaled, as of `DataConfig.contrast`."""
    stretch: float = 0.5
    """Of the Lupton contrasts, in the images' flux unit."""
    q: float = 10.0
    """Of the Lupton contrasts."""
    zeropoint: tuple[float, ...] = ()
    """AB magnitude of one unit of flux of its images, one or one per band; empty: unknown, and
    prediction takes fluxes as they are."""
    pixel_scale: float = 0.0
    """Of its images in arcsec; 0: unknown, and any image is taken."""
    pixel_mean: tuple[float, ...] = ()
    """Subtracted from the scaled pixels, as the network sees the channels; empty: Detectron2's own
    for this model, which DeepDISC leaves as they are."""
    pixel_std: tuple[float, ...] = ()
    """What they are divided by, likewise."""
    red_first: bool = False
    """Whether the network was trained on red first, as by DeepDISC, whose loaders do not turn the
    channels around; else on blue first, as Detectron2's own loader turns them."""
    skip: tuple[str, ...] = ()
    """Patterns (as of a shell) of weights to leave out: heads that this program lacks, such as
    DeepDISC's for redshifts."""

    def check(self) -> None:
        """Raise InputError for what is missing."""
        if bool(self.model) == bool(self.config):
            raise InputError(
                "the model is not given",
                remedy="give --model with a name, or --model-config with its file",
            )
        for name in ("classes", "bands"):
            if not getattr(self, name):
                raise InputError(
                    f"the {name} of the model are not given", remedy=f"give --{name} in their order"
                )
        if len(self.zeropoint) not in (0, 1, len(self.bands)):
            raise InputError(
                f"{len(self.zeropoint)} zero points for {len(self.bands)} bands",
                remedy="give one, or one for each band",
            )
        if self.contrast not in get_args(Contrast) or self.contrast == "auto":
            names = [name for name in get_args(Contrast) if name != "auto"]
            raise InputError(
                f"unknown contrast {self.contrast!r}", remedy=f"use one of {', '.join(names)}"
            )
