"""What an annotation says of its source beside the mask: place, fluxes, shape, fit, flags."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrolabel.catalog.classify import Classes
from astrolabel.core.box import Box
from astrolabel.core.coadd import Coadd
from astrolabel.core.config import LabelConfig
from astrolabel.deblend.shape import Profile, half_light_radius
from astrolabel.label import flags
from astrolabel.label.records import Source, magnitudes

Values = dict[str, Any]


def attributes(
    coadd: Coadd,
    source: Source,
    sky: tuple[float, float],
    core: Box,
    classes: Classes,
    k: int,
    config: LabelConfig,
    residual: NDArray[np.float32],
) -> Values:
    """The attributes of a source that has a mask.

    Parameters
    ----------
    sky : RA and Dec of its centre, degrees.
    core : the image of the annotation, in the pixels of `coadd`.
    classes, k : the classes of all sources, and the row of this one.
    residual : (H, W) sigma of the detection image; NaN where nothing was fitted.
    """
    assert source.mask is not None
    values = magnitudes(source.flux, coadd.zeropoints)
    matched = classes.catalog_index[k] >= 0
    bits = flags.encode(
        source.fit_flags
        | flags.of_pixels(coadd, source.mask, (source.y, source.x), core, residual, config.check)
    )
    left = residual[source.mask.box.slices][source.mask.pixels].astype(np.float64)
    left = left[np.isfinite(left)]
    return {
        "ra": round(float(sky[0]), 7),  # 1e-7 deg is 0.4 mas
        "dec": round(float(sky[1]), 7),
        "x": round(source.centre[1] - core.x0, 3),
        "y": round(source.centre[0] - core.y0, 3),
        **{f"mag_{band}": round(float(m), 4) for band, m in zip(coadd.bands, values, strict=True)},
        **_fluxes(coadd, source),
        "snr": round(source.snr, 2),
        "chi2": round(float((left**2).mean()), 3) if left.size else None,
        **_shape(coadd, source),
        "object_id": str(classes.object_id[k]) if matched else None,
        "class_source": config.classify.scheme if matched else None,
        "n_blended": source.n_blended,
        "flags": flags.decode(bits),
        "flag_bits": bits,
    }


def _fluxes(coadd: Coadd, source: Source) -> Values:
    """Counts to six digits; None where not known."""
    out = {}
    for name, values in (("flux", source.flux), ("flux_err", source.flux_err)):
        for band, value in zip(coadd.bands, values, strict=True):
            out[f"{name}_{band}"] = float(f"{value:.6g}") if np.isfinite(value) else None
    return out


def _shape(coadd: Coadd, source: Source) -> Values:
    """The model's kind, and size, axis ratio, angle and Sersic index of what it is made of."""
    parts = source.profiles
    if not parts:
        return {"model": source.kind}
    if all(p.radius == 0 for p in parts):
        return {"model": "point"}
    unit, scale = _radius_unit(coadd)
    main = parts[0]
    out: Values = {
        "model": "sersic" if len(parts) == 1 else "disc+bulge",
        f"half_light_radius_{unit}": round(scale * half_light_radius(parts), 4),
        "axis_ratio": round(main.axis_ratio, 4),
        "theta": round(main.theta, 2),
        "position_angle": _position_angle(coadd, main),
    }
    if len(parts) == 1:
        return {**out, "sersic_index": round(main.index, 3)}
    for name, part in zip(("disc", "bulge"), parts, strict=True):
        out |= {
            f"{name}_radius_{unit}": round(scale * part.radius, 4),
            f"{name}_axis_ratio": round(part.axis_ratio, 4),
            f"{name}_index": round(part.index, 3),
        }
    whole = np.sum([p.flux for p in parts], axis=0)
    for band, bulge, total in zip(coadd.bands, parts[1].flux, whole, strict=True):
        out[f"bulge_fraction_{band}"] = round(float(bulge / total), 4) if total > 0 else None
    return out


def _radius_unit(coadd: Coadd) -> tuple[str, float]:
    """Arcsec, and how many a pixel has; pixels where there is no WCS."""
    scale = coadd.pixel_scale_arcsec
    return ("px", 1.0) if scale is None else ("arcsec", scale)


def _position_angle(coadd: Coadd, part: Profile) -> float | None:
    """Degrees of the major axis from north to east, 0 to 180; None without a WCS."""
    if coadd.wcs is None:
        return None
    (y, x), angle = part.centre, np.radians(part.theta)
    ra, dec = coadd.world([y, y + np.sin(angle)], [x, x + np.cos(angle)])
    east = (ra[1] - ra[0] + 180) % 360 - 180
    found = np.degrees(np.arctan2(east * np.cos(np.radians(dec[0])), dec[1] - dec[0]))
    return round(float(found) % 180, 2) if np.isfinite(found) else None
