"""Fine-tuning of the built-in model beside training from scratch, by the number of labelled tiles.

    python benchmarks/fine_tuning.py [--tiles 1 4 16 64] [--steps 400] [--scratch-steps 1800]
                                     [--survey hsc-deep]

Tiles of 256 px of one simulated survey, with its truth as labels; nine others to measure on. The
table has the mask AP and AP50 there, and the seconds of training. Row 0 is the model unchanged.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import astroseg
from astrolabel.simulate import SimulateConfig, write_scenes

SIZE = 256
FIRST_SEED = 5000
"""Of the tiles to learn from; those to measure on begin at twice this."""


def tiles(out: Path, survey: str, count: int, first_seed: int) -> Path:
    """COCO file of so many tiles and their truth."""
    skies = [
        SimulateConfig(survey=survey, size=SIZE, seed=first_seed + number)
        for number in range(count)
    ]
    return write_scenes(out, skies, progress=False)


def part(file: Path, count: int) -> Path:
    """The first tiles of a file, as a file beside it."""
    document = json.loads(file.read_text())
    document["images"] = document["images"][:count]
    ids = {image["id"] for image in document["images"]}
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] in ids]
    out = file.with_name(f"coco{count}.json")
    out.write_text(json.dumps(document))
    return out


def scores(checkpoint: str | Path, test: Path, out: Path) -> tuple[float, float]:
    """Mask AP and AP50 on the tiles to measure on."""
    astroseg.predict(checkpoint, [str(test)], out, score=0.02, overlays=0, quiet=True)
    found = astroseg.evaluate(test, out / "predictions.json", out / "evaluation", report=False)
    return found.mask_ap.mean.ap.value, found.mask_ap.mean.ap50.value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--steps", type=int, default=400, help="of fine-tuning")
    parser.add_argument("--scratch-steps", type=int, default=1800, help="of tiny from scratch")
    parser.add_argument("--survey", default="hsc-deep")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        every = tiles(folder / "train", options.survey, max(options.tiles), FIRST_SEED)
        test = tiles(folder / "test", options.survey, 9, 2 * FIRST_SEED)
        ap, ap50 = scores("sky", test, folder / "unchanged")
        print("tiles  model        AP    AP50   seconds")
        print(f"{0:5d}  {'unchanged':10s} {ap:.3f}  {ap50:.3f}  {0:7.0f}", flush=True)
        recipes = {
            "fine-tuned": {"weights": "sky", "steps": options.steps},
            "scratch": {"model": "tiny", "steps": options.scratch_steps},
        }
        for count in options.tiles:
            some = part(every, count)
            for name, words in recipes.items():
                run = folder / f"{name}{count}"
                start = time.perf_counter()
                result = astroseg.train(some, run, workers=0, quiet=True, **words)
                seconds = time.perf_counter() - start
                ap, ap50 = scores(result.checkpoint, test, run / "found")
                print(f"{count:5d}  {name:10s} {ap:.3f}  {ap50:.3f}  {seconds:7.0f}", flush=True)


if __name__ == "__main__":
    main()
