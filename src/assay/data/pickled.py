"""Reading CIFAR-style pickles without running anything they name.

A pickle is a small program; its only way to reach code is to name a class or function.  Every name
but numpy's three for arrays is refused, and those three are stand-ins that only keep what they are
given, so no library code runs on the file's behalf either.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import numpy as np

from assay.core.errors import BadInput
from assay.core.tensors import Array


class _Dtype:
    """What ``numpy.dtype(name, align, copy)`` was called with."""

    def __init__(self, name: Any = None, *_: Any) -> None:
        self.name = name.decode() if isinstance(name, bytes) else name

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Ndarray:
    """What an array's state was: (version, shape, dtype, fortran order, bytes)."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _reconstruct(*_: Any) -> _Ndarray:
    return _Ndarray()


def _encode(text: Any, *_: Any) -> bytes:
    """How protocol 2 writes bytes: as text in which every character is one byte."""
    if not isinstance(text, str):
        raise pickle.UnpicklingError("bytes are not written as text")
    return text.encode("latin1")


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Ndarray,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which has no place in such a file") from None


def load_arrays(content: bytes, where: str) -> dict[str, Any]:
    """A pickled dict of names to lists, texts and byte arrays; arrays come as uint8 of their shape.

    Raises BadInput, naming ``where``, for anything else.
    """
    try:
        found = _Restricted(io.BytesIO(content), encoding="bytes").load()
    except MemoryError as error:
        raise BadInput(f"{where} claims more than there is memory for") from error
    except Exception as error:  # a broken pickle raises nearly anything
        raise BadInput(f"{where} is not a readable pickle of plain data ({error})") from error
    if not isinstance(found, dict):
        raise BadInput(f"{where} holds a {type(found).__name__}, not a dict of arrays")
    return {_text(k): _array(v, where) if isinstance(v, _Ndarray) else v for k, v in found.items()}


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _array(value: _Ndarray, where: str) -> Array:
    state = value.state
    if not (isinstance(state, tuple) and len(state) == 5):
        raise BadInput(f"{where} holds an array without content")
    _, shape, dtype, fortran, content = state
    if not (isinstance(dtype, _Dtype) and dtype.name in ("u1", "|u1", "uint8")):
        raise BadInput(f"{where} holds an array that is not uint8")
    if isinstance(content, str):
        content = content.encode("latin1")
    good = isinstance(shape, tuple) and all(isinstance(n, int) and n >= 0 for n in shape)
    if not (good and isinstance(content, bytes) and len(content) == math.prod(shape)):
        raise BadInput(f"{where} holds an array whose shape and content do not fit")
    flat = np.frombuffer(content, dtype=np.uint8)
    return flat.reshape(shape, order="F" if fortran else "C")
