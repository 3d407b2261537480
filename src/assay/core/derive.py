"""Figures derived from other figures by a named formula that is kept, with its inputs, beside the result.

Every function is pure.  A :class:`Derived` says whether the value is still a measurement (a count in
another unit) or something nobody measured (an extrapolation, a reciprocal).  All times are in seconds,
all rates per second.  Inputs that are not finite and positive raise BadInput: a rate of zero derives nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from assay.core.errors import BadInput
from assay.core.units import PerSecond, Seconds


@dataclass(frozen=True)
class Derived:
    """A value, how it came about, and from what.  ``measured`` is False for what nobody counted or timed."""

    value: float
    unit: str
    formula: str
    inputs: Mapping[str, float] = field(default_factory=dict)
    measured: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "unit": self.unit,
            "formula": self.formula,
            "inputs": dict(self.inputs),
            "measured": self.measured,
        }

    def shown(self) -> str:
        """The formula, its inputs and the result on one line, for people."""
        parts = ", ".join(f"{name} {value:.10g}" for name, value in self.inputs.items())
        return f"{self.formula} ({parts}) = {self.value:.10g} {self.unit}"


def per_card(rate: PerSecond, dies: int) -> Derived:
    """One die's rate times the dies of a card.  An extrapolation: the dies share memory, bus and host."""
    value = _positive("rate of one die", rate) * _positive("dies per card", dies)
    return _made(value, "samples/s", "rate of one die × dies per card", {"rate": rate, "dies": dies}, False)


def from_queries(queries_per_s: PerSecond, batch: int) -> Derived:
    """Batches (queries) per second times the batch size: the same count in another unit, so still measured."""
    value = _positive("queries per second", queries_per_s) * _positive("batch", batch)
    return _made(value, "samples/s", "queries/s × batch", {"queries_per_s": queries_per_s, "batch": batch}, True)


def from_mean_time(mean_s: Seconds, batch: int) -> Derived:
    """batch / mean time (1000·batch / mean for a mean in ms).

    Not measured: it supposes that one batch starts as the one before it ends.
    """
    value = _positive("batch", batch) / _positive("mean time", mean_s)
    return _made(value, "samples/s", "batch / mean time", {"mean_s": mean_s, "batch": batch}, False)


def from_count(samples: float, duration_s: Seconds) -> Derived:
    """Samples over the time they took."""
    value = _positive("samples", samples) / _positive("duration", duration_s)
    return _made(value, "samples/s", "samples / duration", {"samples": samples, "duration_s": duration_s}, True)


def samples_done(rate: PerSecond, duration_s: Seconds) -> Derived:
    """Rate times duration: how many samples a run must have handled."""
    value = _positive("rate", rate) * _positive("duration", duration_s)
    return _made(value, "samples", "rate × duration", {"rate": rate, "duration_s": duration_s}, False)


def concurrency(requests_per_s: PerSecond, mean_s: Seconds) -> Derived:
    """Little's law (Little 1961): requests in flight = arrival rate × mean time each stays."""
    value = _positive("requests per second", requests_per_s) * _positive("mean latency", mean_s)
    inputs = {"requests_per_s": requests_per_s, "mean_s": mean_s}
    return _made(value, "requests", "requests/s × mean latency", inputs, False)


def interface_excess(interface: PerSecond, end_to_end: PerSecond) -> Derived:
    """How many times the rate of the inference call alone exceeds what the whole pipeline delivered."""
    value = _positive("interface rate", interface) / _positive("end-to-end rate", end_to_end)
    inputs = {"interface": interface, "end_to_end": end_to_end}
    return _made(value, "ratio", "interface rate / end-to-end rate", inputs, True)


def ratio(rate: PerSecond, baseline: PerSecond) -> Derived:
    """How many times as fast; above 1 is faster than the baseline."""
    value = _positive("rate", rate) / _positive("baseline", baseline)
    return _made(value, "ratio", "rate / baseline", {"rate": rate, "baseline": baseline}, True)


def _positive(name: str, value: float) -> float:
    if not math.isfinite(value) or value <= 0:
        raise BadInput(f"nothing can be derived from a {name} of {value}", remedy="give a number above zero")
    return float(value)


def _made(value: float, unit: str, formula: str, inputs: Mapping[str, float], measured: bool) -> Derived:
    if not math.isfinite(value) or value <= 0:
        raise BadInput(f"{formula} leaves the range of numbers: {dict(inputs)}")
    return Derived(value, unit, formula, {k: float(v) for k, v in inputs.items()}, measured)
