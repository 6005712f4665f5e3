"""What `astrolabel COMMAND --help` ends with."""

from __future__ import annotations

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
    astrolabel make-coco --manifest demo.yaml --root sky --out labels
  lower mask threshold, and every setting in a file to change and give back:
    astrolabel make-coco coadds/ --mask.threshold-sigma 3 --out labels
    astrolabel make-coco --print-config > recipe.yaml
    astrolabel make-coco coadds/ --config recipe.yaml --out labels

Rerun the command to resume: finished tiles are kept.
""",
    "describe": """
examples:
  astrolabel describe coadds/
  astrolabel describe image.fits another.fits.gz
  astrolabel describe --band g=g.fits r=r.fits --variance g=g_var.fits r=r_var.fits
  astrolabel describe image.fits --bands f814w --survey hst
""",
    "truth-coco": """
examples:
  the scenes of Burke et al. (2019), in training/set_0, ..., validation/set_0, ...:
    astrolabel truth-coco decam_phosim --bands g,r,z --out labels --jobs -1
  then, for each part a file of its own:
    astrolabel split labels/coco.json --region train=coadds:training-* val=coadds:validation-*

Rerun the command to resume: finished scenes are kept.
""",
    "manifest list": """
example:
  astrolabel manifest list
""",
    "manifest copy": """
example:
  astrolabel manifest copy demo
""",
    "docs": """
example:
  astrolabel docs settings
""",
    "manifest check": """
example:
  astrolabel manifest check hsc_dr3_udcosmos_test.yaml --root /data/hsc
""",
    "manifest fetch": """
example (an HSC account in HSC_SSP_CAS_USER and HSC_SSP_CAS_PASSWORD, or in netrc):
  astrolabel manifest fetch hsc_dr3_udcosmos_test.yaml --root /data/hsc

Rerun the command to resume.
""",
    "manifest build": """
example:
  astrolabel manifest build hsc_dr3_udcosmos_test.yaml --root /data/hsc --jobs 8

Rerun the command to resume.
""",
    "validate": """
example:
  astrolabel validate labels/coco.json
""",
    "reproduce": """
example:
  astrolabel reproduce labels/coco.json --tile 9813-4,5-r0c0 --inputs /data/hsc
""",
    "relabel": """
examples:
  the masks of labels/coco.json with HST classes, in labels/hst.json:
    astrolabel relabel labels/coco.json --catalog acs.fits --scheme hst --out labels/hst.json
  both catalogs weighed, with p_galaxy for every label:
    astrolabel relabel labels/coco.json --catalog acs.fits --scheme hst \\
      --second forced.fits --second-scheme hsc --out labels/both.json
  then how many of each class there are by magnitude:
    astrolabel counts labels/coco.json labels/hst.json

Label with --keep-unmatched first: masks that had no class are not in the file otherwise.
""",
    "counts": """
example:
  astrolabel counts labels/hsc.json labels/hst.json --band i --out counts.csv
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
    "fetch-cutout": """
examples:
  astrolabel fetch-cutout --position "150.1 2.2" --size 2arcmin --survey legacy --out mine
  astrolabel fetch-cutout --position "10:00:24 +02:12:00" --survey hsc --bands gri --out mine

Needs the extra `fetch`. The last line printed is the command that labels the cutout. Pixels of
all surveys but small Legacy cutouts are resampled: label them, but measure no fluxes on them.
""",
    "import": """
examples:
  astrolabel import segmentation.fits --image g=g.fits r=r.fits i=i.fits --out theirs
  astrolabel import ds9.reg --image i.fits --out theirs --class galaxy
  astrolabel import sextractor.cat --image i.fits --out theirs
  astrolabel import table.fits --image i.fits --out theirs --columns ra=RA dec=DEC a=A b=B pa=PA

Then: astrolabel review theirs/coco.json --serve; astrolabel split, export; astroseg train.
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
    "review": """
examples:
  astrolabel review labels/coco.json               labels/review/index.html: open it
  astrolabel review labels/coco.json --serve       save corrections as they are made
  astrolabel review labels/coco.json --with predictions.json
  astrolabel review sky/labels.json --truth sky/truth.json --out review.html

The page needs no network. A folder or one file of it can be mailed; corrections are then saved
as a download. The queue shows first where labels and predictions disagree.
""",
    "apply": """
example:
  astrolabel apply labels/coco.json corrections.json --out labels/reviewed.json
  astrolabel apply labels/coco.json labels/coco.corrections.jsonl --out labels/reviewed.json
""",
    "preview": """
example:
  astrolabel preview labels/coco.json --out labels/preview
""",
}
