"""TensorRT: ONNX files built into plans through its Python API, run with inputs and outputs on the device.

Versions differ, and each is handled: 8 wants its explicit-batch flag; 10 knows bf16 and, where
``strongly_typed`` asks for it, takes the precision from the ONNX file; 11 always does.  TF32 is on
by default in all of them and is switched off for fp32.

Provider options: ``workspace`` (``4GiB``), ``min_batch``, ``opt_batch``, ``max_batch`` for a free
batch, ``timing_cache`` (a file), ``version_compatible``, ``strongly_typed`` and ``best`` (``1``).
When opening: ``cuda_graph`` (``1``) records a call and replays it for as long as the shapes stay the same.
A plan belongs to the GPU and the version it was built with; elsewhere it is refused with the
command that builds it again.
"""

from __future__ import annotations

import importlib
import json
import shlex
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.artifact import Artifact, file_artifact
from assay.core.engine import Attestation, BuildOptions, OpenOptions
from assay.core.errors import AssayError, BadInput, EngineFailed, NotAvailable
from assay.core.tensors import DTYPES, Array, Feed, Signature
from assay.core.units import parse_bytes
from assay.engines.base import (
    NOT_YET_RUN,
    PooledSession,
    at_batch,
    check_format,
    check_open,
    failed,
    parse_device,
    reason,
    refuse_missing_index,
    refuse_streams,
)
from assay.engines.cuda_memory import CudaRuntime
from assay.engines.tensorrt_attest import attest_plan, mac_table
from assay.engines.tensorrt_build import build_plan
from assay.engines.tensorrt_command import Profile, Settings, trtexec

_INSTALL = "pip install tensorrt (it needs an NVIDIA GPU and its driver)"
_OPTIONS = frozenset(
    {"workspace", "min_batch", "opt_batch", "max_batch", "timing_cache", "version_compatible", "strongly_typed", "best"}
)
_SWITCHES = ("version_compatible", "strongly_typed", "best")
_OLDEST = (8, 5)


class TensorRtEngine:
    name = "tensorrt"
    status = NOT_YET_RUN
    usual_device = "cuda"
    harmless_options = frozenset({"cuda_graph"})
    """Provider options that a stranger's bundle may set: of a plan, all that ``open`` takes."""
    reads: tuple[str, ...] = ("onnx",)
    opens: tuple[str, ...] = ("tensorrt",)
    precisions: tuple[str, ...] = ("fp32", "tf32", "bf16", "fp16", "int8")
    runtime: type[Any] = CudaRuntime

    def version(self) -> str:
        return str(_library().__version__)

    def unavailable(self, device: str = "cuda", precision: str = "fp32") -> str | None:
        def probe() -> str | None:
            where = parse_device(device)
            if where.kind != "cuda":
                return f"tensorrt runs on cuda only, not on {device}; where there is an NVIDIA GPU: {_INSTALL}"
            trt = _library()
            if _number(trt)[:2] < _OLDEST:
                return f"tensorrt {trt.__version__} is too old: 8.5 is the first with named tensors"
            if precision == "bf16" and not hasattr(trt.BuilderFlag, "BF16") and _number(trt)[0] < 11:
                return f"tensorrt {trt.__version__} has no bf16; 10 does"
            count = self.runtime.device_count()
            if where.index >= count:
                return f"there is no {device}: CUDA sees {count} device(s)"
            return None

        return reason(self.name, self.precisions, precision, probe)

    def devices(self) -> tuple[str, ...]:
        return tuple(f"cuda:{i}" for i in range(self.runtime.device_count()))

    def build(self, artifact: Artifact, options: BuildOptions, out_dir: Path) -> Artifact:
        """``model.plan``, with the builder's log beside it.

        Raises BadInput for options that cannot be and for int8 of a graph that is not quantised,
        EngineFailed with the operators the parser does not take.
        """
        from assay.graph.signature import read_signature

        check_format(self.name, "build from", self.reads, artifact)
        refuse_missing_index(self, options.device)
        why = self.unavailable(options.device, options.precision)
        if why is not None:
            raise NotAvailable(why)
        trt = _library()
        own = read_signature(artifact.path)
        signature = at_batch(own, options.batch)
        settings = _settings(options)
        _check_typed(artifact, settings, _number(trt)[0])
        cuda = self.runtime(parse_device(options.device).index)
        out_dir.mkdir(parents=True, exist_ok=True)
        try:
            plan = build_plan(trt, artifact.path, own, settings, out_dir / "builder.log")
        except AssayError:
            raise
        except Exception as error:
            raise failed(self.name, f"build from {artifact.path}", error) from error
        part = out_dir / "model.plan.part"
        part.write_bytes(plan)
        built_for = {
            "tensorrt": self.version(),
            "device_name": cuda.name(),
            "precision": options.precision,
            "version_compatible": str(settings.version_compatible),
            "signature": json.dumps(signature.to_json(), sort_keys=True),
            "macs": json.dumps(mac_table(artifact.path, signature, settings.profile.usual)),
            "command": self.build_command(artifact, options, out_dir, self.version()),
        }
        target = part.replace(out_dir / "model.plan")
        return file_artifact(target, "tensorrt", parents=(artifact.sha256,), built_for=built_for)

    def build_command(self, artifact: Artifact, options: BuildOptions, out_dir: Path, version: str | None) -> str:
        """The trtexec line that does the same; for TensorRT 10 where no version is given or installed."""
        from assay.graph.signature import read_signature

        check_format(self.name, "build from", self.reads, artifact)
        signature = read_signature(artifact.path)
        at_batch(signature, options.batch)
        major = int((version or "10").partition(".")[0])
        settings = _settings(options)
        _check_typed(artifact, settings, major)
        return shlex.join(trtexec(artifact.path, out_dir / "model.plan", signature, settings, major))

    def open(self, artifact: Artifact, options: OpenOptions) -> TensorRtSession:
        check_open(self, artifact, options)
        refuse_streams(self.name, options)
        switch = dict(options.provider_options).get("cuda_graph", "0")
        _check_switch("cuda_graph", switch)
        if options.threads is not None or any(name != "cuda_graph" for name, _ in options.provider_options):
            raise BadInput("a plan was built with its options: when opening there is only cuda_graph=1")
        cuda = self.runtime(parse_device(options.device).index)
        self._check_place(artifact, options, cuda)
        workers: list[_Worker] = []
        try:
            plan = _deserialised(artifact)
            signature = Signature.from_json(json.loads(artifact.built_for["signature"]))
            macs = json.loads(artifact.built_for.get("macs", "null"))
            for _ in range(options.instances):
                workers.append(_Worker(cuda, _context(plan[1])))
        except BaseException as error:
            for worker in workers:
                worker.release()
            if isinstance(error, KeyError):
                raise BadInput(
                    f"{artifact.path}: the signature of this plan is unknown", remedy="build it again"
                ) from None
            if isinstance(error, AssayError) or not isinstance(error, Exception):
                raise
            raise failed(self.name, f"open {artifact.path}", error) from error
        return TensorRtSession(plan, signature, workers, macs, switch == "1")

    def _check_place(self, artifact: Artifact, options: OpenOptions, cuda: Any) -> None:
        built = artifact.built_for
        again = built.get("command", "assay build MODEL.onnx --engine tensorrt -o DIR")
        if built.get("precision", options.precision) != options.precision:
            raise BadInput(f"{artifact.path} was built for {built['precision']}; {options.precision} was asked for")
        movable = built.get("version_compatible") == "True"
        if "tensorrt" in built and built["tensorrt"] != self.version() and not movable:
            raise NotAvailable(
                f"{artifact.path} was built by TensorRT {built['tensorrt']}; here is {self.version()}", remedy=again
            )
        if built.get("device_name", cuda.name()) != cuda.name():
            raise NotAvailable(
                f"{artifact.path} was built for {built['device_name']}; here is {cuda.name()}", remedy=again
            )


class _Worker:
    """An execution context with a stream and device buffers of its own, which grow as they are needed."""

    def __init__(self, cuda: Any, context: Any) -> None:
        self.cuda, self.context = cuda, context
        self.stream = cuda.stream()
        self._buffers: dict[str, tuple[int, int]] = {}
        self._graph = 0
        self._seen: tuple[Any, ...] = ()

    def enqueue(self, shapes: tuple[Any, ...], graphs: bool) -> bool:
        """Put the plan on the stream.  With ``graphs``, the second call at these shapes and addresses records it
        and later ones replay that; False where the library refuses."""
        key = (shapes, tuple(sorted(self._buffers.items())))
        if not graphs or key != self._seen:
            self._forget()
            self._seen = key
            return bool(self.context.execute_async_v3(self.stream))
        if not self._graph:
            self.cuda.begin_capture(self.stream)
            taken = bool(self.context.execute_async_v3(self.stream))
            self._graph = self.cuda.end_capture(self.stream)
            if not taken:
                return False
        self.cuda.launch(self._graph, self.stream)
        return True

    def _forget(self) -> None:
        if self._graph:
            self.cuda.destroy_graph(self._graph)
            self._graph = 0

    def buffer(self, name: str, size_bytes: int) -> int:
        address, room = self._buffers.get(name, (0, -1))
        if room < size_bytes:
            if room >= 0:
                self.cuda.free(address)
                del self._buffers[name]
            address = self.cuda.malloc(size_bytes)
            self._buffers[name] = (address, size_bytes)
        return address

    def release(self) -> None:
        self._forget()
        for address, _ in self._buffers.values():
            self.cuda.free(address)
        self._buffers.clear()
        self.cuda.destroy_stream(self.stream)
        self.context = None


class TensorRtSession(PooledSession[_Worker]):
    def __init__(
        self,
        plan: tuple[Any, Any],
        signature: Signature,
        workers: Sequence[_Worker],
        macs: dict[str, int] | None,
        graphs: bool = False,
    ) -> None:
        """``macs`` are the file's per node; None where they were not noted when the plan was built."""
        super().__init__("tensorrt", signature, workers)
        self._graphs = graphs
        self._plan: tuple[Any, Any] | None = plan
        self._macs = macs

    def _infer(self, worker: _Worker, feed: Feed, spans: MutableMapping[str, float] | None) -> Sequence[Array]:
        """Copies in, runs and copies out on the worker's stream; ``spans["compute"]`` is between two device events."""
        cuda, context, stream = worker.cuda, worker.context, worker.stream
        cuda.activate()
        kept = []
        for spec in self._signature.inputs:
            array = np.asarray(feed[spec.name], order="C")  # ascontiguousarray would give a scalar a dim
            if not context.set_input_shape(spec.name, tuple(array.shape)):
                raise BadInput(f"input {spec.name!r} of shape {array.shape} is outside what the plan was built for")
            address = worker.buffer(spec.name, array.nbytes)
            cuda.to_device(address, array, stream)
            context.set_tensor_address(spec.name, address)
            kept.append(array)
        arrays = []
        for spec in self._signature.outputs:
            array = np.empty(tuple(context.get_tensor_shape(spec.name)), DTYPES[spec.dtype])
            context.set_tensor_address(spec.name, worker.buffer(spec.name, array.nbytes))
            arrays.append(array)
        events = [cuda.event(), cuda.event()] if spans is not None else []
        try:
            for event in events[:1]:
                cuda.record(event, stream)
            if not worker.enqueue(tuple(a.shape for a in kept), self._graphs):
                raise EngineFailed("tensorrt could not run the plan; its log says why")
            for event in events[1:]:
                cuda.record(event, stream)
            for spec, array in zip(self._signature.outputs, arrays, strict=True):
                cuda.to_host(array, worker.buffer(spec.name, array.nbytes), stream)
            cuda.synchronise(stream)
            if spans is not None:
                spans["compute"] = cuda.elapsed(*events)
        finally:
            for event in events:
                cuda.destroy_event(event)
        return arrays

    def _attest(self, worker: _Worker) -> Attestation:
        trt = _library()
        if self._plan is None:
            raise EngineFailed("this tensorrt session is closed")
        if self._macs is None:
            return Attestation({}, how="engine inspector", untold="the plan does not tell what its layers multiply")
        inspector = self._plan[1].create_engine_inspector()
        text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        return attest_plan(text, self._macs)

    def _release(self) -> None:
        for worker in self._workers:
            worker.release()
        self._plan = None


def _context(engine: Any) -> Any:
    """Raises EngineFailed where the library gives none."""
    context = engine.create_execution_context()
    if context is None:
        raise EngineFailed("tensorrt could not make an execution context: the device has too little memory left")
    return context


def _library() -> Any:
    try:
        return importlib.import_module("tensorrt")
    except ImportError:
        raise NotAvailable("tensorrt is not installed", remedy=_INSTALL) from None


def _number(trt: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in str(trt.__version__).split(".")[:3] if part.isdigit())


def _settings(options: BuildOptions) -> Settings:
    given = dict(options.provider_options)
    unknown = sorted(set(given) - _OPTIONS)
    if unknown:
        raise BadInput(f"tensorrt has no option {unknown[0]!r}", remedy=f"it has: {', '.join(sorted(_OPTIONS))}")
    try:
        largest = int(given.get("max_batch", 32))
        profile = Profile(int(given.get("min_batch", 1)), int(given.get("opt_batch", min(8, largest))), largest)
        workspace = parse_bytes(given.get("workspace", "4GiB"))
    except ValueError as error:
        raise BadInput(f"an option of tensorrt is no number: {error}") from None
    if options.batch is not None:
        profile = Profile(options.batch, options.batch, options.batch)
    for name in _SWITCHES:
        _check_switch(name, given.get(name, "0"))
    cache = given.get("timing_cache")
    if cache is not None and not Path(cache).absolute().parent.is_dir():
        raise BadInput(f"there is no folder {Path(cache).parent} for the timing cache")
    return Settings(
        precision=options.precision,
        workspace_bytes=workspace,
        profile=profile,
        best=given.get("best") == "1",
        strongly_typed=given.get("strongly_typed") == "1",
        version_compatible=given.get("version_compatible") == "1",
        timing_cache=cache,
    )


def _check_switch(name: str, value: str) -> None:
    """Raises BadInput for what would silently mean off."""
    if value not in ("0", "1"):
        raise BadInput(f"{name} is {value!r}", remedy=f"{name}=1 or {name}=0")


def _check_typed(artifact: Artifact, settings: Settings, major: int) -> None:
    """What the ONNX file must be written in.  Raises BadInput with the command that makes it so."""
    from assay.engines.onnx_precision import graph_precision
    from assay.graph.signature import load_model

    found = graph_precision(load_model(artifact.path))
    wanted = "fp32" if settings.precision == "tf32" else settings.precision
    strongly = settings.strongly_typed or major >= 11
    if settings.best and strongly:
        raise BadInput("a strongly typed network has no 'best': its precision lives in the ONNX file")
    if found == wanted or (wanted in ("fp16", "bf16") and found == "fp32" and not strongly):
        return
    because = f"TensorRT {major} takes the precision from the file" if strongly else "int8 needs a quantised graph"
    raise BadInput(
        f"{artifact.path} is written in {found}, and {wanted} was asked for: {because}",
        remedy=f"assay quantize {artifact.path} --precision {wanted} -o DIR",
    )


def _deserialised(artifact: Artifact) -> tuple[Any, Any]:
    """The runtime and the engine, which must not outlive it.  Raises EngineFailed."""
    trt = _library()
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    if artifact.built_for.get("version_compatible") == "True":
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(artifact.path.read_bytes())
    if engine is None:
        raise EngineFailed(f"tensorrt could not read {artifact.path}: it is damaged, or of another version")
    return runtime, engine
