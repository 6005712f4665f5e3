"""Fit of a real HSC UltraDeep COSMOS cutout: chi2 per pixel, time, and a picture.

    python benchmarks/hsc_cutout.py path/to/hsc_cosmos_35.npz [--picture out.png]
    python benchmarks/hsc_cutout.py path/to/hsc_cosmos_35.npz --companions [--deblender scarlet]

The first three bands (g, r, i) with their variance and PSFs; the sources are the seven
centres of the file's catalog. With `--companions` points of light that the parametric deblender
finds and that none of them stands for are listed too, and all are fitted by the deblender asked
for.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from astrolabel.core.config import DeblendConfig
from astrolabel.deblend import Blend, BlendFit, make_deblender


def read_blend(path: Path, bands: int = 3) -> Blend:
    """The cutout as a blend: weights are 1/variance, zero where there is no variance."""
    with np.load(path) as data:
        image = data["images"][:bands].astype(np.float32)
        variance = data["variance"][:bands]
        psfs = data["psfs"][:bands]
        peaks = np.array([(row["y"], row["x"]) for row in data["catalog"]], float)
    good = np.isfinite(image) & np.isfinite(variance) & (variance > 0)
    weights = np.where(good, 1 / np.where(good, variance, 1), 0).astype(np.float32)
    psfs = psfs / psfs.sum(axis=(1, 2), keepdims=True)
    return Blend(np.where(good, image, 0), weights, psfs.astype(np.float32), peaks)


def total_model(blend: Blend, fit: BlendFit) -> np.ndarray:
    """(C, H, W) sum of all sources, without nuisance sources."""
    out = np.zeros_like(blend.image)
    for source in fit.sources:
        out[(slice(None), *source.box.slices)] += source.model
    return out


def with_companions(blend: Blend) -> Blend:
    """The blend with a peak more on every nuisance source."""
    light = make_deblender(DeblendConfig()).fit(blend).nuisance
    if light is None:
        return blend
    total = light.sum(axis=0)
    found = np.argwhere((total == ndimage.maximum_filter(total, 5)) & (total > 0.05 * total.max()))
    return replace(blend, peaks=np.concatenate([blend.peaks, found.astype(float)]))


def draw(blend: Blend, fit: BlendFit, path: Path) -> None:
    """Image, model and residual in sigma, a row per band."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    model = total_model(blend, fit)
    figure, axes = plt.subplots(len(model), 3, figsize=(11, 3.5 * len(model)))
    for row, image, light, weight in zip(axes, blend.image, model, blend.weights, strict=True):
        scale = 0.1 * np.percentile(image, 99)
        for axis, data, title in ((row[0], image, "image"), (row[1], light, "model")):
            axis.imshow(np.arcsinh(data / scale), origin="lower")
            axis.set_title(title)
        row[0].plot(blend.peaks[:, 1], blend.peaks[:, 0], "rx")
        residual = (image - light) * np.sqrt(weight)
        figure.colorbar(row[2].imshow(residual, origin="lower", vmin=-5, vmax=5, cmap="RdBu"))
        row[2].set_title("residual / sigma")
    figure.tight_layout()
    figure.savefig(path, dpi=60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--companions", action="store_true", help="list nuisance sources too")
    parser.add_argument("--deblender", default="parametric")
    args = parser.parse_args()
    blend = read_blend(args.file)
    if args.companions:
        blend = with_companions(blend)
    deblender = make_deblender(DeblendConfig(engine=args.deblender))
    deblender.fit(blend)  # compile
    begin = time.perf_counter()
    fit = deblender.fit(blend)
    seconds = time.perf_counter() - begin
    print(
        f"chi2/pixel {fit.chi2_per_pixel:.3f} after {fit.n_iterations} iterations, "
        f"{seconds / len(fit.sources):.4f} s a source, converged: {fit.converged}"
    )
    residual = blend.image - total_model(blend, fit)
    chi2 = float((blend.weights * residual**2).sum()) / np.count_nonzero(blend.weights)
    print(f"  without nuisance sources: chi2/pixel {chi2:.3f}")
    for peak, source in zip(blend.peaks, fit.sources, strict=True):
        flux = ", ".join(f"{f:.2f}" for f in source.flux)
        print(f"  ({peak[0]:.0f}, {peak[1]:.0f}) {source.kind:8s} {source.state} flux {flux}")
    if args.picture:
        draw(blend, fit, args.picture)


if __name__ == "__main__":
    main()
