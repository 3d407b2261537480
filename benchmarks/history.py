"""How long ``assay runs`` takes to list 10 000 Records: reading every folder, and with the index in place.

At most half a second with the index, by the program too.

Run: python benchmarks/history.py
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from verdict import MISSED

from assay.core.record import Figure, Record
from assay.job.history import History

RUNS, RECORDS_EACH = 100, 100
LIMIT_S = 0.5


def write(root: Path) -> None:
    environment = {"cpu": "a cpu", "versions": {f"library{i}": "1.2.3" for i in range(12)}, "python": "3.11.7"}
    for run in range(RUNS):
        folder = root / f"run-{run:03d}"
        folder.mkdir()
        lines = []
        for i in range(RECORDS_EACH):
            subject = {"model": f"net{run % 7}", "candidate": f"c{i}", "engine": f"engine{i % 4}", "precision": "fp32"}
            rate = 100.0 + i
            figures = {
                "throughput": Figure(rate, "samples/s", 0.9 * rate, 1.1 * rate, 0.95, 900),
                "latency.p50": Figure(1 / rate, "s", 0.9 / rate, 1.1 / rate, 0.95, 900),
            }
            conditions = {"batch": 1 + i % 8, "scenario": "offline"}
            record = Record("measure", subject, figures=figures, conditions=conditions, environment=environment)
            lines.append(json.dumps(record.to_json()))
        (folder / "records.jsonl").write_text("\n".join(lines) + "\n")
        (folder / "run.json").write_text(json.dumps({"model": f"net{run % 7}"}))


def listed(root: Path) -> float:
    started = time.perf_counter()
    with History(root) as history:
        assert len(history.records()) == RUNS * RECORDS_EACH
    return time.perf_counter() - started


def main() -> int:
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="assay-history-")))
        write(root)
        print(f"{RUNS * RECORDS_EACH} records in {RUNS} runs")
        print(f"  first listing, every folder read: {listed(root):.2f} s")
        took_s = [min(listed(root) for _ in range(5))]
        print(f"  with the index in place:          {took_s[0]:.3f} s (limit {LIMIT_S} s)")
        for options in ([], ["--records", "--all"]):
            command = [sys.executable, "-m", "assay.cli.main", "runs", str(root), *options]
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            took_s.append(time.perf_counter() - started)
            print(f"  assay runs {' '.join(options):<19} {took_s[-1]:.2f} s, start of Python included")
    return MISSED if max(took_s) > LIMIT_S else 0


if __name__ == "__main__":
    sys.exit(main())
