"""Coadd, box, PSF, mask, configuration, errors and files: what every stage shares."""
