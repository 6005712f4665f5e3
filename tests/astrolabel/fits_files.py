"""Small FITS files in survey layouts, written for the tests of readers and pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

SIGMA = 0.02
FWHM_PX = 4.0


def tan_wcs(shape, scale_arcsec=0.168, ra=150.1, dec=2.2, origin=(0, 0)):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [shape[1] / 2 + 0.5 - origin[1], shape[0] / 2 + 0.5 - origin[0]]
    wcs.wcs.cdelt = [-scale_arcsec / 3600, scale_arcsec / 3600]
    return wcs


def gaussian(shape, y, x, flux, fwhm=FWHM_PX):
    s = fwhm / 2.3548
    gy, gx = np.indices(shape)
    return flux / (2 * np.pi * s * s) * np.exp(-((gy - y) ** 2 + (gx - x) ** 2) / (2 * s * s))


def scene(shape=(128, 160), n=12, seed=1, sigma=SIGMA, margin=12):
    """(image float32, positions) of `n` well-separated stars of S/N 30 to 300 on noise."""
    rng = np.random.default_rng(seed)
    cells = [
        (y, x)
        for y in range(margin, shape[0] - margin, 24)
        for x in range(margin, shape[1] - margin, 24)
    ]
    chosen = rng.permutation(len(cells))[:n]
    image = rng.normal(0, sigma, shape)
    positions = []
    for k in chosen:
        y, x = np.array(cells[k]) + rng.uniform(-3, 3, 2)
        image += gaussian(shape, y, x, sigma * 10 ** rng.uniform(2.3, 3.3))
        positions.append((y, x))
    return image.astype(np.float32), np.array(positions)


def write_plain(path: Path, image, wcs=None, **cards):
    header = fits.Header() if wcs is None else wcs.to_header()
    header.update(cards)
    fits.PrimaryHDU(image, header).writeto(path, overwrite=True)
    return path


def write_calexp(
    folder: Path, band, image, *, tract="9813", patch="4,5", planes=None, mask=None,
    variance=None, origin=(0, 0), exttype=True, compress=False, wcs=None, fluxmag0=None,
):  # fmt: skip
    """One band of an HSC coadd, `calexp-HSC-<BAND>-<tract>-<patch>.fits`."""
    folder.mkdir(parents=True, exist_ok=True)
    planes = planes or {"BAD": 0, "SAT": 1, "NO_DATA": 8}
    header = (wcs or tan_wcs(image.shape)).to_header()
    header["LTV1"], header["LTV2"] = -origin[1], -origin[0]
    mask = np.zeros(image.shape, np.int32) if mask is None else mask
    variance = np.full(image.shape, SIGMA**2, np.float32) if variance is None else variance
    primary = fits.PrimaryHDU()
    if fluxmag0 is not None:
        primary.header["FLUXMAG0"] = fluxmag0
    kind = fits.CompImageHDU if compress else fits.ImageHDU
    hdus = [primary]
    for name, data in (("IMAGE", image), ("MASK", mask), ("VARIANCE", variance)):
        hdu = kind(data, header.copy())
        if exttype:
            hdu.header["EXTTYPE"] = name
        if name == "MASK":
            for plane, bit in planes.items():
                hdu.header[f"HIERARCH MP_{plane}"] = bit
        hdus.append(hdu)
    path = folder / f"calexp-HSC-{band.upper()}-{tract}-{patch}.fits"
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path
