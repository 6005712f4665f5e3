import json
import subprocess
import sys

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from astrolabel.core.numerics import PIECE, RIDGE, dot, non_negative, solve


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, 3 * PIECE + 7])
def test_a_dot_product_adds_up_every_pair_once(size):
    a, b = np.random.default_rng(2).normal(1, 1, (2, size)).astype(np.float32)
    assert dot(a, b) == pytest.approx(float(a.astype(float) @ b), rel=1e-5)


@pytest.mark.parametrize("size", [0, 1, 2, 9])
def test_equations_are_solved_for_every_right_side_from_the_lower_half(size):
    rng = np.random.default_rng(size)
    root = rng.normal(size=(size, size + 2))
    matrix, right = root @ root.T, rng.normal(size=(3, size))
    expected = np.linalg.solve(matrix, right.T).T
    given = np.where(np.tri(size, dtype=bool), matrix, np.nan)
    solve(given, right)
    np.testing.assert_allclose(right, expected, rtol=1e-8)


TWICE = """
import json, sys
import numpy as np
import astrolabel
from numba.core.registry import CPUDispatcher

rng = np.random.default_rng(1)
y, x = np.mgrid[:80, :80]
for kind, bands in (("f4", 3), (">f8", 1)):  # natively, and as a FITS file has it
    image = rng.normal(0, 1, (bands, 80, 80))
    for v, u in ((30, 31), (30, 37), (60, 50)):
        image += 500 * np.exp(-0.5 * ((y - v) ** 2 + (x - u) ** 2) / 4)
    astrolabel.label(image.astype(kind), bands=list("gri")[:bands], variance=np.ones_like(image))
kernels = {
    f"{name}.{key}": len(value.signatures)
    for name, module in list(sys.modules.items()) if name.startswith("astrolabel")
    for key, value in vars(module).items() if isinstance(value, CPUDispatcher)
}
print(json.dumps(kernels))
"""


def test_no_kernel_is_compiled_for_two_kinds_of_arrays():
    run = subprocess.run([sys.executable, "-c", TWICE], check=True, capture_output=True, text=True)
    kernels = json.loads(run.stdout.splitlines()[-1])
    assert kernels["astrolabel.detect.mog.render"] == 1
    assert {name: count for name, count in kernels.items() if count > 1} == {}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_least_squares_agrees_with_scipy(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    design, data = rng.normal(size=(30, count)), rng.normal(size=30)
    expected, _ = scipy.optimize.nnls(design, data)
    found = non_negative(design.T @ design, design.T @ data, np.zeros(count), 0.0)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_least_squares_gives_nothing_to_a_source_that_is_nowhere() -> None:
    matrix, vector = np.diag([2.0, 0.0]), np.array([4.0, 0.0])
    found = non_negative(matrix, vector, np.ones(2), 0.0)
    np.testing.assert_allclose(found, [2.0, 0.0], rtol=2 * RIDGE)
