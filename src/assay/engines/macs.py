"""Multiply-accumulates from shapes, and their shares: what ``attest()`` counts.

A convolution does, for every output element, one MAC per kernel element and input
channel of its group; a matrix product does K per output element.  Bias, activation and
normalisation are not counted.  What matters is the *share* that ran in a precision, so a
layout that pads channels is not corrected for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

Shape = Sequence[int]
Ran = tuple[str, str, int]
"""(provider, precision, MACs)"""


def conv_macs(weight: Shape, output: Shape) -> int:
    """``weight`` is (out channels, in channels / groups, *kernel), ``output`` (batch, channels, *spatial)."""
    return prod(output) * prod(weight[1:])


def transposed_conv_macs(weight: Shape, given: Shape) -> int:
    """``weight`` is (in channels, out channels / groups, *kernel); every *input* element is spread over it."""
    return prod(given) * prod(weight[1:])


def matmul_macs(left: Shape, output: Shape, right: Shape | None = None) -> int:
    """(…, M, K) or its transpose, times (…, K, N) -> (…, M, N).

    K is taken from the left operand's size over M, which holds whichever of its two last dims
    is transposed; a vector on either side is a matrix with one row or column.
    """
    if len(left) == 1:
        return prod(output) * left[0]
    if right is not None and len(right) == 1:
        return prod(output) * right[0]
    rows = output[-2] if len(output) > 1 else 1
    return prod(output) * (left[-1] * left[-2] // max(rows, 1))


def recurrent_macs(given: Shape, weight: Shape, recurrence: Shape) -> int:
    """LSTM, GRU, RNN: ``given`` (steps, batch, features); both weights (directions, gates * hidden, …)."""
    return given[0] * given[1] * (prod(weight) + prod(recurrence))


def shares(ran: Iterable[Ran]) -> dict[tuple[str, str], float]:
    """Share of all MACs per (provider, precision); empty when there were none."""
    totals: dict[tuple[str, str], int] = {}
    for provider, precision, macs in ran:
        if macs > 0:
            totals[provider, precision] = totals.get((provider, precision), 0) + macs
    whole = sum(totals.values())
    return {key: value / whole for key, value in totals.items()}
