"""Functions that a child process is asked to run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from assay.core.errors import BadInput


def add(a, b):
    print("adding")
    time.sleep(1.0)  # long enough to be looked at: of a briefer child only the first page may be seen
    return a + b


def variable(name):
    return os.environ.get(name)


def refuse():
    raise BadInput("this cannot be right", remedy="do it otherwise")


def stumble():
    raise RuntimeError("something unexpected")


def crash():
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)


def sleep(seconds):
    time.sleep(seconds)


def grow(size_bytes):
    kept = bytearray(os.urandom(1) * size_bytes)
    time.sleep(60)
    return len(kept)


def leave_a_grandchild(note, linger):
    """Start a process that outlives this function; write its id to ``note``."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    Path(note).write_text(str(process.pid))
    time.sleep(linger)
    return process.pid


def unpicklable():
    return lambda: None
