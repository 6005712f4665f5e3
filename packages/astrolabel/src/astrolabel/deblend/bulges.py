"""Whether a galaxy may have a bulge: what a point in its middle would gain.

Bulge and disc are seldom seen in chi2, which counts all pixels alike; they are in the few in
the middle. The gain is that of the score test, without a fit: s^T (n - b^T A^-1 b)^-1 s, where
s and n are pull and curvature of the point's fluxes, A the curvature of all that the galaxy
can change, and b what the two have in common.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from astrolabel.core.box import Box
from astrolabel.deblend.components import Component, joint_equations, rendered
from astrolabel.deblend.convolve import Image, Kernels

RIDGE = 1e-3
"""Part of the point's curvature that the galaxy cannot take: where it takes all of it, the
point's flux is not known and nothing is gained."""


def core_gain(c: Component, residual: Image, weights: Image, kernels: Kernels, frame: Box) -> float:
    """By how much chi2 would fall with a point in the middle of a galaxy, with a flux of either
    sign in each band.

    Parameters
    ----------
    residual, weights : (C, H, W) of the cutout `frame`.
    """
    _, images = rendered(kernels, frame, c.peak, c.radius, c.shape, True)
    point = replace(c, point=True, images=images[:1], flux=np.zeros(len(weights)))
    matrix, vector, at = joint_equations([c, point], residual, weights)
    diagonal = np.diag_indices(len(matrix))
    scale = 1 / np.sqrt(np.maximum(matrix[diagonal], 1e-30))
    matrix *= scale[:, None] * scale
    vector *= scale
    matrix[diagonal] += RIDGE * (np.arange(len(matrix)) >= at[1]) + 1e-7
    own, new = slice(0, at[1]), slice(at[1], None)
    taken = np.linalg.solve(matrix[own, own], np.column_stack([matrix[own, new], vector[own]]))
    left = matrix[new, new] - matrix[new, own] @ taken[:, :-1]
    score = vector[new] - matrix[new, own] @ taken[:, -1]
    return float(score @ np.linalg.solve(left, score))
