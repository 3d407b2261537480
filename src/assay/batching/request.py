"""Request: one caller's rows on their way through the batcher."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

from assay.core.errors import AssayError
from assay.core.tensors import Array, Feed
from assay.core.units import Seconds

QUEUED, RUNNING, DONE = range(3)


class Canceller(Protocol):
    def cancel(self, request: Request) -> bool: ...


class Request:
    """What was asked, when, and what became of it.

    ``on_done`` gets a list of finished requests, once per batch and not once per request: those of
    the batch that were submitted with an equal callable.  It runs on an instance thread (or on the
    thread that cancels or closes), so it should hand over and return.  After it was called exactly
    one of ``outputs`` and ``error`` is set, and neither changes again.

    A plain class with class-level defaults: a request sets only what differs, which is
    measurably cheaper than a dataclass of sixteen fields.
    """

    state = QUEUED
    priority = 1
    sequence = 0
    deadline_s: Seconds = math.inf
    started_s: Seconds = math.nan
    finished_s: Seconds = math.nan
    batch_rows = 0
    """Rows of the batch this request ran in, padding not counted."""
    spans: tuple[Seconds, Seconds, Seconds] | None = None
    """Its batch's seconds: gathering rows, in the session, handing out; None where it did not run in a batch."""
    outputs: dict[str, Array] | None = None
    error: AssayError | None = None
    context: Any = None
    """The caller's own; the batcher never looks at it."""
    owner: Canceller | None = None

    def __init__(
        self,
        feed: Feed | None,
        rows: int,
        lane: Hashable,
        on_done: Callable[[Sequence[Request]], object],
        enqueued_s: Seconds,
    ) -> None:
        self.feed = feed
        self.rows = rows
        self.lane = lane
        self.on_done = on_done
        self.enqueued_s = enqueued_s

    @property
    def done(self) -> bool:
        return self.state == DONE

    def cancel(self) -> bool:
        """Take the request back.  True: it will not run, and ``on_done`` was called with ``Cancelled``.

        False: too late; it runs or is done, and completes as if nothing had been said.
        """
        return self.owner is not None and self.owner.cancel(self)

    def result(self) -> dict[str, Array]:
        """The outputs.  Raises the request's error, or RuntimeError before it is done."""
        if self.error is not None:
            raise self.error
        if self.outputs is None:
            raise RuntimeError("this request is not done yet")
        return self.outputs


def deliver(requests: Sequence[Request], complain: Callable[[BaseException], object]) -> None:
    """Call every distinct ``on_done`` once with its requests, in order.

    What a callback raises goes to ``complain`` and no further: the others are still called.
    """
    first = requests[0].on_done
    if all(r.on_done is first for r in requests):
        _call(first, requests, complain)
        return
    groups: dict[Any, list[Request]] = {}
    for request in requests:
        groups.setdefault(request.on_done, []).append(request)
    for on_done, group in groups.items():
        _call(on_done, group, complain)


def _call(
    on_done: Callable[[Sequence[Request]], object],
    requests: Sequence[Request],
    complain: Callable[[BaseException], object],
) -> None:
    try:
        on_done(requests)
    except BaseException as error:
        complain(error)
