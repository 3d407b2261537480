"""Every benchmark, one after the other, and what they found put into the documentation.

    python benchmarks/all.py [NAME …] [--smoke] [--list]
    python benchmarks/all.py --write

Each runs in a process of its own within a bounded time.  What it printed, how long it took, whether it reached its
targets (its exit code) and on what machine becomes a Record in runs/bench-all/records.jsonl.  ``--write`` takes the
newest Record of each from there into docs/figures.md, between the marks that name it, and the transcript of the demo
into README.md; it measures nothing.  Smoke runs say whether a benchmark runs at all; they are never written.

In full about three hours on two quiet cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import marked
from verdict import MISSED

from assay.core import child, clock
from assay.core.record import Figure, Record, RecordLog, read_records
from assay.core.units import format_seconds
from assay.measure.environment import cores_granted, device_name, environment

ROOT = Path(__file__).parents[1]
OUT = ROOT / "runs" / "bench-all"
PAGE = ROOT / "docs" / "figures.md"
ELSEWHERE = {"verify": ("verify.md", "verify"), "false-alarms": ("verify.md", "false_alarms")}
"""Figures that stand on another page of docs/ too, and under which mark."""
PATIENCE = 3.0
"""A benchmark may take so many times as long as it usually does."""
MOST_LINES = 60
BUSY = 0.5


@dataclass(frozen=True)
class Benchmark:
    """``arguments`` in full and for a ``smoke`` run (None: there is none); ``minutes`` on two quiet cores."""

    name: str
    arguments: str
    minutes: float
    smoke: str | None = None

    def command(self, *, smoke: bool) -> list[str]:
        arguments = self.smoke if smoke else self.arguments
        assert arguments is not None
        program, *rest = arguments.split()
        if not program.endswith(".py"):
            return [program, *rest]
        return [sys.executable, str(ROOT / "benchmarks" / program), *rest]


def by_model(name: str, minutes: float, *models: str) -> Iterator[Benchmark]:
    """One for each model, so that each can be run again by itself."""
    for model in models:
        smoke = f"{name}.py --smoke" if model == models[0] else None
        yield Benchmark(f"{name}-{model}", f"{name}.py --models {model}", minutes, smoke)


BENCHMARKS = (
    Benchmark("demo", "make demo", 5),
    Benchmark("startup", "startup.py", 1, "startup.py"),
    Benchmark("engines", "engines.py", 3, "engines.py --repeats 20"),
    Benchmark("preprocess", "preprocess.py", 2, "preprocess.py 20"),
    Benchmark("pipeline", "pipeline.py 2000 3", 6, "pipeline.py 32 1 --models timm:mobilenetv3_small_100"),
    Benchmark("pipeline-memory", "pipeline.py --memory", 8, "pipeline.py --memory 64 128"),
    Benchmark("harness", "harness.py null stall loadgen", 8, "harness.py null"),
    Benchmark(
        "benchmark_app", "harness.py benchmark_app --pairs 24", 10, "harness.py benchmark_app --pairs 1 --seconds 1"
    ),
    Benchmark("batcher", "batcher.py", 3, "batcher.py --repeats 2 --requests 500"),
    Benchmark("coverage", "coverage.py", 1, "coverage.py --runs 10"),
    Benchmark("verify", "verify.py", 5),
    Benchmark("false-alarms", "false_alarms.py 25", 12, "false_alarms.py 1"),
    *by_model("search", 9, "resnet18", "mobilenetv3_small_100", "regnety_002", "convnextv2_atto"),
    *by_model("tuned", 6, "resnet18", "resnet50", "regnety_016", "convnextv2_atto"),
    Benchmark("serve", "serve.py rest grpc engine null jpeg ready", 10, "serve.py --smoke"),
    Benchmark("goodput", "serve.py goodput", 15),
    Benchmark("serve-lighter", "serve.py rest --model regnety_004", 3),
    Benchmark("grpc-front", "grpc_front.py", 3, "grpc_front.py --requests 50 --rounds 1"),
    Benchmark("history", "history.py", 1, "history.py"),
)


def measure(benchmark: Benchmark, *, smoke: bool) -> Record:
    """Run it, print what it says as it says it, and keep it."""
    load = os.getloadavg()[0]
    command = benchmark.command(smoke=smoke)
    began = clock.now()
    patience_s = 60 * PATIENCE * benchmark.minutes
    lines: list[str] = []
    with subprocess.Popen(
        ["timeout", "--kill-after=10", str(round(patience_s)), *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stdout is not None
        try:
            for line in running.stdout:
                print(f"  {line}", end="", flush=True)
                lines.append(line.rstrip())
            code = running.wait()
        finally:  # interrupted: a session of its own does not hear Ctrl-C
            child.end_group(running)
    took_s = clock.now() - began
    status, reason = ("failed", f"it ended with exit code {code}") if code not in (0, MISSED) else ("ok", None)
    if code == 124:
        reason = f"it was stopped after {format_seconds(patience_s)}"
    return Record(
        "benchmark",
        {"benchmark": benchmark.name, "device": device_name("cpu")},
        status,
        {"seconds": Figure(took_s, "s"), "load.before": Figure(load, "processes")},
        {"command": " ".join(benchmark.command(smoke=smoke)[1:] if command[0] == sys.executable else command)},
        environment(),
        label="smoke" if smoke else None,
        reason=reason,
        warnings=(f"the load average was {load:.1f} before it began",) if load > BUSY else (),
        details={"exit_code": code, "lines": lines, "reached": code == 0},
    )


def write_figures(records: list[Record]) -> list[str]:
    """The newest Record of each benchmark into the page; returns the names written."""
    newest = {r.subject["benchmark"]: r for r in records if r.kind == "benchmark" and r.label != "smoke"}
    for name, record in newest.items():
        marked.write(PAGE, name, shown(record))
        if name in ELSEWHERE:
            page, mark = ELSEWHERE[name]
            marked.write(PAGE.parent / page, mark, shown(record))
        if name == "demo" and record.status == "ok":
            transcript = OUT / "demo.txt"
            transcript.write_text("\n".join(record.details["lines"]) + "\n", encoding="utf-8")
            subprocess.run([sys.executable, str(ROOT / "scripts" / "readme"), str(transcript)], check=True)
    return list(newest)


def shown(record: Record) -> list[str]:
    lines = [line.replace(f"{ROOT}{os.sep}", "") for line in record.details["lines"]]
    if len(lines) > MOST_LINES:
        lines = ["…", *lines[-MOST_LINES:]]
    load = record.value("load.before")
    where = f"{record.subject['device']}, {record.environment.get('cores', cores_granted()):g} cores"
    result = record.reason or ("reached" if record.details["reached"] else "not all reached")
    about = f"*{record.created[:10]}, {where}, load {load:.1f} before it began; {result}.*"
    return ["", "```", *lines, "```", "", about, ""]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--smoke", action="store_true", help="each as small as it can be")
    parser.add_argument("--list", action="store_true", help="names and usual minutes")
    parser.add_argument("--write", action="store_true", help="what was measured into docs/figures.md and README.md")
    arguments = parser.parse_args()
    known = {b.name: b for b in BENCHMARKS}
    unknown = [n for n in arguments.names if n not in known]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are: {', '.join(known)}")
    chosen = [known[n] for n in arguments.names] or list(BENCHMARKS)
    if arguments.list:
        for benchmark in chosen:
            print(f"{benchmark.name:<16} {benchmark.minutes:4g} min  {benchmark.arguments}")
        return 0
    if arguments.write:
        print(f"written: {', '.join(write_figures(read_records(OUT / 'records.jsonl')[0])) or 'nothing'}")
        return 0
    return run([b for b in chosen if not arguments.smoke or b.smoke is not None], smoke=arguments.smoke)


def run(chosen: list[Benchmark], *, smoke: bool) -> int:
    OUT.mkdir(parents=True, exist_ok=True)
    missed: list[str] = []
    with RecordLog(OUT / "records.jsonl") as log:
        for benchmark in chosen:
            print(f"{benchmark.name} (about {benchmark.minutes:g} min)" if not smoke else benchmark.name, flush=True)
            record = measure(benchmark, smoke=smoke)
            log.append(record)
            if record.status == "failed" or not (smoke or record.details["reached"]):
                missed.append(benchmark.name)
            print(f"{benchmark.name}: {record.reason or 'done'}, {format_seconds(record.value('seconds') or 0)}")
    print(f"{len(chosen) - len(missed)} of {len(chosen)} reached; {OUT.relative_to(ROOT)}/records.jsonl")
    print(f"missed: {', '.join(missed)}" if missed else "none missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
