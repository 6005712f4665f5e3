"""The arguments of what comes from elsewhere, and goes there: cutouts, formats in and out."""

from __future__ import annotations

from pathlib import Path

from astrolabel.cli import datasets, labelling
from astrolabel.cli.settings import Parser


def add_fetch_cutout(one: Parser) -> None:
    one.add_argument(
        "--position", required=True, metavar="'RA DEC'", help="degrees, or 10:00:24 +02:12:00"
    )
    one.add_argument("--size", default="2arcmin", help="side (default 2arcmin)")
    one.add_argument(
        "--survey", required=True, metavar="NAME",
        help="legacy, hsc, hsc-deep, ps1, sdss, lsst (needs an account); any name with --hips",
    )  # fmt: skip
    one.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the files")
    one.add_argument("--bands", default="", help="such as gri (default: three of the survey's)")
    one.add_argument(
        "--pixel-scale", type=float, metavar="ARCSEC", help="of a pixel (default: the survey's)"
    )
    one.add_argument(
        "--hips", default="", metavar="ID",
        help="other HiPS maps of the CDS, with {band} in their id: CDS/P/DES-DR2/{band}",
    )  # fmt: skip
    one.set_defaults(run=labelling.fetch_cutout)


def add_export(one: Parser) -> None:
    from astrolabel.export import FORMATS

    one.add_argument(
        "coco", type=Path, metavar="FILE", help="coco.json, coco.parquet, or Detectron2 records"
    )
    one.add_argument(
        "--to",
        nargs="+",
        required=True,
        choices=tuple(FORMATS),
        help="; ".join(f"{name}: {what}" for name, what in FORMATS.items()),
    )
    one.add_argument("--out", type=Path, help="folder (default: the file's)")
    records = one.add_argument_group("when FILE is a list of Detectron2 records (DeepDISC)")
    records.add_argument(
        "--classes", metavar="NAME,NAME", help="of the category ids from 0, such as star,galaxy"
    )
    records.add_argument(
        "--polygons",
        choices=("centres", "edges"),
        default="centres",
        help="what their points are: centres of border pixels (OpenCV's contours; the default) "
        "or edges",
    )
    one.add_argument(
        "--images", type=Path, metavar="DIR",
        help="folder of the images, where they are not beside FILE; those of records are made "
        "into pictures and cubes",
    )  # fmt: skip
    one.set_defaults(run=datasets.export)


def add_import(one: Parser) -> None:
    from astrolabel.core.config import ImportConfig

    one.add_argument(
        "source", type=Path, metavar="FILE",
        help="a FITS segmentation map (SExtractor, photutils: 0 is sky); DS9 regions (.reg); or a "
        "catalog with ellipses (FITS, CSV, ECSV, Parquet, SExtractor's .cat)",
    )  # fmt: skip
    one.add_argument(
        "--image", nargs="+", required=True, metavar="[BAND=]FILE",
        help="FITS images on the same pixels, blue to red; or one picture",
    )  # fmt: skip
    one.add_argument("--out", type=Path, required=True, help="folder, or the COCO file")
    one.add_argument(
        "--class", dest="name", default="source", metavar="NAME",
        help="class of labels whose class FILE does not name (default source)",
    )  # fmt: skip
    one.add_argument(
        "--columns", nargs="+", default=[], metavar="WORD=COLUMN",
        help="of a catalog: x= y= (first=1 where its first pixel is 1) or ra= dec=; a= b= theta= "
        "(degrees from x) or pa= (from north to east), or radius=; scale= class= id=. Half axes "
        "are pixels, with ra= arcsec. Default: columns of SExtractor, photutils or sep",
    )  # fmt: skip
    default = ImportConfig()
    one.add_argument(
        "--ellipse-sigma", type=float, default=default.ellipse_sigma, metavar="N",
        help="half axes of masks in second moments, where there is no Kron radius (default 3)",
    )  # fmt: skip
    one.add_argument(
        "--ellipse-scale", type=float, default=default.ellipse_scale, metavar="N",
        help="half axes of masks in those of --columns (default 1)",
    )  # fmt: skip
    one.set_defaults(run=datasets.import_)
