"""Record what the authors' scarlet makes of small simulated blends.

    python tests/astrolabel/record_scarlet.py [tests/astrolabel/references/scarlet.npz]

Needs astrolabel[simulate] and scarlet (https://pmelchior.github.io/scarlet/install.html).
The file holds all that `test_deblenders.py` compares: the pixels, the truth, and scarlet's
answer through `--deblender scarlet`, with versions, seed and command. Scenes are the
first blends of two to five galaxies and stars of a simulated HSC-Deep-like sky, each drawn
alone with noise of its own; peaks are the true ones, rounded to pixels.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
from pathlib import Path

import numpy as np

from astrolabel.core.box import Box
from astrolabel.core.config import DeblendConfig
from astrolabel.deblend import Blend, make_deblender
from astrolabel.simulate import SimulateConfig
from astrolabel.simulate.draw import Scene, Source, draw_scene

SEED, SIZE, DENSITY = 11, 500, 100.0
SCENES = 10
MEMBERS = (2, 5)
MAX_SIDE = 60
PADDING = 8
"""Sky around the masks, as the pipeline has it."""
LIBRARIES = ("scarlet", "autograd", "proxmin", "numpy", "scipy", "galsim", "astrolabel")


def blends(scene: Scene) -> list[tuple[Box, list[Source]]]:
    """Whole, unsaturated groups of overlapping masks, in the order of the scene."""
    frame = Box.of_shape(scene.shape)
    members: dict[int, list[Source]] = {}
    for source in scene.labelled:
        members.setdefault(source.group, []).append(source)
    out = []
    for sources in members.values():
        box = _mask_box(sources[0])
        for source in sources[1:]:
            box |= _mask_box(source)
        box = box.expanded(PADDING)
        whole = (box & frame) == box and max(box.shape) <= MAX_SIDE
        few = MEMBERS[0] <= len(sources) <= MEMBERS[1]
        if whole and few and not any(s.saturated for s in sources):
            out.append((box, sources))
    return out[:SCENES]


def _mask_box(source: Source) -> Box:
    rows = np.flatnonzero(source.mask.any(axis=1))
    columns = np.flatnonzero(source.mask.any(axis=0))
    inner = Box.from_corners(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
    return inner.shifted(source.box.y0, source.box.x0)


def record(scene: Scene, box: Box, sources: list[Source], seed: int) -> dict[str, np.ndarray]:
    """One blend, its truth and scarlet's answer."""
    bands = len(scene.psfs)
    truth = np.zeros((len(sources), bands, *box.shape))
    for light, source in zip(truth, sources, strict=True):
        common = box & source.box
        stamp = source.stamp[(slice(None), *common.slices_in(source.box))]
        light[(slice(None), *common.slices_in(box))] = stamp
    gain = np.array([b.electrons_per_count for b in scene.spec.bands])[:, None, None]
    variance = scene.sky_sigma[:, None, None] ** 2 + truth.sum(axis=0) / gain
    # Half precision before the noise is drawn: the file's variance is that of its noise.
    variance = variance.astype(np.float16).astype(np.float32)
    noise = np.random.default_rng([SEED, seed]).standard_normal(variance.shape)
    image = (truth.sum(axis=0) + np.sqrt(variance) * noise).astype(np.float32)
    peaks = np.rint([(s.body.y - box.y0, s.body.x - box.x0) for s in sources])
    blend = Blend(image, 1 / variance, scene.psfs, peaks)
    fit = make_deblender(DeblendConfig(engine="scarlet")).fit(blend)
    models = np.zeros((len(sources), bands, *box.shape), np.float16)
    for model, source in zip(models, fit.sources, strict=True):
        model[(slice(None), *source.box.slices)] = source.model
    return {
        "image": image,
        "variance": variance.astype(np.float16),
        "peaks": peaks,
        "true_flux": np.array([s.body.flux for s in sources], np.float32),
        "true_mask": truth.sum(axis=1) > scene.threshold,
        "true_chi2_per_pixel": np.array(((image - truth.sum(axis=0)) ** 2 / variance).mean()),
        "scarlet_model": models,
        "scarlet_flux": np.array([s.flux for s in fit.sources], np.float32),
        "scarlet_chi2_per_pixel": np.array(fit.chi2_per_pixel),
        "scarlet_state": np.array([s.state for s in fit.sources]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).parent / "references" / "scarlet.npz"
    parser.add_argument("out", type=Path, nargs="?", default=default)
    out = parser.parse_args().out
    scene = draw_scene(SimulateConfig(size=SIZE, seed=SEED, density_per_arcmin2=DENSITY))
    arrays: dict[str, np.ndarray] = {"psfs": scene.psfs, "threshold": np.array(scene.threshold)}
    for k, (box, sources) in enumerate(blends(scene)):
        one = record(scene, box, sources, k)
        arrays |= {f"{k}_{name}": value for name, value in one.items()}
    arrays["origin"] = np.array(
        json.dumps(
            {
                "command": "python tests/astrolabel/record_scarlet.py",
                "simulated": {"seed": SEED, "size": SIZE, "density_per_arcmin2": DENSITY},
                "python": platform.python_version(),
                "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
            }
        )
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, **arrays)
    print(f"{out}: {out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
