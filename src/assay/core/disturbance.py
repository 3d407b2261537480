"""What a measurement says about others that used its cores: one wording, which can be read back from a Record."""

from __future__ import annotations

import re
from collections.abc import Sequence

NEIGHBOURS, STOLEN = "noisy neighbours", "the host took"
_TAKEN = re.compile(rf"^(?:{NEIGHBOURS}: other processes used|{STOLEN}) ([0-9.]+) of [0-9]+ cores")
_ROUNDED = 0.05


def used_by_others(cores: float, of: int) -> str:
    """The warning for other processes; ``cores`` are core-seconds a second."""
    return f"{NEIGHBOURS}: other processes used {cores:.1f} of {of} cores meanwhile; stop them and measure again"


def taken_by_host(cores: float, of: int) -> str:
    """The warning for time that the host of a virtual machine kept."""
    return f"{STOLEN} {cores:.1f} of {of} cores away meanwhile"


def disturbance(warnings: Sequence[str]) -> str | None:
    """The warning of a measurement that says others used its cores; None for one that had them to itself."""
    return next((w for w in warnings if w.startswith((NEIGHBOURS, STOLEN))), None)


def cores_taken(warnings: Sequence[str]) -> float:
    """Core-seconds a second that others had while it was measured, rounded up; 0 where no warning says so."""
    found = [float(match[1]) + _ROUNDED for match in map(_TAKEN.match, warnings) if match]
    return sum(found)
