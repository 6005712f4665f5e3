"""Does data starve the model? Loader images per second against a model's training steps.

    python benchmarks/loader_speed.py [--workers 1 2] [--model r50-fpn] [--device auto]

Makes simulated 1000x1000 tiles of round sources with several hundred objects each (FITS
cubes of three bands, in a temporary folder), reads them as training does (random half-size
crops, flips, turns, asinh) and times whole training steps on such samples. The loader keeps
up when its rate is above the model's.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from astropy.io import fits

from astroseg.core.config import DataConfig
from astroseg.core.device import choose_device
from astroseg.core.rle import encode_at
from astroseg.data.dataset import Dataset, read_dataset
from astroseg.data.loader import Samples, Stream, open_stream
from astroseg.data.look import survey
from astroseg.engines import get_engine
from astroseg.models.spec import model_spec

SIZE = 1000
BATCH = 4
MARGIN = 16


def write_tiles(folder: Path, images: int, objects: int) -> Path:
    """A COCO file of tiles with that many sources each, most 5 to 15 px wide."""
    rng = np.random.default_rng(0)
    entries, annotations = [], []
    yy, xx = np.mgrid[-MARGIN : MARGIN + 1, -MARGIN : MARGIN + 1]
    for number in range(1, images + 1):
        cube = rng.normal(0, 1, (3, SIZE, SIZE)).astype(np.float32)
        for y, x in rng.integers(MARGIN, SIZE - MARGIN - 1, (objects, 2)):
            width = rng.uniform(1.2, 4.0)
            light = 60 * np.exp(-0.5 * (yy**2 + xx**2) / width**2)
            rows = slice(y - MARGIN, y + MARGIN + 1)
            cube[:, rows, x - MARGIN : x + MARGIN + 1] += light
            mask = encode_at(light > 5, (int(y - MARGIN), int(x - MARGIN)), (SIZE, SIZE))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": mask,
                }
            )
        fits.PrimaryHDU(cube).writeto(folder / f"{number}.fits")
        entries.append({"id": number, "file_name": f"{number}.fits", "height": SIZE, "width": SIZE})
    categories = [{"id": 1, "name": "source"}]
    document = {"images": entries, "annotations": annotations, "categories": categories}
    path = folder / "coco.json"
    path.write_text(json.dumps(document))
    return path


def loader_rate(samples: Samples, images: int, workers: int) -> float:
    """Images per second, workers started and files opened."""
    epochs = 6
    stream = Stream(images, BATCH, epochs * images // BATCH, seed=0)
    warm = 2 * images // BATCH
    start, count = 0.0, 0
    for step, batch in enumerate(open_stream(samples, stream, 0, workers)):
        if step == warm:
            start = time.perf_counter()
        elif step > warm:
            count += len(batch)
    return count / (time.perf_counter() - start)


def model_rate(name: str, samples: Samples, device: torch.device, steps: int) -> float:
    """Images per second of training steps, forward, backward and update."""
    engine = get_engine("auto")
    spec = model_spec(name, channels=3, classes=("source",)).for_scratch()
    model = engine.build(spec, 0).to(device)
    groups = engine.param_groups(model, "none")
    optimizer = torch.optim.SGD(groups, lr=1e-6, momentum=0.9)
    stream = Stream(len(samples), BATCH, steps + 1, seed=0)
    batches = list(open_stream(samples, stream, 0, 0))
    start = 0.0
    for step, batch in enumerate(batches):
        if step == 1:  # the first step allocates
            start = time.perf_counter()
        optimizer.zero_grad()
        total = torch.stack(list(engine.losses(model, batch).values())).sum()
        total.backward()
        optimizer.step()
        total.item()  # waits for a GPU
    return steps * BATCH / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--objects", type=int, default=1200, help="per tile; a crop has a quarter")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--model", default="r50-fpn")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    device = choose_device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        path = write_tiles(Path(folder), options.images, options.objects)
        dataset: Dataset = read_dataset(path)
        config = DataConfig(contrast="asinh")
        samples = Samples(
            dataset,
            survey(dataset, (), 3, config),
            config,
            seed=0,
            crop=0.5,
            flips=True,
            cache_bytes=2**28,
        )
        objects = np.mean([len(samples.dataset.truth[i]) for i in range(len(samples))])
        print(
            f"{os.cpu_count()} cores; {SIZE // 2}x{SIZE // 2} crops of {objects:.0f}-object tiles"
        )
        rates = {n: loader_rate(samples, options.images, n) for n in options.workers}
        for workers, rate in rates.items():
            print(f"loader, {workers} worker processes: {rate:8.1f} images/s")
        rate = model_rate(options.model, samples, device, options.steps)
        print(f"{options.model} training on {device}:      {rate:8.2f} images/s")
        best = max(rates.values())
        print(f"the loader is {best / rate:.1f} times as fast as the model")


if __name__ == "__main__":
    main()
