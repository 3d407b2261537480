"""ONNX Runtime.

The provider follows from the device (cpu, cuda, npu: CANN) or from the provider option
``provider`` (cpu, cuda, tensorrt, openvino, cann); quiet fall-backs to the CPU are errors.  A graph
runs in the precision it was written in: this engine casts nothing, so ``fp16``, ``bf16`` and
``int8`` are asked of files that were converted to them.

``provider_options`` with a dot in the name (``session.intra_op.allow_spinning``) are session
configuration entries, ``graph_optimization_level`` is ``disable``, ``basic``, ``extended`` or
``all``; ``io_binding`` is ``1`` or ``0`` (inputs and outputs in device memory; the default on
cuda, see ``onnxruntime_binding``), which ``enable_cuda_graph`` needs; the rest goes to the
provider.  Spinning threads win a few microseconds when one
session has the cores to itself and take them from everybody else when not, so the default is
on for one instance and off for several.  Each instance is an inference session of its own,
with ``threads`` threads.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.artifact import Artifact, digest_file, file_artifact
from assay.core.engine import Attestation, BuildOptions, OpenOptions, Session
from assay.core.errors import BadInput, EngineFailed, NotAvailable, SignatureMismatch
from assay.core.tensors import Array, Feed, Signature
from assay.engines.base import (
    PooledSession,
    at_batch,
    check_format,
    check_open,
    failed,
    parse_device,
    reason,
    refuse_missing_index,
    refuse_streams,
    try_feeds,
)
from assay.engines.buckets import bucketed
from assay.engines.cuda_memory import CudaRuntime
from assay.engines.onnxruntime_attest import TwinPlan, attest_twin
from assay.engines.onnxruntime_binding import BoundSession
from assay.engines.onnxruntime_options import (
    FAST_MATH,
    GRAPHS,
    HARMLESS,
    HOW,
    INSTALL,
    INSTALL_CUDA,
    LEVELS,
    MEMORY,
    PROVIDERS,
    SPINNING,
    asked,
    binds,
    check_provider_options,
    provider_of,
)
from assay.engines.unsupported import explained, refuse_unknown

_FROM_GRAPH = ("fp64", "bf16", "fp16", "int8")
_CONVERTED = "converted to it (assay quantize --precision {})"
_HOW_WRITTEN = {
    "fp64": "written in float64 (export the module after module.double())",
    "fp32": "written in float32 (the one that was converted)",
    "int8": "quantised (assay quantize --precision int8)",
}


class OnnxRuntimeEngine:
    name = "onnxruntime"
    not_yet_run_on: tuple[str, ...] = ("cuda", "npu")
    reads: tuple[str, ...] = ("onnx",)
    opens: tuple[str, ...] = ("onnx",)
    precisions: tuple[str, ...] = ("fp32", "tf32", "fp64", "bf16", "fp16", "int8")
    has_buckets = True
    divides_cores = True
    """One process may hold sessions of different numbers of threads."""
    shared_cores: tuple[tuple[str, str], ...] = (("session.intra_op.allow_spinning", "0"),)
    """Provider options for a process whose other threads need the cores too, such as a server's."""
    tuned_options = ((("graph_optimization_level", "extended"),),)
    """Provider options worth trying besides none, each a set of them."""
    harmless_options = HARMLESS
    """Provider options that a stranger's bundle may set."""
    converted_on: Mapping[str, tuple[str, ...]] = {"cuda": ("fp16", "bf16")}
    """Precisions that a file is worth converting to, by kind of device: on others there are no kernels for them."""

    def version(self) -> str:
        try:
            import onnxruntime
        except ImportError:
            raise NotAvailable("onnxruntime is not installed", remedy=INSTALL) from None
        return str(onnxruntime.__version__)

    def unavailable(self, device: str = "cpu", precision: str = "fp32") -> str | None:
        def probe() -> str | None:
            try:
                import onnxruntime
            except ImportError:
                return f"onnxruntime is not installed: {INSTALL}"
            where = parse_device(device)
            if where.kind not in PROVIDERS:
                return f"onnxruntime runs on {', '.join(PROVIDERS)} here, not on {device}"
            if PROVIDERS[where.kind] not in onnxruntime.get_available_providers():
                return f"this onnxruntime has no {PROVIDERS[where.kind]}: {HOW.get(where.kind, INSTALL_CUDA)}"
            if precision == "tf32" and where.kind != "cuda":
                return "tf32 is arithmetic of NVIDIA GPUs; on the cpu use fp32"
            if precision in _FROM_GRAPH:
                return (
                    f"onnxruntime runs a graph in the precision it is written in: {precision} needs an ONNX file "
                    f"{_HOW_WRITTEN.get(precision, _CONVERTED).format(precision)}, which then opens as {precision}"
                )
            return None

        return reason(self.name, self.precisions, precision, probe)

    def devices(self) -> tuple[str, ...]:
        """The cpu, and the GPUs of a build that has CUDA."""
        import onnxruntime

        has_cuda = PROVIDERS["cuda"] in onnxruntime.get_available_providers()
        return ("cpu", *(f"cuda:{i}" for i in range(CudaRuntime.device_count() if has_cuda else 0)))

    def build(self, artifact: Artifact, options: BuildOptions, out_dir: Path) -> Artifact:
        """Put the ONNX file, with its companions, into ``out_dir``; files already there are kept if equal."""
        from assay.graph.external_data import companions as external_files
        from assay.graph.signature import read_signature

        check_format(self.name, "build from", self.reads, artifact)
        refuse_missing_index(self, options.device)
        why = self.unavailable(options.device, "fp32" if options.precision in _FROM_GRAPH else options.precision)
        if why is not None:
            raise NotAvailable(why)
        at_batch(read_signature(artifact.path), options.batch)
        _check_operators(artifact.path)
        parts = dict.fromkeys((*artifact.companions, *external_files(artifact.path)))
        placed = [_place(p, out_dir / _relative(p, artifact.path.parent)) for p in parts]
        model = _place(artifact.path, out_dir / "model.onnx")
        return file_artifact(
            model,
            "onnx",
            parents=(artifact.sha256,),
            companions=tuple(placed),
            built_for={k: v for k, v in artifact.built_for.items() if k == "signature"},
        )

    def check_written(
        self, found: str, asked: str, name: str, fix: str = "open it with the precision {}", *, typed: bool = True
    ) -> None:
        """Raises BadInput where the file ``name``, which is written in ``found``, is to run in another precision.

        ``fix`` is how its own precision is asked for where the caller stands; ``typed`` False where nobody asked for
        one and ``asked`` is the default.
        """
        precision = "fp32" if asked == "tf32" else asked  # what the file must be written in
        if found != precision:
            why = f"{asked} was asked for" if typed else f"no precision was asked for, and {asked} is the default"
            raise BadInput(
                f"{name} computes in {found}, and onnxruntime runs it as it is; {why}",
                remedy=f"{fix.format(found)}, or give a file "
                f"{_HOW_WRITTEN.get(precision, _CONVERTED).format(precision)}",
            )

    def open(self, artifact: Artifact, options: OpenOptions) -> Session:
        from assay.engines.onnx_precision import graph_precision
        from assay.graph.signature import load_model, signature_of

        precision = "fp32" if options.precision == "tf32" else options.precision  # what the file must be written in
        check_open(self, artifact, options, "fp32" if precision in _FROM_GRAPH else options.precision)
        refuse_streams(self.name, options)
        check_provider_options(options)
        model = load_model(artifact.path)
        signature = signature_of(model)
        _check_dtypes(signature)
        self.check_written(graph_precision(model), options.precision, str(artifact.path))
        plan = _Plan(str(artifact.path), options)
        try:
            if not options.buckets:
                return _session(plan, signature)
            return bucketed(signature, options, lambda b: _fixed(plan, signature, b))
        except (NotAvailable, BadInput, EngineFailed):
            raise
        except Exception as error:  # onnxruntime's own exceptions derive from Exception directly
            named = explained(self.name, artifact.path, error)
            raise (named or failed(self.name, f"open {artifact.path}", error)) from error


def _check_operators(path: Path) -> None:
    """Raises EngineFailed for operators that are in no domain the library registers."""
    from onnxruntime.capi import onnxruntime_pybind11_state as library

    from assay.graph.signature import load_model

    listed = getattr(library, "get_all_operator_schema", None)
    if listed is None:  # left out of some builds: opening the file then tells the first one
        return
    known = {("" if s.domain == "ai.onnx" else s.domain, s.name) for s in listed()}
    local = {(f.domain, f.name) for f in load_model(path).functions}
    refuse_unknown("onnxruntime", path, known, local)


def _session(plan: _Plan, signature: Signature) -> OnnxRuntimeSession:
    bound = binds(plan.options) and not any(s.dtype == "string" for s in (*signature.inputs, *signature.outputs))
    return OnnxRuntimeSession(plan, signature, [_worker(plan, bound) for _ in range(plan.options.instances)])


def _worker(plan: _Plan, bound: bool) -> Any:
    session = _open(plan)
    if not bound:
        return session
    where = parse_device(plan.options.device)
    return BoundSession(session, MEMORY[where.kind], where.index, asked(plan.options, GRAPHS))


def _fixed(plan: _Plan, signature: Signature, batch: int) -> OnnxRuntimeSession:
    """The library is told the size of the batch dim by its name, and does not complain when there is no such name."""
    names = {str(s.batch) for s in signature.inputs if isinstance(s.batch, str)}
    session = _session(replace(plan, sizes=tuple((name, batch) for name in sorted(names))), signature.with_batch(batch))
    for spec, found in zip(signature.inputs, session.shapes(), strict=True):
        if spec.batch_axis is not None and found[spec.batch_axis] != batch:
            session.close()
            raise NotAvailable(
                f"the batch dim of {spec.name!r} has no name, by which onnxruntime could fix its size",
                remedy="export the model again, or open it without buckets",
            )
    return session


@dataclass(frozen=True)
class _Plan:
    """How to open the file; the same for every instance and for the profiled twin."""

    path: str
    options: OpenOptions
    sizes: tuple[tuple[str, int], ...] = ()


class OnnxRuntimeSession(PooledSession[Any]):
    def __init__(self, plan: _Plan, signature: Signature, sessions: Sequence[Any]) -> None:
        super().__init__("onnxruntime", signature, sessions)
        self._plan = plan
        self._names = list(signature.output_names)
        self._has_strings = any(s.dtype == "string" for s in (*signature.inputs, *signature.outputs))

    def _infer(self, worker: Any, feed: Feed, spans: MutableMapping[str, float] | None) -> Sequence[Array]:
        if not self._has_strings:
            arrays: Sequence[Array] = worker.run(self._names, feed)
            return arrays
        strings = {s.name: _texts(s.name, feed[s.name]) for s in self._signature.inputs if s.dtype == "string"}
        results = worker.run(self._names, {**feed, **strings})
        return [
            _bytes(array) if spec.dtype == "string" else array
            for spec, array in zip(self._signature.outputs, results, strict=True)
        ]

    def shapes(self) -> list[list[int | str]]:
        """The inputs' shapes as the library sees them."""
        return [value.shape for value in self._workers[0].get_inputs()]

    def _attest(self, worker: Any) -> Attestation:
        tf32 = self._plan.options.device.startswith("cuda") and self._plan.options.precision == "tf32"

        options = self._plan.options
        kept = tuple((k, v) for k, v in options.provider_options if k != GRAPHS)  # a graph replays unseen
        twin = replace(self._plan, options=replace(options, provider_options=kept))

        def opened(prefix: str | None, entries: dict[str, str]) -> Any:
            return _open(twin, profile=prefix, entries=entries)

        def ran(session: Any) -> None:
            try_feeds(self._signature, lambda feed: self._infer(session, feed, None))

        return attest_twin(TwinPlan(opened, ran, "tf32" if tf32 else "fp32"))

    def _release(self) -> None:
        """The library's objects free their memory when nobody refers to them."""
        self._workers = tuple(None for _ in self._workers)


def _open(plan: _Plan, profile: str | None = None, entries: dict[str, str] | None = None) -> Any:
    """One inference session, and the proof that the provider asked for is the one in it."""
    import onnxruntime as ort

    given = {k: v for k, v in plan.options.provider_options if k != "io_binding"}
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    level = LEVELS[given.pop("graph_optimization_level", "all")]
    settings.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    if plan.options.threads is not None:
        settings.intra_op_num_threads = plan.options.threads
    where = parse_device(plan.options.device)
    configuration = {SPINNING: "1" if plan.options.instances == 1 else "0"}
    if plan.options.precision == "fp32":
        configuration[FAST_MATH] = "0"
    if where.kind != "cpu":
        configuration["session.disable_cpu_ep_fallback"] = "1"
    configuration |= {k: given.pop(k) for k in list(given) if "." in k} | (entries or {})
    for key, value in configuration.items():
        settings.add_session_config_entry(key, value)
    for name, size in plan.sizes:
        settings.add_free_dimension_override_by_name(name, size)
    if profile is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = profile
    provider = provider_of(plan.options)
    given.pop("provider", None)
    if provider == "CUDAExecutionProvider":
        given = {"device_id": str(where.index), "use_tf32": "1" if plan.options.precision == "tf32" else "0"} | given
    session = ort.InferenceSession(plan.path, settings, providers=[(provider, given)])
    if session.get_providers()[0] != provider:
        raise EngineFailed(f"onnxruntime fell back from {provider} to {', '.join(session.get_providers())}")
    return session


def _check_dtypes(signature: Signature) -> None:
    for spec in (*signature.inputs, *signature.outputs):
        if spec.dtype == "bfloat16":
            raise NotAvailable(
                f"{spec.name!r} is bfloat16, which onnxruntime's Python interface does not take or give as arrays",
                remedy="export the model with float32 inputs and outputs",
            )


def _texts(name: str, array: Array) -> Array:
    """bytes -> text, since onnxruntime would write ``b'…'`` into its strings.

    Raises SignatureMismatch for what has no lossless text form: other than UTF-8, or with a
    zero byte (onnxruntime's strings end there).
    """
    texts = np.empty(array.shape, dtype=object)
    for index, value in np.ndenumerate(array):
        try:
            texts[index] = value.decode("utf-8")
        except (UnicodeDecodeError, AttributeError) as error:
            raise SignatureMismatch(f"input {name!r}{list(index)} is not UTF-8 bytes: {error}") from None
        if b"\0" in value:
            raise SignatureMismatch(f"input {name!r}{list(index)} holds a zero byte, where onnxruntime would cut it")
    return texts


def _bytes(array: Array) -> Array:
    found = np.empty(array.shape, dtype=object)
    for index, value in np.ndenumerate(array):
        found[index] = value.encode("utf-8")
    return found


def _relative(path: Path, root: Path) -> Path:
    """External data is found by its path relative to the model: keep that."""
    return path.relative_to(root) if path.is_relative_to(root) else Path(path.name)


def _place(source: Path, target: Path) -> Path:
    """Copy through a temporary name; an equal file that is already there stays."""
    if target.is_file() and (target.samefile(source) or digest_file(target) == digest_file(source)):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    shutil.copyfile(source, part)
    part.replace(target)
    return target
