"""How much memory a process took."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from assay.core.record import Figure, withheld
from assay.core.units import Bytes

STATUS = Path("/proc/self/status")


def peak_rss(status: Path = STATUS) -> Figure:
    """The largest resident size this process ever had, in bytes: interpreter, libraries and model together.

    A candidate's own figure therefore needs a process of its own.  Read from the kernel's high-water
    mark (VmHWM), else from getrusage.
    """
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
    except OSError:
        found = None
    peak = 1024 * int(found[1]) if found else largest_rss()
    if peak <= 0:
        return withheld("B", "this system does not tell the peak resident size")
    return Figure(float(peak), "B", n=1)


def largest_rss() -> Bytes:
    """What getrusage says, which counts in KiB and on macOS in bytes; 0 on Windows, which has none."""
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
