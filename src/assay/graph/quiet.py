"""Keep what a chatty library prints, warns and logs, without hiding its errors."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence


class Chatter:
    """What was said while the block ran: ``text`` is all of it, ``warnings`` the distinct warnings,
    each as ``Category: message (file:line)``."""

    def __init__(self) -> None:
        self.text = ""
        self.warnings: tuple[str, ...] = ()


@contextlib.contextmanager
def quiet(loggers: Sequence[str] = ()) -> Iterator[Chatter]:
    """Collect stdout, stderr, warnings and the records of the named loggers and those below them.

    What C++ code writes to the file descriptors is collected too.  All of these belong to the
    whole process, so other threads are silenced meanwhile, and one block runs at a time.
    """
    chatter = Chatter()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setLevel(logging.WARNING)
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(_descriptors())
        stack.enter_context(contextlib.redirect_stdout(stream))
        stack.enter_context(contextlib.redirect_stderr(stream))
        stack.enter_context(_loggers(loggers, handler))
        caught = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        try:
            yield chatter
        finally:
            lines = [_line(w) for w in caught]
            chatter.warnings = tuple(dict.fromkeys(lines))
            raw.seek(0)
            below = raw.read().decode(errors="replace")
            chatter.text = "\n".join(part for part in (stream.getvalue(), below, *chatter.warnings) if part)


def _line(warning: warnings.WarningMessage) -> str:
    message = " ".join(str(warning.message).split())
    return f"{warning.category.__name__}: {message} ({warning.filename}:{warning.lineno})"


@contextlib.contextmanager
def _descriptors() -> Iterator[io.BufferedRandom]:
    """Point file descriptors 1 and 2 at a temporary file for the block."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile())
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        for number in (1, 2):
            try:
                saved = os.dup(number)
            except OSError:  # a daemon may have closed it
                continue
            stack.callback(os.close, saved)
            stack.callback(os.dup2, saved, number)
            os.dup2(file.fileno(), number)
        yield file


@contextlib.contextmanager
def _loggers(names: Sequence[str], handler: logging.Handler) -> Iterator[None]:
    """Send the records of these loggers, and of those below them, to ``handler`` only."""
    below = [n for n in logging.root.manager.loggerDict if n.startswith(tuple(f"{name}." for name in names))]
    chosen = [logging.getLogger(name) for name in {*names, *below}]
    before = [(log.propagate, log.handlers[:]) for log in chosen]
    for log in chosen:
        log.propagate, log.handlers[:] = False, [handler]
    try:
        yield
    finally:
        for log, (propagate, handlers) in zip(chosen, before, strict=True):
            log.propagate, log.handlers[:] = propagate, handlers
