"""Policy: the limits a candidate is held to, read from TOML.

Every key has a type and a unit; whatever is misspelt, of the wrong type or without its unit is
refused with the file, the key and the nearest right name.  ``policies/default.toml`` shows them all.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput
from assay.core.units import Bytes, PerSecond, Seconds, parse_bytes, parse_seconds
from assay.judge.accuracy_rule import AccuracyDrop, accuracy_drops
from assay.judge.ratio_policy import SpeedRatio, speed_ratios
from assay.judge.toml_table import JUDGE_BY, Table, is_number, known

KINDS = ("absolute", "relative")
MAXIMIZE = ("throughput",)
MINIMIZE = ("latency.p50", "latency.p90", "latency.p99", "latency.mean", "memory.peak")


@dataclass(frozen=True)
class NumericPolicy:
    """``max_relative_rms`` None means the tolerance that suits the precision (judge/tolerance.py).

    ``atol`` and ``rtol`` mean numpy's ``allclose``: ``|c − r| <= atol + rtol·|r|`` for every value.
    ``accept_reference``: the reference itself passes, also with nothing to compare it with.
    """

    max_relative_rms: float | None = None
    atol: float | None = None
    rtol: float | None = None
    accept_reference: bool = False


@dataclass(frozen=True)
class AccuracyPolicy:
    """``max_drop`` against the reference, a fraction: of the metric itself, or relative to the reference's.

    ``required``: no accuracy, no pass.
    """

    max_drop: float | None = 0.01
    kind: str = "absolute"
    judge_by: str = "point"
    required: bool = False


@dataclass(frozen=True)
class LatencyPolicy:
    p50: Seconds | None = None
    p90: Seconds | None = None
    p99: Seconds | None = None
    batch: int = 1
    judge_by: str = "point"


@dataclass(frozen=True)
class ThroughputPolicy:
    """``batch`` None means the best batch size measured."""

    min: PerSecond | None = None
    batch: int | None = None
    judge_by: str = "point"


@dataclass(frozen=True)
class MemoryPolicy:
    max: Bytes | None = None


@dataclass(frozen=True)
class UncheckedPolicy:
    """``fail``: whatever was not checked keeps the verdict from passing, asked for or not."""

    fail: bool = False


@dataclass(frozen=True)
class ObjectivePolicy:
    """What the choice is by; ``batch`` None means any batch size, 1 where a latency is minimized."""

    figure: str = "throughput"
    maximize: bool = True
    batch: int | None = None


@dataclass(frozen=True)
class Policy:
    """All limits.  ``source`` is the file they came from."""

    numeric: NumericPolicy = NumericPolicy()
    accuracy: AccuracyPolicy = AccuracyPolicy()
    latency: LatencyPolicy = LatencyPolicy()
    throughput: ThroughputPolicy = ThroughputPolicy()
    memory: MemoryPolicy = MemoryPolicy()
    unchecked: UncheckedPolicy = UncheckedPolicy()
    objective: ObjectivePolicy = ObjectivePolicy()
    speed_ratio: tuple[SpeedRatio, ...] = ()
    accuracy_drop: tuple[AccuracyDrop, ...] = ()
    source: str = "default"

    @classmethod
    def load(cls, path: Path) -> Policy:
        """Read a policy file.  Raises BadInput for a missing file, bad TOML, or a key that is not right."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise BadInput(f"cannot read the policy {path}: {reason}") from error
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, source: str) -> Policy:
        """Parse TOML; ``source`` names it in errors.  What is not said keeps its default."""
        try:
            data = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # also numbers too long, tables too deep
            raise BadInput(f"{source} is not TOML: {error}") from error
        known(source, "table", data, (*_TABLES, "speed_ratio", "accuracy_drop"))
        ratios = speed_ratios(source, data.pop("speed_ratio", []))
        drops = accuracy_drops(source, data.pop("accuracy_drop", []))
        parts = {name: _TABLES[name](Table(source, name, table)) for name, table in data.items()}
        return cls(**parts, speed_ratio=ratios, accuracy_drop=drops, source=source)


DEFAULT_POLICY = Policy()


def _numeric(table: Table) -> NumericPolicy:
    table.known("tolerance", "max_relative_rms", "atol", "rtol", "accept_reference")
    limits = {key: table.number(key) for key in ("max_relative_rms", "atol", "rtol")}
    table.choice("tolerance", ("auto",), "auto")
    if "tolerance" in table.values and any(v is not None for v in limits.values()):
        given = next(k for k, v in limits.items() if v is not None)
        raise table.wrong("tolerance", f"left out where {given} is given")
    return NumericPolicy(**limits, accept_reference=table.flag("accept_reference", False))


def _accuracy(table: Table) -> AccuracyPolicy:
    """A drop that the file asks for is required unless it says otherwise."""
    table.known(*(f.name for f in fields(AccuracyPolicy)))
    return AccuracyPolicy(
        max_drop=table.number("max_drop", AccuracyPolicy.max_drop),
        kind=table.choice("kind", KINDS, AccuracyPolicy.kind),
        judge_by=table.choice("judge_by", JUDGE_BY, AccuracyPolicy.judge_by),
        required=table.flag("required", "max_drop" in table.values),
    )


def _latency(table: Table) -> LatencyPolicy:
    table.known(*(f.name for f in fields(LatencyPolicy)))
    return LatencyPolicy(
        **{key: table.quantity(key, parse_seconds, "15ms") for key in ("p50", "p90", "p99")},
        batch=table.batch("batch", 1, None) or 1,
        judge_by=table.choice("judge_by", JUDGE_BY, LatencyPolicy.judge_by),
    )


def _throughput(table: Table) -> ThroughputPolicy:
    table.known(*(f.name for f in fields(ThroughputPolicy)))
    return ThroughputPolicy(
        min=_rate(table),
        batch=table.batch("batch", None, "best"),
        judge_by=table.choice("judge_by", JUDGE_BY, ThroughputPolicy.judge_by),
    )


def _rate(table: Table) -> PerSecond | None:
    """Samples per second: ``100``, ``"100"`` or ``"100/s"``."""
    value: Any = table.values.get("min")
    if isinstance(value, str):
        try:
            value = float(value.strip().removesuffix("/s"))
        except ValueError:
            value = None
    elif value is None:
        return None
    if is_number(value) and value >= 0:
        return float(value)
    raise table.wrong("min", 'samples per second, such as 100 or "100/s"')


def _memory(table: Table) -> MemoryPolicy:
    table.known("max")
    return MemoryPolicy(table.quantity("max", parse_bytes, "1GiB"))


def _unchecked(table: Table) -> UncheckedPolicy:
    table.known("fail")
    return UncheckedPolicy(table.flag("fail", False))


def _objective(table: Table) -> ObjectivePolicy:
    table.known("maximize", "minimize", "batch")
    if "maximize" in table.values and "minimize" in table.values:
        raise table.wrong("minimize", "left out where maximize is given")
    if "minimize" in table.values:
        figure = table.choice("minimize", MINIMIZE, MINIMIZE[0])
        return ObjectivePolicy(figure, False, table.batch("batch", 1, None))
    figure = table.choice("maximize", MAXIMIZE, MAXIMIZE[0])
    return ObjectivePolicy(figure, True, table.batch("batch", None, "best"))


_TABLES: dict[str, Callable[[Table], Any]] = {
    "numeric": _numeric,
    "accuracy": _accuracy,
    "latency": _latency,
    "throughput": _throughput,
    "memory": _memory,
    "unchecked": _unchecked,
    "objective": _objective,
}
