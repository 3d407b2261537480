"""The speed table and the document's conclusions, judged by the run in the folder named on the command line.

``--device`` is what was measured on.  A ratio's interval is the widest that both rates' intervals allow, except for
rates that were measured in turns, whose ratio has an interval of its own.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from assay.core.stats import mean_interval

SAME, HARDLY = 0.05, 0.10  # what still counts as equal, and as hardly a difference
Row = tuple[str, str, str]


class Ratio(NamedTuple):
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def load(path: Path) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads(path.read_text())["records"]
    return records


def by_batch(path: Path) -> dict[int, dict[str, Any]]:
    return {r["subject"]["batch"]: r for r in load(path) if r["status"] == "ok"}


def rate(record: dict[str, Any]) -> dict[str, Any]:
    figure: dict[str, Any] = record["figures"]["throughput"]
    return figure


def ratio(a: dict[str, Any], b: dict[str, Any]) -> Ratio | None:
    """a / b; None where one of them has no interval."""
    if not {"low", "high"} <= a.keys() or not {"low", "high"} <= b.keys():
        return None
    return Ratio(a["value"] / b["value"], a["low"] / b["high"], a["high"] / b["low"])


def said(found: Ratio | None) -> str:
    return "no interval" if found is None else str(found)


def below(found: Ratio | None, limit: float) -> str:
    """Whether the ratio is at most ``limit``, by its interval."""
    if found is None:
        return "cannot be told (no interval)"
    return "holds" if found.high <= limit else "does not" if found.low > limit else "cannot be told"


def above(found: Ratio | None, limit: float) -> str:
    return {"holds": "does not", "does not": "holds"}.get(judged := below(found, limit), judged)


def within(found: Ratio | None, margin: float) -> str:
    if found is None:
        return "cannot be told (no interval)"
    if 1 - margin <= found.low and found.high <= 1 + margin:
        return "holds"
    return "does not" if found.low > 1 + margin or found.high < 1 - margin else "cannot be told"


def of_growth(rates: dict[int, dict[str, Any]], many: int, on_gpu: bool) -> list[Row]:
    """Conclusion 1, which the document drew on a GPU."""

    def judged(found: str) -> str:
        return found if on_gpu else f"on a GPU: cannot be tested here; on this CPU: {found}"

    sizes = sorted(rates)
    rise = ratio(rates[many], rates[sizes[0]])
    rows = [
        (
            f"1. the rate grows with the batch size up to {many}",
            judged(above(rise, 1 + SAME)),
            f"{many} / 1: {said(rise)}",
        )
    ]
    pairs = [(a, b) for a, b in itertools.pairwise(sizes) if many in (a, b)]
    steps = {pair: ratio(rates[pair[1]], rates[pair[0]]) for pair in pairs}
    last = steps[pairs[-1]]
    shown = ", ".join(f"{b} / {a}: {said(found)}" for (a, b), found in steps.items())
    what = f"1. by {many} the gain has flattened (at most {SAME:.0%} from {pairs[-1][0]} to {pairs[-1][1]})"
    return [*rows, (what, judged(below(last, 1 + SAME)), shown)]


def of_cpu(rates: dict[int, dict[str, Any]], on_gpu: bool) -> Row:
    what = f"2. on a CPU the batch size hardly matters (fastest / slowest at most {1 + HARDLY:g})"
    if on_gpu:
        return what, "cannot be tested here", "measured on a GPU"
    fastest, slowest = (f(rates, key=lambda b: rates[b]["value"]) for f in (max, min))
    found = ratio(rates[fastest], rates[slowest])
    return what, below(found, 1 + HARDLY), f"{fastest} / {slowest}: {said(found)}"


def of_fixed(out: Path, dynamic: dict[int, dict[str, Any]], many: int) -> list[Row]:
    """Conclusion 3; batch 1 in turns, the large batch from two measurements."""
    what = f"3. a fixed batch is as fast as a dynamic one of the same size (within {SAME:.0%})"
    (pair,) = load(out / "bench" / "in-turns.json")
    figure = pair["figures"]["paired.ratio"]
    found = None if not {"low", "high"} <= figure.keys() else Ratio(figure["value"], figure["low"], figure["high"])
    rows = [(f"{what}, 1", within(found, SAME), f"fixed's time / dynamic's, in turns: {said(found)}")]
    fixed = by_batch(out / "bench" / f"fixed-{many}.json")
    found = ratio(rate(fixed[many]), dynamic[many])
    return [*rows, (f"{what}, {many}", within(found, SAME), f"fixed's rate / dynamic's: {said(found)}")]


def of_odd(records: dict[int, dict[str, Any]], batch: int, on_gpu: bool) -> Row:
    """Conclusion 4: slower by more than 5 % than a smaller batch, and again when measured again."""
    what = f"4. batch {batch} misbehaves (over {SAME:.0%} slower than the best smaller one, twice)"
    if batch not in records:
        return what, "cannot be tested here", "not measured in this setting"
    smaller = {b: rate(r) for b, r in records.items() if b < batch}
    best = max(smaller, key=lambda b: smaller[b]["value"])
    found = ratio(rate(records[batch]), smaller[best])
    odd = any(text.startswith(f"odd batch: {batch} is slower") for text in records[batch]["warnings"])
    apart = "does not" if found is not None and found.low >= 1 - SAME else "cannot be told"
    judged = "holds" if odd else apart
    note = "" if on_gpu else "on this CPU; "
    return what, judged, f"{note}{batch} / {best}: {said(found)}; the document's own table of it is missing"


def of_quality(out: Path) -> list[Row]:
    rows = []
    for path in sorted((out / "accuracy").glob("*.json")):
        (record,) = load(path)
        gain, own, bicubic = (record["figures"][n] for n in ("psnr.gain", "psnr", "psnr.bicubic"))
        judged = "cannot be told"
        if {"low", "high"} <= gain.keys():
            judged = "holds" if gain["low"] > 0 else "does not" if gain["high"] <= 0 else judged
        interval = f" ({gain['low']:+.2f} to {gain['high']:+.2f})" if {"low", "high"} <= gain.keys() else ""
        shown = f"{own['value']:.2f} dB against {bicubic['value']:.2f} dB: {gain['value']:+.2f} dB{interval}"
        what = f"SRCNN on {path.stem} enlarges held-out photographs better than bicubic"
        rows.append((what, judged, f"{shown}, {gain['n']} photographs"))
    trained, before = (psnr_of(out / f"predictions-{name}.jsonl.gz") for name in ("onnxruntime", "untrained"))
    found = mean_interval(np.array([trained[name] - before[name] for name in sorted(trained)]))
    assert found.low is not None and found.high is not None
    judged = "holds" if found.low > 0 else "does not" if found.high <= 0 else "cannot be told"
    figures = f"{found.value:+.2f} dB ({found.low:+.2f} to {found.high:+.2f}), paired, {found.n} photographs"
    return [*rows, ("SRCNN's training gains over the enlargement that it starts from", judged, figures)]


def psnr_of(path: Path) -> dict[str, float]:
    """PSNR in dB by photograph."""
    with gzip.open(path, "rt") as lines:
        return {one["id"]: one["row"]["psnr"] for one in map(json.loads, lines)}


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]]) + "\n"


def shown(figure: dict[str, Any]) -> str:
    interval = f" ({figure['low']:.1f}–{figure['high']:.1f})" if {"low", "high"} <= figure.keys() else ""
    return f"{figure['value']:.1f}{interval}"


def speed_table(dynamic: dict[int, dict[str, Any]], fixed: dict[int, dict[str, Any]]) -> str:
    rows = []
    for batch, record in sorted(dynamic.items()):
        latency_ms = record["figures"]["latency.p50"]["value"] * 1000
        beside = shown(rate(fixed[batch])) if batch in fixed else "—"
        rows.append((str(batch), f"{latency_ms:.1f}", shown(rate(record)), beside))
    return table(("batch", "p50, ms", "dynamic batch, samples/s", "fixed batch, samples/s"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--many", type=int, default=128, help="the large fixed batch")
    given = parser.parse_args()
    out, on_gpu = given.out, given.device != "cpu"
    dynamic = by_batch(out / "bench" / "dynamic.json")
    fixed = by_batch(out / "bench" / "fixed-1.json") | by_batch(out / "bench" / f"fixed-{given.many}.json")
    rates = {batch: rate(record) for batch, record in dynamic.items()}
    print(speed_table(dynamic, fixed))
    rows = of_quality(out) + of_growth(rates, given.many, on_gpu) + [of_cpu(rates, on_gpu)]
    rows += of_fixed(out, rates, given.many)
    rows += [of_odd(dynamic, batch, on_gpu) for batch in (16, 256)]
    print(table(("the document's conclusion", "judged", "figures, 95 % intervals"), rows))


if __name__ == "__main__":
    main()
