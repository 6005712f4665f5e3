"""One tile from pixels to annotations; the pipeline over tiles; flags; overlaps.

The folder can be called: ``astrolabel.label("g.fits", "r.fits", "i.fits")`` is
`astrolabel.label.api.label`.
"""

from __future__ import annotations

import inspect
import sys
import types
from typing import Any


class _Callable(types.ModuleType):
    """A folder whose call is its main function's, loaded with the first call."""

    def __call__(self, *images: Any, **given: Any) -> Any:
        from astrolabel.label.api import label

        return label(*images, **given)

    @property
    def __signature__(self) -> inspect.Signature:
        from astrolabel.label.api import label

        return inspect.signature(label)


sys.modules[__name__].__class__ = _Callable
