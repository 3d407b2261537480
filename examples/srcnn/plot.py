"""``speed.svg`` in the run's folder: rate by batch size with intervals, of the dynamic and of the fixed batches."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from conclusions import by_batch, rate

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 64, 16, 28, 44


class Axes:
    """Batch sizes by their binary logarithm, rates from zero, to pixels."""

    def __init__(self, batches: list[int], most: float) -> None:
        self._first, self._last = math.log2(min(batches)), math.log2(max(batches))
        self.top = most * 1.05

    def x(self, batch: int) -> float:
        share = (math.log2(batch) - self._first) / ((self._last - self._first) or 1)
        return LEFT + 10 + share * (WIDTH - LEFT - RIGHT - 20)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - value / self.top * (HEIGHT - TOP - BOTTOM)


def bar(axes: Axes, batch: int, figure: dict[str, Any], shift: float, colour: str) -> str:
    x = axes.x(batch) + shift
    mark = f'<rect x="{x - 3:.1f}" y="{axes.y(figure["value"]) - 3:.1f}" width="6" height="6" fill="{colour}"/>'
    if not {"low", "high"} <= figure.keys():
        return mark
    low, high = axes.y(figure["low"]), axes.y(figure["high"])
    return mark + f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="{colour}" stroke-width="2"/>'


def svg(dynamic: dict[int, dict[str, Any]], fixed: dict[int, dict[str, Any]]) -> str:
    figures = [*dynamic.values(), *fixed.values()]
    axes = Axes(list(dynamic), max(f.get("high") or f["value"] for f in figures))
    parts = [f'<text x="{LEFT}" y="16">samples/s by batch size, 95 % intervals</text>']
    step = 10 ** math.floor(math.log10(axes.top)) / 2
    for number in range(int(axes.top / step) + 1):
        y = axes.y(number * step)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number * step:g}</text>')
    for batch in dynamic:
        parts.append(f'<text x="{axes.x(batch):.1f}" y="{HEIGHT - 24}" text-anchor="middle">{batch}</text>')
    points = " ".join(f"{axes.x(b):.1f},{axes.y(f['value']):.1f}" for b, f in sorted(dynamic.items()))
    parts.append(f'<polyline points="{points}" fill="none" stroke="#0072b2"/>')
    parts += [bar(axes, b, f, 0, "#0072b2") for b, f in dynamic.items()]
    parts += [bar(axes, b, f, 8, "#d55e00") for b, f in fixed.items() if b in dynamic]
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 6}" fill="#0072b2">dynamic batch</text>')
    parts.append(f'<text x="{LEFT + 110}" y="{HEIGHT - 6}" fill="#d55e00">fixed batch</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
    return head + 'font-size="12"><rect width="100%" height="100%" fill="white"/>' + "".join(parts) + "</svg>\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--many", type=int, default=128)
    given = parser.parse_args()
    bench = given.out / "bench"
    both = by_batch(bench / "fixed-1.json") | by_batch(bench / f"fixed-{given.many}.json")
    target = given.out / "speed.svg"
    target.write_text(
        svg(*({b: rate(r) for b, r in found.items()} for found in (by_batch(bench / "dynamic.json"), both)))
    )
    print(target)
