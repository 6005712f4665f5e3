"""How pixels and labels become what the network sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from astroseg.core.config.tree import Count, Fraction, Positive, PositiveInt

Contrast = Literal["auto", "asinh", "sky", "lupton", "lupton-hc", "zscale", "none"]


@dataclass(frozen=True)
class DataConfig:
    """Images and labels."""

    images: str = ""
    """Folder the image names are relative to; empty for that of the dataset file."""
    classes: tuple[str, ...] = ()
    """Names for lists of Detectron2 records, which have none, from id 0 on."""
    bands: tuple[str, ...] = ()
    """Bands the network gets, in order; empty for all in the order of the first image. A
    checkpoint knows its own."""
    contrast: Contrast = "auto"
    """How fluxes are scaled. auto: asinh, which takes any number of bands and neither clips
    stars nor hides faint wings as the paper's 8-bit scalings (lupton, lupton-hc, zscale) do;
    none for ordinary 8-bit pictures; sky makes three channels of any number of bands, with the
    sky subtracted. A checkpoint knows its own, as it knows the five settings below."""
    stretch: Positive = 0.5
    """Of the Lupton scalings, in the images' flux unit: the paper's, section 3.3, for HSC counts
    of zero point 27; 100 for its DECam simulations, appendix A."""
    q: Positive = 10.0
    """Of the Lupton scalings (paper, section 3.3)."""
    zscale_amplitude: Positive = 1e3
    """Value of one standard deviation in zscale (paper, section 3.3)."""
    clip_sigma: Positive = 3.0
    """Pixels this many sigma from the sky level are sources to the noise estimate of asinh.
    The estimate is then 1.4 % above the noise with 200 sources in 512x512 px, 8 % with 800. The
    contrast sky leaves out the pixels around sources too (`astroseg.data.sky_noise`)."""
    sky_cell: PositiveInt = 256
    """Side in px of the cells that the contrast sky measures the level of the sky in. Larger than
    the galaxies of a survey, smaller than what gradients vary on."""
    noise: Literal["measured", "dataset"] = "measured"
    """Sky noise in asinh. measured: in every image by one rule, so that a tile of a dataset and
    the same pixels in a survey's file look the same. dataset: astro.sky_sigma, where given."""
    nan: Literal["refuse", "zero"] = "refuse"
    """Pixels that are not finite. refuse names the image and their number, because an
    unmasked NaN spreads through a whole feature map; zero sets them to zero, the level
    of the subtracted sky, for images that mark missing data so. The contrast sky always does."""
    iscrowd: Literal["ignore", "object"] = "ignore"
    """Labels of iscrowd 1: regions to ignore (COCO's meaning), or objects, for tools that
    write it for every RLE mask."""
    strict: bool = False
    """Refuse a label file that needs repairs instead of counting them."""
    least_pixels: Count = 5
    """Labels of fewer pixels are neither objects nor background in training, 0 for none. They
    are a quarter of the labels of deep tiles; a network finds none of one pixel and a tenth of
    those of two to four. Without them in training and test mask AP of the demo's model is 0.58,
    with them 0.49."""
    reviewed_weight: Positive = 1.0
    """Of a label that a person has looked at (``attributes.reviewed``, as `astrolabel apply`
    writes it), in the losses of class, box and mask; every other label and the background weigh
    1. The losses stay means, so that W counts as W labels. How far to go depends on how many are
    reviewed and how wrong the rest is: 1 takes no difference."""
    keep_fraction: Fraction = 0.25
    """A source cut by a crop stays an object while this fraction of its mask is inside. With
    less, its peak and most of its flux are outside, and the rest can be separated neither from a
    neighbour's wing nor by class."""
