"""A PyTorch module as a Session: threads, precision, copying in and out.  Shared by what runs such modules.

Inputs and outputs are copied: a module may write into its input or return a buffer of its own, and
the Session contract allows neither to be seen.

torch's thread count and its use of TF32 are settings of the process (see ``torch_process``).  Sessions that differ in
them cannot be open together, and the second is refused: run it in a child process.
"""

from __future__ import annotations

import contextlib
import copy
import json
import threading
import warnings
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np

from assay.core import clock
from assay.core.artifact import Artifact
from assay.core.engine import Attestation, OpenOptions
from assay.core.errors import BadInput, EngineFailed
from assay.core.forward import passed_by_name
from assay.core.tensors import DTYPES, Array, Feed, Signature, is_float
from assay.engines.base import PooledSession, failed, refuse_streams, try_feeds
from assay.engines.openmp import release_idle_team
from assay.engines.torch_attest import attest_call
from assay.engines.torch_process import PROCESS

MEMORY_FORMAT = "memory_format"
HARMLESS = frozenset({MEMORY_FORMAT})
_CHANNELS_LAST = "channels_last"


def check_provider_options(name: str, options: OpenOptions) -> None:
    """Raises BadInput for an option nobody would read."""
    for key, value in options.provider_options:
        if key != MEMORY_FORMAT:
            raise BadInput(f"{name} has no option {key!r}", remedy=f"it has: {MEMORY_FORMAT}")
        if value not in (_CHANNELS_LAST, "contiguous"):
            raise BadInput(f"{MEMORY_FORMAT} is {value!r}", remedy=f"one of {_CHANNELS_LAST}, contiguous")


def open_session(name: str, module: Any, signature: Signature, options: OpenOptions) -> TorchSession:
    """Open a live ``nn.Module``; its outputs are flattened and matched to ``signature`` by position.

    Raises EngineFailed when another open session needs other settings of the process.
    """
    return TorchSession(*prepare(name, module, signature, options))


def prepare(name: str, module: Any, signature: Signature, options: OpenOptions) -> tuple[Model, list[Worker]]:
    """The module in its precision on its device, and its workers; whoever takes them must close a session on them."""
    refuse_streams(name, options)
    check_provider_options(name, options)
    for spec in (*signature.inputs, *signature.outputs):
        if spec.dtype == "string":
            raise BadInput(f"{spec.name!r} is a string tensor; torch has none")
    PROCESS.enter(options.threads, options.precision == "tf32")
    try:
        ready = _prepared(module, options)
        release_idle_team()
        workers = [Worker() for _ in range(options.instances)]
    except BaseException as error:
        PROCESS.leave()
        if isinstance(error, Exception):
            raise failed(name, f"prepare the module in {options.precision}", error) from error
        raise
    by_name = passed_by_name(module, signature.input_names)
    return Model(name, ready, signature, options, by_name), workers


def kept_signature(artifact: Artifact) -> Signature:
    """``built_for["signature"]``.  Raises BadInput where it is missing: a module alone does not know it."""
    try:
        return Signature.from_json(json.loads(artifact.built_for["signature"]))
    except KeyError:
        raise BadInput(
            f"{artifact.path}: the signature of this {artifact.format} is unknown",
            remedy="put it into built_for['signature'], or call open_module(module, signature, options)",
        ) from None
    except (ValueError, TypeError) as error:
        raise BadInput(f"{artifact.path}: its signature cannot be read: {error}") from None


@dataclass(frozen=True)
class Model:
    """A module ready to be called; its inputs go by their place or, where ``by_name``, as ``forward`` calls them."""

    engine: str
    module: Any
    signature: Signature
    options: OpenOptions
    by_name: bool = False

    @property
    def device(self) -> str:
        return self.options.device


class TorchSession(PooledSession["Worker"]):
    def __init__(self, model: Model, workers: Sequence[Worker]) -> None:
        super().__init__(model.engine, model.signature, workers)
        self._model = model

    def _infer(self, worker: Worker, feed: Feed, spans: MutableMapping[str, float] | None) -> Sequence[Array]:
        arrays: list[Array] = worker.call(lambda: call_module(self._model, feed, spans))
        return arrays

    def _attest(self, worker: Worker) -> Attestation:
        return counted(self._model, worker)

    def _release(self) -> None:
        for worker in self._workers:
            worker.stop()
        PROCESS.leave()


def counted(model: Model, worker: Worker) -> Attestation:
    """What the module's operators multiply when they are dispatched one by one."""

    def one(feed: Feed) -> Attestation:
        return attest_call(lambda: call_module(model, feed, None), model.device)

    attestation: Attestation = worker.call(lambda: try_feeds(model.signature, one))
    return attestation


class Worker:
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


def _dtype(precision: str) -> Any:
    import torch

    names = {"fp64": torch.float64, "bf16": torch.bfloat16, "fp16": torch.float16}
    return names.get(precision, torch.float32)


def _prepared(module: Any, options: OpenOptions) -> Any:
    """The module in eval mode, in the precision and on the device asked for.

    It is copied only where something has to change, so that the caller's stays as it is.
    """
    import torch

    dtype = _dtype(options.precision)
    device = torch.device(options.device)
    tensors = [*module.parameters(), *module.buffers()]
    cast = any(t.is_floating_point() and t.dtype != dtype for t in tensors)
    if cast and any(t.is_complex() for t in tensors):
        raise EngineFailed(f"a module with complex weights cannot be cast to {options.precision}")
    moved = any(not _is_on(t.device, device) for t in tensors)
    channels_last = _wants_channels_last(options)
    if cast or moved or module.training or channels_last:
        module = _copied(module)
        if module.training:
            _evaluate(module)
        module = module.to(device=device, dtype=dtype) if cast else module.to(device=device)
        if channels_last:
            module = module.to(memory_format=torch.channels_last)
    return module


def _is_on(there: Any, asked: Any) -> bool:
    return there.type == asked.type and asked.index in (None, there.index)


def _wants_channels_last(options: OpenOptions) -> bool:
    return dict(options.provider_options).get(MEMORY_FORMAT) == _CHANNELS_LAST


@contextlib.contextmanager
def without_pytree_warnings() -> Iterator[None]:
    """Copying and packaging exported programs, torch 2.13 warns about its own pytrees."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`isinstance.treespec", FutureWarning)
        yield


def _copied(module: Any) -> Any:
    with without_pytree_warnings():
        return copy.deepcopy(module)


def _evaluate(module: Any) -> None:
    try:
        module.eval()
    except NotImplementedError:
        return  # an exported program has its mode fixed in the graph and refuses the call


def call_module(model: Model, feed: Feed, spans: MutableMapping[str, float] | None) -> list[Array]:
    """Copy in, run, copy out; on a worker's thread.  ``spans["compute"]`` is the run alone, in seconds."""
    import torch

    given = [_tensor(feed[name], model) for name in model.signature.input_names]
    cuda = model.device.startswith("cuda")
    if spans is not None and cuda:
        torch.cuda.synchronize(model.device)
    started = clock.now() if spans is not None else 0.0
    if model.by_name:
        result = model.module(**dict(zip(model.signature.input_names, given, strict=True)))
    else:
        result = model.module(*given)
    if spans is not None:
        if cuda:
            torch.cuda.synchronize(model.device)
        spans["compute"] = clock.now() - started
    return _arrays(result, model.signature)


def _tensor(array: Array, model: Model) -> Any:
    """A private copy as a tensor, in the precision's dtype where it holds floats."""
    import torch

    if array.dtype == DTYPES["bfloat16"]:
        tensor = torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(array.copy(order="C"))
    if tensor.is_floating_point():
        tensor = tensor.to(device=model.device, dtype=_dtype(model.options.precision))
        if tensor.ndim == 4 and _wants_channels_last(model.options):
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor
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
