"""How many servers a rate needs, by arithmetic from the Records of benchmarks/serve.py; nobody measured the result.

    python benchmarks/serve_plan.py [--records runs/bench-serve/out/records.jsonl] [--rate 100000] [--write]

``--write`` puts the table between the marks in docs/deploy.md.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from assay.core.record import Record, read_records

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "deploy.md"
BEGIN, END = "<!-- plan: made by benchmarks/serve_plan.py -->", "<!-- end of plan -->"
HEADROOM = 0.7
"""Of the measured rate: what is left serves bursts, a lost server and a rolling update."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=Path, default=ROOT / "runs" / "bench-serve" / "out" / "records.jsonl")
    parser.add_argument("--rate", type=float, default=100_000.0)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    records, _ = read_records(arguments.records)
    text = plan(records, arguments.rate)
    print(text)
    if arguments.write:
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
    return 0


def plan(records: Sequence[Record], rate: float) -> str:
    """A Markdown table.  Raises SystemExit where the Records do not say enough."""
    tensors = newest(records, "engine", "throughput")
    pictures = newest(records, "jpeg", "throughput")
    path = newest(records, "null", "ceiling")
    if tensors is None or pictures is None or path is None:
        raise SystemExit("the plan needs Records of the parts engine, jpeg and null, not smoked ones")
    cores = float(tensors.environment["cores_granted"])
    lines = [
        f"**Extrapolated, not measured**: {rate:,.0f} requests/s from Records of {tensors.created[:10]} "
        f"({tensors.subject.get('device_name', 'this machine')}, {cores:g} cores a server, client on the same cores), "
        f"each server at {HEADROOM:.0%} of its rate.",
        "",
        "| requests | one server | servers | cores | network |",
        "|---|---|---|---|---|",
    ]
    for what, record, size in (
        ("602 KB tensors, REST binary", tensors, 4 * 3 * 224 * 224),
        ("JPEG, decoded by the server", pictures, int(pictures.conditions["bytes_in"])),
    ):
        one = record.figures["throughput"].value
        assert one is not None
        servers = math.ceil(rate / (HEADROOM * one))
        network = 8 * rate * size / 1e9
        lines.append(f"| {what} | {one:,.0f}/s | {servers:,} | {servers * cores:,.0f} | {network:,.0f} Gbit/s |")
    cpu, ceiling = path.figures["cpu.server"].value, path.figures["ceiling"].value
    assert cpu is not None and ceiling is not None
    lines += [
        "",
        f"Of these cores the server itself (protocol, batching; measured on a model that computes nothing) takes "
        f"{1e6 * cpu:.0f} µs a tensor request, {math.ceil(rate * cpu):,} cores in all; the rest is the model.  "
        f"The ceiling of one process, its client beside it: {ceiling:,.0f} tensor requests/s.",
    ]
    return "\n".join(lines)


def newest(records: Sequence[Record], part: str, figure: str) -> Record | None:
    found = [r for r in records if r.conditions.get("part") == part and r.value(figure) is not None and r.label is None]
    return max(found, key=lambda r: r.created, default=None)


if __name__ == "__main__":
    sys.exit(main())
