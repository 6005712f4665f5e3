"""A scene into files: coadds in the survey's layout, PSFs, catalogs, truth."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray
from PIL import Image

import astrolabel
from astrolabel.core.celestial import to_icrs
from astrolabel.core.files import write_bytes
from astrolabel.io import coco
from astrolabel.io.pictures import lupton
from astrolabel.simulate import planes
from astrolabel.simulate.artist import MASK_SIGMA
from astrolabel.simulate.catalogs import hsc_catalog, hst_catalog
from astrolabel.simulate.draw import Scene, Source

GALAXY_ID, STAR_ID = 1, 2
CATEGORIES = (
    {"id": GALAXY_ID, "name": "galaxy", "supercategory": "source"},
    {"id": STAR_ID, "name": "star", "supercategory": "source"},
)
LUPTON_Q = 10
"""Softening of the asinh stretch (paper, 3.3)."""


def write_scene(scene: Scene, out: str | Path) -> dict[str, Path]:
    """Write all files of a scene into a folder, each whole or not at all.

    Returns
    -------
    dict : paths by what they hold: ``g``, ``psf_g`` and so on for each band, ``catalog_hsc``,
        ``catalog_hst``, ``picture`` and, written last, ``truth``.

    Raises
    ------
    OutputError
        When the folder cannot be made or written.
    """
    out = Path(out)
    paths: dict[str, Path] = {}
    for n, band in enumerate(scene.spec.bands):
        paths[band.name] = out / image_name(scene, n)
        hdus = _masked_image(scene, n) if scene.spec.tract else _plain_image(scene, n)
        write_bytes(paths[band.name], fits_bytes(hdus))
        paths[f"psf_{band.name}"] = out / f"psf-{image_name(scene, n)}"
        stamp = fits.PrimaryHDU(scene.psfs[n])
        stamp.header["FILTER"] = band.filter
        stamp.header["SEEING"] = (band.fwhm_arcsec, "FWHM of the PSF, arcsec")
        write_bytes(paths[f"psf_{band.name}"], fits_bytes(fits.HDUList([stamp])))
    for name, table in (("catalog_hsc", hsc_catalog(scene)), ("catalog_hst", hst_catalog(scene))):
        paths[name] = out / f"{name}.fits"
        write_bytes(paths[name], _table_bytes(table))
    paths["picture"] = out / picture_name(scene)
    write_bytes(paths["picture"], png_bytes(picture(scene)))
    paths["truth"] = out / "truth.json"
    coco.write_json(paths["truth"], truth_document(scene))
    return paths


def image_name(scene: Scene, band: int) -> str:
    """File of one band: as the survey's archive calls it, or ``decam-g.fits``."""
    spec = scene.spec
    if spec.tract:
        return f"calexp-{spec.bands[band].filter}-{spec.tract}-{spec.patch}.fits"
    return f"{spec.name}-{spec.bands[band].name}.fits"


def picture_name(scene: Scene) -> str:
    spec = scene.spec
    return f"{spec.tract}-{spec.patch}.png" if spec.tract else f"{spec.name}.png"


def picture(scene: Scene) -> NDArray[np.uint8]:
    """(H, W, 3): Lupton's asinh picture, reddest band in red; black without data.

    Row 0 is the array's first row, so that the annotations' masks lie on the picture.
    """
    light = np.nan_to_num(scene.image, nan=0.0)
    return lupton(light[[0, len(light) // 2, -1]], scene.spec.lupton_stretch, LUPTON_Q)


def truth_document(scene: Scene) -> dict[str, Any]:
    """COCO document of the truth: the sources with a mask, in the order drawn."""
    info = {
        "description": f"simulated {scene.spec.name} scene: truth",
        "version": astrolabel.__version__,
        "config": scene.config.to_dict(),
        "mask": f"noiseless flux, summed over the bands, above {MASK_SIGMA:g} sky sigma of the "
        f"sum, in {scene.config.min_area} pixels or more",
        "threshold_counts": scene.threshold,
        "sky_sigma_counts": dict(zip(scene.spec.band_names, scene.sky_sigma, strict=True)),
        "without_mask": _without_mask(scene),
    }
    return coco.merge(info, CATEGORIES, [truth_shard(scene)])


def truth_shard(scene: Scene) -> dict[str, Any]:
    """The scene's image and annotations, as `coco.merge` takes them."""
    annotations = _annotations(scene) + (_regions(scene) if scene.config.keep_small else [])
    return {"image": _image_entry(scene), "annotations": annotations}


def _without_mask(scene: Scene) -> dict[str, list[float]]:
    """Positions of the sources too faint for a mask: a label on one of them is not false."""
    faint = [s.body for s in scene.sources if not s.has_mask]
    y, x = np.array([b.y for b in faint]), np.array([b.x for b in faint])
    ra, dec = to_icrs(scene.wcs, x, y) if faint else (y, x)
    return {"ra": np.round(ra, 7).tolist(), "dec": np.round(dec, 7).tolist()}


def _image_entry(scene: Scene) -> dict[str, Any]:
    spec = scene.spec
    return {
        "file_name": picture_name(scene),
        "height": scene.shape[0],
        "width": scene.shape[1],
        "astro": {
            "bands": list(spec.band_names),
            "zeropoint": [spec.zeropoint] * len(spec.bands),
            "wcs": dict(_wcs_header(scene)),
            "origin": list(spec.origin),
            "tract": spec.tract,
            "patch": spec.patch,
            "psf_fwhm_arcsec": [band.fwhm_arcsec for band in spec.bands],
            "files": [image_name(scene, n) for n in range(len(spec.bands))],
            "state": "ok",
        },
    }


def _annotations(scene: Scene) -> list[dict[str, Any]]:
    labelled = scene.labelled
    y = np.array([s.body.y for s in labelled])
    x = np.array([s.body.x for s in labelled])
    ra, dec = to_icrs(scene.wcs, x, y)
    return [
        coco.annotation(
            mask=source.mask,
            box=source.box,
            image_shape=scene.shape,
            category_id=STAR_ID if source.body.is_star else GALAXY_ID,
            attributes=_attributes(scene, source, float(ra[n]), float(dec[n])),
        )
        for n, source in enumerate(labelled)
    ]


def _regions(scene: Scene) -> list[dict[str, Any]]:
    """Ignore regions of the sources without a mask."""
    found = []
    for source in scene.sources:
        light = source.stamp.sum(0)
        if not source.has_mask and light.max() > scene.threshold / MASK_SIGMA:
            found.append(
                coco.annotation(
                    mask=light >= 0.5 * light.max(),
                    box=source.box,
                    image_shape=scene.shape,
                    category_id=STAR_ID if source.body.is_star else GALAXY_ID,
                    attributes={"y": source.body.y, "x": source.body.x, "class_source": "truth"},
                    iscrowd=1,
                )
            )
    return found


def _attributes(scene: Scene, source: Source, ra: float, dec: float) -> dict[str, Any]:
    body, (height, width) = source.body, scene.shape
    edges = (source.box.y0 == 0, source.box.x0 == 0)
    far_edges = (source.box.y1 == height, source.box.x1 == width)
    signal = float(source.stamp.sum(0)[source.mask].sum())
    noise = scene.threshold / MASK_SIGMA * float(np.sqrt(source.mask.sum()))
    return {
        "ra": ra,
        "dec": dec,
        "y": body.y,
        "x": body.x,
        **{
            f"mag_{name}": float(mag)
            for name, mag in zip(scene.spec.band_names, body.mags, strict=True)
        },
        "snr": signal / noise,
        "blendedness": source.blendedness,
        "n_blended": source.n_blended,
        "half_light_radius_arcsec": body.half_light_arcsec,
        "object_id": str(source.object_id),
        "class_source": "truth",
        **({"bright": body.bright} if scene.config.bright else {}),
        "flags": [
            name
            for name, is_set in (
                ("edge", any(edges + far_edges)),
                ("saturated", source.saturated),
            )
            if is_set
        ],
    }


def _masked_image(scene: Scene, band: int) -> fits.HDUList:
    """One band in the MaskedImage layout: empty primary, IMAGE, MASK, VARIANCE."""
    spec = scene.spec
    primary = fits.PrimaryHDU()
    primary.header["FILTER"] = spec.bands[band].filter
    primary.header["FLUXMAG0"] = (10 ** (0.4 * spec.zeropoint), "counts of AB magnitude zero")
    primary.header["SEEING"] = (spec.bands[band].fwhm_arcsec, "FWHM of the PSF, arcsec")
    primary.header["ORIGIN"] = "astrolabel simulate"
    hdus = [primary]
    for kind, data in (
        ("IMAGE", scene.image[band]),
        ("MASK", scene.mask[band]),
        ("VARIANCE", scene.variance[band]),
    ):
        hdu = fits.ImageHDU(data, header=_patch_header(scene))
        hdu.header["EXTTYPE"] = kind
        hdu.header["EXTNAME"] = kind
        if kind == "MASK":
            for name, bit in sorted(planes.BITS.items()):
                # Names of more than eight characters are long keywords by convention.
                key = f"MP_{name}" if len(name) <= 5 else f"HIERARCH MP_{name}"
                hdu.header[key] = bit
        hdus.append(hdu)
    return fits.HDUList(hdus)


def _patch_header(scene: Scene) -> fits.Header:
    """WCS, and the image's place in its tract: LTV cards and the linear WCS "A"."""
    header = _wcs_header(scene)
    y0, x0 = scene.spec.origin
    header["LTV1"], header["LTV2"] = -x0, -y0
    header["INHERIT"] = True
    for axis, value, name in ((1, x0, "Column"), (2, y0, "Row")):
        header[f"CRVAL{axis}A"] = (value, f"{name} pixel of Reference Pixel")
        header[f"CRPIX{axis}A"] = (1, f"{name} Pixel Coordinate of Reference")
        header[f"CTYPE{axis}A"] = "LINEAR"
        header[f"CUNIT{axis}A"] = "pixel"
    return header


def _wcs_header(scene: Scene) -> fits.Header:
    """The WCS as CD cards, as the surveys write it."""
    wcs = scene.wcs.wcs
    header = fits.Header()
    header["EQUINOX"] = 2000.0
    header["RADESYS"] = wcs.radesys
    for n in (1, 2):
        header[f"CTYPE{n}"] = wcs.ctype[n - 1]
        header[f"CUNIT{n}"] = "deg"
        header[f"CRVAL{n}"] = float(wcs.crval[n - 1])
        header[f"CRPIX{n}"] = float(wcs.crpix[n - 1])
        for m in (1, 2):
            header[f"CD{n}_{m}"] = float(wcs.cd[n - 1, m - 1])
    return header


def _plain_image(scene: Scene, band: int) -> fits.HDUList:
    """One band as the DECam Legacy Survey cuts it out: image and WCS, no mask, no variance."""
    hdu = fits.PrimaryHDU(scene.image[band], header=_wcs_header(scene))
    name = scene.spec.bands[band].name
    hdu.header["SURVEY"] = ("DECaLS", "whose zero point, 22.5, this has")
    hdu.header["VERSION"] = "SIM"
    hdu.header["BANDS"] = name
    hdu.header["BAND0"] = name
    return fits.HDUList([hdu])


def fits_bytes(hdus: fits.HDUList) -> bytes:
    stream = io.BytesIO()
    hdus.writeto(stream)
    return stream.getvalue()


def _table_bytes(table: Table) -> bytes:
    return fits_bytes(fits.HDUList([fits.PrimaryHDU(), fits.table_to_hdu(table)]))


def png_bytes(rgb: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, format="PNG")
    return stream.getvalue()
