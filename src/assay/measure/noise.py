"""Whether anybody else used the processor while a measurement ran."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from assay.core import clock
from assay.core.disturbance import taken_by_host, used_by_others
from assay.core.units import Seconds

STAT = Path("/proc/stat")
NOTICEABLE = 0.10
_LEAST_S = 0.2


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
        found.append(used_by_others(others / elapsed, after.cores))
    if stolen / elapsed > NOTICEABLE * after.cores:
        found.append(taken_by_host(stolen / elapsed, after.cores))
    return found
