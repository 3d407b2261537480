"""What the document concludes, judged by the run in the folder named on the command line; every figure is the run's."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

LIMIT = 0.01  # the accuracy that the document allows to lose


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def of_rules(gate: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The acceptance rules on the imported logs, as ``assay gate`` judged them."""
    said = {"passed": "holds (imported figures)", "failed": "does not (imported figures)"}
    reasons = gate["verdict"]["reasons"]
    return [(r["limit"], said.get(r["state"], "cannot be tested here"), r["text"]) for r in reasons]


def of_claims(imported: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The ratios that the document claims and its own logs contradict."""
    claims = [f for f in imported["findings"] if f["kind"] == "ratio-contradicted"]
    return [(f"the ratio as printed, line {f['where'].rpartition(':')[2]}", "does not", f["text"]) for f in claims]


def of_drop(name: str, record: dict[str, Any]) -> tuple[str, str, str]:
    drop = record["figures"]["accuracy.drop"]
    judged = "cannot be told from so few samples"
    if drop["high"] <= LIMIT:
        judged = "holds"
    elif drop["low"] > LIMIT:
        judged = "does not"
    interval = f"{drop['value']:.2%} ({drop['low']:.2%} to {drop['high']:.2%}), {drop['n']} samples, paired"
    return f"{name}: top-1 drops by at most {LIMIT:.0%}", judged, interval


def rates(file: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Throughput by batch size, of those that have an interval."""
    found = {r["subject"]["batch"]: r["figures"]["throughput"] for r in file["records"]}
    return {batch: rate for batch, rate in sorted(found.items()) if {"low", "high"} <= rate.keys()}


def of_random(engine: str, real: dict[int, Any], random: dict[int, Any]) -> list[tuple[str, str, str]]:
    """Real over random; the interval is the widest that both intervals allow, so it errs towards no difference."""
    rows = []
    for batch in sorted(real.keys() & random.keys()):
        a, b = real[batch], random[batch]
        low, high = a["low"] / b["high"], a["high"] / b["low"]
        judged = "no difference shown" if low <= 1 <= high else "holds"
        what = f"{engine}, batch {batch}: random numbers give another rate than data"
        rows.append((what, judged, f"real / random {a['value'] / b['value']:.3f} ({low:.3f} to {high:.3f})"))
    return rows or [(f"{engine}: random numbers give another rate", "cannot be told", "no intervals: too few calls")]


def of_best(engine: str, real: dict[int, Any]) -> tuple[str, str, str]:
    what = f"{engine}: the best batch size is not the largest"
    if len(real) < 2:
        return what, "cannot be told", f"{len(real)} batch sizes with an interval"
    best = max(real, key=lambda batch: real[batch]["value"])
    last = real[max(real)]
    if best == max(real):
        others = max(rate["high"] for batch, rate in real.items() if batch != best)
        judged = "does not" if real[best]["low"] > others else "cannot be told"
    else:
        judged = "holds" if real[best]["low"] > last["high"] else "cannot be told"
    shown = ", ".join(f"{b}: {r['value']:.1f} ({r['low']:.1f}–{r['high']:.1f})" for b, r in real.items())
    return what, judged, f"samples/s by batch {shown}"


def main(out: Path) -> None:
    rows = of_rules(load(out / "gate.json")) + of_rules(load(out / "gate-accuracy.json"))
    rows += of_claims(load(out / "import.json"))
    rows.append(("one card does four times a die's interface rate", "cannot be tested here", "no such card here"))
    for path in sorted((out / "accuracy").glob("*_bs*.json")):
        rows.append(of_drop(path.stem.replace("_bs", ", batch "), load(path)["records"][0]))
    for path in sorted((out / "bench").glob("*-real.json")):
        engine = path.stem.removesuffix("-real")
        real = rates(load(path))
        rows += of_random(engine, real, rates(load(path.with_name(f"{engine}-random.json"))))
        rows.append(of_best(engine, real))
    print("| the document's conclusion | judged | figures, 95 % intervals |\n|---|---|---|")
    for row in dict.fromkeys(rows):
        print("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
