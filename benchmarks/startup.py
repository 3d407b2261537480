"""How long ``assay --help`` takes, as a multiple of a bare ``python -c pass`` timed in the same run.

The two are timed in turn, so that a busy moment of the machine meets both::

    python benchmarks/startup.py [REPEATS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from assay.core import clock
from assay.core.units import Seconds, format_seconds

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "assay --help": [sys.executable, "-c", "from assay.cli.main import main; main(['--help'])"],
}


def timed(command: list[str]) -> Seconds:
    started = clock.now()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return clock.now() - started


def main(repeats: int) -> None:
    times: dict[str, list[Seconds]] = {name: [] for name in COMMANDS}
    for round_number in range(repeats + 1):
        for name, command in COMMANDS.items():
            taken = timed(command)
            if round_number:  # the first round warms the disk cache
                times[name].append(taken)
    for name, values in times.items():
        spread = f"{format_seconds(min(values))} to {format_seconds(max(values))}"
        print(f"{name:<16} median {format_seconds(statistics.median(values)):>8}   ({spread}, n = {repeats})")
    ratios = [helped / bare for bare, helped in zip(*times.values(), strict=True)]
    print(f"ratio            median {statistics.median(ratios):>7.2f}×   (limit for assay --help: 300 ms)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
