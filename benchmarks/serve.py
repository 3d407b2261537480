"""assay serve against a real Triton (with its Python backend): the same bundle, engine, tensors and clients.

    python benchmarks/serve.py [rest] [grpc] [engine] [null] [jpeg] [goodput] [ready] [--smoke] [--pairs 6]

* ``rest``, ``grpc``: perf_analyzer on both in turns, resnet18 on OpenVINO, 602 KB fp32 tensors, at 1, 4, 10 and
  32 outstanding requests; Triton at its best of 1–2 instances × delays 0, 0.5, 1, 2, 5 ms at that concurrency.
* ``engine``: wrk with 32 clients over REST binary against benchmark_app on the same file.
* ``null``: what the server itself adds: median round trip to a model that computes nothing.
* ``jpeg``: pictures against cores ÷ (CPU seconds of decode + inference + client).
* ``goodput``: the highest Poisson rate with 99 % answered in time; Triton at its best static delay.
* ``ready``: from start to ready, resnet50.

The precision is the faster one of those both sides can run, measured first.  ``--model`` takes another model, such as
one that is to this processor what resnet18 is to a faster one: the less the engine takes, the more a server counts.
Everything is written to ``--out`` (report.md and records.jsonl); the exit code is 3 when a target is missed.  Needs
scripts/install-triton and wrk.  In full about 25 minutes on two cores, half of them for goodput; ``--smoke`` a minute,
and its figures mean nothing.
"""

from __future__ import annotations

# ruff: noqa: E402 - what lies beside this file is found by its folder
import argparse
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import serve_models as models
import serve_parts as parts
from tests.serve_peers import triton as peer
from verdict import MISSED

from assay.bundle.contents import read_bundle
from assay.core.record import Record, RecordLog
from assay.measure.environment import cores_granted, environment

FOLDER = Path(__file__).parents[1] / "runs" / "bench-serve"
NEEDS_TRITON = frozenset({"rest", "grpc", "null", "goodput"})


def main() -> int:
    arguments = _arguments()
    load, cores = os.getloadavg()[0], cores_granted()
    note = ": others are running, ratios are noisy" if load > 0.5 else ""
    print(f"load average {load:.1f} on {cores:g} cores{note}")
    sizes = parts.SMOKE if arguments.smoke else parts.Sizes()
    if arguments.pairs:
        sizes = replace(sizes, pairs=arguments.pairs)
    began = time.monotonic()
    precision = arguments.precision or _faster(arguments.model, sizes)
    bundle = models.bundle_of(arguments.model, precision, FOLDER)
    bench = parts.Bench(FOLDER, sizes, bundle, precision, tuple(arguments.serve.split()))
    for name in arguments.parts or parts.PARTS:
        parts.PARTS[name](bench)
    _write(bench, arguments.out, time.monotonic() - began)
    missed = [row for row in bench.rows if row.met is False]
    print(f"{len(missed)} targets missed; {arguments.out}/report.md, {time.monotonic() - began:.0f} s")
    return MISSED if missed and not arguments.smoke else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(parts.PARTS))
    parser.add_argument("--smoke", action="store_true", help="everything, briefly")
    parser.add_argument("--pairs", type=int, help="pairs of blocks behind each ratio")
    parser.add_argument("--model", default="resnet18", help="a timm name; inputs of 3x224x224")
    parser.add_argument("--precision", choices=("fp32", "bf16"))
    parser.add_argument("--serve", default="", metavar="OPTIONS", help="more options for assay serve")
    parser.add_argument("--out", type=Path, default=FOLDER / "out")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(parts.PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    wanted = set(arguments.parts or parts.PARTS)
    if wanted & NEEDS_TRITON and (reason := peer.missing()):
        parser.error(reason)
    if not shutil.which("wrk"):
        parser.error("wrk is not installed: apt-get install wrk")
    return arguments


def _faster(model: str, sizes: parts.Sizes) -> str:
    """The precision in which the engine alone is faster here."""
    rates = {}
    for precision in models.precisions():
        artifact = read_bundle(models.bundle_of(model, precision, FOLDER)).artifact
        assert artifact is not None
        rates[precision] = parts.benchmark_app(artifact.path, precision, 1, 1, sizes.block_s)
    best = max(rates, key=lambda p: rates[p])
    print(f"{model} alone: {', '.join(f'{p} {r:.0f}/s' for p, r in rates.items())}; {best} is served")
    return best


def _write(bench: parts.Bench, out: Path, took_s: float) -> None:
    out.mkdir(parents=True, exist_ok=True)
    candidate = read_bundle(bench.bundle).candidate
    here = environment()
    with RecordLog(out / "records.jsonl") as log:
        for row in bench.rows:
            if row.figures:
                subject = candidate.subject(bench.bundle.name.rpartition("-")[0])
                details = {"target": row.target, "met": row.met, "what": row.what}
                label = "smoke" if bench.sizes.smoke else None
                conditions = {"part": row.section, **row.conditions}
                record = Record("serve", subject, "ok", row.figures, conditions, here, label, details=details)
                log.append(record)
    (out / "report.md").write_text(_markdown(bench, took_s), encoding="utf-8")


def _markdown(bench: parts.Bench, took_s: float) -> str:
    lines = [f"{bench.bundle.name} on OpenVINO, {cores_granted():g} cores; Triton 2.51 with its Python backend.", ""]
    lines += ["| part | what | found | target | met |", "|---|---|---|---|---|"]
    for row in bench.rows:
        met = "" if row.met is None else "yes" if row.met else "**no**"
        lines.append(f"| {row.section} | {row.what} | {row.text} | {row.target} | {met} |")
    return "\n".join([*lines, "", f"{took_s:.0f} s in all.", ""])


if __name__ == "__main__":
    sys.exit(main())
