"""Damaged files of every kind: a clear error or a right answer, never a traceback, a hang or more than 2 GB.

    scripts/harden [KIND …] [--cases 500] [--seed 0] [--only N] [--fresh] [--keep DIR]

Each case runs in a process with a limit on time and memory.  What breaks is kept with the words that show it, and
can be done again: the same seed does the same damage to the same files.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.hardening.corpus import KINDS, ROOT, Seed, digits_by_mean, reseal, run_words
from tests.hardening.freeze import frozen_run
from tests.hardening.mutation import mutate

from assay.core.child import end_group, tree_rss

MOST_BYTES = 2_000_000_000
MOST_S = 60.0
EXIT_CODES = (0, 1, 2, 3, 4)
KEPT = ROOT / "build" / "hardening"
"""Where damaged files that broke something are kept; it outlives the test's own folder."""


@dataclass(frozen=True)
class Finding:
    """One damaged file that broke the tool; ``path`` is where it was kept, ``again`` the command that repeats it."""

    kind: str
    what: str
    case: dict[str, Any]
    path: Path
    again: str = ""

    def __str__(self) -> str:
        again = f"\n  again: {self.again}" if self.again else ""
        return f"{self.kind}: {self.what}\n  {json.dumps(self.case)}\n  kept: {self.path}{again}"


@dataclass(frozen=True)
class Damage:
    """``cases`` damaged files of a kind, those of the numbers in ``only`` where there are any; what broke is copied
    to ``kept``."""

    cases: int
    seed: int
    only: Container[int] | None = None
    kept: Path = KEPT

    def again(self, kind: str, number: int) -> str:
        return f"scripts/harden {kind} --seed {self.seed} --cases {self.cases} --only {number}"


class Worker:
    """A process that answers cases; a new one is started when it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.peak_bytes = 0

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def ask(self, case: dict[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
        """(the answer, None), or (None, how the process ended)."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(case) + "\n")
        process.stdin.flush()
        began = time.monotonic()
        while not select.select([process.stdout], [], [], 0.02)[0]:
            used = tree_rss(process.pid)
            self.peak_bytes = max(self.peak_bytes, used)
            if used > MOST_BYTES:
                return None, self._end(f"it used {used / 1e9:.1f} GB")
            if time.monotonic() - began > MOST_S:
                return None, self._end(f"it took longer than {MOST_S:g} s")
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            return None, self._end(f"the process died with {code}")
        found: dict[str, Any] = json.loads(line)
        return found, None

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hardening.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        return self._process

    def _end(self, how: str = "") -> str:
        if self._process is not None:
            end_group(self._process)
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    if pipe is not None:
                        pipe.close()
        self._process = None
        return how


def finished_run(folder: Path) -> Path:
    """A run with a bundle, made here."""
    out = folder / "finished"
    if not out.exists():
        words = run_words(digits_by_mean(folder / "model"), out)
        done = subprocess.run(
            [sys.executable, "-m", "assay.cli.main", *words], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return out


def campaign(kind: str, damage: Damage, folder: Path, finished: Path) -> tuple[list[Finding], Counter[int]]:
    """The damaged files of one kind; what broke, and how often each exit code came."""
    work = folder / kind
    work.mkdir(parents=True)
    seeds = list(KINDS[kind](work, finished))
    findings: list[Finding] = []
    codes: Counter[int] = Counter()
    with Worker() as worker:
        for number, (chosen, content) in enumerate(damaged(seeds, damage.cases, damage.seed)):
            if damage.only is not None and number not in damage.only:
                continue
            chosen.path.write_bytes(content)
            before = (work / "bundle" / "manifest.json").read_bytes() if kind == "resealed" else b""
            if kind == "resealed":
                reseal(work / "bundle")
            for case in chosen.cases:
                found, died = worker.ask(case)
                what = died or _complaint(kind, found or {})
                codes[-1 if found is None else found["code"]] += 1
                if what:
                    damage.kept.mkdir(parents=True, exist_ok=True)
                    kept = damage.kept / f"{kind}-{damage.seed}-{number}-{chosen.path.name}"
                    kept.write_bytes(content)
                    findings.append(Finding(kind, what, case, kept, damage.again(kind, number)))
            chosen.path.write_bytes(chosen.content)
            if before:
                (work / "bundle" / "manifest.json").write_bytes(before)
        findings += [
            Finding(kind, f"whole, and refused: {what}", case, path) for what, case, path in refused(worker, seeds)
        ]
    return findings, codes


def refused(worker: Worker, seeds: list[Seed]) -> Iterator[tuple[str, dict[str, Any], Path]]:
    """What is said against files that are whole: a campaign in which nothing can pass would show nothing."""
    for whole in seeds:
        whole.path.write_bytes(whole.content)
        for case in whole.cases:
            found, died = worker.ask(case)
            ranked = found is None or "nothing was ranked" not in found["said"]  # a machine at work stalls measurements
            if found is None or (found["code"] not in (0, 1) and ranked):
                yield died or (found or {})["said"][-500:], case, whole.path


def damaged(seeds: list[Seed], cases: int, seed: int) -> Iterator[tuple[Seed, bytes]]:
    """Every seed in turn, each time damaged otherwise; the same for equal seeds and ``seed``."""
    seeds = list(seeds)
    order = random.Random(seed)
    for number in range(cases):
        if number % len(seeds) == 0:
            order.shuffle(seeds)
        chosen = seeds[number % len(seeds)]
        yield chosen, mutate(chosen.content, 1_000_003 * seed + number, chosen.path.name)


def _complaint(kind: str, found: dict[str, Any]) -> str | None:
    if found["broken"]:
        return shortened(found["broken"])
    if "Traceback (most recent call last)" in found["said"]:
        return f"a traceback:\n{found['said']}"
    if found["code"] not in EXIT_CODES:
        return f"exit code {found['code']}"
    if found["code"] == 4 and "assay: " not in found["said"] and "[failed]" not in found["said"]:
        return f"a failure without a message: {found['said']}"
    if kind == "bundle" and found["code"] == 0:
        return "a damaged bundle passed"
    return None


def shortened(trace: str) -> str:
    """The last two places of ours in a traceback, and what was raised."""
    lines = trace.strip().splitlines()
    ours = [line.strip().removeprefix("File ") for line in lines if "/assay/" in line or "/hardening/" in line][-2:]
    return " | ".join([*ours, lines[-1].strip()[:300]])


def _place(finding: Finding) -> str:
    """What findings with one cause have in common."""
    return finding.what.rpartition(" | ")[0] or finding.what


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--cases", type=int, default=500, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="*", help="the numbers of the cases to do; default: all")
    parser.add_argument("--fresh", action="store_true", help="damage a run made now instead of the frozen one")
    parser.add_argument("--keep", type=Path, help="a folder that stays; default: a temporary one")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.kinds) - set(KINDS))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(KINDS)}")
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="assay-harden-"))
    finished = finished_run(folder) if arguments.fresh else frozen_run(folder)
    damage = Damage(arguments.cases, arguments.seed, arguments.only)
    broken = 0
    for kind in arguments.kinds or KINDS:
        began = time.monotonic()
        findings, codes = campaign(kind, damage, folder, finished)
        told = ", ".join(f"{count} × {code}" for code, count in sorted(codes.items()))
        took = time.monotonic() - began
        print(
            f"{kind:<10} {arguments.cases} damaged files, exit codes {told}; {len(findings)} broke it ({took:.0f} s)",
            flush=True,
        )
        for _, same in groupby(sorted(findings, key=_place), key=_place):
            first, *rest = same
            print(f"  {len(rest) + 1} × {first}", flush=True)
        broken += len(findings)
    print(f"{broken} findings; {folder}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
