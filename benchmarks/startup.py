"""How long ``assay --help`` takes, as a multiple of a bare ``python -c pass`` timed in the same run.

The two are timed in turn, so that a busy moment of the machine meets both::

    python benchmarks/startup.py [REPEATS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from verdict import MISSED

from assay.core import clock
from assay.core.units import Seconds, format_seconds

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "assay --help": [sys.executable, "-c", "from assay.cli.main import main; main(['--help'])"],
}
LIMIT_S = 0.3


def timed(command: list[str]) -> Seconds:
    started = clock.now()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return clock.now() - started


def main(repeats: int) -> int:
    times: dict[str, list[Seconds]] = {name: [] for name in COMMANDS}
    for round_number in range(repeats + 1):
        for name, command in COMMANDS.items():
            taken = timed(command)
            if round_number:  # the first round warms the disk cache
                times[name].append(taken)
    for name, values in times.items():
        spread = f"{format_seconds(min(values))} to {format_seconds(max(values))}"
        print(f"{name:<16} median {format_seconds(statistics.median(values)):>8}   ({spread}, n = {repeats})")
    helped_s = statistics.median(times["assay --help"])
    ratios = [helped / bare for bare, helped in zip(*times.values(), strict=True)]
    limit = f"limit for assay --help: {format_seconds(LIMIT_S)}"
    print(f"ratio            median {statistics.median(ratios):>7.2f}×   ({limit})")
    return MISSED if helped_s > LIMIT_S else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
