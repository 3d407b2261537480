"""Direct: the batcher's queue without merging: every request is run alone, as it is.

For models that must never be merged, and as the baseline merging is compared with.  The same
economy holds: a caller wakes an instance only when it sleeps, and finished requests are handed
back together as long as none of them has to wait more than ``HAND_BACK_S`` for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from assay.batching.errors import Closed
from assay.batching.request import DONE, RUNNING, Request, deliver
from assay.batching.worker import failure
from assay.core import clock
from assay.core.engine import Session
from assay.core.errors import BadInput
from assay.core.tensors import Feed

HAND_BACK_S = 1e-4


class Direct:
    """``instances`` threads (the session's own parallelism by default) that run one request after another.

    The session checks the feeds; what it raises becomes the request's ``error``.
    """

    def __init__(self, session: Session, instances: int | None = None) -> None:
        count = session.parallelism if instances is None else instances
        if count < 1:
            raise BadInput(f"at least one instance is needed, not {count}")
        self._session = session
        self._now = clock.current().now
        self._waiting: SimpleQueue[Request | None] = SimpleQueue()
        self._closing = False
        self._gate = threading.Lock()
        self.callback_errors = 0
        self._threads = [threading.Thread(target=self._work, name=f"direct-{i}", daemon=True) for i in range(count)]

    def start(self) -> None:
        """Start the threads.  Starting twice is allowed."""
        for thread in self._threads:
            if thread.ident is None:
                thread.start()

    def submit(self, feed: Feed, on_done: Callable[[Sequence[Request]], object], context: Any = None) -> Request:
        """Queue ``feed``; see ``DynamicBatcher.submit``.  Raises Closed."""
        return self.submit_many((feed,), on_done, (context,))[0]

    def submit_many(
        self,
        feeds: Sequence[Feed],
        on_done: Callable[[Sequence[Request]], object],
        contexts: Sequence[Any] = (),
    ) -> list[Request]:
        """Queue several at once.  Raises Closed."""
        now_s = self._now()
        requests = []
        with self._gate:  # so that none is queued behind the end marks
            if self._closing:
                raise Closed("this dispatcher is closed", remedy="start another one")
            put = self._waiting.put
            for feed, context in zip(feeds, contexts or (None,) * len(feeds), strict=True):
                request = Request(feed, 1, None, on_done, now_s)
                request.context = context
                requests.append(request)
                put(request)
        return requests

    def close(self) -> None:
        """Refuse new requests, run the waiting ones, stop the threads.  Closing twice is allowed."""
        with self._gate:
            if not self._closing:
                self._closing = True
                for _ in self._threads:
                    self._waiting.put(None)
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        """Runs until the end mark.  ``finished`` is handed back before it gets old and before sleeping."""
        now, waiting, run = self._now, self._waiting, self._session.run
        finished: list[Request] = []
        since_s = now_s = now()
        while True:
            if finished and (waiting.empty() or now_s - since_s > HAND_BACK_S):
                deliver(finished, self._complain)
                finished = []
            request = waiting.get()
            if request is None:
                break
            request.state = RUNNING
            request.started_s = began_s = now()
            if not finished:
                since_s = began_s
            try:
                request.outputs = run(request.feed)  # type: ignore[arg-type]
            except BaseException as error:
                request.error = failure(error)
            request.finished_s = now_s = now()
            request.batch_rows = 1
            request.state = DONE
            finished.append(request)
            del request  # while this thread waits, nothing keeps the last caller's arrays
        if finished:
            deliver(finished, self._complain)

    def _complain(self, error: BaseException) -> None:
        self.callback_errors += 1
