"""What the document concludes, judged by the run in the folder named on the command line; every figure is the run's."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.stats import mean_interval

CLEAR = 1.1  # an advantage is clear from 10 % on
DOUBLE = 2.0
LIMIT = 0.01  # of Dice
SERVERS = {"serve": "assay serve", "triton": "Triton"}

Row = tuple[str, str, str]
Interval = tuple[float, float, float]
"""Value, lowest, highest."""


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def of_allclose(path: Path) -> Row:
    found = load(path)
    record = found["records"][0]
    worst = max(
        measures["max_abs"] for outputs in record["details"]["outputs"].values() for measures in outputs.values()
    )
    judged = "holds" if found["verdict"]["passed"] else "does not"
    batches = ", ".join(record["details"]["outputs"])
    what = f"TorchScript and ONNX are allclose (rtol 1e-4, atol 9e-4): {path.stem.removeprefix('verify_')}"
    return what, judged, f"largest difference {worst:.1e} at batch {batches}, {record['conditions']['samples']} volumes"


def dice_by_volume(folder: Path) -> dict[str, float]:
    with gzip.open(folder / "predictions.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    return {row["id"]: row["row"]["dice"] for row in rows}


def of_dice(out: Path, engine: str) -> Row:
    """The paired drop: both have seen the same volumes."""
    reference, candidate = dice_by_volume(out / "dice_torch"), dice_by_volume(out / f"dice_{engine}")
    assert reference.keys() == candidate.keys() and reference
    drops = np.array([reference[name] - candidate[name] for name in reference])
    what = f"{engine}'s masks are as good as TorchScript's (Dice drops by at most {LIMIT:.0%})"
    mean = np.mean(list(reference.values()))
    found = mean_interval(drops)
    if found.low is None or found.high is None:
        return what, "cannot be told", f"too few volumes ({len(drops)})"
    judged = "holds" if found.high <= LIMIT else "does not" if found.low > LIMIT else "cannot be told"
    interval = f"{found.value:.4%} ({found.low:.4%} to {found.high:.4%})"
    return what, judged, f"Dice {mean:.3f}, drop {interval}, {len(drops)} volumes, paired"


def rates(path: Path) -> dict[int, dict[str, Any]]:
    """Throughput by the number of callers."""
    return {r["conditions"]["clients"]: r["figures"]["throughput"] for r in load(path)["records"]}


def over(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> Interval | None:
    """a / b, one of each round.  The interval is the widest that the rounds and their intervals allow; None without."""
    if any(not {"low", "high"} <= rate.keys() for rate in (*a, *b)):
        return None
    pairs = list(zip(a, b, strict=True))
    value = float(np.exp(np.mean([np.log(x["value"] / y["value"]) for x, y in pairs])))
    return value, min(x["low"] / y["high"] for x, y in pairs), max(x["high"] / y["low"] for x, y in pairs)


def judge(what: str, found: Interval | None, at_least: float, wanted: bool = True) -> Row:
    """Whether the ratio is at least so much; or, ``wanted`` False, whether it is not."""
    if found is None:
        return what, "cannot be told", "no interval: too few requests"
    value, low, high = found
    judged = "cannot be told"
    if low >= at_least:
        judged = "holds" if wanted else "does not"
    elif high < at_least:
        judged = "does not" if wanted else "holds"
    return what, judged, f"{value:.2f}× ({low:.2f}–{high:.2f}), limit {at_least:g}×"


def of_server(out: Path, server: str, engine: str) -> list[Row]:
    by_model: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for model in ("torchscript", "engine", "engine_batching"):
        rounds = [rates(path) for path in sorted((out / "bench").glob(f"{server}-{model}-*.json"))]
        by_model[model] = {n: [rate[n] for rate in rounds] for n in (1, 4)}
    torchscript, plain, batching = by_model.values()
    where = f"{engine} behind {SERVERS[server]}"
    one, four = over(plain[1], torchscript[1]), over(plain[4], torchscript[4])
    merged = over(batching[4], torchscript[4])
    gain = None
    if one is not None and merged is not None:
        gain = (merged[0] / one[0], merged[1] / one[2], merged[2] / one[1])
    return [
        judge(f"{where}: no clear advantage over TorchScript at 1 caller", one, CLEAR, wanted=False),
        judge(f"{where}: clearly more throughput than TorchScript at 4 callers", four, CLEAR),
        judge(f"{where}: dynamic batching doubles the throughput at 4 callers", over(batching[4], plain[4]), DOUBLE),
        judge(f"{where}, with dynamic batching: the advantage at 4 callers is larger than at 1", gain, 1.0),
    ]


def table(out: Path) -> None:
    print("| server | model | callers | samples/s (95 %), by round |\n|---|---|---|---|")
    for server in SERVERS:
        for model in ("torchscript", "engine", "engine_batching"):
            rounds = [rates(path) for path in sorted((out / "bench").glob(f"{server}-{model}-*.json"))]
            for clients in (1, 4) if rounds else ():
                shown = [rate[clients] for rate in rounds]
                cells = [
                    f"{r['value']:.1f}" + (f" ({r['low']:.1f}–{r['high']:.1f})" if {"low", "high"} <= r.keys() else "")
                    for r in shown
                ]
                print(f"| {SERVERS[server]} | {model} | {clients} | {'; '.join(cells)} |")
    print()


def main(out: Path) -> None:
    engine = load(out / "engine.json")["best"]["engine"]
    rows = [of_allclose(path) for path in sorted(out.glob("verify_*.json"))]
    rows += [
        of_dice(out, path.name.removeprefix("dice_"))
        for path in sorted(out.glob("dice_*"))
        if path.name != "dice_torch"
    ]
    for server in SERVERS:
        if any((out / "bench").glob(f"{server}-*.json")):
            rows += of_server(out, server, engine)
    skipped = out / "skipped.txt"
    if skipped.exists():
        rows.append(("the same behind Triton", "cannot be tested here", skipped.read_text().strip()))
    refused = (out / "tensorrt.txt").read_text().strip().splitlines()
    why = refused[-1].removeprefix("assay: ") if refused else "the plan was built and compared, but not served"
    rows.append(("TensorRT's speed, and that --best may cost accuracy", "cannot be tested here", why))
    table(out)
    print("| the document's conclusion | judged | figures, 95 % intervals |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
