"""ServeError: a request that is answered with an error, in the protocol's own form.

A *kind* fixes both protocols' codes.  The HTTP statuses are those of Triton's HTTP front end (invalid
400, not found 404, unavailable and a passed deadline 503, unsupported 501, internal 500), those of
transport problems are HTTP's own (RFC 9110, RFC 6585).
"""

from __future__ import annotations

from dataclasses import dataclass

from assay.core.errors import AssayError, BadInput, NotAvailable
from assay.core.units import Seconds


@dataclass(frozen=True)
class Kind:
    """``grpc`` is the name of a gRPC status code; ``reason`` the label of ``nv_inference_request_failure``."""

    name: str
    status: int
    grpc: str
    reason: str = "OTHER"


INVALID = Kind("invalid", 400, "INVALID_ARGUMENT")
ALREADY_EXISTS = Kind("already_exists", 400, "ALREADY_EXISTS")
UNAUTHENTICATED = Kind("unauthenticated", 401, "UNAUTHENTICATED")
FORBIDDEN = Kind("forbidden", 403, "PERMISSION_DENIED")
NOT_FOUND = Kind("not_found", 404, "NOT_FOUND")
METHOD = Kind("method", 405, "UNIMPLEMENTED")
SLOW = Kind("slow", 408, "DEADLINE_EXCEEDED")
TOO_LARGE = Kind("too_large", 413, "RESOURCE_EXHAUSTED")
MEDIA_TYPE = Kind("media_type", 415, "INVALID_ARGUMENT")
EXPECTATION = Kind("expectation", 417, "INVALID_ARGUMENT")
HEAD_TOO_LARGE = Kind("head_too_large", 431, "RESOURCE_EXHAUSTED")
CANCELLED = Kind("cancelled", 499, "CANCELLED", "CANCELED")
INTERNAL = Kind("internal", 500, "INTERNAL", "BACKEND")
UNSUPPORTED = Kind("unsupported", 501, "UNIMPLEMENTED")
UNAVAILABLE = Kind("unavailable", 503, "UNAVAILABLE", "REJECTED")
EXPIRED = Kind("expired", 503, "DEADLINE_EXCEEDED", "REJECTED")

_OF_DROPS = {"rejected": UNAVAILABLE, "expired": EXPIRED, "cancelled": CANCELLED, "closed": UNAVAILABLE}
"""A batcher's reason for a drop -> the kind it is answered with."""


class ServeError(AssayError):
    """``retry_after_s`` is set where waiting helps; ``reason`` is the drop's own name, empty for no drop."""

    allow = ""
    """The methods that are allowed where another one was used."""

    def __init__(self, kind: Kind, message: str, *, retry_after_s: Seconds | None = None, reason: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after_s = retry_after_s
        self.reason = reason


def serve_error(error: BaseException) -> ServeError:
    """What ``error`` is answered with.  Only errors made for people are quoted; others are named, not shown."""
    if isinstance(error, ServeError):
        return error
    reason = getattr(error, "reason", "")
    if isinstance(error, AssayError):
        message = error.message if error.remedy is None else f"{error.message} ({error.remedy})"
        if reason in _OF_DROPS:
            after_s = getattr(error, "retry_after_s", None)
            return ServeError(_OF_DROPS[reason], message, retry_after_s=after_s, reason=reason)
        if isinstance(error, BadInput):
            return ServeError(INVALID, message)
        if isinstance(error, NotAvailable):
            return ServeError(UNAVAILABLE, message)
        return ServeError(INTERNAL, message)
    return ServeError(INTERNAL, f"internal error ({type(error).__name__})")
