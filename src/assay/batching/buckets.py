"""Batch sizes an engine was built for, and what it costs to fit other sizes into them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable

from assay.core.errors import BadInput
from assay.core.units import Seconds


class Buckets:
    """The sizes a batch of 1..``most`` rows is run at.  Without ``sizes`` every size is its own bucket."""

    def __init__(self, sizes: tuple[int, ...], most: int) -> None:
        if sizes and sizes[-1] != most:
            raise BadInput(f"the largest bucket ({sizes[-1]}) must be the largest batch ({most})")
        self.most = most
        self.sizes = sizes or tuple(range(1, most + 1))
        self._exact = not sizes
        self._up = [0, *(self.sizes[bisect_left(self.sizes, rows)] for rows in range(1, most + 1))]

    @property
    def any_size(self) -> bool:
        return self._exact

    def up(self, rows: int) -> int:
        """The size that ``rows`` rows run at; ``rows - up(rows)`` of them are padding."""
        return rows if self._exact or rows > self.most else self._up[rows]

    def down(self, rows: int) -> int:
        """The largest size that ``rows`` rows fill, 0 when they fill none."""
        index = bisect_right(self.sizes, rows)
        return self.sizes[index - 1] if index else 0

    def better(self, rows: int, seconds: Callable[[int], Seconds]) -> int:
        """How many of ``rows`` waiting rows to take now: all, padded up, or only what fills a smaller bucket.

        Decided by rows per second at the two sizes; padding wins a tie, since it leaves nobody behind.
        """
        if self._exact:
            return rows
        padded, full = self.up(rows), self.down(rows)
        if padded == rows or full == 0:
            return rows
        return full if full * seconds(padded) > rows * seconds(full) else rows
