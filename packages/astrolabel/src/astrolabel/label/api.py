"""`astrolabel.label`: files or arrays in, `Labels` out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from astrolabel.catalog.catalog import catalog_for
from astrolabel.core.config import LabelConfig, preset
from astrolabel.core.config.tree import from_dict
from astrolabel.core.errors import InputError
from astrolabel.core.yaml import read_yaml
from astrolabel.io import coco
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.io.layers import open_fits
from astrolabel.io.names import coadd_name
from astrolabel.label.arrays import files_of_arrays
from astrolabel.label.labels import KeptFolder, Labels
from astrolabel.label.pipeline import make_coco


def label(
    *images: Any,
    bands: str | Sequence[str] = (),
    variance: Any = None,
    mask: Any = None,
    psf: Any = None,
    wcs: Any = None,
    zeropoints: Any = None,
    catalog: str | Path | None = None,
    config: LabelConfig | Mapping[str, Any] | str | Path | None = None,
    name: str = "image",
    out: str | Path | None = None,
    jobs: int = 1,
    progress: bool = False,
) -> Labels:
    """Detect, deblend and mask the sources of one coadd or several.

    What is not given is taken from the files or the `NDData`; what these do not hold (sky,
    noise, PSF, saturated pixels) is estimated, as on the command line.

    Parameters
    ----------
    images : FITS files, one a band, or HSC and LSST coadds and folders of them; or arrays of
        (H, W), one a band, or one cube of (C, H, W); or `NDData` and `CCDData`.
    bands : names, blue to red: ``"gri"`` or ``("g", "r", "i")``. Where absent, those that
        the files name, else ``band1`` and so on.
    variance : of the pixels, counts squared: arrays shaped as the images, or files.
    mask : True (not zero) for bad pixels: arrays, or files.
    psf : stamps of (P, P), one or one a band, P odd: arrays, or files.
    wcs : celestial `astropy.wcs.WCS` or FITS header, for arrays.
    zeropoints : AB magnitude of one count: a number, one a band, or a mapping by band.
    catalog : file of objects that give the classes; `config` then names its kind, as in
        ``config={"classify": {"scheme": "hsc"}}``.
    config : a `LabelConfig`; a mapping of some of its settings; a YAML file of them; or the
        name of a preset, ``"paper"``.
    name : of the coadd, for arrays.
    out : folder that keeps the COCO file, pictures and cubes; they go with the `Labels`
        where absent.
    jobs : worker processes; -1 for all cores.
    progress : show a progress bar.

    Raises
    ------
    InputError
        When an input cannot be read or used; the message says which and what to do.
    OutputError
        When `out` cannot be written.

    Examples
    --------
    >>> import astrolabel as al
    >>> labels = al.label("g.fits", "r.fits", "i.fits")  # doctest: +SKIP
    >>> labels.table["ra", "dec", "mag_i"]  # doctest: +SKIP
    """
    if not images:
        raise InputError("nothing to label", remedy="give files or arrays")
    settings = _config(config)
    _check_classes(catalog, settings)
    keeps = KeptFolder() if out is None else None
    folder = Path(out) if keeps is None else keeps.path  # type: ignore[arg-type]
    planes = {"variance": variance, "mask": mask, "psf": psf}
    with TemporaryDirectory(prefix="astrolabel-in-") as made:
        inputs = _inputs(images, Path(made), name, tuple(bands), planes, wcs, zeropoints)
        found = None
        if catalog is not None:
            found = catalog_for(Path(catalog), settings.classify), Path(catalog)
        result = make_coco(find_coadds(inputs), settings, folder, found, jobs, progress)
    if result.problems and all(state != "ok" for _, state in result.tiles):
        raise InputError(result.problems[0])
    return Labels(coco.read(result.coco), folder, keeps)


def _inputs(
    images: Sequence[Any],
    made: Path,
    name: str,
    bands: tuple[str, ...],
    planes: Mapping[str, Any],
    wcs: Any,
    zeropoints: Any,
) -> Inputs:
    """Files as they are; arrays as files in the folder `made`."""
    given = [isinstance(image, str | Path) for image in images]
    if all(given):
        if wcs is not None:
            raise InputError("wcs is for arrays", remedy="files have their own")
        return _files([Path(image) for image in images], bands, **planes, points=zeropoints)
    if any(given):
        raise InputError("files and arrays together", remedy="give one kind")
    return files_of_arrays(images, made, name, bands, **planes, wcs=wcs, zeropoints=zeropoints)


def _check_classes(catalog: Any, settings: LabelConfig) -> None:
    if (catalog is None) != (settings.classify.scheme == "none"):
        raise InputError(
            "a catalog and the setting classify.scheme go together",
            remedy='give both: config={"classify": {"scheme": "hsc"}}',
        )


def _config(given: Any) -> LabelConfig:
    if given is None:
        return preset("default")
    if isinstance(given, LabelConfig):
        return given
    if isinstance(given, Mapping):
        return from_dict(LabelConfig, given, preset(str(given.get("preset", "default"))))
    path = Path(given)
    if path.suffix in (".yaml", ".yml"):
        values = read_yaml(path)
        return from_dict(LabelConfig, values, preset(str(values.get("preset", "default"))), path)
    return preset(str(given))


def _files(
    paths: Sequence[Path], bands: tuple[str, ...], variance: Any, mask: Any, psf: Any, points: Any
) -> Inputs:
    """What the files are: survey coadds by name, one cube, or one file a band."""
    for what, value in (("variance", variance), ("mask", mask), ("psf", psf)):
        if isinstance(value, np.ndarray):
            raise InputError(f"{what} is an array, the images are files", remedy="give one kind")
    survey = any(path.is_dir() or coadd_name(path) is not None for path in paths)
    if survey:
        names, given = bands, {"paths": tuple(paths), "bands": bands}
    elif len(paths) == 1 and len(bands) > 1:
        names, given = bands, {"band_files": ((bands, paths[0]),)}
    else:
        names = bands or _bands_of(paths)
        if len(names) != len(paths):
            raise InputError(f"{len(paths)} files, but {len(names)} bands", remedy="name each band")
        given = {"band_files": tuple(((n,), p) for n, p in zip(names, paths, strict=True))}
    return Inputs(
        **given,  # type: ignore[arg-type]
        variance=_by_band(variance, names, Path),
        mask=_by_band(mask, names, Path),
        psf=_by_band(psf, names, Path),
        zeropoints=_by_band(points, names, float),
    )


def _bands_of(paths: Sequence[Path]) -> tuple[str, ...]:
    """Bands by the ends of the files' names (``m31_g.fits``), else by their FILTER cards."""
    for find in (_band_by_name, _band_by_card):
        found = [find(path) for path in paths]
        if all(found) and len(set(found)) == len(found):
            return tuple(str(band) for band in found)
    return tuple(f"band{k + 1}" for k in range(len(paths)))


def _band_by_name(path: Path) -> str:
    """The last part of a name, where that can be a band: ``g``, ``Ks``, ``f105w``."""
    last = re.split(r"[-_]", path.name.partition(".fit")[0])[-1]
    return last if re.fullmatch(r"[A-Za-z]\w?|[Ff]\d{3}\w+", last) else ""


def _band_by_card(path: Path) -> str:
    try:
        with open_fits(path) as hdus:
            cards = [hdu.header.get("FILTER") or hdu.header.get("BAND") for hdu in hdus]
    except InputError:
        return ""
    return next((str(card).split()[0] for card in cards if card), "")


def _by_band(values: Any, bands: Sequence[str], kind: Any) -> dict[str, Any]:
    """Values by band: of a mapping, one a band, or one for all (``*``)."""
    if values is None:
        return {}
    if isinstance(values, Mapping):
        return {str(band): kind(value) for band, value in values.items()}
    if isinstance(values, str | Path | float | int):
        return {"*": kind(values)}
    if len(values) != len(bands):
        raise InputError(f"{len(values)} values for {len(bands)} bands", remedy="give one each")
    return {band: kind(value) for band, value in zip(bands, values, strict=True)}
