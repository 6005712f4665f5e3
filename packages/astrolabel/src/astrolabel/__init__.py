"""Survey coadds in, COCO instance labels out."""

from astrolabel.core.version import __version__

__all__ = ["__version__"]
