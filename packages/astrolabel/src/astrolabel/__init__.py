"""Survey coadds in, COCO instance labels out."""

__version__ = "0.1.0"
