"""A child process that stays: importing a library costs seconds, and a search opens dozens of sessions in it.

One process per engine, since torch's threads are a setting of the process.  What runs there is named
like a child's function (``core/child.py``); a crash or a hang ends this process alone, and the next call
starts another.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, NoReturn

from assay.core import child
from assay.core.errors import AssayError, ChildFailed, EngineFailed
from assay.core.table import load
from assay.core.units import Seconds, format_seconds

_START_S = 120.0


class Worker:
    """Answers one call at a time.  ``log`` keeps what the process printed; ``prepare`` is a function
    (``"package.module:function"``) and its texts, called first: such as one that imports what will be needed."""

    def __init__(self, log: Path, prepare: tuple[str, ...] = ()) -> None:
        self.log = log
        self._prepare = prepare
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Connection | None = None
        self._asked = False
        self.starts = 0
        """How many processes this was so far: what was told to the last one is lost with it."""

    def start(self) -> None:
        """Begin to start the process; the first call waits until it is there."""
        if self._process is not None:
            return
        self.starts += 1
        ours, theirs = Pipe()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                child.interpreter("assay.job.tune.worker", str(theirs.fileno()), *self._prepare),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        theirs.close()
        self._line = ours

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def call(self, target: str, arguments: Mapping[str, Any], timeout_s: Seconds = _START_S) -> Any:
        """``"package.module:function"`` with picklable keyword arguments.

        Raises the AssayError the function raised, or ChildFailed for a crash or after ``timeout_s``; the process
        is then gone.
        """
        self.send(target, arguments)
        return self.answer(target, timeout_s)

    def send(self, target: str, arguments: Mapping[str, Any]) -> None:
        """The first half of ``call``: begin, and go on with something else."""
        self.start()
        assert self._line is not None
        try:
            self._line.send((target, dict(arguments)))
        except OSError:
            self._gone(target)
        self._asked = True

    def answer(self, target: str, timeout_s: Seconds = _START_S) -> Any:
        """The second half of ``call``."""
        assert self._line is not None
        try:
            if not self._line.poll(timeout_s):
                self._gone(target, f"it ran longer than {format_seconds(timeout_s)}")
            status, value = self._line.recv()
        except (EOFError, OSError):
            self._gone(target)
        except KeyboardInterrupt:
            self.end()  # an answer nobody waits for would be taken for the next call's
            raise
        self._asked = False
        if status == "error":
            raise value
        return value

    def _gone(self, target: str, why: str | None = None) -> NoReturn:
        """``why`` None: it ended by itself, and its exit code says how."""
        if why is None and self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2.0)
            code = self._process.returncode
            why = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        self.end()
        raise ChildFailed(f"{target.rpartition(':')[2]} died in its process ({why})", log=str(self.log))

    def end(self) -> None:
        """End the process and whatever it started; the next call begins another."""
        process, line = self._process, self._line
        self._process = self._line = None
        if line is not None:
            line.close()
        if process is not None:
            if not self._asked:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1.0)  # it leaves by itself when nobody asks any more
            child.end_group(process)
        self._asked = False

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def _serve(handle: int, prepare: Sequence[str]) -> None:
    """Answer calls until nobody asks any more."""
    child.end_with_parent()
    if prepare:
        with contextlib.suppress(AssayError):  # the first call that needs it says so
            load(prepare[0])(*prepare[1:])
    with Connection(handle) as line:
        while True:
            try:
                target, arguments = line.recv()
            except (EOFError, OSError):
                return
            try:
                answer: tuple[str, Any] = ("ok", load(target)(**arguments))
            except AssayError as error:
                answer = ("error", error)
            except Exception as error:  # what a library raised is an answer too, and the process goes on
                text = (
                    f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no text'}"
                )
                answer = ("error", EngineFailed(text))
            line.send(answer)


if __name__ == "__main__":
    # The module runs under two names otherwise: hand over to the importable one.
    from assay.job.tune import worker as tune_worker

    tune_worker._serve(int(sys.argv[1]), sys.argv[2:])
