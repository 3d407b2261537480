"""torch in this process: its version, its devices, and its settings, which all sessions of a process share."""

from __future__ import annotations

import threading
from typing import Any

from assay.core.errors import EngineFailed, NotAvailable
from assay.engines.base import parse_device

_INSTALL = "pip install 'assay[torch]'"
_CUDA = "for a CUDA build: pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu128"


def no_device(name: str, device: str, precision: str) -> str | None:
    """Why PyTorch cannot compute in ``precision`` on ``device`` here; None when it can."""
    try:
        import torch
    except ImportError:
        return f"torch is not installed: {_INSTALL}"
    where = parse_device(device)
    if where.kind == "cpu":
        if precision in ("fp16", "tf32"):
            return f"{precision} is arithmetic of GPUs; on the cpu {name} has fp32 and bf16"
        return None
    if where.kind != "cuda":
        return f"{name} runs on cpu and cuda here, not on {device}"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no CUDA device here; {_CUDA}"
    if where.index >= torch.cuda.device_count():
        return f"there is no {device}: torch sees {torch.cuda.device_count()} CUDA device(s)"
    return None


def version() -> str:
    """torch's.  Raises NotAvailable."""
    try:
        import torch
    except ImportError:
        raise NotAvailable("torch is not installed", remedy=_INSTALL) from None
    return str(torch.__version__)


def devices() -> tuple[str, ...]:
    """The cpu, and the GPUs torch sees."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ("cpu", *(f"cuda:{i}" for i in range(count)))


class _Process:
    """torch's thread count and TF32: one setting each, shared by all open sessions of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = 0
        self._threads: int | None = None
        self._tf32 = False
        self._default: int | None = None

    def enter(self, threads: int | None, tf32: bool) -> None:
        """Raises EngineFailed when an open session has another setting."""
        import torch

        with self._lock:
            if self._open and threads != self._threads:
                raise EngineFailed(
                    f"torch has one thread count per process: an open session has {self._threads or 'the default'}, "
                    f"this one asks for {threads or 'the default'}",
                    remedy="close the other session first, or open this one in a child process",
                )
            if self._open and tf32 != self._tf32:
                raise EngineFailed(
                    "torch uses TF32 in the whole process or not at all, and an open session wants the other",
                    remedy="close the other session first, or open this one in a child process",
                )
            if self._default is None:
                self._default = torch.get_num_threads()
            wanted = threads or self._default
            if torch.get_num_threads() != wanted:
                torch.set_num_threads(wanted)
            exact_fp32()
            if tf32:
                allow_tf32()
            self._threads, self._tf32 = threads, tf32
            self._open += 1

    def leave(self) -> None:
        """The last one to leave puts the default back."""
        import torch

        with self._lock:
            self._open -= 1
            if not self._open and self._threads is not None and self._default is not None:
                torch.set_num_threads(self._default)


PROCESS = _Process()


def exact_fp32() -> None:
    """TF32 and bf16 fast math off, for this process."""
    import torch

    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    for kind in ("conv", "matmul", "rnn"):  # oneDNN's own switches, since torch 2.9
        part: Any = getattr(torch.backends.mkldnn, kind, None)
        if hasattr(part, "fp32_precision"):
            part.fp32_precision = "ieee"


def allow_tf32() -> None:
    """TF32 on NVIDIA GPUs, for this process."""
    import torch

    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
