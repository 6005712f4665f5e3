"""Coverage-guided fuzzing of what reads the files of strangers.

    pip install atheris
    python benchmarks/fuzz.py --seconds 300
    python benchmarks/fuzz.py --seconds 300 --target fits coco

Each reader is called, in a process of its own, with files that atheris (libFuzzer) changes so that
they reach new branches, beginning with sound ones. A reader may refuse a file with an error of its
package. Anything else ends that target: the exception is printed, the file is kept in
`fuzz-findings/`, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FINDINGS = Path("fuzz-findings")
LIMITS = ("-rss_limit_mb=3000", "-timeout=60", "-max_len=20000")

Reader = Callable[[Path], object]


def fits_reader() -> tuple[Reader, type[Exception]]:
    from astrolabel.core.box import Box
    from astrolabel.core.errors import AstrolabelError
    from astrolabel.io import layer_pixels, layers

    def read(path: Path) -> None:
        for one in layers.find_layers(path):
            box = Box.of_shape(one.shape) & Box(0, 0, 64, 64)
            layer_pixels.read_image(one, box)
            layer_pixels.read_variance(one, box)
            layer_pixels.read_mask(one, box)
            layers.read_wcs(one)
            layers.read_zeropoint(one)
            layers.read_seeing(one)

    return read, AstrolabelError


def coco_reader() -> tuple[Reader, type[Exception]]:
    from astrolabel.core.errors import AstrolabelError
    from astrolabel.io import coco

    def read(path: Path) -> None:
        coco.validate(coco.read_stream(path), sky=True)
        coco.read(path)

    return read, AstrolabelError


def manifest_reader() -> tuple[Reader, type[Exception]]:
    from astrolabel.core.errors import AstrolabelError
    from astrolabel.datasets.manifest import read_manifest

    return read_manifest, AstrolabelError


def checkpoint_reader() -> tuple[Reader, type[Exception]]:
    from astroseg.core.errors import AstrosegError
    from astroseg.weights.checkpoint import read_checkpoint

    return read_checkpoint, AstrosegError


def fits_seeds() -> list[bytes]:
    from astropy.io import fits

    image = np.arange(48, dtype=">f4").reshape(6, 8)
    wcs = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0,
           "CD1_1": -5e-5, "CD2_2": 5e-5, "CRPIX1": 4.0, "CRPIX2": 3.0}  # fmt: skip
    header = fits.Header({**wcs, "FLUXMAG0": 6.3e10, "SEEING": 0.7, "BUNIT": "nJy"})
    mask = fits.ImageHDU(np.ones((6, 8), ">i4"), fits.Header({"MP_BAD": 0}), "MASK")
    noise = fits.ImageHDU(image, header, "VARIANCE")
    files = (
        [fits.PrimaryHDU(image, header)],
        [fits.PrimaryHDU(), fits.ImageHDU(image, header, "IMAGE"), mask, noise],
        [fits.PrimaryHDU(), fits.CompImageHDU(image, header, compression_type="RICE_1")],
    )
    found = []
    for hdus in files:
        stream = io.BytesIO()
        fits.HDUList(hdus).writeto(stream)
        found.append(stream.getvalue())
    return found


def coco_seeds() -> list[bytes]:
    from astrolabel.io.coco import to_json

    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0}
    shapes: list[Any] = [{"size": [9, 9], "counts": "X12"}, [[1, 1, 5, 1, 5, 5]],
                         {"size": [9, 9], "counts": [9, 4, 68]}]  # fmt: skip
    document = {
        "images": [{"id": 1, "file_name": "a.png", "height": 9, "width": 9,
                    "astro": {"wcs": cards, "bands": ["g"], "zeropoint": [27.0]}}],
        "categories": [{"id": 1, "name": "galaxy"}],
        "annotations": [
            {**box, "id": k, "segmentation": shape,
             "attributes": {"ra": 150.0, "dec": 2.0, "x": 1.5, "y": 2.5, "flags": []}}
            for k, shape in enumerate(shapes, start=1)
        ],
    }  # fmt: skip
    return [to_json(document).encode(), json.dumps(document).encode(), b"[]"]


def manifest_seeds() -> list[bytes]:
    from astrolabel.core.shipped import shipped

    return [path.read_bytes() for path in shipped("manifests").values()]


def checkpoint_seeds() -> list[bytes]:
    import astroseg.weights

    sound = Path(astroseg.weights.__file__).with_name("sky.safetensors").read_bytes()
    length = int.from_bytes(sound[:8], "little")
    header = json.loads(sound[8 : 8 + length])
    header["__metadata__"].pop("astroseg_sha256")  # it would tell of every change
    name, entry = next((k, v) for k, v in header.items() if k != "__metadata__")
    start, end = entry["data_offsets"]
    small = {"__metadata__": header["__metadata__"],
             name: {**entry, "data_offsets": [0, end - start]}}  # fmt: skip
    text = json.dumps(small).encode()
    return [len(text).to_bytes(8, "little") + text + bytes(end - start), b"\x80\x04N."]


TARGETS = {
    "fits": (fits_reader, fits_seeds, ".fits"),
    "coco": (coco_reader, coco_seeds, ".json"),
    "manifest": (manifest_reader, manifest_seeds, ".yaml"),
    "checkpoint": (checkpoint_reader, checkpoint_seeds, ".safetensors"),
}


def fuzz(target: str, words: list[str]) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    packages = ["astrolabel", "astroseg"]
    with atheris.instrument_imports(include=packages, enable_loader_override=False):
        read, refusal = TARGETS[target][0]()
    path = Path(tempfile.mkdtemp()) / f"x{TARGETS[target][2]}"

    def once(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(refusal):
            read(path)

    warnings.simplefilter("ignore")
    atheris.Setup([sys.argv[0], *words], once)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=300, help="for each target")
    parser.add_argument("--target", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--one", choices=TARGETS, help=argparse.SUPPRESS)
    options, words = parser.parse_known_args()
    if options.one:
        fuzz(options.one, words)
    FINDINGS.mkdir(exist_ok=True)
    wrong = 0
    print(f"{'reader':12}{'files':>10}{'branches':>10}  ended", flush=True)
    for target in options.target:
        with tempfile.TemporaryDirectory() as corpus:
            for k, seed in enumerate(TARGETS[target][1]()):
                (Path(corpus) / str(k)).write_bytes(seed)
            command = [sys.executable, "-W", "ignore", __file__, "--one", target, corpus, *LIMITS,
                       f"-max_total_time={options.seconds}",
                       f"-artifact_prefix={FINDINGS}/{target}-"]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        lines = re.findall(r"#(\d+)\t\w+ +cov: (\d+)", done.stderr)
        files, branches = lines[-1] if lines else ("0", "0")
        ended = "in time" if done.returncode == 0 else f"with exit code {done.returncode}"
        print(f"{target:12}{files:>10}{branches:>10}  {ended}", flush=True)
        if done.returncode:
            wrong += 1
            print(done.stderr[-3000:], file=sys.stderr)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
