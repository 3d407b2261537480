"""The rates by batch size and the document's conclusions, judged by the run in the folder named on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

MANY = 16
ENGINES = ("onnxruntime", "openvino")
RULES = {"310": 1.2, "T4": 1.6}
Row = tuple[str, str, str]
Rates = dict[int, dict[str, Any]]


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def here(path: Path) -> Rates:
    """Throughput by batch size."""
    records = load(path)["records"]
    return {r["subject"]["batch"]: r["figures"]["throughput"] for r in records if r["status"] == "ok"}


def printed(imported: dict[str, Any]) -> dict[str, dict[int, float]]:
    """The cells of the documents' tables: device -> batch size -> samples/s."""
    found: dict[str, dict[int, float]] = {}
    for record in imported["records"]:
        if record["conditions"].get("evidence") == "table" and "throughput" in record["figures"]:
            subject, rate = record["subject"], record["figures"]["throughput"]["value"]
            found.setdefault(subject["device_name"], {})[subject["batch"]] = rate
    return found


def shown(figure: dict[str, Any]) -> str:
    interval = f" ({figure['low']:.0f}–{figure['high']:.0f})" if {"low", "high"} <= figure.keys() else ""
    return f"{figure['value']:.0f}{interval}"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]]) + "\n"


def by_batch(real: dict[str, Rates], devices: dict[str, dict[int, float]]) -> str:
    batches = sorted({b for rates in (*real.values(), *devices.values()) for b in rates})
    rows = []
    for batch in batches:
        mine = [shown(rates[batch]) if batch in rates else "—" for rates in real.values()]
        theirs = [f"{rates[batch]:.0f}" if batch in rates else "—" for rates in devices.values()]
        rows.append((str(batch), *mine, *theirs))
    return table(("batch", *(f"{name}, here" for name in real), *(f"{name}, printed" for name in devices)), rows)


def of_rules(alone: dict[str, Any], together: dict[str, Any], devices: dict[str, dict[int, float]]) -> list[Row]:
    """The acceptance rules: on the document by itself, with the later table, and on the tables' cells alone."""
    said = {"passed": "holds (imported figures)", "failed": "does not (imported figures)"}
    rows = []
    for where, gate in (("the document alone", alone), ("with the later table", together)):
        for reason in gate["verdict"]["reasons"]:
            what = f"{reason['limit']}, {where}"
            rows.append((what, said.get(reason["state"], "cannot be tested here"), reason["text"]))
    ours = devices["310P"]
    for other, limit in RULES.items():
        best, theirs = max(ours, key=lambda b: ours[b]), max(devices[other], key=lambda b: devices[other][b])
        found = ours[best] / devices[other][theirs]
        below = {b: ours[b] / rate for b, rate in devices[other].items() if b in ours and ours[b] < limit * rate}
        hidden = ", ".join(f"{ratio:.3f}× at batch {b}" for b, ratio in sorted(below.items()))
        text = f"{found:.3f}×: batch {best} over batch {theirs}; no log, no repetition, so no interval"
        judged = "holds (printed figures)" if found >= limit else "does not (printed figures)"
        what = f"310P >= {limit} x {other}, best cells of the tables"
        rows.append((what, judged, text + (f"; short of it: {hidden}" if hidden else "")))
    return rows


def of_errors(out: Path) -> list[Row]:
    """Error@1 and error@5 of each batch size, scored from its own dumps, and the paired difference."""
    rows = []
    for engine in ENGINES:
        for batch, other in ((1, "PyTorch"), (MANY, "batch 1")):
            (record,) = load(out / "accuracy" / f"{engine}_bs{batch}.json")["records"]
            errors, drop = record["figures"], record["figures"]["accuracy.drop"]
            (dumped,) = load(out / "accuracy" / f"dumps_{engine}_bs{batch}.json")["records"]
            own = dumped["figures"]["error@1"]["value"]
            if own != errors["error@1"]["value"]:
                raise SystemExit(f"{engine}, batch {batch}: the dumps give {own}, the evaluation another error@1")
            judged = "cannot be told from so few samples"
            if drop["low"] > 0 or drop["high"] < 0:
                judged = "does not"
            elif drop["high"] <= 0.01 and drop["low"] >= -0.01:
                judged = "holds (within 1 %)"
            interval = (
                f"drop {drop['value']:.2%} ({drop['low']:.2%} to {drop['high']:.2%}), paired, {drop['n']} samples"
            )
            first, fifth = (errors[name]["value"] for name in ("error@1", "error@5"))
            what = f"{engine}, batch {batch}: the errors of {other}"
            rows.append((what, judged, f"error@1 {first:.2%}, error@5 {fifth:.2%}; {interval}"))
    return rows


def of_random(engine: str, real: Rates, random: Rates) -> list[Row]:
    """Whether pure inference on random numbers misleads; the interval is the widest that both intervals allow."""
    rows = []
    for batch in sorted(real.keys() & random.keys()):
        a, b = real[batch], random[batch]
        what = f"{engine}, batch {batch}: pure inference on random numbers gives another rate than the data"
        if not {"low", "high"} <= a.keys() or not {"low", "high"} <= b.keys():
            rows.append((what, "cannot be told", "no interval: too few calls"))
            continue
        low, high = a["low"] / b["high"], a["high"] / b["low"]
        judged = "cannot be told: no difference shown" if low <= 1 <= high else "holds"
        rows.append((what, judged, f"data / random {a['value'] / b['value']:.3f} ({low:.3f} to {high:.3f})"))
    return rows


def main(out: Path) -> None:
    imported = load(out / "import.json")
    devices = printed(imported)
    real = {engine: here(out / "bench" / f"{engine}-real.json") for engine in ENGINES}
    print("Samples/s by batch size, 95 % intervals where it was measured here:\n")
    print(by_batch(real, devices))
    rows = of_rules(load(out / "gate-alone.json"), load(out / "gate.json"), devices) + of_errors(out)
    rows.append(("a card does four times a die's rate", "cannot be tested here", "extrapolated in the document"))
    same = [f["text"] for f in imported["findings"] if f["kind"] == "identical-accuracy"]
    rows += [("batch 1 and batch 16 have the same errors on a 310", "cannot be tested here", text) for text in same]
    for engine in ENGINES:
        rows += of_random(engine, real[engine], here(out / "bench" / f"{engine}-random.json"))
    print(table(("the document's conclusion", "judged", "figures, 95 % intervals"), rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
