"""Sessions seen from the side: what a comparison runs is looked at a second time without running it twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from types import TracebackType
from typing import Self

from assay.core import clock
from assay.core.engine import Attestation, Session
from assay.core.tensors import Array, Feed, Signature
from assay.core.units import Seconds

Outputs = Mapping[str, Array]
Seen = Callable[[Feed, Outputs], None]


class Observed:
    """A Session that tells ``seen`` every feed and its outputs, and counts calls and the seconds inside them.

    Closing it closes nothing: the caller keeps the session it wraps.
    """

    def __init__(self, session: Session, seen: Seen) -> None:
        self._session = session
        self._seen = seen
        self.calls = 0
        self.seconds: Seconds = 0.0

    @property
    def signature(self) -> Signature:
        return self._session.signature

    @property
    def parallelism(self) -> int:
        return self._session.parallelism

    def run(
        self,
        feed: Feed,
        out: MutableMapping[str, Array] | None = None,
        spans: MutableMapping[str, float] | None = None,
    ) -> dict[str, Array]:
        started = clock.now()
        found = self._session.run(feed, out, spans)
        self.seconds += clock.now() - started
        self.calls += 1
        self._seen(feed, found)
        return found

    def attest(self) -> Attestation:
        return self._session.attest()

    def close(self) -> None:
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return
