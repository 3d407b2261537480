"""How far a candidate's outputs may lie from the fp32 reference's, and where that number comes from.

Rounding errors of many operations in a row behave like a random walk: after n of them the relative
error is about ``sqrt(n)·u`` with high probability, u being the unit round-off of the format, against
``n·u`` in the worst case (Higham and Mary, *A New Approach to Probabilistic Rounding Error Analysis*,
SIAM J. Sci. Comput. 41(5), 2019).  The limit is that estimate times a safety factor::

    limit = SAFETY · sqrt(depth · roundings) · u

* ``depth`` counts the Conv, ConvTranspose, MatMul and Gemm on the longest path.
* u is 2^-t for a significand of t bits: fp32 2^-24, tf32 and fp16 2^-11, bf16 2^-8.
* ``roundings`` is how often a layer rounds.  fp32 and fp64 also *accumulate* in their own format, so
  a layer rounds once per product summed; 1024 stands for a typical inner length (64 channels under a
  3×3 kernel have 576, 512 channels 4608, a ViT-tiny MLP 768).  Formats that accumulate in fp32 round
  the input, the weight and (tf32 and int8 do not) the output.
* int8 has no unit round-off.  A step of 1/255 of a range of 8 standard deviations has a root mean
  square error of ``8 / (255·sqrt(12))`` standard deviations, 0.9 %.
* Winograd convolutions, fused layers and another order of summation change the constant, and a network
  may amplify what its layers do; ``SAFETY`` covers both.  On ResNet-18 and -50, MobileNetV3,
  ViT-tiny and a Gather-Excite net with random weights, ONNX Runtime and OpenVINO stayed below a
  tenth of the fp32 limit and OpenVINO and PyTorch below a quarter of the bf16 limit, while
  scaling one convolution of those ResNets by 1 % exceeded the fp32 limit by a factor of 20 and more.
* The reference is itself fp32, so no candidate is held to less than the fp32 limit; and an error of
  half the signal is never allowed, however deep the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from assay.core.compare import Measures
from assay.core.engine import PRECISIONS
from assay.core.errors import BadInput, UnknownName
from assay.core.verdict import Reason

SAFETY = 4.0
CEILING = 0.5
ACCUMULATED = 1024
LIMIT = "numeric"


@dataclass(frozen=True)
class Tolerance:
    """Either ``max_relative_rms`` (noise over signal, 10^(−SNR/20)), or ``atol`` and ``rtol`` (``elementwise``).

    ``per_output`` gives some outputs an (atol, rtol) of their own.

    ``min_cosine`` follows from ``max_relative_rms`` (an error of e cannot turn the output by more than
    asin e) and is there to be read.  Top-1 agreement has no limit: near-ties between classes flip at
    any precision, and what that costs is for the evaluation to say.  ``source`` says where the
    numbers come from.
    """

    source: str
    max_relative_rms: float | None = None
    min_cosine: float | None = None
    atol: float | None = None
    rtol: float | None = None
    per_output: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    precision: str | None = None
    depth: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None and value != {}}


class Compared(Protocol):
    """What a comparison gives: measures per batch size and output, and what went wrong on the way."""

    @property
    def outputs(self) -> Mapping[int, Mapping[str, Measures]]: ...

    @property
    def failures(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class _Rounding:
    unit: float
    per_layer: int
    words: str


_FP32 = _Rounding(2.0**-24, ACCUMULATED, f"u = 2^-24, {ACCUMULATED} sums a layer in fp32")
_ROUNDING = {
    "fp64": _Rounding(2.0**-24, ACCUMULATED, f"u = 2^-24 of the fp32 reference, {ACCUMULATED} sums a layer"),
    "fp32": _FP32,
    "tf32": _Rounding(2.0**-11, 2, "u = 2^-11, input and weight rounded"),
    "bf16": _Rounding(2.0**-8, 3, "u = 2^-8, input, weight and output rounded"),
    "fp16": _Rounding(2.0**-11, 3, "u = 2^-11, input, weight and output rounded"),
    "int8": _Rounding(8 / (255 * math.sqrt(12)), 2, "8 σ in 255 steps is 0.9 % noise, input and weight rounded"),
}


def tolerance(precision: str, depth: int) -> Tolerance:
    """The limit for a candidate at ``precision`` whose longest path has ``depth`` rounding layers.

    A model with none (depth 0) is judged as if it had one.  Raises UnknownName for a precision that
    is not in the closed list, BadInput for a negative depth.
    """
    if precision not in PRECISIONS:
        raise UnknownName("precision", precision, PRECISIONS)
    if depth < 0:
        raise BadInput(f"a rounding depth is a count, not {depth}")
    layers = max(depth, 1)
    how = _ROUNDING[precision]
    floor = SAFETY * math.sqrt(layers * _FP32.per_layer) * _FP32.unit
    limit = min(CEILING, max(floor, SAFETY * math.sqrt(layers * how.per_layer) * how.unit))
    source = (
        f"{SAFETY:g} × sqrt({layers} layers × {how.per_layer} roundings) × u for {precision} ({how.words}); "
        "rounding errors grow like a random walk (Higham and Mary 2019)"
    )
    return Tolerance(source, limit, math.sqrt(1 - limit * limit), precision=precision, depth=depth)


def elementwise(atol: float, rtol: float, per_output: Mapping[str, tuple[float, float]] | None = None) -> Tolerance:
    """``|c − r| <= atol + rtol·|r|`` for every value of every output, exactly numpy's ``allclose``.

    ``per_output`` holds (atol, rtol) for outputs with limits of their own.  Raises BadInput for a
    limit that is negative or not finite: everything would be within it.
    """
    own = dict(per_output or {})
    for a, r in ((atol, rtol), *own.values()):
        if not (0 <= a < math.inf and 0 <= r < math.inf):
            raise BadInput(f"a tolerance is a number of zero or more, not atol {a:g}, rtol {r:g}")
    shown = "".join(f", {name}: atol {a:g}, rtol {r:g}" for name, (a, r) in own.items())
    return Tolerance(f"asked for: atol {atol:g}, rtol {rtol:g}{shown}", atol=atol, rtol=rtol, per_output=own)


def parse_limits(text: str) -> tuple[float | None, dict[str, float]]:
    """``"1e-5 out0:1e-4"`` -> (1e-5, {"out0": 1e-4}); parts are separated by spaces or commas.

    Raises BadInput for what is no number, two defaults, or an output named twice.
    """
    default: float | None = None
    own: dict[str, float] = {}
    for part in text.replace(",", " ").split():
        name, _, number = part.rpartition(":")
        try:
            value = float(number)
        except ValueError:
            raise BadInput(f"{part!r} is not a limit", remedy='--atol "1e-5 out0:1e-4"') from None
        if name in own or (not name and default is not None):
            raise BadInput(f"{text!r} gives {name or 'the default'} twice")
        if name:
            own[name] = value
        else:
            default = value
    return default, own


def asked_for(atol: str | None, rtol: str | None, outputs: Sequence[str]) -> Tolerance | None:
    """The texts of ``--atol`` and ``--rtol`` as a Tolerance; None when neither was given.

    What a text does not say is 0.  Raises UnknownName for an output that does not exist.
    """
    if atol is None and rtol is None:
        return None
    (a, own_a), (r, own_r) = parse_limits(atol or ""), parse_limits(rtol or "")
    for name in (*own_a, *own_r):
        if name not in outputs:
            raise UnknownName("output", name, outputs)
    own = {n: (own_a.get(n, a or 0.0), own_r.get(n, r or 0.0)) for n in dict.fromkeys((*own_a, *own_r))}
    return elementwise(a or 0.0, r or 0.0, own)


def judge_numeric(result: Compared, limit: Tolerance) -> Reason:
    """Hold every output at every batch size to the limit; the worst one decides.

    Fails, and says so, when anything went wrong on the way, when nothing was compared, or when
    either side gave NaN or infinity.
    """
    if result.failures:
        more = f" (and {len(result.failures) - 1} more)" if len(result.failures) > 1 else ""
        return Reason(LIMIT, "failed", result.failures[0] + more)
    rows = [(batch, name, m) for batch, outputs in result.outputs.items() for name, m in outputs.items()]
    if not rows:
        return Reason(LIMIT, "failed", "nothing was compared")
    for batch, name, found in rows:
        if problem := _unusable(found):
            return Reason(LIMIT, "failed", f"output {name!r} at batch {batch}: {problem}")
    if all(found.max_abs == 0 for _, _, found in rows):
        return Reason(LIMIT, "passed", f"equal to the reference in all {sum(m.n for _, _, m in rows)} values")
    if limit.max_relative_rms is None:
        return _judge_elementwise(rows, limit)
    batch, name, worst = max(rows, key=lambda row: row[2].relative_rms)
    text = (
        f"output {name!r} at batch {batch}: relative rms error {worst.relative_rms:.2g}, "
        f"limit {limit.max_relative_rms:.2g}"
    )
    return Reason(LIMIT, "passed" if worst.relative_rms <= limit.max_relative_rms else "failed", text)


def _judge_elementwise(rows: Sequence[tuple[int, str, Measures]], limit: Tolerance) -> Reason:
    for batch, name, found in rows:
        atol, rtol = limit.per_output.get(name, (limit.atol or 0.0, limit.rtol or 0.0))
        over = found.excess(atol, rtol)
        if not over <= 0:
            text = (
                f"output {name!r} at batch {batch}: |c - r| exceeds {atol:g} + {rtol:g}·|r| by up to {over:.2g} "
                f"(largest error {found.max_abs:.2g} absolute, {found.max_rel:.2g} relative)"
            )
            return Reason(LIMIT, "failed", text)
    return Reason(LIMIT, "passed", f"|c - r| <= atol + rtol·|r| for every value ({limit.source})")


def _unusable(found: Measures) -> str | None:
    if found.bad_reference or found.bad_candidate:
        return f"NaN or infinity ({found.bad_reference} in the reference, {found.bad_candidate} in the candidate)"
    if found.n == 0:
        return "no value was compared"
    return None
