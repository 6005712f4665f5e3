"""Survey coadds in, COCO instance labels out.

>>> import astrolabel as al
>>> labels = al.label("g.fits", "r.fits", "i.fits")  # doctest: +SKIP
>>> labels.table; labels.segmentation; labels.plot(); labels.to_coco("labels")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from astrolabel.core.version import __version__

if TYPE_CHECKING:
    from astrolabel.core.config import LabelConfig, preset
    from astrolabel.core.errors import InputError, OutputError
    from astrolabel.io.find import find_coadds
    from astrolabel.label.api import label
    from astrolabel.label.labels import Labels, read
    from astrolabel.label.pipeline import make_coco

_HOMES = {
    "InputError": "astrolabel.core.errors",
    "LabelConfig": "astrolabel.core.config",
    "Labels": "astrolabel.label.labels",
    "OutputError": "astrolabel.core.errors",
    "find_coadds": "astrolabel.io.find",
    "label": "",  # the folder itself, which can be called
    "make_coco": "astrolabel.label.pipeline",
    "preset": "astrolabel.core.config",
    "read": "astrolabel.label.labels",
}
"""Where the public names live; each is loaded when it is first used."""

__all__ = [
    "InputError",
    "LabelConfig",
    "Labels",
    "OutputError",
    "__version__",
    "find_coadds",
    "label",
    "make_coco",
    "preset",
    "read",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'astrolabel' has no attribute {name!r}")
    if name == "label":
        return import_module("astrolabel.label")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
