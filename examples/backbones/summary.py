"""Throughput with and without dynamic batching, and the published order of the models judged against this run's."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any


def rates(path: Path) -> dict[str, dict[str, Any]]:
    records = json.loads(path.read_text())["records"]
    return {r["subject"]["model"]: r["figures"]["throughput"] for r in records if "throughput" in r["figures"]}


def shown(rate: dict[str, Any]) -> str:
    interval = f" ({rate['low']:.1f}–{rate['high']:.1f})" if {"low", "high"} <= rate.keys() else ""
    return f"{rate['value']:.1f}{interval}"


def gain(off: dict[str, Any], on: dict[str, Any]) -> tuple[str, str]:
    """on / off and the judgement; the interval is the widest that both intervals allow."""
    ratio = f"{on['value'] / off['value']:.2f}×"
    if not {"low", "high"} <= off.keys() or not {"low", "high"} <= on.keys():
        return ratio, "cannot be told: no interval, too few requests"
    low, high = on["low"] / off["high"], on["high"] / off["low"]
    judged = "faster" if low > 1 else "slower" if high < 1 else "no difference shown"
    return f"{ratio} ({low:.2f}–{high:.2f})", judged


def order(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Of the pairs of models, how many this run puts in the published order, and how many it cannot tell."""
    same = other = open_ = 0
    for a, b in itertools.combinations(sorted(ours.keys() & theirs.keys()), 2):
        first, second = (a, b) if theirs[a]["value"] > theirs[b]["value"] else (b, a)
        x, y = ours[first], ours[second]
        if not {"low", "high"} <= x.keys() & y.keys() or (x["low"] <= y["high"] and y["low"] <= x["high"]):
            open_ += 1
        elif x["value"] > y["value"]:
            same += 1
        else:
            other += 1
    pairs = same + other + open_
    verdict = "cannot be told" if open_ == pairs else "does not" if other else "holds for the pairs that can be told"
    return f"{verdict}: of {pairs} pairs of models {same} have the published order, {other} the other, {open_} overlap"


def main(out: Path) -> None:
    single, batched, published = (rates(out / f"{name}.json") for name in ("single", "batched", "published"))
    print(
        "| model | samples/s, one by one | samples/s, merged up to 8 | merged / one by one | judged | published (T4) |"
    )
    print("|---|---|---|---|---|---|")
    for name, off in single.items():
        ratio, judged = gain(off, batched[name])
        there = f"{published[name]['value']:.1f}" if name in published else "—"
        print(f"| {name} | {shown(off)} | {shown(batched[name])} | {ratio} | {judged} | {there} |")
    print()
    for what, ours in (("one by one", single), ("merged", batched)):
        print(f"- The published order of the models, {what}: {order(ours, published)}.")
    print("- The published rates themselves (a T4, fp16): cannot be tested here.")
    missing = out / "unavailable.txt"
    if missing.exists():
        print("".join(f"- {line}\n" for line in missing.read_text().splitlines()), end="")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
