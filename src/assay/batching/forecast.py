"""When would a request that comes now be finished?  Pure arithmetic over what waits and what runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from assay.core.units import Seconds


@dataclass(frozen=True)
class Forecast:
    """Both on the scheduler's clock."""

    start_s: Seconds
    finish_s: Seconds


def forecast(
    now_s: Seconds,
    free_at_s: Sequence[Seconds],
    rows: int,
    ahead: int,
    batch: int,
    seconds: Callable[[int], Seconds],
) -> Forecast:
    """``rows`` new rows behind ``ahead`` others, served in batches of ``batch`` as instances come free.

    ``free_at_s``: for every instance when it is expected to be free; ``seconds`` is t(b).  Batches
    before the request's own are full; its own holds what is left of those ahead and itself.
    """
    before, rest = divmod(ahead, batch)
    if rest + rows > batch:
        before, rest = before + 1, 0
    free = sorted(max(now_s, t) for t in free_at_s)
    rounds, index = divmod(before, len(free))
    start_s = free[index] + rounds * seconds(batch)
    return Forecast(start_s, start_s + seconds(min(batch, rest + rows) if rest + rows <= batch else rows))
