"""Worker: one instance.  It runs one batch at a time and gives every caller its rows."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from assay.batching.arena import Arena, HandOut
from assay.batching.batch import Batch
from assay.batching.intake import mergeable
from assay.batching.request import Request
from assay.batching.settings import BatcherSettings
from assay.core.engine import Session
from assay.core.errors import AssayError, BadInput, EngineFailed
from assay.core.tensors import Signature
from assay.core.units import Seconds


@dataclass(frozen=True)
class Sessions:
    """The session for every batch size: ``any`` unless ``by_size`` has one for that very size.

    ``alone``, where there is one, runs the batches that have the machine to themselves: the same model, opened
    so that one call uses all cores.
    """

    any: Session | None
    by_size: Mapping[int, Session]
    alone: Session | None = None

    @classmethod
    def of(cls, session: Session | Mapping[int, Session], alone: Session | None = None) -> Sessions:
        """One session, or one for every batch size.  Raises BadInput for none, or an ``alone`` of another signature."""
        if isinstance(session, Mapping):
            if not session:
                raise BadInput("a batcher needs at least one session")
            return cls(None, dict(session), alone)
        if alone is not None and alone.signature != session.signature:
            raise BadInput(f"the session for lone batches is of another model: {alone.signature}")
        return cls(session, {}, alone)

    @property
    def mergeable(self) -> bool:
        return mergeable(self.signature)

    @property
    def first(self) -> Session:
        return self.any if self.any is not None else next(iter(self.by_size.values()))

    @property
    def signature(self) -> Signature:
        return self.first.signature

    def at(self, size: int) -> Session:
        session = self.by_size.get(size, self.any)
        if session is None:
            raise EngineFailed(f"there is no session for batches of {size}; there are: {sorted(self.by_size)}")
        return session


class Worker:
    """``pad`` maps a number of rows to the size it is run at; ``most`` is the largest size.

    ``gate`` is held while there is nothing to wake up for; releasing it wakes the worker's thread,
    which wakes by itself at ``armed_s``.
    """

    def __init__(
        self, sessions: Sessions, most: int, pad: Callable[[int], int], isolate: bool, now: Callable[[], Seconds]
    ) -> None:
        self._sessions = sessions
        self._single = None if sessions.by_size else sessions.any
        self._arena = Arena(sessions.signature, most)
        self._hand_out = HandOut(sessions.signature)
        self._pad = pad
        self._isolate = isolate
        self._now = now
        self.gate = threading.Lock()
        self.gate.acquire()
        self.armed_s: Seconds = math.inf

    def run(self, batch: Batch) -> Seconds | None:
        """Run ``batch``: afterwards every request of it has outputs or an error of its own.

        Returns the seconds the session took, None when it failed.  Never raises.
        """
        requests = batch.requests
        try:
            session = self._sessions.alone if batch.alone else None
            batch.apart = session is not None
            return self._run(requests, batch.rows, batch.size, session)
        except BaseException as error:
            if len(requests) > 1 and self._isolate:
                for request in requests:
                    self._run_alone(request)
            else:
                for request in requests:
                    request.error = failure(error)
            return None

    def _run(self, requests: Sequence[Request], rows: int, size: int, session: Session | None = None) -> Seconds:
        now = self._now
        gathering_s = now()
        feed = self._arena.feed(requests, rows, size)
        session = session or self._single or self._sessions.at(size)
        began_s = now()
        outputs = session.run(feed)
        ended_s = now()
        self._hand_out.give(outputs, requests, size, self._arena)
        compute_s = ended_s - began_s
        spans = (began_s - gathering_s, compute_s, now() - ended_s)
        for request in requests:
            request.spans = spans
        return compute_s

    def _run_alone(self, request: Request) -> None:
        """After its batch failed: only the guilty one fails."""
        try:
            self._run([request], request.rows, self._pad(request.rows))
        except BaseException as error:
            request.error = failure(error)


def failure(error: BaseException) -> AssayError:
    """An error of the request's own: one exception raised in several threads would mix its tracebacks."""
    if isinstance(error, AssayError):
        return copy.copy(error)
    made = EngineFailed(f"the model failed: {type(error).__name__}: {error}")
    made.__cause__ = error
    return made


def fitting(settings: BatcherSettings, sessions: Sessions) -> BatcherSettings:
    """``settings`` with the buckets the sessions dictate.  Raises BadInput where they contradict."""
    signature = sessions.signature
    if not sessions.mergeable:
        return replace(settings, buckets=(), preferred=())
    sizes = tuple(sorted(sessions.by_size))
    if sessions.by_size:
        for size, session in sessions.by_size.items():
            if session.signature.static_batch not in (None, size):
                raise BadInput(f"the session for batches of {size} has batch {session.signature.static_batch}")
    elif signature.static_batch is not None:
        sizes = (signature.static_batch,)
    if not sizes:
        return settings
    if settings.buckets and settings.buckets != sizes:
        raise BadInput(f"buckets are {settings.buckets}, but the engine's batch sizes are {sizes}")
    return replace(settings, buckets=sizes, max_batch=sizes[-1], preferred=())
