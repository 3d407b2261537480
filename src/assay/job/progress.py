"""What a run tells whoever started it, while it goes on.  The rim shows it; nothing here prints."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the run's events."""

    def stage(self, name: str, detail: str = "") -> None:
        """A stage begins."""
        ...

    def done(self, text: str) -> None:
        """The stage that began last has ended, with this to say."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line: a warning, a choice that was made."""
        ...

    def advance(self, done: int, total: int | None) -> None:
        """``done`` of ``total`` units of the current stage."""
        ...


class Silent:
    """Says nothing."""

    def stage(self, name: str, detail: str = "") -> None: ...

    def done(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...

    def advance(self, done: int, total: int | None) -> None: ...
