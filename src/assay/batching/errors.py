"""Why a request was not answered: the batcher's leaves of the failure tree.

::

    AssayError
    └── Dropped              the request was not run, or its answer was thrown away
        ├── Rejected         refused on arrival; ``retry_after_s`` says when to try again
        │   └── QueueFull    … because ``max_queue`` requests already wait
        ├── Expired          its deadline passed, or could no longer be met, while it waited
        ├── Cancelled        its caller took it back before it was started
        └── Closed           the batcher is closed, or was closed while the request waited
"""

from __future__ import annotations

from assay.core.errors import AssayError
from assay.core.units import Seconds


class Dropped(AssayError):
    """``reason`` is the name this drop is counted under; ``retry_after_s`` is None when waiting does not help."""

    reason = "failed"

    def __init__(self, message: str, *, remedy: str | None = None, retry_after_s: Seconds | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


class Rejected(Dropped):
    reason = "rejected"


class QueueFull(Rejected):
    pass


class Expired(Dropped):
    reason = "expired"


class Cancelled(Dropped):
    reason = "cancelled"


class Closed(Dropped):
    reason = "closed"
