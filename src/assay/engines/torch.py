"""Eager PyTorch: the reference every other engine is compared with.

fp64 is the truth where rounding must be told from error; fp32 is computed with TF32 and
bf16 fast math off; bf16 casts weights and inputs and gives outputs back in their own dtype.
Inputs and outputs are copied: a module may write into its input or return a buffer of its
own, and the Session contract allows neither to be seen.

torch's thread count is one setting per process.  Sessions with different ``threads`` cannot
be open together, and the second is refused: run it in a child process.
"""

from __future__ import annotations

import copy
import json
import threading
import warnings
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from assay.core import clock
from assay.core.artifact import Artifact
from assay.core.engine import Attestation, BuildOptions, OpenOptions
from assay.core.errors import BadInput, EngineFailed, NotAvailable
from assay.core.tensors import DTYPES, Array, Feed, Signature, is_float
from assay.engines.base import (
    PooledSession,
    check_format,
    check_open,
    check_options,
    failed,
    parse_device,
    reason,
    refuse_streams,
    try_feeds,
)
from assay.engines.torch_attest import attest_call

_INSTALL = "pip install 'assay[torch]'"
_CUDA = "for a CUDA build: pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu128"


class TorchEngine:
    name = "torch"
    reads: tuple[str, ...] = ("source", "torchscript", "exported")
    opens: tuple[str, ...] = ("source", "torchscript", "exported")
    precisions: tuple[str, ...] = ("fp32", "fp64", "bf16")

    def version(self) -> str:
        try:
            import torch
        except ImportError:
            raise NotAvailable("torch is not installed", remedy=_INSTALL) from None
        return str(torch.__version__)

    def unavailable(self, device: str = "cpu", precision: str = "fp32") -> str | None:
        def probe() -> str | None:
            try:
                import torch
            except ImportError:
                return f"torch is not installed: {_INSTALL}"
            where = parse_device(device)
            if where.kind == "cpu":
                return None
            if where.kind != "cuda":
                return f"torch runs on cpu and cuda here, not on {device}"
            if not torch.cuda.is_available():
                return f"torch {torch.__version__} sees no CUDA device here; {_CUDA}"
            if where.index >= torch.cuda.device_count():
                return f"there is no {device}: torch sees {torch.cuda.device_count()} CUDA device(s)"
            return None

        return reason(self.name, self.precisions, precision, probe)

    def build(self, artifact: Artifact, options: BuildOptions, out_dir: Path) -> Artifact:
        """Nothing to build: the module is opened as it is."""
        check_format(self.name, "build from", self.reads, artifact)
        why = self.unavailable(options.device, options.precision)
        if why is not None:
            raise NotAvailable(why)
        return artifact

    def open(self, artifact: Artifact, options: OpenOptions) -> TorchSession:
        """``artifact.module()`` with the signature in ``artifact.built_for["signature"]`` (JSON).

        Raises BadInput when the artifact carries no signature; ``open_module`` takes one.
        """
        check_open(self, artifact, options)
        if artifact.module is None:
            raise BadInput(f"{artifact.path}: this artifact does not say how to load its module")
        try:
            signature = Signature.from_json(json.loads(artifact.built_for["signature"]))
        except KeyError:
            raise BadInput(
                f"{artifact.path}: the signature of this {artifact.format} is unknown",
                remedy="put it into built_for['signature'], or call open_module(module, signature, options)",
            ) from None
        except (ValueError, TypeError) as error:
            raise BadInput(f"{artifact.path}: its signature cannot be read: {error}") from None
        try:
            module = artifact.module()
        except Exception as error:
            raise failed(self.name, f"load {artifact.path}", error) from error
        return self._session(module, signature, options)

    def open_module(self, module: Any, signature: Signature, options: OpenOptions) -> TorchSession:
        """Open a live ``nn.Module``; its outputs are flattened and matched to ``signature`` by position."""
        check_options(self, options)
        return self._session(module, signature, options)

    def _session(self, module: Any, signature: Signature, options: OpenOptions) -> TorchSession:
        refuse_streams(self.name, options)
        for spec in (*signature.inputs, *signature.outputs):
            if spec.dtype == "string":
                raise BadInput(f"{spec.name!r} is a string tensor; torch has none")
        _PROCESS.enter(options.threads)
        try:
            ready = _prepared(module, options)
            workers = [_Worker() for _ in range(options.instances)]
        except BaseException as error:
            _PROCESS.leave()
            if isinstance(error, Exception):
                raise failed(self.name, f"prepare the module in {options.precision}", error) from error
            raise
        return TorchSession(_Model(ready, signature, options.device, options.precision), workers)


@dataclass(frozen=True)
class _Model:
    """A module ready to be called, and how."""

    module: Any
    signature: Signature
    device: str
    precision: str


class TorchSession(PooledSession["_Worker"]):
    def __init__(self, model: _Model, workers: Sequence[_Worker]) -> None:
        super().__init__("torch", model.signature, workers)
        self._model = model

    def _infer(self, worker: _Worker, feed: Feed, spans: MutableMapping[str, float] | None) -> Sequence[Array]:
        arrays: list[Array] = worker.call(lambda: _call(self._model, feed, spans))
        return arrays

    def _attest(self, worker: _Worker) -> Attestation:
        def counted(feed: Feed) -> Attestation:
            return attest_call(lambda: _call(self._model, feed, None), self._model.device)

        def job() -> Attestation:
            found: Attestation = try_feeds(self._signature, counted)
            return found

        attestation: Attestation = worker.call(job)
        return attestation

    def _release(self) -> None:
        for worker in self._workers:
            worker.stop()
        _PROCESS.leave()


class _Worker:
    """One thread, and with it one inference mode and one OpenMP team.  A job's answer has a queue of its
    own, so that a caller who was interrupted while waiting leaves nothing behind for the next one."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Callable[[], Any], SimpleQueue[Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="assay-torch", daemon=True)
        self._thread.start()

    def call(self, job: Callable[[], Any]) -> Any:
        answer: SimpleQueue[Any] = SimpleQueue()
        self._jobs.put((job, answer))
        value, error = answer.get()
        if error is not None:
            raise error
        return value

    def stop(self) -> None:
        self._jobs.put(None)
        self._thread.join()

    def _loop(self) -> None:
        import torch

        with torch.inference_mode():
            while (item := self._jobs.get()) is not None:
                job, answer = item
                try:
                    answer.put((job(), None))
                except BaseException as error:
                    answer.put((None, error))
                del job, answer, item  # a waiting worker must not keep the last feed alive


class _Process:
    """torch's thread count: one setting, shared by all open sessions of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = 0
        self._threads: int | None = None
        self._default: int | None = None

    def enter(self, threads: int | None) -> None:
        """Raises EngineFailed when an open session has another thread count."""
        import torch

        with self._lock:
            if self._open and threads != self._threads:
                raise EngineFailed(
                    f"torch has one thread count per process: an open session has {self._threads or 'the default'}, "
                    f"this one asks for {threads or 'the default'}",
                    remedy="close the other session first, or open this one in a child process",
                )
            if self._default is None:
                self._default = torch.get_num_threads()
            wanted = threads or self._default
            if torch.get_num_threads() != wanted:
                torch.set_num_threads(wanted)
            exact_fp32()
            self._threads = threads
            self._open += 1

    def leave(self) -> None:
        """The last one to leave puts the default back."""
        import torch

        with self._lock:
            self._open -= 1
            if not self._open and self._threads is not None and self._default is not None:
                torch.set_num_threads(self._default)


_PROCESS = _Process()


def exact_fp32() -> None:
    """TF32 and bf16 fast math off, for this process."""
    import torch

    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    for kind in ("conv", "matmul", "rnn"):  # oneDNN's own switches, since torch 2.9
        part: Any = getattr(torch.backends.mkldnn, kind, None)
        if hasattr(part, "fp32_precision"):
            part.fp32_precision = "ieee"


def _prepared(module: Any, options: OpenOptions) -> Any:
    """The module in eval mode, in the precision and on the device asked for.

    It is copied only where something has to change, so that the caller's stays as it is.
    """
    import torch

    dtype = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16}[options.precision]
    device = torch.device(options.device)
    tensors = [*module.parameters(), *module.buffers()]
    cast = any(t.is_floating_point() and t.dtype != dtype for t in tensors)
    if cast and any(t.is_complex() for t in tensors):
        raise EngineFailed(f"a module with complex weights cannot be cast to {options.precision}")
    moved = any(t.device.type != device.type for t in tensors)
    if cast or moved or module.training:
        module = _copied(module)
        if module.training:
            _evaluate(module)
        module = module.to(device=device, dtype=dtype) if cast else module.to(device=device)
    return module


def _copied(module: Any) -> Any:
    with warnings.catch_warnings():  # copying an exported program, torch 2.13 warns about its own pytrees
        warnings.filterwarnings("ignore", "`isinstance.treespec", FutureWarning)
        return copy.deepcopy(module)


def _evaluate(module: Any) -> None:
    try:
        module.eval()
    except NotImplementedError:
        return  # an exported program has its mode fixed in the graph and refuses the call


def _call(model: _Model, feed: Feed, spans: MutableMapping[str, float] | None) -> list[Array]:
    """Copy in, run, copy out; on a worker's thread.  ``spans["compute"]`` is the run alone, in seconds."""
    import torch

    given = [_tensor(feed[name], model) for name in model.signature.input_names]
    cuda = model.device.startswith("cuda")
    if spans is not None and cuda:
        torch.cuda.synchronize(model.device)
    started = clock.now() if spans is not None else 0.0
    result = model.module(*given)
    if spans is not None:
        if cuda:
            torch.cuda.synchronize(model.device)
        spans["compute"] = clock.now() - started
    return _arrays(result, model.signature)


def _tensor(array: Array, model: _Model) -> Any:
    """A private copy as a tensor, in the precision's dtype where it holds floats."""
    import torch

    if array.dtype == DTYPES["bfloat16"]:
        tensor = torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(array.copy(order="C"))
    if tensor.is_floating_point():
        dtype = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16}[model.precision]
        return tensor.to(device=model.device, dtype=dtype)
    return tensor.to(device=model.device)


def _arrays(result: Any, signature: Signature) -> list[Array]:
    """Leaves of nested outputs in torch's own order (None dropped), as arrays in the signature's dtypes."""
    import torch

    leaves = [result] if isinstance(result, torch.Tensor) else _leaves(result)
    if len(leaves) != len(signature.outputs):
        raise EngineFailed(
            f"the module returned {len(leaves)} tensors; the signature has {len(signature.outputs)} outputs: "
            f"{', '.join(signature.output_names)}"
        )
    return [_array(leaf, spec.name, spec.dtype) for leaf, spec in zip(leaves, signature.outputs, strict=True)]


def _leaves(result: Any) -> list[Any]:
    import torch
    from torch.utils import _pytree

    leaves = [leaf for leaf in _pytree.tree_leaves(result) if leaf is not None]
    for leaf in leaves:
        if not isinstance(leaf, torch.Tensor):
            raise EngineFailed(f"the module returned a {type(leaf).__name__} among its outputs; only tensors can be")
    return leaves


def _array(tensor: Any, name: str, dtype: str) -> Array:
    import torch

    wanted = getattr(torch, dtype)
    if tensor.dtype != wanted:
        if not (tensor.is_floating_point() and is_float(dtype)):
            raise EngineFailed(f"output {name!r} came as {tensor.dtype}; the signature says {dtype}")
        tensor = tensor.to(wanted)
    if dtype == "bfloat16":
        raw = tensor.contiguous().view(torch.int16).cpu().numpy()
        return np.array(raw).view(DTYPES["bfloat16"])
    return np.array(tensor.resolve_neg().cpu().numpy(), order="C")
