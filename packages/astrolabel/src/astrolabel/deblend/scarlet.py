"""The deblender of the scarlet authors (Melchior et al. 2018), where it is installed.

Their package is not on PyPI, and a project of the same name there has nothing to do with
it. It is imported when a deblender is made, never before. One blend per footprint group,
weights 1/variance, a PSF per band; started as its documentation does (`init_all_sources`
with up to two components), except that what is no wider than the PSF is a point source.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from astrolabel.core.box import Box
from astrolabel.core.errors import InputError
from astrolabel.deblend import adapter
from astrolabel.deblend.adapter import Alone, Look, Task

GUIDE = "https://pmelchior.github.io/scarlet/install.html"
MAX_ITERATIONS = 200
TOLERANCE = 1e-4
"""Relative change of the likelihood at which a fit ends, as in scarlet's quickstart. With
1e-3 the masks of isolated sources come out a tenth smaller."""
MAX_COMPONENTS = 2
COMPONENT_SNR = 50
"""Components of a galaxy at most, and the S/N that each must have (scarlet's quickstart)."""
THRESHOLD_SIGMA = 1.0
"""Light below this starts outside of a source's box (scarlet's quickstart)."""
BREAKS = (ArithmeticError, ValueError, IndexError, AssertionError)
"""What scarlet raises on pixels it cannot start from or goes astray on."""


def library() -> Any:
    """The authors' package.

    Raises
    ------
    InputError
        If it is not installed, another project of that name is, or its autograd is too new.
    """
    remedy = f"install the authors' package as {GUIDE} says (not from PyPI), with autograd 1.8"
    found = adapter.imported("scarlet", remedy)
    if not hasattr(found, "Blend"):
        raise InputError(
            "the installed package scarlet is not the deblender but an unrelated project of "
            "the same name (it has no scarlet.Blend)",
            file=getattr(found, "__file__", None),
            remedy=f"pip uninstall scarlet, then {remedy}",
        )
    version = importlib.metadata.version("autograd")
    if tuple(int(part) for part in version.split(".")[:2]) >= (1, 9):
        raise InputError(
            f"scarlet fails on sources of two components with autograd {version}",
            remedy="pip install 'autograd<1.9'",
        )
    # Its warnings about faint sources say what the states say.
    logging.getLogger("scarlet").addHandler(logging.NullHandler())
    return found


class ScarletDeblender(adapter.Adapter):
    """scarlet; see the module's description.

    Of its own it has the states ``failed:scarlet cannot start it`` and ``failed:scarlet broke
    off``.
    """

    name = "scarlet"
    library = staticmethod(library)

    def fitted(self, task: Task, sigma: float) -> tuple[list[Alone | str], int, bool]:
        found, iterations = _fitted(library(), task, sigma)
        return found, iterations, 0 < iterations < MAX_ITERATIONS


def _fitted(scarlet: Any, task: Task, sigma: float) -> tuple[list[Alone | str], int]:
    """Every source alone, and the number of iterations (0 where it broke off)."""
    bands = tuple(range(len(task.bands)))
    psf = scarlet.GaussianPSF(sigma=(sigma,) * len(bands))
    frame = scarlet.Frame(task.image.shape, psf=psf, channels=bands)
    # scarlet normalises stamps in place and keeps what it is given.
    observation = scarlet.Observation(
        task.image.copy(),
        psf=scarlet.ImagePSF(task.psfs.copy()),
        weights=task.weights.copy(),
        channels=bands,
    ).match(frame)
    looks = adapter.first_looks(task)
    started = [
        _start(scarlet, frame, observation, look, peak)
        for look, peak in zip(looks, task.peaks, strict=True)
    ]
    sources = [s for s in started if s is not None]
    iterations = 0
    if sources:
        try:
            scarlet.initialization.set_spectra_to_match(sources, observation)
            blend = scarlet.Blend(sources, observation)
            iterations, _ = blend.fit(MAX_ITERATIONS, e_rel=TOLERANCE)
        except BREAKS:
            return ["scarlet broke off"] * len(started), 0
    return [
        "scarlet cannot start it" if s is None else _alone(scarlet, frame, observation, s)
        for s in started
    ], iterations


def _start(
    scarlet: Any, frame: Any, observation: Any, look: Look, peak: Sequence[float]
) -> Any | None:
    try:
        if not look.extended:
            source = scarlet.PointSource(frame, look.centre, observation)
            source.check_parameters()
            return source
        return scarlet.initialization.init_source(
            frame,
            tuple(peak),
            observation,
            thresh=THRESHOLD_SIGMA,
            max_components=MAX_COMPONENTS,
            min_snr=COMPONENT_SNR,
            fallback=True,
        )
    except BREAKS:
        return None


def _alone(scarlet: Any, frame: Any, observation: Any, source: Any) -> Alone:
    rendered = np.asarray(observation.render(source.get_model(frame=frame)), np.float32)
    flux = np.asarray(scarlet.measure.flux(source), float)
    kind = "point" if isinstance(source, scarlet.PointSource) else "extended"
    return Alone(Box.of_shape(rendered.shape), rendered, flux, kind)
