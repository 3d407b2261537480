"""Whether anybody else used the processor while a measurement ran."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.core import clock
from assay.core.units import Seconds

STAT = Path("/proc/stat")
NOTICEABLE = 0.10
_LEAST_S = 0.2

NEIGHBOURS, STOLEN = "noisy neighbours", "the host took"


@dataclass(frozen=True)
class CpuTimes:
    """``busy_s`` and ``stolen_s`` of the cores this process may use; ``own_s`` of this process."""

    at_s: Seconds
    busy_s: Seconds
    stolen_s: Seconds
    own_s: Seconds
    cores: int


def cpu_times(stat: Path = STAT) -> CpuTimes | None:
    """The kernel's counters now; None where there are none."""
    try:
        lines = stat.read_text().splitlines()
    except OSError:
        return None
    allowed = os.sched_getaffinity(0)
    tick = os.sysconf("SC_CLK_TCK")
    busy = stolen = cores = 0
    for line in lines:
        name, *counts = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in allowed:
            user, nice, system, _idle, _wait, irq, softirq, steal = (int(c) for c in counts[:8])
            busy += user + nice + system + irq + softirq
            stolen += steal
            cores += 1
    if not cores:
        return None
    return CpuTimes(clock.now(), busy / tick, stolen / tick, time.process_time(), cores)


def neighbours(before: CpuTimes | None, after: CpuTimes | None) -> list[str]:
    """A warning when others took more than a tenth of the cores between the two readings."""
    if before is None or after is None or after.at_s - before.at_s < _LEAST_S:
        return []
    elapsed = after.at_s - before.at_s
    others = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    stolen = after.stolen_s - before.stolen_s
    found = []
    if others / elapsed > NOTICEABLE * after.cores:
        found.append(
            f"{NEIGHBOURS}: other processes used {others / elapsed:.1f} of {after.cores} cores meanwhile; "
            "stop them and measure again"
        )
    if stolen / elapsed > NOTICEABLE * after.cores:
        found.append(f"{STOLEN} {stolen / elapsed:.1f} of {after.cores} cores away meanwhile")
    return found


def disturbance(warnings: Sequence[str]) -> str | None:
    """The warning of a measurement that says others used its cores; None for one that had them to itself."""
    return next((w for w in warnings if w.startswith((NEIGHBOURS, STOLEN))), None)
