"""The event loop stays awake for a moment after an answer that took microseconds.

A client of a model that takes microseconds asks again within tens of them.  Going to sleep and being woken costs
more than that (on a virtual machine 20 to 40 µs, and cold caches after it), so the loop looks for the next request
without sleeping for ``SPELL_S``.  Nothing is computed meanwhile: the batch was the only one, or it would not have
been run on the loop.
"""

from __future__ import annotations

import asyncio

from assay.core import clock
from assay.core.units import Seconds

SPELL_S: Seconds = 100e-6


class Linger:
    """Of one event loop, on its thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._now = clock.current().now
        self._until_s: Seconds = 0.0
        self._awake = False

    def begin(self) -> None:
        """Stay awake for ``SPELL_S`` from now."""
        self._until_s = self._now() + SPELL_S
        if not self._awake:
            self._awake = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        if self._now() < self._until_s:
            self._loop.call_soon(self._turn)
        else:
            self._awake = False
