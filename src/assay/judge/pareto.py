"""The front: points that no other point beats in every respect.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float | None, ...]


def front(points: Sequence[Point]) -> tuple[int, ...]:
    """Places of the points that none beats; larger is better in every coordinate.

    A point is beaten by one that is nowhere worse and somewhere better; equal points do not beat each
    other.  A point with a missing coordinate is never on the front: what was not measured wins nothing.
    """
    whole = [(place, [c for c in point if c is not None]) for place, point in enumerate(points)]
    whole = [(place, point) for place, point in whole if len(point) == len(points[place])]
    return tuple(place for place, point in whole if not any(_beats(other, point) for _, other in whole))


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)
