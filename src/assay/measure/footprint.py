"""How much memory a process took."""

from __future__ import annotations

import re
import resource
from pathlib import Path

from assay.core.record import Figure, withheld

STATUS = Path("/proc/self/status")


def peak_rss(status: Path = STATUS) -> Figure:
    """The largest resident size this process ever had, in bytes: interpreter, libraries and model together.

    A candidate's own figure therefore needs a process of its own.  Read from the kernel's high-water
    mark (VmHWM), else from getrusage (which on Linux counts in KiB).
    """
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
    except OSError:
        found = None
    peak_kib = int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if peak_kib <= 0:
        return withheld("B", "this system does not tell the peak resident size")
    return Figure(float(peak_kib * 1024), "B", n=1)
