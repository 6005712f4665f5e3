"""How fast is the review page, and does its queue show what is wrong first?

    python benchmarks/review.py speed [--labels 100000] [--size 1050]
    python benchmarks/review.py faults [--seed 5] [--size 1050] [--faults 50]
    python benchmarks/review.py corrections [--seed 5] [--size 1050] [--faults 50]
    python benchmarks/review.py splits [--size 1050]

`speed` lays copies of one simulated coadd and its labels side by side, writes the page, and opens
it in a headless Chromium without a GPU. `faults` plants shreds, merges, wrong classes and false
labels in the true labels of a simulated sky, gives the page the program's own labels of the same
pixels as predictions, and counts the faults among the first of the queue. `corrections` mends all
of them and times the program's part of it. `splits` times the fit of
one label and its neighbours, as a split or merge makes it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from astropy.io import fits

from astrolabel.catalog.catalog import catalog_for
from astrolabel.core.box import Box
from astrolabel.core.config import ClassifyConfig, LabelConfig, SimulateConfig
from astrolabel.core.errors import AstrolabelError
from astrolabel.io import coco
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.io.frames import frames_of
from astrolabel.io.polygons import mask_of
from astrolabel.io.rle import encode
from astrolabel.label.pipeline import make_coco
from astrolabel.review.corrections import apply, read_corrections
from astrolabel.review.layers import layer, places_of, read_layer
from astrolabel.review.page import write_review
from astrolabel.review.refit import Neighbourhood
from astrolabel.review.session import Session
from astrolabel.review.values import compared_with, doubt_columns, light_of
from astrolabel.simulate import simulate

QUEUE = 200
"""Entries of the queue that the page lists."""


def labelled(folder: Path, size: int, seed: int) -> Path:
    """A simulated sky and the program's labels of it; their file."""
    simulate(folder / "sky", SimulateConfig(seed=seed, size=size))
    config = LabelConfig(classify=ClassifyConfig(scheme="hsc", keep_unmatched=True))
    catalog = folder / "sky" / "catalog_hsc.fits"
    found = catalog_for(catalog, config.classify), catalog
    inputs = Inputs(paths=(folder / "sky",))
    return make_coco(find_coadds(inputs), config, folder / "labels", found, progress=False).coco


def copies(doc: coco.Document, wanted: int) -> coco.Document:
    """Copies of a document of one image side by side, with so many labels together."""
    (image,) = doc["images"]
    number = -(-wanted // len(doc["annotations"]))
    side = int(np.ceil(np.sqrt(number)))
    shards = []
    for k in range(number):
        row, column = divmod(k, side)
        astro = {**image["astro"], "origin": [row * image["height"], column * image["width"]]}
        shards.append({"image": {**image, "astro": astro}, "annotations": doc["annotations"]})
    made = coco.merge({}, doc["categories"], shards)
    made["annotations"] = made["annotations"][:wanted]
    return made


def speed(folder: Path, labels: int, size: int) -> dict[str, float]:
    """Seconds to write and to open, milliseconds of a redraw, megabytes."""
    file = labelled(folder, size, seed=4)
    many = file.with_name("many.json")
    coco.write_json(many, copies(coco.read(file), labels))
    began = time.process_time()
    page = write_review(many, folder / "review")
    return {
        "labels": labels,
        "write_cpu_s": time.process_time() - began,
        "page_megabytes": page.stat().st_size / 1e6,
        "megabytes": sum(f.stat().st_size for f in page.parent.rglob("*.*")) / 1e6,
        **in_browser(page),
        **in_session(many, folder / "served"),
    }


def in_session(file: Path, folder: Path) -> dict[str, float]:
    """Processor seconds of the server: the first page, a correction, and the page after it."""
    doc = coco.read(file)
    images = {image["id"]: image for image in doc["images"]}
    session = Session(file, folder)
    out = {}
    for name, act in (
        ("first_page", session.page),
        ("correction", lambda: session.correct(_rejected(doc["annotations"][7], images))),
        ("page_again", session.page),
    ):
        before = time.process_time()
        act()
        out[f"{name}_cpu_s"] = time.process_time() - before
    return out


def _rejected(item: dict[str, Any], images: dict[int, Any]) -> dict[str, Any]:
    return {"action": "reject", "who": "benchmark", **_place(item, images[item["image_id"]])}


def in_browser(page: Path) -> dict[str, float]:
    """Opening and redrawing at 1280x800, from the whole down to single sources."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as made:
        browser = made.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--headless"]
        )
        shown = browser.new_page(viewport={"width": 1280, "height": 800})
        began, before = time.perf_counter(), _cpu()
        shown.goto(page.as_uri())
        shown.wait_for_function("window.review && window.review.state().drawn > 0", timeout=60000)
        found: dict[str, float] = {
            "open_s": time.perf_counter() - began, "open_cpu_s": _cpu() - before
        }  # fmt: skip
        shown.wait_for_timeout(1000)
        for name, grow in (("whole", 1), ("x3", 3), ("x10", 10), ("x40", 40)):
            before = _cpu()
            one = shown.evaluate(REDRAW, [grow, REDRAWS])
            one["cpu_ms"] = 1000 * (_cpu() - before) / REDRAWS
            found |= {f"{key}_{name}": value for key, value in one.items()}
        browser.close()
    return found


REDRAWS = 30
REDRAW = """async ([grow, number]) => {
  const frame = () => new Promise(done => requestAnimationFrame(done));
  window.review.home();
  const z = window.review.state().view.zoom * grow, [w, h] = window.review.size();
  const whole = window.review.state().view, from = grow === 1 ? whole.x : w / 2 - 300 / z;
  window.review.view({zoom: z, x: from, y: grow === 1 ? whole.y : h / 2 - 300 / z});
  window.review.draw(); for (let k = 0; k < 10; k++) await frame();
  const times = [], scripts = [];
  for (let k = 0; k < number; k++) {
    window.review.view({x: from + 3 * (k % 2) / z});
    const start = performance.now();
    scripts.push(window.review.draw());
    await frame(); await frame();
    times.push(performance.now() - start);
  }
  const middle = all => all.sort((a, b) => a - b)[all.length >> 1];
  return {drawn: window.review.state().drawn,
    script_ms: middle(scripts), script_least_ms: Math.min(...scripts),
    screen_ms: middle(times), screen_least_ms: Math.min(...times)};
}"""
"""Move the view and wait two frames, until the picture is on the screen."""


def _cpu() -> float:
    """Processor seconds of this process' children, the browser's: others use the cores too."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += sum(child.cpu_times()[:2])
    return total


def planted(doc: coco.Document, number: int, rng: np.random.Generator) -> dict[int, str]:
    """Plant faults of four kinds in a document of one image; the kind by annotation id."""
    (image,) = doc["images"]
    shape = (image["height"], image["width"])
    items = doc["annotations"]
    masks = {a["id"]: mask_of(a["segmentation"], shape) for a in items}
    taken: dict[int, str] = {}
    kinds = [("shred", 13), ("merge", 13), ("class", 12), ("false", 12)]
    order = [items[k] for k in rng.permutation(len(items)) if items[k]["area"] >= 20]
    for kind, share in kinds:
        for _ in range(round(share * number / 50)):
            item = next(a for a in order if a["id"] not in taken)
            if kind == "merge":
                pair = _neighbours(order, taken, masks)
                item, other = pair
                _set(item, [masks[item["id"]], masks[other["id"]]], shape)
                items.remove(other)
                order.remove(other)
            elif kind == "shred":
                pixels, box = masks[item["id"]]
                half = pixels.copy()
                half[:, pixels.shape[1] // 2 :] = False
                new = {**item, "id": max(a["id"] for a in items) + 1}
                _set(new, [(pixels & ~half, box)], shape)
                _set(item, [(half, box)], shape)
                items.append(new)
                taken[new["id"]] = kind
            elif kind == "class":
                item["category_id"] = 3 - item["category_id"]
            else:
                _move_to_sky(item, masks, shape, rng)
            taken[item["id"]] = kind
    return taken


def _set(item: dict[str, Any], parts: list[tuple[Any, Box]], shape: tuple[int, int]) -> None:
    whole = np.zeros(shape, bool)
    for pixels, box in parts:
        whole[box.slices] |= pixels
    box = Box.of_shape(shape)
    item |= {
        "segmentation": encode(whole, box, shape), "area": int(whole.sum()),
        "bbox": coco.tight_box(whole, box),
    }  # fmt: skip


def _neighbours(order: list[Any], taken: dict[int, str], masks: Any) -> tuple[Any, Any]:
    for a in order:
        wide = masks[a["id"]][1].expanded(3)
        for b in order:
            free = a["id"] not in taken and b["id"] not in taken and a["id"] != b["id"]
            if free and (wide & masks[b["id"]][1]).area:
                return a, b
    raise SystemExit("no neighbours left to merge: take a larger --size")


def _move_to_sky(item: Any, masks: Any, shape: tuple[int, int], rng: np.random.Generator) -> None:
    """The mask of a label on sky where none is: the source itself stays without one."""
    covered = np.zeros(shape, bool)
    for pixels, box in masks.values():
        covered[box.slices] |= pixels
    pixels, box = masks[item["id"]]
    while True:
        y, x = (int(rng.integers(0, n - m)) for n, m in zip(shape, box.shape, strict=True))
        to = Box(y, x, *box.shape)
        if not covered[to.slices].any():
            _set(item, [(pixels, to)], shape)
            return


def faults(folder: Path, seed: int, size: int, number: int) -> dict[str, Any]:
    """Faults among the first of the queue, by kind; the queue is as the page orders it."""
    predictions = labelled(folder, size, seed)
    doc = coco.read(folder / "sky" / "truth.json")
    kinds = planted(doc, number, np.random.default_rng(seed))
    changed = folder / "sky" / "changed.json"
    coco.write_json(changed, doc)
    frames = frames_of(doc["images"])
    labels = layer(doc["annotations"], places_of(doc, frames))
    other, names = read_layer(predictions, doc, frames)
    own = {c["id"]: c["name"] for c in doc["categories"]}
    order = {name: n for n, name in enumerate(own.values())}
    one, _, _, about = compared_with("predictions", labels, other, own, names, order)
    places = places_of(doc, frames)
    sky = folder / "sky"
    light = light_of(labels, _with_cube(doc, sky), places, sky)
    classes = np.array([order[own[a["category_id"]]] for a in labels.items], np.int16)
    out: dict[str, Any] = {"labels": len(labels), "planted": len(kinds)}
    for name, known, column in (
        ("with predictions", [one], "doubt"),
        ("labels alone", [], "doubt"),
        ("by disagreement", [one], "disagreement"),
    ):
        columns, _ = doubt_columns(light, classes, np.zeros(len(labels), bool), known)
        entries = [
            (float(s), kinds.get(a["id"]))
            for s, a in zip(columns[column], labels.items, strict=True)
        ]
        entries += [(float(s), None) for s in about[column] if known and s > 0]
        out[name] = _first(entries, len(kinds))
    return out


def _with_cube(doc: coco.Document, sky: Path) -> coco.Document:
    """The truth of one coadd with the pixels that its labels were made of."""
    files = sorted(sky.glob("calexp-*.fits"))
    cube = np.stack([fits.getdata(f, "IMAGE") for f in files]).astype(np.float32)
    fits.PrimaryHDU(cube).writeto(sky / "cube.fits", overwrite=True)
    (image,) = doc["images"]
    astro = {**(image.get("astro") or {}), "cube": "cube.fits", "sky_sigma": None}
    return {**doc, "images": [{**image, "astro": astro}]}


def _first(entries: list[tuple[float, str | None]], planted: int) -> dict[str, Any]:
    """How many of the first entries of the queue are planted faults, by kind."""
    out: dict[str, Any] = {}
    entries.sort(key=lambda one: -one[0])
    for first in (planted, 100, QUEUE):
        shown = [kind for _, kind in entries[:first] if kind]
        out[f"in first {first}"] = len(shown)
        out[f"in first {first}, by kind"] = {k: shown.count(k) for k in sorted(set(shown))}
    return out


def corrections(folder: Path, seed: int, size: int, number: int) -> dict[str, Any]:
    """Mend every planted fault through the review's session: seconds of each, and what is left."""
    labelled(folder, size, seed)
    truth = coco.read(folder / "sky" / "truth.json")
    before = {a["id"]: dict(a) for a in truth["annotations"]}
    kinds = planted(truth, number, np.random.default_rng(seed))
    doc = _with_cube(truth, folder / "sky")
    path = folder / "sky" / "changed.json"
    coco.write_json(path, doc)
    session = Session(path, folder / "page")
    (image,) = doc["images"]
    items = {a["id"]: a for a in doc["annotations"]}
    names = {c["id"]: str(c["name"]) for c in doc["categories"]}
    seconds: dict[str, list[float]] = {}
    refused = 0
    for ident, kind in kinds.items():
        entry = {"who": "benchmark", **_place(items[ident], image)}
        if kind == "shred":
            if ident in before:
                continue  # its new half is corrected, which holds both
            half = next(
                a for a in items.values()
                if a["id"] in before and kinds.get(a["id"]) == "shred"
                and a["attributes"] == items[ident]["attributes"]
            )  # fmt: skip
            entry |= {"action": "merge", "with": [_place(half, image)]}
        elif kind == "merge":
            lost = min(
                (a for k, a in before.items() if k not in items),
                key=lambda a: _apart(a["attributes"], items[ident]["bbox"]),
            )
            peak = [float(lost["attributes"]["x"]), float(lost["attributes"]["y"])]
            entry |= {"action": "split", "peak": peak}
        elif kind == "class":
            entry |= {"action": "class", "class": names[before[ident]["category_id"]]}
        else:
            entry |= {"action": "reject"}
        began = time.perf_counter()
        try:
            session.correct(entry)
        except AstrolabelError:
            refused += 1
        seconds.setdefault(entry["action"], []).append(time.perf_counter() - began)
    applied = apply(doc, read_corrections(session.log), path.parent)
    out: dict[str, Any] = {"labels": len(doc["annotations"]), "refused": refused}
    for action, values in seconds.items():
        out[action] = {"number": len(values), "seconds_median": float(np.median(values))}
    return {**out, "problems_after": len(coco.validate(applied.document))}


def _place(item: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    x, y, width, height = item["bbox"]
    return {
        "id": item["id"], "image": image["file_name"], "x": x + width / 2, "y": y + height / 2
    }  # fmt: skip


def _apart(about: dict[str, Any], bbox: list[float]) -> float:
    x, y, width, height = bbox
    return float(np.hypot(about["x"] - x - width / 2, about["y"] - y - height / 2))


def splits(folder: Path, size: int, number: int = 40) -> dict[str, float]:
    """Processor seconds of a fit around each of the largest labels, and how many are in it."""
    file = labelled(folder, size, seed=4)
    doc = coco.read(file)
    items = sorted(doc["annotations"], key=lambda a: -a["area"])[: number + 1]
    seconds, together = [], []
    for item in items:
        began = time.process_time()
        near = Neighbourhood.read(doc, doc["images"][0], item, doc["annotations"], file.parent)
        near.fit([near.peaks[one["id"]] for one in near.labels])
        seconds.append(time.process_time() - began)
        together.append(len(near.labels))
    # The first compiles what the others use.
    return {
        "fits": number,
        "cpu_s_median": float(np.median(seconds[1:])),
        "cpu_s_largest": float(np.max(seconds[1:])),
        "labels_median": float(np.median(together[1:])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "faults", "corrections", "splits"))
    parser.add_argument("--labels", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=1050)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--faults", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.what == "speed":
            found = speed(Path(name), options.labels, options.size)
        elif options.what == "corrections":
            found = corrections(Path(name), options.seed, options.size, options.faults)
        elif options.what == "splits":
            found = splits(Path(name), options.size)
        else:
            found = faults(Path(name), options.seed, options.size, options.faults)
    json.dump(found, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
