"""PyTorch compiled by Inductor: the honest PyTorch baseline, since nobody who cares for speed runs it eagerly.

A live module is compiled when it is opened (``torch.compile``, whole or not at all: a graph break
is an error that names its place).  An exported program is built into a package ahead of time
(``.pt2``), which opens without compiling.  ``buckets`` compiles each of these batch sizes with its
shapes fixed; without them the first batch size is compiled fixed and a second one makes the
compiler try for all.

Compiled code needs a C++ compiler and Python's headers on the CPU, and Triton on a GPU.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sysconfig
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from assay.core.artifact import Artifact, file_artifact
from assay.core.engine import Attestation, BuildOptions, OpenOptions, Session
from assay.core.errors import AssayError, BadInput, EngineFailed, NotAvailable
from assay.core.tensors import Feed, Signature
from assay.engines.base import (
    NoSizeFits,
    check_format,
    check_open,
    check_options,
    failed,
    parse_device,
    reason,
    try_feeds,
)
from assay.engines.buckets import bucketed, refuse_buckets
from assay.engines.torch_process import devices, no_device, version
from assay.engines.torch_session import (
    HARMLESS,
    Model,
    TorchSession,
    Worker,
    call_module,
    counted,
    kept_signature,
    prepare,
    without_pytree_warnings,
)

_ARITHMETIC = "arithmetic"
_RECOMPILES = 256
_COMPILERS = ("g++", "clang++", "c++")


class TorchCompileEngine:
    name = "torch_compile"
    not_yet_run_on: tuple[str, ...] = ("cuda",)
    reads: tuple[str, ...] = ("source", "exported")
    opens: tuple[str, ...] = ("source", "exported", "aoti")
    precisions: tuple[str, ...] = ("fp32", "tf32", "bf16", "fp16")
    has_buckets = True
    any_thread = False
    harmless_options = HARMLESS
    """Provider options that a stranger's bundle may set."""

    def version(self) -> str:
        return version()

    def unavailable(self, device: str = "cpu", precision: str = "fp32") -> str | None:
        def probe() -> str | None:
            return no_device(self.name, device, precision) or _no_compiler(parse_device(device).kind)

        return reason(self.name, self.precisions, precision, probe)

    def devices(self) -> tuple[str, ...]:
        return devices()

    def build(self, artifact: Artifact, options: BuildOptions, out_dir: Path) -> Artifact:
        """An exported program in the precision asked for becomes a package for this machine and device.

        A live module, and a program that has to be cast first, are compiled when they are opened.
        Raises BadInput for a program without a signature.
        """
        check_format(self.name, "build from", self.reads, artifact)
        why = self.unavailable(options.device, options.precision)
        if why is not None:
            raise NotAvailable(why)
        if artifact.format == "source":
            return artifact
        signature = kept_signature(artifact)
        try:
            program = _program(artifact.path)
            if not _is_in(program, options):
                return artifact
            out_dir.mkdir(parents=True, exist_ok=True)
            path, attestation = _packaged(program, signature, options, out_dir)
        except AssayError:
            raise
        except Exception as error:
            raise failed(self.name, f"compile {artifact.path}", error) from error
        built_for = {
            "torch": self.version(),
            "device": options.device,
            "precision": options.precision,
            "signature": json.dumps(signature.to_json(), sort_keys=True),
            _ARITHMETIC: json.dumps(attestation.to_json()["shares"]),
        }
        return file_artifact(path, "aoti", parents=(artifact.sha256,), built_for=built_for)

    def open(self, artifact: Artifact, options: OpenOptions) -> Session:
        """Compiles a live module, at once and for every bucket; a package is only loaded."""
        check_open(self, artifact, options)
        signature = kept_signature(artifact)
        if artifact.format == "aoti":
            refuse_buckets(self.name, options, "a package is compiled already")
            return self._open_package(artifact, signature, options)
        if artifact.module is None:
            raise BadInput(f"{artifact.path}: this artifact does not say how to load its module")
        try:
            module = artifact.module()
        except Exception as error:
            raise failed(self.name, f"load {artifact.path}", error) from error
        return self._compiled(module, signature, options)

    def open_module(self, module: Any, signature: Signature, options: OpenOptions) -> Session:
        """Compile a live ``nn.Module``; its outputs are flattened and matched to ``signature`` by position."""
        check_options(self, options)
        return self._compiled(module, signature, options)

    def _compiled(self, module: Any, signature: Signature, options: OpenOptions) -> Session:
        import torch

        eager, workers = prepare(self.name, module, signature, options)
        for worker in workers:
            worker.call(_allow_recompiles)
        compiled = torch.compile(eager.module, fullgraph=True, dynamic=False if options.buckets else None)
        session = CompiledSession(replace(eager, module=compiled), workers, eager)
        try:
            if options.buckets:
                return bucketed(signature, options, session.compiled_for)
            return session.compiled_for(signature.static_batch or 1)
        except BaseException:
            session.close()
            raise

    def _check_place(self, artifact: Artifact, options: OpenOptions) -> None:
        """Compiled code is for one version of torch, one kind of device and one precision."""
        built = artifact.built_for
        if built.get("precision", options.precision) != options.precision:
            raise BadInput(f"{artifact.path} was compiled in {built['precision']}; {options.precision} was asked for")
        here = {"torch": self.version(), "device": options.device}
        for name, found in here.items():
            if built.get(name, found) != found:
                raise NotAvailable(
                    f"{artifact.path} was compiled for {name} {built[name]}; here it is {found}",
                    remedy=f"assay build MODEL.pt2 --engine {self.name} --precision {options.precision} "
                    f"--device {options.device} -o DIR",
                )

    def _open_package(self, artifact: Artifact, signature: Signature, options: OpenOptions) -> TorchSession:
        self._check_place(artifact, options)
        try:
            module = artifact.module() if artifact.module is not None else load_package(artifact.path)
        except AssayError:
            raise
        except Exception as error:
            raise failed(self.name, f"open {artifact.path}", error) from error
        model, workers = prepare(self.name, module, signature, options)
        return PackagedSession(model, workers, artifact.built_for.get(_ARITHMETIC))


class CompiledSession(TorchSession):
    """``eager`` is the same module before it was compiled: what its operators are is read from that one."""

    def __init__(self, model: Model, workers: Sequence[Worker], eager: Model) -> None:
        super().__init__(model, workers)
        self._eager = eager

    def compiled_for(self, batch: int) -> CompiledSession:
        """Itself, run once at this batch size.  Raises EngineFailed with the compiler's first line."""
        from torch._dynamo.exc import TorchDynamoException

        signature = self._signature.with_batch(batch)

        def one(feed: Feed) -> None:
            call_module(self._model, feed, None)

        try:
            self._workers[0].call(lambda: try_feeds(signature, one))
        except Exception as error:
            cause = error.__cause__ if isinstance(error, NoSizeFits) else error
            if isinstance(cause, TorchDynamoException):
                raise EngineFailed(
                    f"torch.compile does not take this model whole: {_place(cause)}",
                    remedy="open it with the torch engine, or remove what breaks the graph",
                ) from error
            if isinstance(error, AssayError):
                raise
            raise failed(self._engine, "compile the module", error) from error
        return self

    def _attest(self, worker: Worker) -> Attestation:
        """One graph was compiled whole, so every product of the module is in it, in the dtype the module has."""
        found = counted(self._eager, worker)
        shares = {(_compiled(p), precision): share for (p, precision), share in found.shares.items()}
        return Attestation(shares, how="operators of the module that was compiled as one graph")


class PackagedSession(TorchSession):
    def __init__(self, model: Model, workers: Sequence[Worker], arithmetic: str | None) -> None:
        super().__init__(model, workers)
        self._arithmetic = arithmetic

    def _attest(self, worker: Worker) -> Attestation:
        """What was counted when the package was made; a package from elsewhere does not tell."""
        if self._arithmetic is None:
            told = "an ahead-of-time package from elsewhere does not tell what it multiplies"
            return Attestation({}, how=told, untold=told)
        shares = {(row["provider"], row["precision"]): row["share"] for row in json.loads(self._arithmetic)}
        return Attestation(shares, how="operators of the program the package was compiled from")


def _allow_recompiles() -> None:
    """For the calling thread, since torch's settings are each thread's own.

    torch counts the compilations of a module's code, and every batch size and every session of it is one more.
    """
    import torch

    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _RECOMPILES)


def _program(path: Path) -> Any:
    import torch

    with without_pytree_warnings():
        return torch.export.load(path)


def _is_in(program: Any, options: BuildOptions) -> bool:
    """Whether the program's weights have the dtype and the kind of device that was asked for."""
    tensors = [t for t in program.state_dict.values() if t.is_floating_point()]
    wanted = {"bf16": "torch.bfloat16", "fp16": "torch.float16"}.get(options.precision, "torch.float32")
    return all(str(t.dtype) == wanted and t.device.type == parse_device(options.device).kind for t in tensors)


def _packaged(program: Any, signature: Signature, options: BuildOptions, out_dir: Path) -> tuple[Path, Attestation]:
    import torch
    from torch._inductor import aoti_compile_and_package

    part = out_dir / "part-of-model.pt2"
    with torch.no_grad(), without_pytree_warnings():
        aoti_compile_and_package(program, package_path=str(part))
    opened = OpenOptions(precision=options.precision, device=options.device)
    model, workers = prepare("torch_compile", program.module(), signature, opened)
    with TorchSession(model, workers) as session:
        found = session.attest()
    attestation = Attestation({(_compiled(p), q): share for (p, q), share in found.shares.items()}, found.how)
    return part.replace(out_dir / "model.pt2"), attestation


def load_package(path: Path) -> Any:
    """A compiled package as a module that takes its inputs in order.  Raises whatever torch raises."""
    import torch
    from torch.utils import _pytree

    compiled = torch._inductor.aoti_load_package(str(path))
    spec = _pytree.treespec_loads(compiled.loader.get_call_spec()[0])

    class Packaged(torch.nn.Module):  # type: ignore[misc]
        def forward(self, *inputs: Any) -> Any:
            args, kwargs = _pytree.tree_unflatten(list(inputs), spec)
            return compiled(*args, **kwargs)

    return Packaged().eval()


def _compiled(provider: str) -> str:
    return provider.replace("torch:", "inductor:")


def _place(error: Exception) -> str:
    """What broke the graph, and the user's own line where it did."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    own = [line for line in lines if line.startswith('File "') and "/torch/" not in line]
    return " ".join([lines[0] if lines else type(error).__name__, *own[-1:]])


def _no_compiler(kind: str) -> str | None:
    if kind == "cuda" and importlib.util.find_spec("triton") is None:
        return "torch.compile needs Triton on a GPU: pip install triton"
    if not any(shutil.which(name) for name in _COMPILERS):
        return f"torch.compile needs a C++ compiler, and there is none of {', '.join(_COMPILERS)}: apt install g++"
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        return "torch.compile needs Python's headers (Python.h): apt install python3-dev"
    return None
