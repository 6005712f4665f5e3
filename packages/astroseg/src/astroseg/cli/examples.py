"""Examples that end the help of each command."""

from __future__ import annotations

_TRAIN = """
examples:
  a small model from scratch, on a CPU, in minutes:
    astroseg train train.json --val val.json --model tiny --out run
  the paper's recipe, from weights pre-trained on other pictures:
    astroseg train train.json --val val.json --model r101-fpn --weights r101-fpn-coco \\
        --contrast lupton --out run
  any number of bands, chosen by name, as asinh(flux / sigma):
    astroseg train train.json --model r50-fpn --bands g,r,i,z,y --out run
  go on after an interruption, exactly as it would have gone on:
    astroseg train train.json --val val.json --model tiny --out run --resume
  on four GPUs:
    torchrun --nproc-per-node 4 -m astroseg train train.json --model r101-fpn --out run
  the model of any Detectron2 configuration file, trained by real Detectron2:
    astroseg train train.json --config mask_rcnn_R_50_FPN_3x.yaml --engine detectron2 \\
        --weights model_final_f10217.pkl --out run
  weights without a published hash: the first attempt prints it, the second trusts it:
    astroseg train train.json --model r50-fpn --weights r50-imagenet --out run
    astroseg train train.json --model r50-fpn --weights r50-imagenet --weights-sha256 HASH --out run
  a list of Detectron2 records, whose image paths are another machine's:
    astroseg train records.json --images coadds/ --classes star,galaxy --model tiny --out run

The dataset is a COCO file with polygons or RLE. A schedule file is TOML:

  base = "paper"          # what is not given here comes from there
  batch = 8
  [[stages]]
  epochs = 20
  lr = 1e-3
  optimizer = "sgd"       # or adamw
  freeze = "heads"        # or none
  milestones = [10, 15]   # or decay = "cosine"
  warmup = 0.05           # fraction of the stage
  clip = 1.0

In the run's folder: best.safetensors (by validation mask AP) and last.safetensors, the
models; state.safetensors, for --resume; log.jsonl; config.json.
"""

_PREDICT = """
examples:
  any survey's images, with the built-in model:
    astroseg predict g.fits,r.fits,i.fits
    astroseg predict image.fits --out sky
  the images of a COCO file:
    astroseg predict run/best.safetensors test.json --out predictions
  every detection down to a low score, before AP is measured:
    astroseg predict run/best.safetensors test.json --out predictions --score 0.05
  FITS cubes, whole coadds in overlapping tiles:
    astroseg predict run/best.safetensors coadd1.fits coadd2.fits --tile-size 1024 --out sky
  one image in three files, one per band, in the order of the model's bands:
    astroseg predict run/best.safetensors g.fits,r.fits,i.fits --out sky
  a model trained from a configuration file with classes or functions of your own:
    astroseg predict run/best.safetensors test.json --config own.py --out predictions

Written: predictions.json (COCO results, as pycocotools loads them), predictions.info.json
(images, categories and where it all came from), catalog.fits (RA, Dec, class, score, shape,
magnitudes), segmentation/ (maps of the catalog's row numbers, FITS with WCS) and overlays/
(outlines on the images). An interrupted run goes on where it
stopped when it is given again.
"""

_CALIBRATE = """
examples:
  astroseg calibrate run/best.safetensors val.json
  then keep what was 95 % pure on val.json:
    astroseg predict run/best.safetensors coadd.fits --purity 0.95 --out sky

Predicts VAL.json, compares with its labels, and stores in the checkpoint the map from the
network's score to the probability that a detection is right (a source, mask IoU 0.5 and more),
with the scores that gave purities from 0.5 to 0.99. `astroseg predict` then writes that
probability as score, and the network's own as raw_score.
"""

_EVALUATE = """
examples:
  astroseg evaluate test.json predictions/predictions.json --out evaluation

Written: metrics.json and report.html.
"""

_CONVERT = """
examples:
  a model that DeepDISC trained on Lupton pictures of HSC:
    astroseg convert model_final.pth --model r101-fpn --classes galaxy,star --bands g,r,i \\
        --contrast lupton --red-first --out model.safetensors
  one with a head for redshifts, which is left out:
    astroseg convert model_final.pth --model r101-fpn --classes object --bands g,r,i \\
        --contrast lupton --skip 'roi_heads.redshift*' --out model.safetensors
  any other network, where Detectron2 is installed:
    astroseg convert model_final.pth --model-config mine.yaml --classes galaxy,star \\
        --bands g,r,i --contrast zscale --out model.safetensors
"""

EXAMPLES = {
    "train": _TRAIN,
    "predict": _PREDICT,
    "calibrate": _CALIBRATE,
    "evaluate": _EVALUATE,
    "convert": _CONVERT,
    "models": "",
}
