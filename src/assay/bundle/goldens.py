"""Golden pairs: a few inputs and what the chosen session gave for them, and how far a re-run may lie.

An output passes when its dtype and shape are the same, nothing is NaN, infinities stand in the
same places, and the noise over signal ``‖c − r‖ / ‖r‖`` over all pairs is within the stored limit.
Outputs that are not floating point must be equal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.bundle.jsonfile import read_object, write_json
from assay.bundle.manifest import inside
from assay.bundle.npz import read_npz, write_npz
from assay.core import checked
from assay.core.compare import Accumulator
from assay.core.errors import BadInput
from assay.core.tensors import Array, Signature, dtype_name, is_float

ARRAYS, DESCRIPTION = "goldens.npz", "goldens.json"
_NUMBER = re.compile(r"^[0-9]{1,4}$")
Pair = tuple[Mapping[str, Array], Mapping[str, Array]]


@dataclass(frozen=True)
class Goldens:
    """``pairs`` of (feed, outputs); ``max_relative_rms`` limits noise over signal, ``source`` says why that."""

    pairs: tuple[Pair, ...]
    max_relative_rms: float
    source: str


@dataclass(frozen=True)
class OutputCheck:
    """How one output fared over all pairs; ``relative_rms`` None: not floating point, or not comparable."""

    output: str
    passed: bool
    bit_equal: bool
    text: str
    relative_rms: float | None = None
    max_abs: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {k: (None if isinstance(v, float) and not math.isfinite(v) else v) for k, v in asdict(self).items()}


def limit_of(tolerance: Mapping[str, Any]) -> tuple[float, str]:
    """The limit on noise over signal and its source, from a tolerance as JSON.  Raises BadInput."""
    try:
        limit = checked.number(tolerance, "max_relative_rms")
    except (TypeError, ValueError):
        limit = None
    if limit is None or limit < 0:
        told = str(tolerance.get("max_relative_rms"))[:40]
        raise BadInput(f"a tolerance has a finite max_relative_rms of at least 0, not {told}")
    return limit, str(tolerance.get("source", "not said"))


def check_pairs(pairs: Sequence[Pair], signature: Signature) -> None:
    """Refuse goldens that would prove nothing.

    Raises BadInput for no pairs, outputs that are missing, empty or NaN, and SignatureMismatch for
    feeds that do not fit the signature.
    """
    if not pairs:
        raise BadInput("a bundle without golden inputs could not be checked")
    for number, (feed, outputs) in enumerate(pairs):
        signature.check_feed(feed)
        if not outputs or set(outputs) != set(signature.output_names):
            raise BadInput(
                f"golden {number} has the outputs {', '.join(sorted(outputs)) or 'none'}; "
                f"the model gives {', '.join(signature.output_names)}"
            )
        for name, array in outputs.items():
            if array.size == 0:
                raise BadInput(f"golden {number}: output {name!r} is empty, there would be nothing to compare")
            if is_float(dtype_name(array)) and np.isnan(array.astype(np.float64)).any():
                raise BadInput(f"golden {number}: output {name!r} holds NaN; a bundle cannot rest on it")


def write_goldens(folder: Path, goldens: Goldens) -> None:
    """goldens.npz and goldens.json."""
    arrays = {
        f"{number}/{part}/{name}": array
        for number, pair in enumerate(goldens.pairs)
        for part, named in zip(("in", "out"), pair, strict=True)
        for name, array in named.items()
    }
    described = write_npz(folder / ARRAYS, arrays)
    content = {
        "pairs": len(goldens.pairs),
        "tolerance": {"max_relative_rms": goldens.max_relative_rms, "source": goldens.source},
        "arrays": described,
    }
    write_json(folder / DESCRIPTION, content)


def read_goldens(folder: Path, signature: Signature) -> Goldens:
    """What ``write_goldens`` wrote.  Raises BadInput for anything missing, broken or empty."""
    description = read_object(inside(folder, DESCRIPTION))
    tolerance, described = description.get("tolerance"), description.get("arrays")
    if not isinstance(tolerance, dict) or not isinstance(described, list):
        raise BadInput(f"{folder / DESCRIPTION} has no tolerance or no list of arrays")
    limit, source = limit_of(tolerance)
    arrays = read_npz(inside(folder, ARRAYS), described)
    pairs: list[tuple[dict[str, Array], dict[str, Array]]] = []
    for key, array in arrays.items():
        number, part, name = _split(key)
        while len(pairs) <= number:
            pairs.append(({}, {}))
        pairs[number][0 if part == "in" else 1][name] = array
    if len(pairs) != description.get("pairs"):
        raise BadInput(f"{folder / DESCRIPTION} speaks of {description.get('pairs')!r} goldens, {len(pairs)} are there")
    check_pairs(pairs, signature)
    return Goldens(tuple(pairs), limit, source)


def _split(key: str) -> tuple[int, str, str]:
    number, _, rest = key.partition("/")
    part, _, name = rest.partition("/")
    if not _NUMBER.match(number) or part not in ("in", "out") or not name:
        raise BadInput(f"{key!r} is not the name of a golden array")
    return int(number), part, name


def compare_goldens(goldens: Goldens, outputs: Sequence[Mapping[str, Array]]) -> list[OutputCheck]:
    """Compare re-run ``outputs``, one mapping per pair, with the stored ones; one result per output name."""
    names = dict.fromkeys(name for _, stored in goldens.pairs for name in stored)
    extra = sorted({name for found in outputs for name in found} - set(names))
    checks = [_check(name, goldens, outputs) for name in names]
    return checks + [OutputCheck(name, False, False, "is an output that the bundle does not have") for name in extra]


def _check(name: str, goldens: Goldens, outputs: Sequence[Mapping[str, Array]]) -> OutputCheck:
    if len(outputs) != len(goldens.pairs):
        return OutputCheck(name, False, False, f"{len(outputs)} of {len(goldens.pairs)} goldens were run")
    both = [(stored[name], found.get(name)) for (_, stored), found in zip(goldens.pairs, outputs, strict=True)]
    fault = _fault(both)
    if fault:
        return OutputCheck(name, False, False, fault)
    pairs = [(r, c) for r, c in both if c is not None]
    bit_equal = all(_same_bits(r, c) for r, c in pairs)
    if not is_float(dtype_name(pairs[0][0])):
        equal = bit_equal or all(np.array_equal(r, c) for r, c in pairs)
        return OutputCheck(name, equal, bit_equal, "equal" if equal else "differs; it is not floating point")
    return _judge(name, goldens, pairs, bit_equal)


def _judge(name: str, goldens: Goldens, pairs: Iterable[tuple[Array, Array]], bit_equal: bool) -> OutputCheck:
    accumulator = Accumulator()
    for reference, found in pairs:
        accumulator.add(reference, found)
    measures = accumulator.measures()
    if measures.n == 0 and not bit_equal:
        return OutputCheck(name, False, False, "has no finite value that could be compared")
    relative = 0.0 if bit_equal else measures.relative_rms
    passed = relative <= goldens.max_relative_rms
    text = f"noise over signal {relative:.2g}, allowed {goldens.max_relative_rms:.2g}"
    return OutputCheck(name, passed, bit_equal, "bit-equal" if bit_equal else text, relative, measures.max_abs)


def _fault(pairs: Sequence[tuple[Array, Array | None]]) -> str | None:
    """What makes a comparison pointless: a missing output, another dtype or shape, NaN, stray infinities."""
    for number, (stored, found) in enumerate(pairs):
        if found is None:
            return f"is missing for golden {number}"
        if found.dtype != stored.dtype or found.shape != stored.shape:
            return f"is {found.dtype}{list(found.shape)} for golden {number}, it was {stored.dtype}{list(stored.shape)}"
        if not is_float(dtype_name(stored)):
            continue
        wide, reference = found.astype(np.float64), stored.astype(np.float64)
        if np.isnan(wide).any():
            return f"holds NaN for golden {number}"
        infinite = np.isinf(reference) | np.isinf(wide)
        if not np.array_equal(wide[infinite], reference[infinite]):
            return f"is infinite elsewhere than it was for golden {number}"
    return None


def _same_bits(stored: Array, found: Array) -> bool:
    if stored.dtype == object:
        return bool(np.array_equal(stored, found))
    return np.ascontiguousarray(stored).tobytes() == np.ascontiguousarray(found).tobytes()
