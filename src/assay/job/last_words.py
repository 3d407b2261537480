"""What a stage that runs engines in this process leaves for the next run, should the process not outlive it.

Beside a stage's own file lie, until it ends: ``NAME.begun`` (JSON) with what runs, ``NAME.at`` with the samples that
are in inference, and ``NAME.crash`` with what Python's fault handler has to say when a signal of a crash ends the
process.  Where that is empty, somebody killed it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core import checked

BEGUN, AT, CRASH = ".begun", ".at", ".crash"
_PLACE = "{:>12} {:>12}\n"
_FATAL = "Fatal Python error: "
Places = tuple[int, int]
"""The first and the last of some samples that follow one another."""


@dataclass(frozen=True)
class Ended:
    """A run that ended without a word during ``stage``, while it ran ``candidates`` (by digest).

    ``crashes`` is how many runs on end crashed while these ran; one that was killed from outside does not count, one of
    which nothing is known does.  ``fault`` is what the last one crashed of.  ``at`` are the samples that were in
    inference.
    """

    stage: str
    what: str
    candidates: tuple[str, ...] = ()
    crashes: int = 0
    fault: str | None = None
    at: tuple[Places, ...] = ()


def read_ended(folder: Path) -> list[Ended]:
    """Everything that is left in ``folder``; of a damaged file its name, which is all there is to know of it."""
    return [_read(file) for file in sorted(folder.glob("*" + BEGUN))]


class Word:
    """What is left while ``stage`` goes on; ``end`` takes it back.  ``write`` writes a JSON file, all of it or none.

    The fault handler is one for the whole process: where somebody else has it, a crash cannot be told from a kill.
    """

    def __init__(self, folder: Path, stage: str) -> None:
        self._begun, self._at, self._crash = (folder / f"{stage}{suffix}" for suffix in (BEGUN, AT, CRASH))
        self._places: int | None = None
        self._told: Any = None

    def begin(self, what: str, candidates: Sequence[str], crashes: int, write: Callable[[Path, Any], Any]) -> None:
        """``crashes`` are those on end before this run."""
        if not self._begun.exists():
            self._at.unlink(missing_ok=True)
        self._listen()
        write(self._begun, {"what": what, "candidates": list(candidates), "times": crashes + 1})

    def at(self, slot: int, places: Places | None) -> None:
        """The samples that worker ``slot`` has in inference now; None: none.  In any thread, one for each slot.

        Not told on Windows, whose threads cannot write to one file at places of their own.
        """
        if not hasattr(os, "pwrite"):
            return
        with contextlib.suppress(OSError):
            if self._places is None:
                self._places = os.open(self._at, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            line = _PLACE.format(*(places or ("", ""))).encode()
            os.pwrite(self._places, line, slot * len(line))

    def end(self) -> None:
        if self._told is not None:
            faulthandler.disable()
            self._told.close()
        if self._places is not None:
            os.close(self._places)
        self._told = self._places = None
        for file in (self._begun, self._at, self._crash):
            file.unlink(missing_ok=True)

    def _listen(self) -> None:
        self._crash.unlink(missing_ok=True)
        if faulthandler.is_enabled():
            return
        with contextlib.suppress(OSError):
            self._told = self._crash.open("wb")
            faulthandler.enable(self._told, all_threads=False)


def _read(file: Path) -> Ended:
    stage = file.name.removesuffix(BEGUN)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        data = json.loads(file.read_text(encoding="utf-8"))
        what, times = checked.field(data, "what", str), checked.field(data, "times", int)
        candidates = tuple(checked.each(data, "candidates", str))
        fault = _fault(file.with_name(stage + CRASH))
        crashes = times - 1 if fault == "" else times
        return Ended(stage, what, candidates, crashes, fault or None, _places(file.with_name(stage + AT)))
    return Ended(stage, stage)


def _fault(file: Path) -> str | None:
    """Empty where there was none; None where nobody listened."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return lines[0].removeprefix(_FATAL)[:80] if lines else ""


def _places(file: Path) -> tuple[Places, ...]:
    found = set()
    with contextlib.suppress(OSError):
        for line in file.read_text(encoding="ascii", errors="replace").splitlines():
            parts = line.split()
            if len(parts) == 2 and all(part.isdigit() for part in parts):  # a torn or an empty line says nothing
                found.add((int(parts[0]), int(parts[1])))
    return tuple(sorted(found))
