"""Patience: how long a connection and its streams may take; looked at about once a second."""

from __future__ import annotations

from collections.abc import Iterable

from assay.core.units import Bytes, Seconds
from assay.serve.errors import EXPIRED, SLOW, ServeError
from assay.serve.grpc import frames
from assay.serve.grpc.frames import StreamFault
from assay.serve.grpc.stream import Stream
from assay.serve.listening import SWEEP_S
from assay.serve.settings import Limits


class Patience:
    """One per connection.  ``settled``: the client's SETTINGS came."""

    def __init__(self, limits: Limits, now_s: Seconds) -> None:
        self._limits = limits
        self._began_s = now_s
        self._paused_s: Seconds | None = None
        self.settled = False

    def paused(self, now_s: Seconds) -> None:
        """The client does not read, and is not read meanwhile."""
        self._paused_s = now_s

    def resumed(self, now_s: Seconds, streams: Iterable[Stream]) -> None:
        """It reads again; a longer time of that kind was not its own to send in."""
        began_s, self._paused_s = self._paused_s, None
        if began_s is not None and now_s - began_s > SWEEP_S:
            for stream in streams:
                if not stream.remote_closed:
                    stream.began_s += now_s - began_s

    def over(self, now_s: Seconds) -> bool:
        """Whether the connection is to be cut off."""
        limits = self._limits
        silent = not self.settled and now_s - self._began_s > limits.head_s
        return silent or (self._paused_s is not None and now_s - self._paused_s > limits.write_s)

    def fault(self, stream: Stream, now_s: Seconds, sent: Bytes) -> ServeError | StreamFault | None:
        """Why the stream is to end, if it is; ``sent``: see ``Stream.stalled_since``."""
        limits, call = self._limits, stream.call
        age_s = now_s - stream.began_s
        if stream.waiting:
            if now_s - stream.stalled_since(now_s, sent) > limits.write_s:
                return StreamFault(stream.id, frames.CANCEL)
        elif not stream.remote_closed:
            allowed_s = limits.body_s + stream.received / limits.slowest
            listened = self._paused_s is None and not stream.deferred
            if age_s > allowed_s and listened and not stream.idle:
                return ServeError(SLOW, f"the request was not complete within {allowed_s:.0f} s")
        elif call is not None and call.limited and age_s > limits.request_s:
            return ServeError(EXPIRED, f"no answer within {limits.request_s:g} s")
        return None
