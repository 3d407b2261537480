"""Progress for people: a live line on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys

import click

from assay.cli import interrupts
from assay.cli.output import Output
from assay.core import clock
from assay.core.units import format_rate, format_seconds
from assay.job.progress import Progress, Silent
from assay.present.text import hanging, one_line


class Lines:
    """One line a stage; on a terminal the current stage's line shows rate and time left while it runs."""

    def __init__(self, live: bool) -> None:
        self._live = live
        self._name = ""
        self._started = 0.0
        self._shown = 0.0

    def stage(self, name: str, detail: str = "") -> None:
        interrupts.check()
        self._name = f"{name:<9} {one_line(detail)}" if detail else name
        self._started = self._shown = clock.now()
        if self._live:
            click.echo(f"\r\x1b[K{self._name} …", nl=False, err=True)

    def done(self, text: str) -> None:
        took = clock.now() - self._started
        start = "\r\x1b[K" if self._live else ""
        click.echo(f"{start}{hanging(f'{self._name}: {text}')}  [{format_seconds(took)}]", err=True)

    def note(self, text: str) -> None:
        start = "\r\x1b[K" if self._live else ""
        click.echo(f"{start}{hanging(f'  note: {text}')}", err=True)

    def advance(self, done: int, total: int | None) -> None:
        now = clock.now()
        if not self._live or now - self._shown < 0.2 or now <= self._started:
            return
        self._shown = now
        rate = done / (now - self._started)
        left = f", {format_seconds((total - done) / rate)} left" if total and rate > 0 else ""
        of = f"/{total}" if total else ""
        click.echo(f"\r\x1b[K{self._name} {done}{of} ({format_rate(rate)}/s{left})", nl=False, err=True)


class Quiet(Silent):
    """Says nothing, and still stops where it was asked to."""

    def stage(self, name: str, detail: str = "") -> None:
        interrupts.check()


def progress_for(output: Output) -> Progress:
    """What suits this invocation."""
    return Quiet() if output.quiet else Lines(live=sys.stderr.isatty())
