"""One inference on its way through the server, whatever protocol it came by.

A front end makes an ``InferRequest``, calls ``Repository.submit(request, on_done)`` and goes on.  Later
``on_done`` is called **once per batch** with a list of finished requests; exactly one of ``response``
and ``error`` is set on each.  It is called on an instance thread, so a front end hands the list to its
event loop (``loop.call_soon_threadsafe``, once per call) and returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from assay.core.tensors import Array, Feed
from assay.core.units import Seconds
from assay.serve.errors import ServeError

if TYPE_CHECKING:
    from assay.serve.models import ServedModel

NO_PARAMETERS: Mapping[str, Any] = {}
NO_TIMEOUT = 0


class Cancellable(Protocol):
    def cancel(self) -> bool: ...


class RequestedOutput(NamedTuple):
    """``parameters`` as the protocol has them: ``binary_data``, ``classification``, ``shared_memory_region`` …"""

    name: str
    parameters: Mapping[str, Any] = NO_PARAMETERS


class InferRequest:
    """What was asked.  Front ends set what differs from the class's defaults; one is made per inference.

    * ``model``, ``version`` — as asked for; an empty version is the served one.
    * ``inputs`` — name -> array with its batch axis, in core's dtypes (BYTES: object array of ``bytes``).
      Arrays may be views of a receive buffer: it must not change until the request is done.  A BYTES
      array for an input of another dtype is encoded pictures, where the model has a transform.
    * ``outputs`` — what was asked for, in this order; empty: all.
    * ``parameters`` — the request's own, as they came; ``priority`` (0: the default, 1: first) and
      ``timeout_us`` (0: none) are those of the schedule policy extension, ``deadline_s`` a moment of
      ``core.clock`` by which an answer is worth something (a gRPC deadline), or None.
    * ``arrived_s`` — when it was complete, on ``core.clock``.
    * ``context`` — the front end's own.
    """

    version = ""
    id = ""
    outputs: Sequence[RequestedOutput] = ()
    parameters: Mapping[str, Any] = NO_PARAMETERS
    priority = 0
    timeout_us = NO_TIMEOUT
    deadline_s: Seconds | None = None
    context: Any = None
    served: ServedModel | None = None
    """Which version took it; set by ``submit``."""
    handle: Cancellable | None = None
    response: InferResponse | None = None
    error: ServeError | None = None
    cancelled = False

    def __init__(self, model: str, inputs: Feed, arrived_s: Seconds) -> None:
        self.model = model
        self.inputs = inputs
        self.arrived_s = arrived_s
        self.on_done: OnDone = _nobody

    def cancel(self) -> None:
        """Its caller is gone: it is not run if it has not been started.  It still ends with ``on_done``."""
        self.cancelled = True
        if self.handle is not None:
            self.handle.cancel()


class InferResponse(NamedTuple):
    """``outputs``: name -> array (BYTES: object array), the requested ones in the order requested."""

    model: str
    version: str
    id: str
    outputs: Mapping[str, Array]


OnDone = Callable[[Sequence[InferRequest]], object]


def _nobody(requests: Sequence[InferRequest]) -> None:
    raise RuntimeError("a request was finished before it was submitted")
