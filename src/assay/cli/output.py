"""Where a verb's words go: people on stdout, or JSON on stdout and people on stderr.

Names come from models and files, so what a terminal would obey is taken out of every line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from assay.core.errors import AssayError
from assay.core.record import Record, plain
from assay.core.verdict import Verdict
from assay.job.folder import write_text
from assay.present.text import hanging, printable


def is_foreign(path: Path) -> bool:
    """Whether a file stands there that is no result of ours: ``--json`` takes the word behind it for its FILE, and that
    may have been meant as the MODEL."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(200)
    return bool(head.strip()) and b"assay.result/" not in head


@dataclass
class Output:
    """``json_to`` is None (no JSON), ``"-"`` (stdout carries JSON alone) or a file."""

    verb: str
    json_to: str | None = None
    quiet: bool = False
    warnings: list[str] = field(default_factory=list)

    @property
    def people_on_stderr(self) -> bool:
        return self.json_to == "-"

    def say(self, text: str = "") -> None:
        """A line of the result; a line end within it is a stranger's (``say_lines`` is for several of our own)."""
        self._say(hanging(text))

    def say_lines(self, lines: Iterable[str]) -> None:
        """Lines of the result whose cells were made one line each."""
        self._say(printable("\n".join(lines)))

    def _say(self, text: str) -> None:
        if not (self.quiet and self.people_on_stderr):
            click.echo(text, err=self.people_on_stderr)

    def note(self, text: str) -> None:
        """A line about how it goes; ``--quiet`` silences it."""
        if not self.quiet:
            click.echo(hanging(text), err=True)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        if not self.quiet:
            click.echo(hanging(f"warning: {text}"), err=True)

    def warn_of(self, error: AssayError) -> None:
        """What went wrong with a part, and what to do about it; the rest is finished."""
        self.warn(error.message)
        if error.remedy and not self.quiet:
            click.echo(hanging(f"  try: {error.remedy}"), err=True)

    def show(self, renderable: Any) -> None:
        """A rich table or panel: as wide as the terminal, or 120 columns in a pipe."""
        from rich.console import Console

        stream = sys.stderr if self.people_on_stderr else sys.stdout
        console = Console(file=stream, width=None if stream.isatty() else 120, highlight=False)
        console.print(renderable)

    def result(
        self,
        *,
        records: Sequence[Record] = (),
        verdict: Verdict | None = None,
        best: dict[str, Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Write the machine-readable result where ``--json`` asked for it."""
        if self.json_to is None:
            return
        value = {
            "schema": "assay.result/1",
            "verb": self.verb,
            "records": [r.to_json() for r in records],
            "verdict": verdict.to_json() if verdict else None,
            "best": best,
            "warnings": self.warnings,
            **(extra or {}),
        }
        text = json.dumps(plain(value), indent=2, allow_nan=False)
        if self.json_to == "-":
            click.echo(text)
        else:
            write_text(Path(self.json_to), text + "\n")
