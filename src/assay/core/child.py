"""Run a function in an isolated child process with a time and a memory limit.

The child is spawned as a fresh interpreter in a process group of its own, never forked.
Memory is the resident size of its whole process tree (an address-space limit would break
CUDA).  The result is written to a temporary name and renamed, so a half-written one is
never read.  When a limit is hit, or the parent is interrupted, the whole group is ended.
This isolates crashes, not malice.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.core.control_group import ROOT, cgroup_memory_available
from assay.core.errors import AssayError, BadInput, ChildFailed
from assay.core.table import load
from assay.core.units import Bytes, Seconds, format_bytes, format_seconds, parse_bytes

_AS_HERE = (
    "import json, runpy, sys; sys.path += [p for p in json.loads(sys.argv.pop(1)) if p not in sys.path]; "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
_POLL_S = 0.05
_TAIL = 4000
_PR_SET_PDEATHSIG = 1


_MOST_OF_MEMORY = 0.9
MEMORY = "ASSAY_MEMORY"
"""The environment's word on how much one process may take."""


def most_of_memory(root: Path = ROOT) -> Bytes | None:
    """What a process may take without the machine coming to a standstill, or the container's limit ending it from
    outside: nine tenths of what is left, or what ``ASSAY_MEMORY`` (``2GB``) says where that is less.

    None where nothing tells.  ``root`` is the folder that ``proc`` and ``sys`` lie in.  Raises BadInput for an
    ``ASSAY_MEMORY`` that is no size.
    """
    left = [n for n in (_memory_available(root), cgroup_memory_available(root)) if n is not None]
    found = [int(_MOST_OF_MEMORY * min(left))] if left else []
    asked = os.environ.get(MEMORY)
    if asked:
        try:
            found.append(parse_bytes(asked))
        except ValueError as error:
            raise BadInput(f"{MEMORY}={asked}: {error}", remedy=f"{MEMORY}=2GB") from None
    return min(found, default=None)


def _memory_available(root: Path) -> Bytes | None:
    """What the machine has left, its swap space too."""
    found: dict[str, Bytes] = {}
    with contextlib.suppress(OSError, ValueError, IndexError, KeyError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            name, _, amount = line.partition(":")
            found[name] = 1024 * int(amount.split()[0])
        return found["MemAvailable"] + found.get("SwapFree", 0)
    return None


@dataclass(frozen=True)
class Limits:
    """``env`` is added to the child's environment; ``log`` keeps what it printed.  ``memory_bytes`` is
    ``most_of_memory`` now, unless said otherwise; None: no limit."""

    timeout_s: Seconds = 600.0
    memory_bytes: Bytes | None = field(default_factory=most_of_memory)
    env: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What the function returned, and what it took."""

    value: Any
    peak_rss_bytes: Bytes
    output: str


def run(target: str, arguments: Mapping[str, Any], limits: Limits | None = None) -> Outcome:
    """Call ``"package.module:function"`` with keyword arguments (picklable) in a child.

    Raises whatever AssayError the function raised; ChildFailed for a crash (with the signal and
    the last lines it printed), a timeout, or too much memory.
    """
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="assay-child-") as folder:
        call, result, log = Path(folder, "call"), Path(folder, "result"), limits.log or Path(folder, "log")
        call.write_bytes(pickle.dumps((target, dict(arguments))))
        process = _spawn(call, result, log, limits.env)
        try:
            peak, stopped = _watch(process, limits)
        finally:
            end_group(process)
        output = log.read_text(errors="replace")
        if stopped:
            raise ChildFailed(f"{target} was stopped: {stopped}", log=_kept(limits))
        if not result.exists():
            raise ChildFailed(_death(target, process.returncode, output), log=_kept(limits))
        status, value = pickle.loads(result.read_bytes())  # noqa: S301 - written by our own child
    if status == "error":
        raise value
    return Outcome(value, peak, output)


def interpreter(module: str, *arguments: str) -> list[str]:
    """The command that runs ``module`` in a new interpreter, which finds modules where this one does.

    ``python -m`` would look into the current folder first: a file ``onnx.py`` or ``queue.py`` that happens to lie
    there would be run in place of the library.
    """
    found = [p for p in sys.path if isinstance(p, str)]
    return [sys.executable, "-P", "-c", _AS_HERE, json.dumps(found), module, *arguments]


def _spawn(call: Path, result: Path, log: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    command = interpreter("assay.core.child", str(call), str(result))
    with log.open("wb") as out:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **env},
        )


def _watch(process: subprocess.Popen[bytes], limits: Limits) -> tuple[Bytes, str | None]:
    """Wait for the end; return the peak resident size and why it was stopped, if it was."""
    peak = 0
    started = time.perf_counter()
    while True:
        held = tree_rss(process.pid)
        peak = max(peak, held)
        try:
            process.wait(_POLL_S)
            return peak, None
        except subprocess.TimeoutExpired:
            pass
        if limits.memory_bytes is not None and held > limits.memory_bytes:
            # Pages that several of its processes share were counted once for each.
            own = tree_memory(process.pid, _proportional)
            if own > limits.memory_bytes:
                return peak, f"it used {format_bytes(own)}, the limit is {format_bytes(limits.memory_bytes)}"
        if time.perf_counter() - started > limits.timeout_s:
            return peak, f"it ran longer than {format_seconds(limits.timeout_s)}"


def tree_rss(pid: int) -> Bytes:
    """Resident bytes of a process and all its descendants; 0 where /proc is missing."""
    return tree_memory(pid, _resident)


def resident(pid: int) -> Bytes:
    """Resident bytes of a process alone; 0 where /proc is missing."""
    try:
        return _resident(Path(f"/proc/{pid}"))
    except (OSError, IndexError, ValueError):
        return 0


def tree_memory(pid: int, of: Callable[[Path], Bytes]) -> Bytes:
    """The sum of ``of`` (its folder in /proc) over a process and all its descendants; 0 where /proc is missing."""
    total, waiting, seen = 0, [pid], set()
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        folder = Path(f"/proc/{current}")
        try:
            total += of(folder)
            for task in (folder / "task").iterdir():
                waiting += [int(c) for c in (task / "children").read_text().split()]
        except (OSError, IndexError, ValueError):
            continue
    return total


def _resident(folder: Path) -> Bytes:
    return int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _proportional(folder: Path) -> Bytes:
    """Resident bytes, a page that n processes share counted as a nth; slow to find out."""
    try:
        for line in (folder / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return _resident(folder)


def end_group(process: subprocess.Popen[Any]) -> None:
    """End the child and whatever it started, also after it left by itself."""
    if sys.platform == "win32":  # which has no groups: the child alone
        process.kill()
        process.wait()
        return
    for sig in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sig)
        except (ProcessLookupError, PermissionError):
            break
        if sig == signal.SIGTERM:
            try:
                process.wait(2.0)
            except subprocess.TimeoutExpired:
                continue
    process.wait()


def _death(target: str, code: int, output: str) -> str:
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    tail = output[-_TAIL:].strip().splitlines()[-3:]
    said = f"; it last said: {' / '.join(tail)}" if tail else ""
    return f"{target} died in its child process ({how}){said}"


def _kept(limits: Limits) -> str | None:
    return str(limits.log) if limits.log else None


def end_with_parent() -> None:
    """Linux: have the kernel end this process when the one that waits for it is killed."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _main(call: str, result: str) -> None:
    end_with_parent()
    target, arguments = pickle.loads(Path(call).read_bytes())  # noqa: S301 - written by our own parent
    try:
        answer: tuple[str, Any] = ("ok", load(target)(**arguments))
    except AssayError as error:
        answer = ("error", error)
    temporary = Path(result).with_suffix(".part")
    temporary.write_bytes(pickle.dumps(answer))
    temporary.rename(result)


if __name__ == "__main__":
    # The module runs twice under two names otherwise: hand over to the importable one.
    from assay.core import child

    child._main(sys.argv[1], sys.argv[2])
