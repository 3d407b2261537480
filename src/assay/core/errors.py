"""What can go wrong, as one tree; each leaf knows its exit code.

::

    AssayError                  4   an internal or vendor failure
    ├── BadInput                2   what was asked for cannot be right
    │   ├── SignatureMismatch   2   names, shapes or dtypes that do not fit
    │   ├── UnknownName         2   not in a table; near names are suggested
    │   └── UntrustedCode       2   a file would run code and nobody allowed it
    ├── NotAvailable            3   asked for by name, but not here
    ├── ExportFailed            4   the exporter could not do what was asked
    ├── EngineFailed            4   build, open or run failed inside an engine
    │   └── WrongPrecision      4   it ran, but not as asked (provider, precision)
    ├── ChildFailed             4   an isolated child died, hung or grew too big
    └── StorageFailed           4   disk full, folder read-only, lock held

An error says what was asked, what was found and what to do: ``remedy`` is, where
possible, the corrected command.  ``log`` is the path of a file with the details.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

EXIT_OK = 0
EXIT_LIMIT_MISSED = 1
EXIT_BAD_INPUT = 2
EXIT_NOT_AVAILABLE = 3
EXIT_INTERNAL = 4
EXIT_INTERRUPTED = 130


class AssayError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = EXIT_INTERNAL

    def __init__(self, message: str, *, remedy: str | None = None, log: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.log = log

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross process boundaries whatever their constructors take."""
        return _rebuild, (type(self), dict(self.__dict__))


class BadInput(AssayError):
    exit_code = EXIT_BAD_INPUT


class SignatureMismatch(BadInput):
    """Tensor names, shapes or dtypes that do not fit a signature."""


class UnknownName(BadInput):
    """A name that is not among the known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        shown = sorted(known)
        self.near = suggest(name, shown)
        hint = f"did you mean {' or '.join(self.near)}?" if self.near else None
        if hint is None and len(shown) <= 20:
            hint = f"known: {', '.join(shown) or 'none'}"
        super().__init__(f"there is no {kind} named {name!r}", remedy=hint)


class NotAvailable(AssayError):
    exit_code = EXIT_NOT_AVAILABLE


class UntrustedCode(BadInput):
    """Opening this file runs code; it needs ``--trust`` or a pinned digest."""


class ExportFailed(AssayError):
    """The exporter, or a check after it, failed."""


class EngineFailed(AssayError):
    """An engine could not build, open or run."""


class WrongPrecision(EngineFailed):
    """It ran, but not on the provider or in the precision that was asked for."""


class ChildFailed(AssayError):
    """An isolated child process crashed, hung or outgrew its limits."""


class StorageFailed(AssayError):
    """The run folder could not be written."""


def _rebuild(kind: type[AssayError], state: dict[str, Any]) -> AssayError:
    error = kind.__new__(kind)
    Exception.__init__(error, state["message"])
    error.__dict__.update(state)
    return error


def suggest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Near names, best first; a case-insensitive match or a shared prefix counts as near."""
    names = list(known)
    lowered = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower(), lowered, n=most, cutoff=0.6)
    found = [lowered[c] for c in close]
    prefix = [n for n in names if len(name) >= 3 and n.lower().startswith(name.lower())]
    return list(dict.fromkeys(found + sorted(prefix, key=len)))[:most]
