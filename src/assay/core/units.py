"""Units: seconds, bytes and rates inside, formatting only at the edge.

Everything that computes holds plain floats in SI base units; the three aliases
below only tell a reader which unit a number has.  The ``format_*`` functions are
for people and never feed back into a calculation.
"""

from __future__ import annotations

import math
import re

Seconds = float
Bytes = int
PerSecond = float

_SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_SIZES |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_TIMES = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "m": 60.0, "min": 60.0, "h": 3600.0}
_QUANTITY = re.compile(r"^\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Zµ]*)\s*$")


def _split(text: str) -> tuple[float, str]:
    match = _QUANTITY.match(text)
    if not match:
        raise ValueError(f"{text!r} is not a number, or a number with a unit")
    value = float(match[1])
    if math.isinf(value):
        raise ValueError(f"{text[:40]!r} is larger than any number here")
    return value, match[2]


def parse_seconds(text: str) -> Seconds:
    """``"15ms"``, ``"2m"``, ``"1.5"`` (seconds) -> seconds.  Raises ValueError."""
    value, unit = _split(text)
    if unit not in _TIMES:
        raise ValueError(f"{text!r}: unknown unit of time {unit!r}; use one of ns, us, ms, s, m, h")
    if math.isinf(value * _TIMES[unit]):
        raise ValueError(f"{text[:40]!r} is longer than any time here, in a number with a unit")
    return value * _TIMES[unit]


def parse_bytes(text: str) -> Bytes:
    """``"1GiB"``, ``"500MB"``, ``"4096"`` -> bytes.  Raises ValueError."""
    value, unit = _split(text)
    if unit.lower() not in _SIZES:
        raise ValueError(f"{text!r}: unknown unit of size {unit!r}; use one of B, KB, MB, GB, KiB, MiB, GiB")
    size = value * _SIZES[unit.lower()]
    if math.isinf(size):
        raise ValueError(f"{text[:40]!r} is more than any size here, in a number with a unit")
    return int(size)


def format_seconds(value: Seconds) -> str:
    """Three significant digits with the unit a person would choose."""
    if not math.isfinite(value):
        return f"{value} s"
    if value < 0:
        return f"-{format_seconds(-value)}"
    if round(value) >= 120:
        minutes, seconds = divmod(round(value), 60)
        return f"{minutes} min {seconds} s"
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if float(f"{value * factor:.3g}") >= 1:  # after rounding: 0.9999 s is 1 s, not 1e+03 ms
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def format_bytes(value: float) -> str:
    """Binary units, three significant digits."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    place = 0
    while place < len(units) - 1 and round(abs(value)) >= 1024:
        value, place = value / 1024, place + 1
    number = f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"  # .3g would write 1e+03
    return f"{number} {units[place]}"


def format_rate(value: PerSecond) -> str:
    """A rate without its unit: thousands are not broken into exponents."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def format_percent(fraction: float) -> str:
    """``0.9887`` -> ``98.87 %``."""
    return f"{100 * fraction:.2f} %"
