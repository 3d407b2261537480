"""One Figure as a person reads it: the value, its unit and its interval.

Values stay what the Record says; only their writing is decided here.  The value, low and
high of one figure are written in one unit with one number of decimals, so that they can be
compared by eye.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from assay.core.record import Figure

DASH = "—"
MAX_DECIMALS = 6


@dataclass(frozen=True)
class Scale:
    """``factor`` brings a value into the written unit; ``decimals`` None means three significant digits."""

    factor: float
    unit: str
    decimals: int | None = None


def format_figure(figure: Figure | None, *, interval: bool = True) -> str:
    """``12.3 ms (12.1–12.6)``; withheld: ``— (too few samples)``; absent: ``—``."""
    if figure is None:
        return DASH
    if figure.value is None or not math.isfinite(figure.value):
        return f"{DASH} ({figure.reason or 'no value and no reason given'})"
    scale = scale_of(figure.unit, figure.value)
    decimals = _decimals(figure.value * scale.factor) if scale.decimals is None else scale.decimals
    text = _number(figure.value, scale, decimals)
    if scale.unit:
        text = f"{text}{scale.unit}" if scale.unit == "×" else f"{text} {scale.unit}"
    if interval and figure.low is not None and figure.high is not None:
        text += f" ({_number(figure.low, scale, decimals)}–{_number(figure.high, scale, decimals)})"
    return text


def format_drop(figure: Figure | None) -> str:
    """A difference of two fractions, in percentage points: ``0.30 points (0.10–0.50)``; withheld: the reason."""
    text = format_figure(figure)
    return text if figure is None or figure.value is None else text.replace(" %", " points", 1)


def scale_of(unit: str, value: float) -> Scale:
    """How values near ``value`` are written in ``unit``; an unknown unit is written as it stands."""
    known = _SCALES.get(unit)
    return known(abs(value)) if known else Scale(1.0, unit)


def _time(size: float) -> Scale:
    if size == 0 or size >= 1:
        return Scale(1.0, "s")
    if size >= 1e-3:
        return Scale(1e3, "ms")
    return Scale(1e6, "µs") if size >= 1e-6 else Scale(1e9, "ns")


def _bytes(size: float) -> Scale:
    for power, name in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size >= 1024**power:
            return Scale(1 / 1024**power, name)
    return Scale(1.0, "B", 0)


def _percent(size: float) -> Scale:
    return Scale(100.0, "%", 2)


def _ratio(size: float) -> Scale:
    return Scale(1.0, "×")


def _count(size: float) -> Scale:
    return Scale(1.0, "", 0 if size == int(size) else None)


_SCALES: dict[str, Callable[[float], Scale]] = {
    "s": _time,
    "B": _bytes,
    "bytes": _bytes,
    "fraction": _percent,
    "ratio": _ratio,
    "x": _ratio,
    "×": _ratio,
    "": lambda size: Scale(1.0, ""),
    "1": lambda size: Scale(1.0, ""),
    "count": _count,
}


def _number(value: float, scale: Scale, decimals: int) -> str:
    """Fixed notation with thousands set apart; numbers too small for it go to an exponent."""
    written = value * scale.factor
    if written and scale.decimals is None and abs(written) < 10.0**-MAX_DECIMALS:
        return f"{written:.2e}"
    return f"{written:,.{decimals}f}"


def _decimals(written: float) -> int:
    """Decimals that show three significant digits of ``written``, whole numbers at least."""
    if written == 0:
        return 0
    return min(max(0, 2 - math.floor(math.log10(abs(written)))), MAX_DECIMALS + 2)
