"""From the noiseless picture of a simulated object to its mask."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TruthConfig:
    """From the noiseless picture of a simulated object to its mask. The numbers are those of
    the loader that came with Burke et al. (2019), and of DeepDISC's for the same scenes."""

    star_fraction: float = 0.005
    """A star's mask goes down to this fraction of its brightest pixel."""
    galaxy_fraction: float = 0.08
    """A galaxy's: lower, photon noise of its own would tear the outline."""
    smooth_px: float = 2.0
    """Sigma of the Gaussian that the mask is smoothed with; what is then at least a half is
    kept. Specks and frayed edges vanish, and so does an object of less than some 12 pixels."""
    smooth_radius_px: int = 4
    """Where that Gaussian is cut off."""
