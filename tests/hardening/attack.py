"""What the attacks of these tests have in common: pickles that run code, and the tool asked in a watched process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.hardening.fuzz import Worker


class Payload:
    """Unpickled, it makes the file ``mark``: the proof that code ran."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def told(worker: Worker, case: dict[str, Any]) -> tuple[int, str]:
    """(exit code, what was said); a traceback, a hang, a crash or more than 2 GB of memory fails the test."""
    found, died = worker.ask(case)
    assert found is not None, f"{died}: {case}"
    assert found["broken"] is None, found["broken"]
    return found["code"], found["said"]
