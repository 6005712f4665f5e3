"""Difference kernels, and the way from the model frame to the bands and back."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from astrolabel.deblend.convolve import (
    KernelCache,
    Kernels,
    difference_kernels,
    fft_length,
    fwhm_sigma,
    gaussian,
    render_alone,
)
from astrolabel.deblend.scene import Scene

SIGMAS = (2.1, 1.7)


def moffat(size: int, fwhm: float, beta: float = 3.0) -> np.ndarray:
    half = size // 2
    r2 = (np.mgrid[-half : half + 1, -half : half + 1] ** 2).sum(axis=0)
    alpha2 = fwhm**2 / (4 * (2 ** (1 / beta) - 1))
    out = (1 + r2 / alpha2) ** -beta
    return (out / out.sum()).astype(np.float32)


@pytest.fixture
def psfs() -> np.ndarray:
    return np.stack([moffat(31, 4.9), moffat(31, 4.0)])


def test_model_psf_convolved_with_its_difference_kernel_is_the_observed_psf(psfs) -> None:
    kernels = difference_kernels(psfs, 0.75)
    model = gaussian((31, 31), 15, 15, 0.75)
    for kernel, psf in zip(kernels, psfs, strict=True):
        made = scipy.signal.fftconvolve(kernel, model, mode="same")
        assert np.abs(made - psf).max() < 0.01 * psf.max()
        assert kernel.sum() == pytest.approx(1, abs=1e-5)


def test_psf_narrower_than_the_model_frame_narrows_the_frame() -> None:
    sharp = gaussian((15, 15), 7, 7, 0.7)[None]
    assert Kernels(sharp, 0.75).sigma < 0.7
    assert Kernels(np.stack([moffat(31, 4.0)]), 0.75).sigma == 0.75


def test_width_of_a_gaussian_is_found_from_its_half_maximum_area() -> None:
    assert fwhm_sigma(gaussian((41, 41), 20, 20, 3.0)) == pytest.approx(3.0, rel=0.03)


def test_reach_grows_with_the_light(psfs) -> None:
    kernels = Kernels(psfs, 0.75)
    reaches = [kernels.reach(f) for f in (1, 100, 1e4, 1e6)]
    assert reaches == sorted(reaches)
    assert reaches[-1] == 15


@pytest.mark.parametrize("pixels", [1, 17, 57, 101, 333])
def test_fft_length_is_at_least_what_is_asked_and_a_multiple_of_four(pixels: int) -> None:
    assert fft_length(pixels) >= pixels
    assert fft_length(pixels) % 4 == 0


def test_sources_rendered_alone_equal_direct_convolution(psfs) -> None:
    kernels = Kernels(psfs, 0.75)
    rng = np.random.default_rng(1)
    shapes = [(5, 7), (9, 9), (5, 7)]
    morphologies = [rng.random(s).astype(np.float32) for s in shapes]
    for m, images in zip(morphologies, render_alone(kernels, morphologies, 15), strict=True):
        for image, kernel in zip(images, kernels.kernels, strict=True):
            expected = scipy.signal.convolve2d(m, kernel)
            np.testing.assert_allclose(image, expected, atol=1e-5)


def make_scene(psfs: np.ndarray, seed: int = 0) -> Scene:
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(2, 24, 19)).astype(np.float32)
    weights = rng.uniform(0, 2, image.shape).astype(np.float32)
    weights[:, :3] = 0
    return Scene(image, weights, Kernels(psfs, 0.75))


def test_backward_is_the_transpose_of_forward(psfs) -> None:
    scene = make_scene(psfs)
    rng = np.random.default_rng(2)
    a = np.zeros((2, *scene.fft_shape), np.float32)
    b = np.zeros_like(a)
    a[:, :24, :19] = rng.normal(size=(2, 24, 19))
    b[:, :24, :19] = rng.normal(size=(2, 24, 19))
    left = float((scene.forward(a) * b).sum(dtype=float))
    right = float((a * scene.backward(b)).sum(dtype=float))
    assert left == pytest.approx(right, rel=1e-4)


def test_light_does_not_wrap_around_the_cutout(psfs) -> None:
    scene = make_scene(psfs)
    a = np.zeros((2, *scene.fft_shape), np.float32)
    a[:, 0, 0] = 1
    seen = scene.forward(a)[:, :24, :19]
    r = scene.reach
    assert np.abs(seen[:, r + 1 :]).max() < 1e-6
    assert np.abs(seen[:, :, r + 1 :]).max() < 1e-6


def test_gradient_agrees_with_finite_differences(psfs) -> None:
    scene = make_scene(psfs)
    rng = np.random.default_rng(3)
    model = np.zeros((2, *scene.fft_shape), np.float32)
    model[:, :24, :19] = rng.random((2, 24, 19))
    gradient, _ = scene.gradient(model)
    for c, y, x in [(0, 5, 5), (1, 12, 9), (0, 23, 18), (1, 0, 0)]:
        ends = []
        for sign in (-1, 1):
            moved = model.copy()
            moved[c, y, x] += sign * 0.5
            ends.append(scene.gradient(moved)[1])
        # chi2 is quadratic: the central difference over a step of one is exact.
        assert 2 * gradient[c, y, x] == pytest.approx(ends[1] - ends[0], abs=0.02)


def test_curvature_bounds_the_hessian(psfs) -> None:
    scene = make_scene(psfs)
    rng = np.random.default_rng(5)
    height, width = scene.image.shape[1:]
    for _ in range(20):
        a = np.zeros((2, *scene.fft_shape), np.float32)
        a[:, :height, :width] = rng.normal(size=(2, height, width))
        seen = scene.forward(a)[:, :height, :width]
        energy = float((scene.weights * seen**2).sum())
        bound = float((scene.curvature * a[:, :height, :width] ** 2).sum())
        # K is not quite non-negative, hence a per cent of room.
        assert energy <= 1.01 * bound


def test_kernel_cache_forgets_and_gives_the_same_again(psfs) -> None:
    cache = KernelCache(0.75, size=1)
    first = cache.get(psfs)
    assert cache.get(psfs.copy()) is first
    cache.get(psfs[::-1])
    again = cache.get(psfs)
    assert again is not first
    np.testing.assert_array_equal(again.kernels, first.kernels)
