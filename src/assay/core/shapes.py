"""Shapes as people write them, in every dialect of the neighbouring tools.

``x:1x3x224x224`` (trtexec), ``x:[1,3,224,224]`` (Polygraphy), ``x:1,3,224,224``
(onnxslim, ATC), ``[1,3,224,224]`` (OpenVINO).  A name in place of a number is a
free dim; a dtype may follow: ``tokens:batchx12:int64``.  In the ``x`` form every ``x``
separates, so a name with an x in it needs the commas: ``tokens:batch,max_len``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from assay.core.errors import BadInput, suggest
from assay.core.tensors import DTYPES, Dim, is_dim_name

_LIST = re.compile(r"^\[(.*)\]$")
_SIZE = re.compile(r"^0{0,9}[1-9][0-9]{0,17}$")
_HELP = "write it like x:1x3x224x224, x:[1,3,224,224], [1,3,224,224] or tokens:batchx12:int64"


@dataclass(frozen=True)
class ShapeSpec:
    """What one ``--shape`` says; ``name`` and ``dtype`` are None where it does not say."""

    name: str | None
    dims: tuple[Dim, ...]
    dtype: str | None = None


def parse_shape(text: str) -> ShapeSpec:
    """Parse one shape.  Raises BadInput, quoting the part that is wrong."""
    parts = [p.strip() for p in _split_colons(text)]
    if not parts[-1]:
        raise BadInput(f"{text!r} is not a shape", remedy=_HELP)
    dtype = None
    if len(parts) > 1 and parts[-1] in DTYPES:
        dtype = parts.pop()
    elif text.count(":") > 1 and (near := suggest(parts[-1], DTYPES)):
        raise BadInput(f"{text!r}: {parts[-1]!r} is no dtype", remedy=f"did you mean {near[0]}?")
    if len(parts) == 1:
        name, dims = None, parts[0]
    elif len(parts) == 2 and parts[0]:
        name, dims = parts[0], parts[1]
    else:
        raise BadInput(f"{text!r} is not a shape", remedy=_HELP)
    return ShapeSpec(name, parse_dims(dims, text), dtype)


def parse_dims(text: str, whole: str | None = None) -> tuple[Dim, ...]:
    """``1x3xH``, ``1,3,224`` or ``[1, 3, 224]`` -> dims."""
    bracketed = _LIST.match(text.strip())
    body = bracketed[1] if bracketed else text
    tokens = [t.strip() for t in body.split("," if bracketed or "," in body else "x")]
    if tokens == [""]:
        return ()
    return tuple(_dim(t, whole or text) for t in tokens)


def parse_range(text: str) -> tuple[str, float, float]:
    """``tokens:0..30521`` -> (name, low, high), both inclusive."""
    name, _, span = text.rpartition(":")
    low, dots, high = span.partition("..")
    try:
        if not name or not dots:
            raise ValueError
        bounds = float(low), float(high)
        if not all(map(math.isfinite, bounds)):
            raise ValueError
    except ValueError:
        raise BadInput(f"{text!r} is not a range", remedy="write it like tokens:0..30521") from None
    if bounds[0] > bounds[1]:
        raise BadInput(f"{text!r}: the low end is above the high end")
    return name, *bounds


def _split_colons(text: str) -> list[str]:
    """Split at colons, but keep Triton-like names such as ``INPUT:0`` whole."""
    parts = text.split(":")
    if len(parts) > 2 and parts[-1] not in DTYPES:
        return [":".join(parts[:-1]), parts[-1]]
    if len(parts) > 3:
        return [":".join(parts[:-2]), *parts[-2:]]
    return parts


def _dim(token: str, whole: str) -> Dim:
    if _SIZE.match(token):
        return int(token)
    if is_dim_name(token):
        return token
    raise BadInput(f"{whole!r}: {token!r} is neither a positive size nor a name", remedy=_HELP)
