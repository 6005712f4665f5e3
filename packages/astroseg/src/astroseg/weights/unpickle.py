"""Pickles of numpy arrays, read without calling numpy or anything else that they name.

A pickle is a program: it names functions and calls them. This reader knows the few names
that arrays need and has functions of its own for them, which take nothing but bytes, a
shape and a type of number. numpy's functions themselves stay out of reach, because a dtype
can be pickled in a state in which numpy takes plain bytes for addresses of objects.
"""

from __future__ import annotations

import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_NUMBER = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")


class _NumberType:
    """Stands for a dtype: its code, and its byte order, which comes as state."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code = str(code)
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"the byte order {state[1]!r}")
        self.order = state[1]

    def array(self, raw: Any, shape: Any, order: str) -> NDArray[Any]:
        if not (isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)):
            raise pickle.UnpicklingError(f"the shape {shape!r}")
        if isinstance(raw, str):  # of Python 2
            raw = raw.encode("latin1")
        dtype = np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise pickle.UnpicklingError(f"{len(raw)} bytes for an array of shape {shape}")
        plain = np.frombuffer(raw, dtype).reshape(shape, order="F" if order == "F" else "C")
        return np.array(plain, dtype.newbyteorder("="))


class StoredArray:
    """Stands for an array of the pickle.

    Attributes
    ----------
    array : what it holds, in this machine's byte order; None if no numbers.
    """

    def __init__(self) -> None:
        self.array: NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, by_columns, raw = state
        self.fill(raw, kind, shape, "F" if by_columns else "C")

    def fill(self, raw: Any, kind: Any, shape: Any, order: str) -> StoredArray:
        """With bytes; returns itself."""
        if not isinstance(kind, _NumberType):
            raise pickle.UnpicklingError(f"an array of the type {kind!r}")
        if _NUMBER.fullmatch(kind.code):
            self.array = kind.array(raw, shape, order)
        return self


class _Named:
    """A function that a pickle may name and call, but not change."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, _: Any) -> None:
        raise pickle.UnpicklingError("a state for a function")


def _latin1(text: str, encoding: str) -> bytes:
    """Bytes of a string, as pickles of protocol 2 store them; no other codec is looked up."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


_RECONSTRUCT = _Named(lambda *_: StoredArray())
_SCALAR = _Named(lambda kind, raw: StoredArray().fill(raw, kind, (), "C"))
_FROM_BUFFER = _Named(lambda raw, kind, shape, order: StoredArray().fill(raw, kind, shape, order))

# The modules are called core before numpy 2 and _core from it on.
_KNOWN: Mapping[tuple[str, str], Any] = MappingProxyType(
    {
        ("numpy", "ndarray"): "numpy.ndarray",  # only ever an argument, and not looked at
        ("numpy", "dtype"): _Named(_NumberType),
        ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy.core.multiarray", "scalar"): _SCALAR,
        ("numpy._core.multiarray", "scalar"): _SCALAR,
        ("numpy.core.numeric", "_frombuffer"): _FROM_BUFFER,
        ("numpy._core.numeric", "_frombuffer"): _FROM_BUFFER,
        ("_codecs", "encode"): _Named(_latin1),
        ("collections", "OrderedDict"): _Named(OrderedDict),
    }
)


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")
        return _KNOWN[module, name]


def load_arrays(file: IO[bytes]) -> Any:
    """The first object of a pickle: numbers, text, containers and `StoredArray`.

    Raises
    ------
    pickle.UnpicklingError
        "GLOBAL name" for any name but those of arrays; and whatever else a broken or
        hostile stream makes its reader raise.
    """
    # latin1: text and bytes are one in pickles of Python 2, which the oldest files are.
    return _Reader(file, encoding="latin1").load()
