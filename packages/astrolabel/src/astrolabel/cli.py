"""The command line: arguments to config, config to pipeline, errors to one line.

Exit codes: 0 done; 2 something the user can mend (bad input, unwritable output, a tile
that failed); 130 stopped from the keyboard.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astrolabel import __version__, coco
from astrolabel.config import ClassifyConfig, LabelConfig, preset
from astrolabel.errors import AstrolabelError, InputError
from astrolabel.schemes import SCHEMES
from astrolabel.validate import validate

if TYPE_CHECKING:
    from astrolabel.manifest import Manifest

EXAMPLES = {
    "simulate": """
examples:
  astrolabel simulate sky                          a 1050x1050 HSC-Deep-like patch in g,r,i
  astrolabel simulate sky --size 2100 --seed 7     four tiles of another sky
  astrolabel simulate sky --survey decam --size 512
  astrolabel simulate sky --bright 6               with 6 spirals and 6 saturated stars more
""",
    "make-coco": """
examples:
  HSC coadds (a folder of calexp-HSC-I-9813-4,5.fits, flat or as deepCoadd-results):
    astrolabel make-coco coadds/ --bands g,r,i --catalog forced.fits --scheme hsc --out labels
  LSST coadds as the butler exports them (deep_coadd_5063_14_i_....fits), the same:
    astrolabel make-coco coadds/ --bands g,r,i --out labels
  with any catalog for the classes:
    astrolabel make-coco coadds/ --catalog t.csv --columns id=ID ra=RA dec=DEC class=TYPE \\
      galaxy=1 star=0,2 --out labels
  any other survey, one file per band:
    astrolabel make-coco --band g=g.fits r=r.fits z=z.fits --out labels
  Euclid's mosaics, with their maps of the noise and of the flags:
    astrolabel make-coco --band vis=EUC_MER_BGSUB-MOSAIC-VIS_TILE1.fits \
      --rms EUC_MER_MOSAIC-VIS-RMS_TILE1.fits --mask EUC_MER_MOSAIC-VIS-FLAG_TILE1.fits --out labels
  a cube, using three of its five planes:
    astrolabel make-coco --band g,r,i,z,y=cube.fits --bands g,r,i --out labels
  a dataset described in a file:
    astrolabel make-coco --manifest data_manifests/demo.yaml --root sky --out labels

The run can be stopped and started again with the same words: finished tiles are kept.
""",
    "truth-coco": """
examples:
  the scenes of Burke et al. (2019), in training/set_0, ..., validation/set_0, ...:
    astrolabel truth-coco decam_phosim --bands g,r,z --out labels --jobs -1
  then, for each part a file of its own:
    astrolabel split labels/coco.json --region train=coadds:training-* val=coadds:validation-*

The run can be stopped and started again with the same words: finished scenes are kept.
""",
    "manifest": """
examples:
  what of a dataset is there, missing or wrong:
    astrolabel manifest check data_manifests/hsc_dr3_udcosmos_test.yaml --root /data/hsc
  fetch what is missing (an HSC account in HSC_SSP_CAS_USER and HSC_SSP_CAS_PASSWORD, or netrc):
    astrolabel manifest fetch data_manifests/hsc_dr3_udcosmos_test.yaml --root /data/hsc
  fetch and label:
    astrolabel manifest build data_manifests/hsc_dr3_udcosmos_test.yaml --root /data/hsc --jobs 8

Each can be stopped and started again with the same words. docs/manifests.md has it all.
""",
    "validate": """
example:
  astrolabel validate labels/coco.json
""",
    "relabel": """
examples:
  the masks of labels/coco.json with HST classes, in labels/hst.json:
    astrolabel relabel labels/coco.json --catalog acs.fits --scheme hst --out labels/hst.json
  both catalogs weighed, with p_galaxy for every label:
    astrolabel relabel labels/coco.json --catalog acs.fits --scheme hst \\
      --second forced.fits --second-scheme hsc --out labels/both.json
  then how many of each class there are by magnitude:
    astrolabel tally labels/coco.json labels/hst.json

Label with --keep-unmatched first: masks that had no class are not in the file otherwise.
""",
    "tally": """
example:
  astrolabel tally labels/hsc.json labels/hst.json --band i --out counts.csv
""",
    "split": """
examples:
  by chance, in cells of the sky about as large as an image:
    astrolabel split labels/coco.json --fractions train=0.8 val=0.1 test=0.1 --seed 7
  a test field, everything else for training:
    astrolabel split labels/coco.json --region test=circle:150.1,2.2,0.3 --out parts
    astrolabel split labels/coco.json --region test=moc:6/28765-28767
  the regions of a manifest:
    astrolabel split labels/coco.json --manifest dataset.yaml
  whether the parts of a dataset share images, sky or objects (exit code 2 if so):
    astrolabel split --check train.json val.json test.json
""",
    "export": """
examples:
  astrolabel export labels/coco.json --to ds9            outlines to load over the coadd
  astrolabel export labels/coco.json --to parquet cvat
  astrolabel export labels/coco.parquet --to coco --out elsewhere
  astrolabel export labels/coco.json --to deepdisc
  astrolabel export train.json --to coco --classes star,galaxy --images images/ --out labels
""",
    "report": """
examples:
  astrolabel report labels/coco.json
  astrolabel report labels/coco.json --catalog forced.fits --scheme hsc
  astrolabel report labels/coco.json --truth sky/truth.json --out report.html
""",
    "preview": """
example:
  astrolabel preview labels/coco.json --out labels/preview
""",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        return code
    except AstrolabelError as error:
        print(f"astrolabel: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nastrolabel: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="astrolabel",
        description="Survey coadds in, COCO instance labels out.",
        epilog="`astrolabel COMMAND --help` explains each command, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"astrolabel {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, help_: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=help_,
            description=help_[0].upper() + help_[1:] + ".",
            epilog=EXAMPLES[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    _add_simulate(command("simulate", "simulate coadds, catalogs and their true labels"))
    _add_make_coco(command("make-coco", "label coadds: detect, deblend, mask, classify"))
    _add_truth_coco(command("truth-coco", "label simulated scenes by pictures of their objects"))
    _add_manifest(command("manifest", "check, fetch or build a dataset described in one file"))
    one = command("validate", "check a COCO file: ids, boxes, masks, areas, images")
    one.add_argument("coco", type=Path, metavar="COCO.json")
    one.set_defaults(run=_validate)
    one = command("preview", "draw the labels on the images, and a page of them all")
    one.add_argument("coco", type=Path, metavar="COCO.json")
    one.add_argument("--out", type=Path, help="folder (default: preview beside the file)")
    one.set_defaults(run=_preview)
    _add_relabel(command("relabel", "give the same masks the classes of another catalog"))
    _add_tally(command("tally", "count labels by class and magnitude, files side by side"))
    _add_split(command("split", "split labels into parts that share no sky"))
    _add_export(command("export", "write labels in the formats of other tools"))
    _add_report(command("report", "one page that answers: can I trust these labels?"))
    return parser


def _add_report(one: argparse.ArgumentParser) -> None:
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
    one.set_defaults(run=_report)


def _add_simulate(one: argparse.ArgumentParser) -> None:
    one.add_argument("out", type=Path, metavar="OUT", help="folder for the files")
    one.add_argument(
        "--survey",
        choices=("hsc-deep", "decam"),
        default="hsc-deep",
        help='hsc-deep: g,r,i at 0.168"/px, MaskedImage files; decam: g,r,z at 0.262"/px',
    )
    one.add_argument("--size", type=int, help="side in pixels (default 1050; decam 512)")
    one.add_argument("--seed", type=int, default=0, help="another seed, another sky")
    one.add_argument(
        "--density",
        type=float,
        metavar="PER_ARCMIN2",
        help="sources with a 5 sigma mask per square arcminute (default: the survey's)",
    )
    one.add_argument(
        "--bright",
        type=int,
        default=0,
        metavar="N",
        help="add N large structured galaxies (arms, knots, dust) and N saturated stars "
        "(spikes, bleed trails)",
    )
    one.set_defaults(run=_simulate)


def _add_make_coco(one: argparse.ArgumentParser) -> None:
    group = one.add_argument_group("what to label")
    group.add_argument(
        "inputs", nargs="*", type=Path, metavar="INPUT", help="HSC or LSST coadds, or folders"
    )
    group.add_argument(
        "--band", nargs="+", action="extend", default=[], metavar="NAME=FILE",
        help="a plain FITS file of one band; NAME,NAME=FILE for the planes of a cube",
    )  # fmt: skip
    group.add_argument("--bands", help="bands to use, blue to red (default: all there are)")
    group.add_argument("--manifest", type=Path, help="a dataset file instead of all this")
    group.add_argument("--root", type=Path, help="folder of the manifest's files")
    for name, what in (
        (
            "variance",
            "variance image, where it is not in the same file; also an inverse variance "
            "or rms whose HDU or file name says so",
        ),
        ("rms", "rms image, in place of the variance"),
        ("mask", "mask image: MP_ cards, --mask-planes, or non-zero means bad"),
        ("psf", "PSF stamp(s): an image, a cube or one HDU per band"),
        ("zeropoint", "AB magnitude of one count, where the header does not tell"),
    ):
        value = "VALUE" if name == "zeropoint" else "FILE"
        group.add_argument(
            f"--{name}", nargs="+", action="extend", default=[], metavar=f"[BAND=]{value}",
            help=what,
        )  # fmt: skip
    group.add_argument(
        "--mask-planes", nargs="+", action="extend", default=[], metavar="NAME=BIT",
        help="bits of a mask without MP_ cards: NO_DATA, BAD and CR are no data, SAT is "
        "saturated, INTRP interpolated, BRIGHT_OBJECT near a bright star",
    )  # fmt: skip
    group = one.add_argument_group("classes")
    group.add_argument("--catalog", type=Path, help="FITS, CSV or Parquet table")
    _add_classes(group)
    group.add_argument("--columns", **COLUMNS)
    _add_how(one)
    one.set_defaults(run=_make_coco)


COLUMNS: dict[str, Any] = {
    "nargs": "+",
    "metavar": "WORD=COLUMN",
    "help": "any other catalog: id= ra= dec= and extendedness= or class= galaxy=VALUE star=VALUE; "
    "also mag_<band>= flux_<band>= (nJy) primary= unit=rad epoch= match=magnitude",
}


def _add_classes(group: Any) -> None:
    group.add_argument(
        "--scheme",
        choices=SCHEMES[1:],
        help="kind of catalog. hsc: extendedness of the forced catalogs; hst: mu_class of ACS in "
        "COSMOS; lsst: extendedness of Object tables; columns: see --columns (default: one class)",
    )
    group.add_argument(
        "--class-bands",
        metavar="BANDS",
        help="bands whose extendedness gives the class, by its mean: g,r,i (default: i)",
    )


def _add_truth_coco(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER",
        help="folders of scenes, each a folder with img_<band>.fits and masks.fits: one HDU an "
        "object, CLASS_ID 1 for a star, 2 for a galaxy",
    )  # fmt: skip
    one.add_argument("--bands", help="bands to use, blue to red (default: all there are)")
    one.add_argument(
        "--zeropoint", nargs="+", default=[], metavar="[BAND=]VALUE",
        help="AB magnitude of one count, where the header does not tell",
    )  # fmt: skip
    one.add_argument("--tile-size", type=int, metavar="PIXELS", help="default 1050")
    one.add_argument("--out", type=Path, required=True, help="folder")
    one.add_argument("--jobs", type=int, default=1, help="worker processes; -1: all cores")
    one.add_argument("--quiet", action="store_true", help="no progress bar")
    one.set_defaults(run=_truth_coco)


def _add_how(one: argparse.ArgumentParser) -> None:
    """The options of whatever labels coadds."""
    group = one.add_argument_group("how")
    group.add_argument(
        "--preset", choices=("default", "paper"), help="paper: the published recipe to the letter"
    )
    group.add_argument(
        "--deblender",
        metavar="NAME",
        help="cmf (default, built in), or scarlet or scarlet2 where installed (docs/deblenders.md)",
    )
    group.add_argument(
        "--detection-image",
        choices=("sum", "weighted"),
        help="sum of the bands (the paper's), or each divided by its sky noise first",
    )
    group.add_argument("--tile-size", type=int, metavar="PIXELS", help="default 1050")
    group.add_argument("--halo", type=int, metavar="PIXELS", help="default 64")
    group.add_argument(
        "--overlaps",
        choices=("resolve", "keep"),
        help="where coadds overlap, label each source in one of them (default), or in each",
    )
    group.add_argument(
        "--keep-unmatched",
        action="store_true",
        help="keep sources without a class as ignore regions (iscrowd 1)",
    )
    group = one.add_argument_group("output")
    group.add_argument("--out", type=Path, help="folder (default: a manifest's name)")
    group.add_argument("--jobs", type=int, default=1, help="worker processes; -1: all cores")
    group.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_manifest(one: argparse.ArgumentParser) -> None:
    actions = one.add_subparsers(required=True, metavar="ACTION")
    for name, run, what in (
        ("check", _manifest_check, "say what is there, missing or wrong; exit code 2 if anything"),
        ("fetch", _manifest_fetch, "download what is missing, verify the rest"),
        ("build", _manifest_build, "fetch, then label"),
    ):
        action = actions.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        action.add_argument("manifest", type=Path, metavar="FILE", help="the manifest")
        action.add_argument("--root", type=Path, help="folder of its files (default: as it says)")
        if name != "check":
            action.add_argument(
                "--parallel", type=int, default=4, metavar="N", help="downloads at once (default 4)"
            )
        if name == "build":
            action.add_argument(
                "--no-fetch", action="store_true", help="label what is there; missing is an error"
            )
            _add_how(action)
        else:
            action.add_argument("--quiet", action="store_true", help="no progress bar")
        action.set_defaults(run=run)


def _add_relabel(one: argparse.ArgumentParser) -> None:
    one.add_argument("coco", type=Path, metavar="COCO.json")
    group = one.add_argument_group("classes")
    group.add_argument("--catalog", type=Path, required=True, help="FITS, CSV or Parquet table")
    _add_classes(group)
    group.add_argument("--columns", **COLUMNS)
    group.add_argument("--second", type=Path, help="another catalog, to be weighed with the first")
    group.add_argument("--second-scheme", choices=SCHEMES[1:-1], help="kind of the second")
    group.add_argument("--radius", type=float, metavar="ARCSEC", help="of the match (default 1)")
    group.add_argument(
        "--keep-unmatched",
        action="store_true",
        help="keep masks without a class as ignore regions (iscrowd 1)",
    )
    one.add_argument("--out", type=Path, required=True, help="new file, beside the old one")
    one.set_defaults(run=_relabel)


def _add_tally(one: argparse.ArgumentParser) -> None:
    one.add_argument("coco", type=Path, nargs="+", metavar="COCO.json")
    one.add_argument("--band", default="i", help="of the magnitudes (default i)")
    one.add_argument("--bin", type=float, default=0.5, metavar="MAG", help="width (default 0.5)")
    one.add_argument("--out", type=Path, help="CSV file for the table too")
    one.set_defaults(run=_tally)


def _add_split(one: argparse.ArgumentParser) -> None:
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
    one.add_argument("--out", type=Path, help="folder (default: the first file's)")
    one.set_defaults(run=_split)


def _add_export(one: argparse.ArgumentParser) -> None:
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
    records.add_argument(
        "--images", type=Path, help="folder of their images, to make pictures and cubes of"
    )
    one.set_defaults(run=_export)


def _simulate(options: argparse.Namespace) -> int:
    from astrolabel.simulate import SimulateConfig, simulate

    given = {"size": options.size, "density_per_arcmin2": options.density}
    config = SimulateConfig(
        survey=options.survey,
        seed=options.seed,
        bright=options.bright,
        **{name: value for name, value in given.items() if value is not None},
    )
    scene = simulate(options.out, config)
    print(scene.summary())
    return 0


def _make_coco(options: argparse.Namespace) -> int:
    from astrolabel.catalogs import catalog_for
    from astrolabel.manifest import read_manifest
    from astrolabel.pipeline import make_coco
    from astrolabel.readers.find import Inputs, find_coadds

    if options.manifest is not None:
        if options.inputs or options.band or options.catalog or options.scheme:
            raise InputError(
                "--manifest names the input already", remedy="leave out INPUT, --band, --catalog"
            )
        return _build(read_manifest(options.manifest), options)
    if options.out is None:
        raise InputError("no --out", remedy="say where the labels go: --out FOLDER")
    scheme = _scheme(options)
    if (options.catalog is None) != (scheme == "none"):
        raise InputError(
            "--catalog and --scheme go together",
            remedy="give both for classes, or neither for the one class `source`",
        )
    inputs = Inputs(
        paths=tuple(options.inputs),
        bands=tuple(options.bands.split(",")) if options.bands else (),
        band_files=tuple(
            (tuple(n.split(",")), Path(f)) for n, f in _pairs("--band", options.band, False)
        ),
        variance=_paths("--variance", options.variance),
        rms=_paths("--rms", options.rms),
        mask=_paths("--mask", options.mask),
        psf=_paths("--psf", options.psf),
        planes=_bits("--mask-planes", options.mask_planes),
        zeropoints=_numbers("--zeropoint", options.zeropoint),
    )
    base = preset(options.preset or "default")
    base = replace(base, classify=_classes(options, base.classify))
    config = _overridden(base, options)
    problems: list[InputError] = []
    coadds = find_coadds(inputs, problems)
    if not coadds:
        raise problems[0]
    catalog = None
    if options.catalog is not None:
        catalog = (catalog_for(options.catalog, config.classify), options.catalog)
    result = make_coco(
        coadds, config, options.out, catalog, options.jobs, progress=not options.quiet
    )
    return _told(result.summary(), (*map(str, problems), *result.problems))


def _scheme(options: argparse.Namespace) -> str:
    """Of the options; columns without a scheme are one."""
    return options.scheme or ("columns" if options.columns else "none")


def _classes(options: argparse.Namespace, base: ClassifyConfig) -> ClassifyConfig:
    words = dict(_pairs("--columns", options.columns or (), for_all=False))
    bands = tuple(options.class_bands.split(",")) if options.class_bands else ()
    return replace(
        base, scheme=_scheme(options), columns=tuple(sorted(words.items())), class_bands=bands
    )


def _truth_coco(options: argparse.Namespace) -> int:
    from astrolabel.pipeline import make_coco, truth_recipe
    from astrolabel.readers.truth import find_scenes

    problems: list[InputError] = []
    scenes = find_scenes(
        options.folders,
        tuple(options.bands.split(",")) if options.bands else (),
        _numbers("--zeropoint", options.zeropoint),
        problems,
    )
    if not scenes:
        raise problems[0]
    config = truth_recipe(preset("default"))
    if options.tile_size is not None:
        config = replace(config, tile=replace(config.tile, size=options.tile_size))
    result = make_coco(scenes, config, options.out, jobs=options.jobs, progress=not options.quiet)
    return _told(result.summary(), (*map(str, problems), *result.problems))


def _told(summary: str, problems: Sequence[str]) -> int:
    print(summary)
    for line in problems:
        print(f"astrolabel: {line}", file=sys.stderr)
    return 2 if problems else 0


def _build(manifest: Manifest, options: argparse.Namespace) -> int:
    """Label the files of a manifest; the end of ``make-coco --manifest`` and ``build``."""
    from astrolabel.manifest_build import build

    if options.preset:
        manifest = replace(manifest, preset=options.preset)
    result, problems = build(
        manifest,
        manifest.folder(options.root),
        options.out or Path(manifest.name),
        config=_overridden(manifest.config(), options),
        jobs=options.jobs,
        progress=not options.quiet,
    )
    return _told(result.summary(), problems)


def _manifest_check(options: argparse.Namespace) -> int:
    from astrolabel.manifest import read_manifest
    from astrolabel.manifest_files import survey_states, table

    manifest = read_manifest(options.manifest)
    folder = manifest.folder(options.root)
    states = survey_states(manifest, folder, progress=not options.quiet)
    print(f"{options.manifest}: sound; its files in {folder}:")
    print(table(states))
    return 0 if all(state.state in ("ok", "new") for state in states) else 2


def _manifest_fetch(options: argparse.Namespace) -> int:
    from astrolabel.manifest import read_manifest

    print(_fetch(read_manifest(options.manifest), options))
    return 0


def _manifest_build(options: argparse.Namespace) -> int:
    from astrolabel.manifest import read_manifest

    manifest = read_manifest(options.manifest)
    if not options.no_fetch:
        print(_fetch(manifest, options))
    return _build(manifest, options)


def _fetch(manifest: Manifest, options: argparse.Namespace) -> str:
    from astrolabel.archive import fetch
    from astrolabel.fetch_manners import Manners

    if not 1 <= options.parallel <= 16:
        raise InputError(f"--parallel {options.parallel}", remedy="give 1 to 16")
    manners = Manners(parallel=options.parallel)
    folder = manifest.folder(options.root)
    return fetch(manifest, folder, manners=manners, progress=not options.quiet).summary()


def _overridden(config: LabelConfig, options: argparse.Namespace) -> LabelConfig:
    """The recipe with what the user changed on the command line."""

    def changed(part: Any, **values: Any) -> Any:
        return replace(part, **{name: v for name, v in values.items() if v is not None})

    return replace(
        config,
        tile=changed(
            config.tile, size=options.tile_size, halo=options.halo, overlaps=options.overlaps
        ),
        detect=changed(config.detect, combine=options.detection_image),
        deblend=changed(config.deblend, engine=options.deblender),
        classify=changed(config.classify, keep_unmatched=options.keep_unmatched or None),
    )


def _pairs(option: str, given: Sequence[str], for_all: bool = True) -> list[tuple[str, str]]:
    """NAME=VALUE split; a bare VALUE holds for all bands (``*``) where that is allowed."""
    pairs = []
    for text in given:
        name, equals, value = text.partition("=")
        if not equals and for_all:
            name, value = "*", text
        if not name or not value:
            raise InputError(f"{option} {text!r}", remedy=f"write {option} g=...")
        pairs.append((name, value))
    return pairs


def _paths(option: str, given: Sequence[str]) -> dict[str, Path]:
    return {name: Path(value) for name, value in _pairs(option, given)}


def _bits(option: str, given: Sequence[str]) -> dict[str, int]:
    bits = dict(_pairs(option, given, False))
    for name, value in bits.items():
        if not value.isdigit() or int(value) > 30:
            raise InputError(f"{option} {name}={value}", remedy="give a bit from 0 to 30")
    return {name: int(value) for name, value in bits.items()}


def _numbers(option: str, given: Sequence[str]) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in _pairs(option, given)}
    except ValueError as error:
        raise InputError(f"{option}: {error}", remedy=f"write {option} g=27.0") from error


def _validate(options: argparse.Namespace) -> int:
    document = coco.read(options.coco)
    problems = validate(document, options.coco.parent)
    for problem in problems:
        print(problem)
    print(
        f"{options.coco}: {len(document['images'])} images, "
        f"{len(document['annotations'])} annotations, "
        + (f"{len(problems)} problems" if problems else "no problems")
    )
    return 2 if problems else 0


def _preview(options: argparse.Namespace) -> int:
    from astrolabel.preview import preview

    out = options.out or options.coco.parent / "preview"
    pictures = preview(options.coco, out)
    print(f"{len(pictures)} pictures; open {out / 'index.html'}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from astrolabel.export import export

    written = export(
        options.coco,
        options.to,
        options.out,
        classes=tuple(options.classes.split(",")) if options.classes else (),
        polygons=options.polygons,
        images=options.images,
    )
    for path in written:
        print(path)
    return 0


def _split(options: argparse.Namespace) -> int:
    from astrolabel.split_files import leaks, read_regions, split_files

    if options.check:
        found = leaks(options.coco)
        for line in found:
            print(line)
        print("no leaks" if not found else f"{len(found)} leaks")
        return 2 if found else 0
    regions = read_regions(options.region, options.manifest)
    shares = None
    if options.fractions:
        shares = _numbers("--fractions", options.fractions)
    written = split_files(
        options.coco,
        options.out or options.coco[0].parent,
        regions=regions,
        rest=None if options.rest == "none" else options.rest,
        fractions=shares,
        order=options.order,
        seed=options.seed,
    )
    print(written.summary())
    return 0


def _report(options: argparse.Namespace) -> int:
    from astrolabel.report import measure, summary, write_report

    if (options.catalog is None) != (options.scheme is None):
        raise InputError("--catalog and --scheme go together", remedy="give both or neither")
    catalog = None if options.catalog is None else (options.catalog, options.scheme)
    measured = measure(options.coco, catalog, options.truth, progress=not options.quiet)
    page, machine = write_report(measured, options.out or options.coco.parent / "report.html")
    print(summary(measured))
    print(f"{page} and {machine}")
    return 0


def _relabel(options: argparse.Namespace) -> int:
    from astrolabel.relabel import relabel_file

    if _scheme(options) == "none":
        raise InputError("no --scheme", remedy="say what kind of catalog it is")
    if (options.second is None) != (options.second_scheme is None):
        raise InputError("--second and --second-scheme go together", remedy="give both or neither")
    base = replace(
        preset("default").classify,
        keep_unmatched=options.keep_unmatched,
        radius_arcsec=options.radius or ClassifyConfig.radius_arcsec,
    )
    catalogs = [(options.catalog, _classes(options, base))]
    if options.second is not None:
        catalogs.append((options.second, replace(base, scheme=options.second_scheme)))
    print(relabel_file(options.coco, options.out, catalogs).summary())
    return 0


def _tally(options: argparse.Namespace) -> int:
    from astrolabel.tally import tally, write_tally

    counted = tally(options.coco, options.band, options.bin)
    print(counted.text())
    if options.out is not None:
        write_tally(options.out, counted)
    return 0
