"""What 50 000, ten million and a billion images would take, by arithmetic from one measured evaluation.

Evaluates a model on real JPEGs here (or takes Records that ``assay evaluate --json`` wrote), and writes the tables
into docs/scale.md.  What was measured is marked so; everything else is extrapolated: rates are taken to add up over
machines, which reading from shared storage may not allow::

    python benchmarks/scale.py [--images 2000] [--engine openvino] [--price 0.05] [--records FILE …]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from assay.core.units import format_bytes, format_rate
from assay.job.evaluate.one import Evaluation, evaluate_one
from assay.job.progress import Silent
from assay.sources import SourceOptions
from pipeline import image_folder

DOCUMENT = Path(__file__).parents[1] / "docs" / "scale.md"
BEGIN, END = "<!-- begin: benchmarks/scale.py -->", "<!-- end -->"
COUNTS = (50_000, 10_000_000, 1_000_000_000)
MACHINES = (1, 8, 64, 512)
ID_BYTES = 150
"""Of a file's id and target in a reader's list: a short str object, a tuple and their places in a list."""
MOST_IDS = 10_000_000
"""A list of this many is 1.5 GB in the process that asks and, once, on every machine."""


def measured(images: int, engine: str) -> dict[str, Any]:
    from assay.sources.torchvision_ops import make_importable

    make_importable()
    import timm
    import torch

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as work:
        folder = image_folder(Path(work, "pictures"), images)
        weights = Path(work, "resnet18.pth")
        torch.save(timm.create_model("resnet18").state_dict(), weights)
        asked = Evaluation("timm:resnet18", str(folder), engine=engine, out=Path(work, "out"))
        found = evaluate_one(asked, SourceOptions(out_dir=Path(work), weights=str(weights)), Silent())
        return found.record.to_json()


def tables(record: dict[str, Any], price: float) -> list[str]:
    subject, details, environment = record["subject"], record["details"], record["environment"]
    pipeline, shards = details["pipeline"], details["shards"]
    if pipeline is None:
        raise SystemExit("this Record timed nothing: all its shards were finished before")
    cores = int(record["conditions"].get("ray_cpus") or environment.get("cores_granted") or environment["cores"])
    rate, samples = pipeline["e2e"] / cores, record["conditions"]["samples"]
    row_bytes, per_shard = shards["bytes"] / samples, shards["samples_per_shard"]
    lines = [
        f"Measured ({record['created'][:10]}, Record `{record['id']}`): {subject['model']} on {subject['engine']} "
        f"{subject['precision']}, {samples:,} images on {cores} cores ({environment.get('cpu', 'processor unknown')}): "
        f"**{format_rate(pipeline['e2e'])} images/s**, {format_rate(rate)} per core; "
        f"{format_bytes(round(row_bytes))} of shard per image; "
        f"at most {format_bytes(shards['resident_bytes'])} resident.",
        "",
        f"Extrapolated from it, machines of {cores} cores:",
        "",
        f"| images | shards of {per_shard:,} | results | core-hours | at {price:g} a core-hour | "
        + " | ".join(f"{n} machine{'s' * (n > 1)}" for n in MACHINES)
        + " |",
        "|---" * (5 + len(MACHINES)) + "|",
    ]
    for count in COUNTS:
        hours = count / rate / 3600
        times = [_duration(3600 * hours / (n * cores)) for n in MACHINES]
        cells = [f"{count:,}", f"{-(-count // per_shard):,}", format_bytes(round(count * row_bytes)), f"{hours:,.1f}"]
        lines.append("| " + " | ".join([*cells, f"{hours * price:,.2f}", *times]) + " |")
    lines += [
        "",
        "| images | list of ids | evaluations of at most 10 M | lost when a machine dies |",
        "|---|---|---|---|",
    ]
    batch = subject["batch"] or 32
    for count in COUNTS:
        parts = -(-count // MOST_IDS)
        lost = f"up to {2 * cores * batch:,} images, {_duration(2 * batch / rate)} of its time"
        lines.append(f"| {count:,} | {format_bytes(min(count, MOST_IDS) * ID_BYTES)} each | {parts:,} | {lost} |")
    return lines


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--price", type=float, default=0.05, help="of a core-hour, in the currency of your choice")
    parser.add_argument("--records", nargs="*", type=Path, help="results of assay evaluate --json")
    parser.add_argument("--print", dest="show", action="store_true", help="print instead of writing docs/scale.md")
    given = parser.parse_args()
    if given.records:
        records = [r for path in given.records for r in json.loads(path.read_text())["records"]]
    else:
        records = [measured(given.images, given.engine)]
    made = "\n".join("\n".join(tables(record, given.price)) + "\n" for record in records)
    if given.show:
        print(made)
        return
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n{made}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
