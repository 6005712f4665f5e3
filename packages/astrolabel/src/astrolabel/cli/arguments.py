"""The arguments of every command."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from astrolabel.catalog.columns import SCHEMES
from astrolabel.cli import datasets, labelling, reading
from astrolabel.cli.exchange import add_export, add_fetch_cutout, add_import
from astrolabel.cli.settings import Parser, add_settings
from astrolabel.core.config import SimulateConfig


def add_report(one: Parser) -> None:
    one.add_argument("coco", type=Path, metavar="COCO.json")
    one.add_argument("--catalog", type=Path, help="FITS, CSV or Parquet table to compare with")
    one.add_argument("--scheme", choices=SCHEMES[1:], help="kind of the catalog")
    one.add_argument("--truth", type=Path, help="truth.json of a simulated sky")
    one.add_argument(
        "--out",
        type=Path,
        help="page (default: report.html beside the file); its numbers go beside it as .json",
    )
    one.add_argument("--quiet", action="store_true", help="no progress bar")
    _add_images(one)
    one.set_defaults(run=datasets.report)


def _add_images(one: Parser) -> None:
    one.add_argument(
        "--images", type=Path, metavar="DIR",
        help="folder of the images (default: found beside the file, or as in COCO's own sets)",
    )  # fmt: skip


def add_simulate(one: Parser) -> None:
    one.add_argument("out", type=Path, metavar="OUT", help="folder for the files")
    one.add_argument(
        "--randomize",
        type=int,
        metavar="N",
        help="a training sky instead: N scenes of random seeing, depth, pixels, bands and defects, "
        "as one COCO file; --size, --seed and --galaxies hold for all (default 256 pixels)",
    )
    one.add_argument("--workers", type=int, default=1, help="processes for --randomize")
    add_settings(one, SIMULATION, tree=SimulateConfig(seed=0))
    one.set_defaults(run=labelling.simulate)


SIMULATION = {
    "survey": (
        "--survey",
        'hsc-deep: g,r,i at 0.168"/px, MaskedImage files; decam: g,r,z at 0.262"/px',
    ),
    "size": ("--size", "side in pixels (default 1050; decam 512)"),
    "seed": ("--seed", "another seed, another sky"),
    "density_per_arcmin2": (
        "--density",
        "sources with a truth mask per square arcminute (default: the survey's)",
    ),
    "pair_fraction": (
        "--pairs",
        "galaxies with a neighbour within three seeing discs (default 0.5: a third of a deep "
        "field's sources are blended; 1: nearly half)",
    ),
    "star_fraction": (
        "--stars",
        "part of what is drawn that is a star (default: the survey's; 1: a field of stars alone)",
    ),
    "bright": (
        "--bright",
        "add so many large structured galaxies and as many saturated stars",
    ),
    "galaxies": (
        "--galaxies",
        "folder of a GalSim RealGalaxyCatalog, such as the COSMOS sample: galaxies look like these",
    ),
    "galaxy_subset": ("--galaxy-subset", "rows of that catalog: train even, test odd"),
    "seeing_arcsec": ("--seeing", "FWHM of the PSF in the reddest band, arcsec"),
    "depth_mag": ("--depth", "5 sigma point-source depth in the reddest band, AB"),
    "pixel_scale_arcsec": ("--pixel-scale", "side of a pixel, arcsec"),
}


def add_describe(one: Parser) -> None:
    _add_files(one)
    add_settings(one, COMMON)
    one.set_defaults(run=labelling.describe)


def _add_files(one: Parser) -> Any:
    """The options that name survey files."""
    group = one.add_argument_group("which files")
    group.add_argument(
        "inputs", nargs="*", type=Path, metavar="INPUT", help="HSC or LSST coadds, or folders"
    )
    group.add_argument(
        "--band", nargs="+", action="extend", default=[], metavar="NAME=FILE",
        help="a plain FITS file of one band; NAME,NAME=FILE for the planes of a cube",
    )  # fmt: skip
    group.add_argument("--bands", help="bands to use, blue to red (default: all there are)")
    for name, what in (
        (
            "variance",
            "variance image, where it is not in the same file; also an inverse variance "
            "or rms, where HDU or file name has that word",
        ),
        ("rms", "rms image, in place of the variance"),
        ("mask", "mask image: MP_ cards, --mask-planes, or non-zero means bad"),
        (
            "psf",
            "PSF stamp(s): an image, a cube or one HDU per band; or stamps by position: a cube "
            "and a table HDU POSITIONS with x and y, pixels of the coadd from 0, for each; or a "
            "folder of the stamps of HSC's PSF picker",
        ),
        ("zeropoint", "AB magnitude of one count, where the header has none"),
    ):
        value = "VALUE" if name == "zeropoint" else "FILE"
        group.add_argument(
            f"--{name}", nargs="+", action="extend", default=[], metavar=f"[BAND=]{value}",
            help=what,
        )  # fmt: skip
    group.add_argument(
        "--mask-planes", nargs="+", action="extend", default=[], metavar="NAME=BIT",
        help="bits of a mask without MP_ cards: NO_DATA and BAD are no data, SAT is "
        "saturated, INTRP interpolated, BRIGHT_OBJECT near a bright star",
    )  # fmt: skip
    group.add_argument(
        "--survey", default="", metavar="NAME",
        help="read the files as those of this survey (docs/surveys.md); default: by their headers",
    )  # fmt: skip
    group.add_argument("--strict", action="store_true", help="a doubt about a coadd is an error")
    return group


def add_make_coco(one: Parser) -> None:
    group = _add_files(one)
    group.add_argument("--manifest", type=Path, help="a dataset file instead of all this")
    group.add_argument("--root", type=Path, help="folder of the manifest's files")
    group = one.add_argument_group("classes")
    group.add_argument("--catalog", type=Path, help="FITS, CSV or Parquet table")
    group.add_argument("--columns", **COLUMNS)
    _add_output(one)
    add_settings(one, COMMON)
    one.set_defaults(run=labelling.make_coco)


COLUMNS: dict[str, Any] = {
    "nargs": "+",
    "metavar": "WORD=COLUMN",
    "help": "any other catalog: id= ra= dec= and extendedness= or class= galaxy=VALUE star=VALUE; "
    "also mag_<band>= flux_<band>= (nJy) primary= unit=rad epoch= match=magnitude",
}


COMMON = {
    "classify.scheme": (
        "--scheme",
        "kind of the catalog. hsc: extendedness of the forced catalogs; hst: mu_class of ACS in "
        "COSMOS; lsst: extendedness of Object tables; columns: see --columns",
    ),
    "classify.class_bands": (
        "--class-bands",
        "bands whose extendedness gives the class, by its mean: g,r,i (default: i)",
    ),
    "classify.keep_unmatched": (
        "--keep-unmatched",
        "keep sources without a class as ignore regions (iscrowd 1)",
    ),
    "deblend.engine": (
        "--deblender",
        "parametric (built in); scarlet, scarlet2 where installed (`astrolabel docs deblenders`)",
    ),
    "detect.combine": (
        "--detection-image",
        "auto (default): sum of the bands; weighted by depth where one is much shallower; sum (the "
        "paper's); weighted: each divided by its sky noise first",
    ),
    "tile.size": ("--tile-size", "longest side of a tile, pixels (default 1050)"),
    "tile.margin_px": (
        "--margin --halo",
        "pixels around a tile that are fitted with it (default 64)",
    ),
    "tile.overlaps": (
        "--overlaps",
        "where coadds overlap, resolve: label each source in one of them (default); keep: in each",
    ),
}
"""The settings that help shows, by their short options."""


def add_truth_coco(one: Parser) -> None:
    one.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER",
        help="folders of scenes, each a folder with img_<band>.fits and masks.fits: one HDU an "
        "object, CLASS_ID 1 for a star, 2 for a galaxy",
    )  # fmt: skip
    one.add_argument("--bands", help="bands to use, blue to red (default: all there are)")
    one.add_argument(
        "--zeropoint", nargs="+", default=[], metavar="[BAND=]VALUE",
        help="AB magnitude of one count, where the header has none",
    )  # fmt: skip
    _add_output(one)
    add_settings(one, {"tile.size": COMMON["tile.size"]}, ("tile", "truth"))
    one.set_defaults(run=labelling.truth_coco)


def _add_output(one: Parser) -> None:
    """The options of whatever labels coadds."""
    group = one.add_argument_group("output")
    group.add_argument("--out", type=Path, help="folder (default: a manifest's name)")
    group.add_argument("--jobs", type=int, default=1, help="worker processes; -1: all cores")
    group.add_argument(
        "--memory", type=float, default=0.0, metavar="GB", help="of all workers together"
    )
    group.add_argument(
        "--backend", default="processes", metavar="NAME", help="dask, ray, slurm, pbs or htcondor"
    )
    group.add_argument("--scheduler", default="", metavar="ADDRESS", help="a running Dask or Ray")
    group.add_argument("--status", action="store_true", help="say how far the run in --out is")
    group.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_manifest(one: Parser, run: Callable[[argparse.Namespace], int]) -> None:
    one.add_argument("manifest", type=Path, metavar="FILE", help="the manifest")
    one.add_argument("--root", type=Path, help="folder of its files (default: as it says)")
    one.set_defaults(run=run)


def add_manifest_check(one: Parser) -> None:
    _add_manifest(one, labelling.manifest_check)
    one.add_argument("--quiet", action="store_true", help="no progress bar")


def add_manifest_fetch(one: Parser) -> None:
    add_manifest_check(one)
    _add_manifest_parallel(one)
    one.set_defaults(run=labelling.manifest_fetch)


def _add_manifest_parallel(one: Parser) -> None:
    one.add_argument(
        "--parallel", type=int, default=4, metavar="N", help="downloads at once (default 4)"
    )


def add_manifest_build(one: Parser) -> None:
    _add_manifest(one, labelling.manifest_build)
    _add_manifest_parallel(one)
    one.add_argument(
        "--no-fetch", action="store_true", help="label what is there; missing is an error"
    )
    _add_output(one)
    add_settings(one, COMMON)


def add_manifest_list(one: Parser) -> None:
    one.set_defaults(run=reading.manifest_list)


def add_manifest_copy(one: Parser) -> None:
    one.add_argument("name", metavar="NAME", help="as `astrolabel manifest list` shows it")
    one.add_argument("folder", nargs="?", default=".", metavar="FOLDER", help="(default: here)")
    one.set_defaults(run=reading.manifest_copy)


def add_docs(one: Parser) -> None:
    one.add_argument("page", nargs="?", metavar="PAGE", help="its name; all are listed without")
    one.set_defaults(run=reading.docs)


def add_relabel(one: Parser) -> None:
    one.add_argument("coco", type=Path, metavar="COCO.json")
    group = one.add_argument_group("classes")
    group.add_argument("--catalog", type=Path, required=True, help="FITS, CSV or Parquet table")
    group.add_argument("--columns", **COLUMNS)
    group.add_argument("--second", type=Path, help="another catalog, to be weighed with the first")
    group.add_argument("--second-scheme", choices=SCHEMES[1:-1], help="kind of the second")
    one.add_argument("--out", type=Path, required=True, help="new file, beside the old one")
    common = {name: COMMON[name] for name in COMMON if name.startswith("classify")}
    radius = {"classify.radius_arcsec": ("--radius", "match radius, arcsec (default 1)")}
    add_settings(one, {**common, **radius}, ("classify",))
    one.set_defaults(run=datasets.relabel)


def add_counts(one: Parser) -> None:
    one.add_argument("coco", type=Path, nargs="+", metavar="COCO.json")
    one.add_argument("--band", default="i", help="of the magnitudes (default i)")
    one.add_argument("--bin", type=float, default=0.5, metavar="MAG", help="width (default 0.5)")
    one.add_argument("--out", type=Path, help="CSV file for the table too")
    one.set_defaults(run=datasets.counts)


def add_split(one: Parser) -> None:
    one.add_argument("coco", nargs="+", type=Path, metavar="COCO.json", help="label files")
    one.add_argument(
        "--check", action="store_true", help="only look for what the files have in common"
    )
    how = one.add_mutually_exclusive_group()
    how.add_argument(
        "--fractions", nargs="+", metavar="PART=SHARE",
        help="shares of HEALPix cells (default train=0.8 val=0.1 test=0.1)",
    )  # fmt: skip
    how.add_argument(
        "--region", nargs="+", action="extend", metavar="PART=KIND:VALUE",
        help="circle:RA,DEC,RADIUS in degrees; moc:ORDER/CELLS or moc:FILE.fits; "
        "patches:TRACT/X,Y; coadds:PATTERN of image names",
    )  # fmt: skip
    how.add_argument("--manifest", type=Path, help="take the regions under its `splits`")
    one.add_argument(
        "--rest", default="train", metavar="PART",
        help="the part of images in no region; `none` leaves them out (default train)",
    )  # fmt: skip
    one.add_argument("--order", type=int, help="HEALPix order of the cells (default: an image's)")
    one.add_argument("--seed", type=int, default=0, help="another seed, other parts")
    one.add_argument(
        "--stable", action="store_true",
        help="parts of cells that stay when more sky is added later: fractions are met on average "
        "only (default: exactly, as far as cells of the sky allow)",
    )  # fmt: skip
    one.add_argument("--out", type=Path, help="folder (default: the first file's)")
    one.set_defaults(run=datasets.split)


def add_validate(one: Parser) -> None:
    one.add_argument("coco", type=Path, metavar="COCO.json")
    _add_images(one)
    one.set_defaults(run=datasets.validate)


def add_review(one: Parser) -> None:
    one.add_argument("coco", type=Path, metavar="COCO.json")
    one.add_argument(
        "--with", dest="predictions", type=Path, metavar="FILE",
        help="predictions on the same images or sky: COCO results or a COCO document",
    )  # fmt: skip
    one.add_argument(
        "--truth", type=Path, metavar="FILE",
        help="true sources on the same images or sky: truth.json of a simulated sky",
    )  # fmt: skip
    _add_images(one)
    one.add_argument(
        "--out", type=Path,
        help="folder of the page (default: review beside the file), or PAGE.html for one file",
    )  # fmt: skip
    group = one.add_argument_group("on this machine")
    group.add_argument(
        "--serve", action="store_true",
        help="open the page from a local server: corrections are saved beside the file as they "
        "are made, splits and merges are fitted at once",
    )  # fmt: skip
    group.add_argument("--port", type=int, default=0, help="of the server (default: a free one)")
    group.add_argument("--no-browser", action="store_true", help="only print the address")
    one.set_defaults(run=datasets.review)


def add_apply(one: Parser) -> None:
    one.add_argument("coco", type=Path, metavar="COCO.json")
    one.add_argument(
        "corrections", type=Path, nargs="+", metavar="CORRECTIONS",
        help="as the review page saves them (.json) or its server (.jsonl), applied in the order "
        "given",
    )  # fmt: skip
    one.add_argument("--out", type=Path, required=True, help="new file, beside the old one")
    one.set_defaults(run=datasets.apply)


def add_preview(one: Parser) -> None:
    one.add_argument("coco", type=Path, metavar="COCO.json")
    one.add_argument("--out", type=Path, help="folder (default: preview beside the file)")
    _add_images(one)
    one.set_defaults(run=datasets.preview)


def add_reproduce(one: Parser) -> None:
    one.add_argument("coco", type=Path, metavar="COCO.json")
    one.add_argument("--tile", required=True, metavar="NAME", help="as under info.tiles")
    one.add_argument(
        "--inputs", type=Path, nargs="+", required=True, metavar="FOLDER",
        help="folders of the survey files and the catalog",
    )  # fmt: skip
    one.set_defaults(run=labelling.reproduce)


COMMANDS: dict[str, tuple[str, Callable[[Parser], None]]] = {
    "simulate": ("simulate coadds, catalogs and their true labels", add_simulate),
    "make-coco": ("label coadds: detect, deblend, mask, classify", add_make_coco),
    "describe": ("say what make-coco would assume about files, and doubt", add_describe),
    "truth-coco": ("label simulated scenes by pictures of their objects", add_truth_coco),
    "manifest check": (
        "say which files of a dataset are there, missing or wrong; exit code 2 if any is",
        add_manifest_check,
    ),
    "manifest fetch": ("download what is missing, verify the rest", add_manifest_fetch),
    "manifest build": ("fetch a dataset, then label it", add_manifest_build),
    "manifest list": ("list the manifests that come with the program", add_manifest_list),
    "manifest copy": ("copy one of them here, to use or change", add_manifest_copy),
    "validate": ("check a COCO file: ids, boxes, masks, areas, images", add_validate),
    "review": ("write one page to walk through the labels and correct them", add_review),
    "apply": ("apply the corrections that a review page saved", add_apply),
    "preview": ("draw the labels on the images, and a page of them all", add_preview),
    "report": ("write one page on how good the labels are", add_report),
    "reproduce": ("label one tile again from its provenance, and compare", add_reproduce),
    "relabel": ("give the same masks the classes of another catalog", add_relabel),
    "counts": ("count labels by class and magnitude, files side by side", add_counts),
    "split": ("split labels into parts that share no sky", add_split),
    "export": ("write labels in the formats of other tools", add_export),
    "fetch-cutout": ("fetch FITS images of a public survey around a position", add_fetch_cutout),
    "import": ("make a COCO file of others' maps, DS9 regions or catalogs", add_import),
    "docs": ("show a page of the documentation", add_docs),
}
"""What each command does in a line, and its arguments, by its name."""

OLD_COMMANDS = {"tally": "counts"}
"""Names of commands in earlier versions."""
