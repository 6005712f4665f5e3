"""Train the table that tells sources from substructure, and write it into the package.

    python benchmarks/train_source_probability.py [--data ../shared/data/real] [--scenes 1.0]
                                                  [--cache FOLDER] [--dry]

Scenes of known truth (benchmarks/training_scenes.py) are searched for candidates as labelling
does it. A candidate is a source when it is the one that is matched with something drawn; boosted
trees are fitted to the features of all. A fifth of the scenes is kept from the fit and reported.
Needs scikit-learn, scikit-image and astrolabel[simulate].
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from training_galaxies import giants, templates
from training_scenes import KINDS, TrainingScene, scene

from astrolabel.core import config as settings
from astrolabel.core.config import preset
from astrolabel.detect.detect import candidates, field_of
from astrolabel.detect.features import NAMES, Look, features
from astrolabel.detect.image import detection_image

FIRST_SEED = 7000
"""Of the training scenes; benchmarks use others."""
MATCH_FWHM = 0.8
"""A candidate this near to something drawn may be it."""
FAINT_SIGMA = 2.0
"""What is fainter is neither a source that should be found nor a false one."""

CLOUD_WEIGHT = 20.0
"""Of the main candidates of nebulosity, of which there are few: a scene has one to five."""


def examples(one: TrainingScene) -> dict[str, NDArray[np.float64]]:
    """Features (N, F), truth (N,), weights (N,) of the candidates of a scene."""
    coadd, config = one.coadd, preset("default").detect
    detection = detection_image(coadd, config)
    found = candidates(coadd, detection, config)
    peaks = found.peaks
    if len(peaks) == 0:
        return {"x": np.zeros((0, len(NAMES))), "y": np.zeros(0), "w": np.zeros(0)}
    field = field_of(coadd, detection, found, config)
    look = Look.at(field, peaks)
    columns = features(look, peaks)
    truth, faint = _matched(one, peaks, columns, field.fwhm_px)
    unclear = faint & ~truth
    if not one.truth.clouds:  # the main candidate of a galaxy may be off its middle
        unclear |= look.main & ~truth & _holds_any(one, field.parents, look.owner)
    weight = np.where(unclear, 0.0, 1.0)
    if one.truth.clouds:
        weight[look.main & ~truth] = CLOUD_WEIGHT
    return {"x": columns, "y": truth.astype(float), "w": weight}


def _holds_any(one: TrainingScene, parents, owner) -> NDArray[np.bool_]:
    """(N,) whether something was drawn on the parent of a candidate."""
    at = np.rint(one.truth.at).astype(int).clip(0, np.array(parents.shape) - 1)
    return np.isin(owner, np.unique(parents[tuple(at.T)])) & (owner > 0)


def _matched(one, peaks, columns, fwhm):
    """(N,) bool twice: is a source; is near something too faint to tell."""
    truth = one.truth
    bright = truth.peak_sigma > FAINT_SIGMA
    out, faint = np.zeros(len(peaks), bool), np.zeros(len(peaks), bool)
    if (~bright).any():
        faint = cKDTree(truth.at[~bright]).query(peaks)[0] < 0.5 * fwhm
    if not bright.any():
        return out, faint
    at = truth.at[bright]
    apart = np.hypot(*(at[:, None] - peaks[None]).transpose(2, 0, 1)) / fwhm
    # Of two that are as near, the one with more contrast.
    cost = np.where(apart < MATCH_FWHM, apart - 0.3 * np.clip(columns[:, 0], 0, 1)[None], 100.0)
    rows, cols = linear_sum_assignment(cost)
    good = cost[rows, cols] < 50
    out[cols[good]] = True
    return out, faint


def collect(pool, part: float, cache: Path | None) -> dict[str, NDArray[np.float64]]:
    """Examples of all scenes, with the number of their scene and their kind."""
    rows: dict[str, list] = {k: [] for k in ("x", "y", "w", "scene", "kind")}
    wanted = {kind: max(1, round(part * count)) for kind, count in KINDS.items()}
    order = [(k / n, kind, k) for kind, n in wanted.items() for k in range(n)]
    for number, (_, kind, k) in enumerate(sorted(order)):  # a part of them is of all kinds
        begin = time.process_time()
        file = cache / f"{kind}-{k}.npz" if cache else None
        if file is not None and file.exists():
            with np.load(file) as stored:
                one = dict(stored)
        else:
            one = examples(scene(kind, FIRST_SEED + k, pool))
            if file is not None:
                np.savez(file, **one)
            print(f"{kind} {k}: {len(one['y'])} candidates, {int(one['y'].sum())} sources, "
                  f"{time.process_time() - begin:.1f} s", flush=True)  # fmt: skip
        for key in ("x", "y", "w"):
            rows[key].append(one[key])
        rows["scene"].append(np.full(len(one["y"]), number))
        rows["kind"].append(np.full(len(one["y"]), list(KINDS).index(kind)))
    return {key: np.concatenate(parts) for key, parts in rows.items()}


def fitted(x, y, w, trees: int, leaves: int):
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=trees, max_leaf_nodes=leaves, learning_rate=0.08, min_samples_leaf=30,
        l2_regularization=3.0, max_bins=128, max_features=0.5, early_stopping=False, random_state=0,
    )  # fmt: skip
    return model.fit(x, y, sample_weight=w)


def exported(model) -> dict:
    """The trees as plain lists, numbers to four digits."""
    trees = []
    for (predictor,) in model._predictors:
        nodes = predictor.nodes
        trees.append(
            [
                [-1, float(f"{n['value']:.4g}")]
                if n["is_leaf"]
                else [
                    int(n["feature_idx"]), float(f"{n['num_threshold']:.5g}"),
                    int(n["missing_go_to_left"]), int(n["left"]), int(n["right"]),
                ]
                for n in nodes
            ]
        )  # fmt: skip
    return {
        "schema": 1,
        "features": list(NAMES),
        "baseline": float(f"{float(np.ravel(model._baseline_prediction)[0]):.5g}"),
        "trees": trees,
    }


def report(p, y, w, kind) -> None:
    """What is right and wrong at some thresholds, by kind of scene."""
    from sklearn.metrics import roc_auc_score

    use = w > 0.5
    print(f"kept scenes: {use.sum()} candidates, AUC {roc_auc_score(y[use], p[use]):.4f}")
    levels = (0.1, 0.3, 0.5, 0.7, 0.9)
    heads = "  ".join(f"p>{t}: found false" for t in levels)
    print("kind          candidates  sources  " + heads)
    for number, name in enumerate([*KINDS, "all"]):
        k = use & ((kind == number) | (name == "all"))
        if not k.any():
            continue
        true, false = p[k & (y > 0)], p[k & (y == 0)]
        cells = [f"{(true > t).mean():.3f} {int((false > t).sum()):5d}" for t in levels]
        print(f"{name:13s} {k.sum():9d} {int(y[k].sum()):8d}  " + "      ".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/real"))
    parser.add_argument("--scenes", type=float, default=1.0, help="part of the scenes")
    parser.add_argument("--cache", type=Path, help="keep the examples of each scene there")
    parser.add_argument("--trees", type=int, default=400)
    parser.add_argument("--leaves", type=int, default=20)
    parser.add_argument("--dry", action="store_true", help="write no table")
    options = parser.parse_args()
    if options.cache:
        options.cache.mkdir(parents=True, exist_ok=True)
    pool = templates(options.data) + [("giant", t) for t in giants(options.data)]
    data = collect(pool, options.scenes, options.cache)
    x, y, w, kind = data["x"], data["y"], data["w"], data["kind"]
    kept = data["scene"] % 5 == 4
    model = fitted(x[~kept], y[~kept], w[~kept], options.trees, options.leaves)
    report(model.predict_proba(x[kept])[:, 1], y[kept], w[kept], kind[kept])
    if not options.dry:
        table = exported(fitted(x, y, w, options.trees, options.leaves))
        settings.SOURCE_TABLE.write_text(
            json.dumps(table, separators=(",", ":")).replace("]],[[", "]],\n[[") + "\n"
        )
        print(f"wrote {settings.SOURCE_TABLE}")


if __name__ == "__main__":
    main()
