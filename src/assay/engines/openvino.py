"""OpenVINO, on the CPU and, where it sees them, Intel GPUs and NPUs.

The inference precision is always set, never left to the library: by default it runs an fp32
graph in bf16 on a processor with bf16 instructions.  Files are built without fp16
compression, so one IR serves fp32 and bf16.

``streams`` (or, where it is not given, ``instances``) is how many calls run side by side; each
has its own infer request.  The provider option ``PERFORMANCE_HINT`` (``LATENCY``, ``THROUGHPUT``)
lets the library choose both, and the session has as many requests as it then calls optimal.
Importing the library would report the import to its maker's statistics service; see
``core.telemetry``.
"""

from __future__ import annotations

import json
import re
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.artifact import Artifact, file_artifact
from assay.core.engine import Attestation, BuildOptions, OpenOptions, Session
from assay.core.errors import AssayError, BadInput, EngineFailed, NotAvailable
from assay.core.telemetry import import_untold
from assay.core.tensors import DTYPES, Array, Feed, Signature
from assay.engines.base import (
    PooledSession,
    at_batch,
    check_format,
    check_open,
    failed,
    parse_device,
    reason,
    refuse_missing_index,
)
from assay.engines.buckets import bucketed
from assay.engines.openvino_attest import MacTable, attest_compiled, mac_table
from assay.engines.openvino_options import HARMLESS
from assay.engines.openvino_signature import is_quantised, model_signature, refuse_state
from assay.engines.unsupported import explained

_INSTALL = "pip install 'assay[openvino]'"
_KINDS = {"cpu": "CPU", "gpu": "GPU", "npu": "NPU"}
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
_MADE_UP = re.compile(r"_\d+(?=$|/)")
_NEEDS = {"bf16": "BF16", "fp16": "FP16"}


class OpenVinoEngine:
    name = "openvino"
    divides_cores = True
    """One process may hold sessions of different numbers of threads."""
    threads_shared = True
    """OpenOptions.threads is the number for all instances together; elsewhere it is for each."""
    harmless_options = HARMLESS
    """Provider options that a stranger's bundle may set."""
    not_yet_run_on: tuple[str, ...] = ("gpu", "npu")
    reads: tuple[str, ...] = ("onnx", "openvino")
    opens: tuple[str, ...] = ("onnx", "openvino")
    precisions: tuple[str, ...] = ("fp32", "bf16", "fp16", "int8")
    has_buckets = True

    def version(self) -> str:
        try:
            return str(_library().__version__)
        except ImportError:
            raise NotAvailable("openvino is not installed", remedy=_INSTALL) from None

    def unavailable(self, device: str = "cpu", precision: str = "fp32") -> str | None:
        def probe() -> str | None:
            try:
                _library()
            except ImportError:
                return f"openvino is not installed: {_INSTALL}"
            why = _no_device(device)
            if why is not None:
                return why
            if precision == "int8":
                return (
                    "openvino runs int8 from a quantised file only (assay quantize --precision int8), "
                    "which then opens as int8"
                )
            return _no_precision(device, precision)

        return reason(self.name, self.precisions, precision, probe)

    def devices(self) -> tuple[str, ...]:
        """The library calls an only GPU ``GPU`` and two of them ``GPU.0`` and ``GPU.1``."""
        names = [name.lower().replace(".", ":") for name in _library().Core().available_devices]
        return tuple(name if name == "cpu" or ":" in name else f"{name}:0" for name in names)

    def build(self, artifact: Artifact, options: BuildOptions, out_dir: Path) -> Artifact:
        """Read the ONNX or IR and save it as IR, with the batch fixed where one is asked for."""
        check_format(self.name, "build from", self.reads, artifact)
        refuse_missing_index(self, options.device)
        why = self.unavailable(options.device, "fp32" if options.precision == "int8" else options.precision)
        if why is not None:
            raise NotAvailable(why)
        try:
            model = _read(artifact.path)
            signature = _signature(artifact, model)
            if options.batch is not None:
                signature = _fix_batch(model, signature, options.batch)
            if artifact.format == "onnx":
                _name_steadily(model, artifact.path)
            path = _save(model, out_dir)
        except AssayError:
            raise
        except Exception as error:
            raise _told(artifact, "build from", error) from error
        return file_artifact(
            path,
            "openvino",
            parents=(artifact.sha256,),
            companions=(path.with_suffix(".bin"),),
            built_for={"openvino": self.version(), "signature": json.dumps(signature.to_json(), sort_keys=True)},
        )

    def open(self, artifact: Artifact, options: OpenOptions) -> Session:
        """With ``buckets``, one compiled model per batch size, its shapes fixed; else one with the file's own."""
        check_open(self, artifact, options, "fp32" if options.precision == "int8" else options.precision)
        settings = _settings(options)
        if artifact.format == "openvino" and not artifact.path.with_suffix(".bin").is_file():
            raise BadInput(f"{artifact.path} has no {artifact.path.with_suffix('.bin').name} beside it")
        try:
            model = _read(artifact.path)
            refuse_state(model)
            if options.precision == "int8" and not is_quantised(model):
                raise BadInput(
                    f"{artifact.path} is not quantised, so it cannot run in int8",
                    remedy=f"assay quantize {artifact.path} --precision int8",
                )
            signature = _signature(artifact, model)
            if not options.buckets:
                return _compiled(model, signature, options, settings)
            return bucketed(signature, options, lambda b: _fixed(model, signature, b, options))
        except AssayError:
            raise
        except Exception as error:
            raise _told(artifact, "open", error) from error


def _told(artifact: Artifact, verb: str, error: Exception) -> EngineFailed:
    """The library's error as ours; operators it cannot convert with their nodes and source lines."""
    named = explained("openvino", artifact.path, error) if artifact.format == "onnx" else None
    return named or failed("openvino", f"{verb} {artifact.path}", error)


def _fixed(model: Any, signature: Signature, batch: int, options: OpenOptions) -> OpenVinoSession:
    fixed = model.clone()
    return _compiled(fixed, _fix_batch(fixed, signature, batch), options, _settings(options))


def _compiled(model: Any, signature: Signature, options: OpenOptions, settings: dict[str, Any]) -> OpenVinoSession:
    compiled = _library().Core().compile_model(model, _device(options.device), settings)
    count = max(int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")), 1)
    requests = [_Request(compiled.create_infer_request()) for _ in range(count)]
    return OpenVinoSession(signature, _Opened(compiled, mac_table(model, signature), options), requests)


@dataclass(frozen=True)
class _Opened:
    """A compiled model and what ``attest()`` needs of its source."""

    compiled: Any
    table: MacTable
    options: OpenOptions


class _Request:
    """An infer request, and where its inputs lie as it was told last: address and shape by index."""

    __slots__ = ("infer", "places")

    def __init__(self, infer: Any) -> None:
        self.infer = infer
        self.places: dict[int, tuple[int, tuple[int, ...]]] = {}


class OpenVinoSession(PooledSession[_Request]):
    """Outputs are views of the request's memory, overwritten by its next call: hence ``borrows``."""

    borrows = True

    def __init__(self, signature: Signature, opened: _Opened, requests: Sequence[_Request]) -> None:
        super().__init__("openvino", signature, requests)
        self._opened: _Opened | None = opened
        self._tensor = _library().Tensor
        types = [port.get_element_type() for port in opened.compiled.inputs]
        self._order = [(i, s.name, types[i]) for i, s in enumerate(signature.inputs)]
        self._bf16_in = frozenset(s.name for s in signature.inputs if s.dtype == "bfloat16")
        self._bf16_out = tuple(i for i, s in enumerate(signature.outputs) if s.dtype == "bfloat16")

    def _infer(self, worker: _Request, feed: Feed, spans: MutableMapping[str, float] | None) -> Sequence[Array]:
        tensor, request = self._tensor, worker.infer
        kept = []  # copies must outlive the call: the request holds addresses, not arrays
        for index, name, kind in self._order:
            array = feed[name]
            if name in self._bf16_in:
                raw = np.asarray(array, order="C").view(np.uint16)  # ascontiguousarray would give a scalar a dim
                request.set_input_tensor(index, tensor(raw, array.shape, kind))
                kept.append(raw)
                continue
            if not (array.flags.c_contiguous and array.flags.writeable):
                array = np.array(array, order="C")
                kept.append(array)
            # Telling the request costs several microseconds, and a batcher's arena never moves.
            place = (array.__array_interface__["data"][0], array.shape)
            if worker.places.get(index) != place:
                request.set_input_tensor(index, tensor(array, shared_memory=True))
                worker.places[index] = place
        # Inputs given to ``infer`` itself would be kept alive by the request until its next call.
        results = request.infer({}, share_outputs=True).to_tuple()
        if not self._bf16_out:
            arrays: Sequence[Array] = results
            return arrays
        # The library shows bfloat16 memory under the name float16.
        return [r.view(DTYPES["bfloat16"]) if i in self._bf16_out else r for i, r in enumerate(results)]

    def _attest(self, worker: _Request) -> Attestation:
        opened = self._opened
        if opened is None:
            raise EngineFailed("this openvino session is closed")
        devices = opened.compiled.get_property("EXECUTION_DEVICES")
        return attest_compiled(opened.compiled, opened.table, f"openvino:{','.join(devices)}")

    def _release(self) -> None:
        """The library's objects free their memory when nobody refers to them."""
        for worker in self._workers:
            worker.infer = None
        self._opened = None


def _library() -> Any:
    """``openvino``, imported without telling anyone."""
    return import_untold("openvino")


def _device(text: str) -> str:
    where = parse_device(text)
    name = _KINDS.get(where.kind, where.kind.upper())
    return f"{name}.{where.index}" if ":" in text and where.kind != "cpu" else name


def _no_device(device: str) -> str | None:
    kind = parse_device(device).kind
    if kind not in _KINDS:
        return f"openvino runs on cpu, gpu and npu, not on {device}"
    there = _library().Core().available_devices
    wanted = _device(device)
    if any(wanted == d or d.split(".")[0] == wanted for d in there):
        return None
    return f"openvino sees no {wanted} here, only {', '.join(there)}; a GPU or NPU needs Intel's driver"


def _no_precision(device: str, precision: str) -> str | None:
    needs = _NEEDS.get(precision)
    if needs is None:
        return None
    name = _device(device)
    found = _library().Core().get_property(name, "OPTIMIZATION_CAPABILITIES")
    if needs in found:
        return None
    return f"this {name} has no {precision} arithmetic: OpenVINO lists {', '.join(found)} as its capabilities"


def _settings(options: OpenOptions) -> dict[str, Any]:
    """The compile properties; ``provider_options`` come last, except that precision is not theirs to set."""
    if options.streams is not None and options.instances not in (1, options.streams):
        raise BadInput(f"streams {options.streams} and instances {options.instances} contradict each other")
    given = dict(options.provider_options)
    for key in ("INFERENCE_PRECISION_HINT", "EXECUTION_MODE_HINT"):
        if key in given:
            raise BadInput(f"{key} follows from the precision", remedy=f"drop it; {options.precision} sets it")
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": _HINTS[options.precision],
        "EXECUTION_MODE_HINT": "ACCURACY" if options.precision == "fp32" else "PERFORMANCE",
    }
    streams = options.streams or (options.instances if options.instances > 1 else None)
    if streams is not None:
        settings["NUM_STREAMS"] = str(streams)
    if options.threads is not None:
        settings["INFERENCE_NUM_THREADS"] = options.threads
    return settings | given


def _read(path: Path) -> Any:
    return _library().Core().read_model(str(path))


def _signature(artifact: Artifact, model: Any) -> Signature:
    """The ONNX file's own (dim names survive there), or the one kept at build, or the IR's."""
    if artifact.format == "onnx":
        from assay.graph.signature import read_signature

        return _matched(read_signature(artifact.path), model)
    kept = artifact.built_for.get("signature")
    if kept is not None:
        return _matched(Signature.from_json(json.loads(kept)), model)
    return model_signature(model)


def _matched(signature: Signature, model: Any) -> Signature:
    """``signature`` in the model's port order.  Raises EngineFailed where a name or dtype is not the model's."""
    found = model_signature(model, [s.name for s in signature.inputs], [s.name for s in signature.outputs])
    for spec, port in zip((*signature.inputs, *signature.outputs), (*found.inputs, *found.outputs), strict=True):
        if spec.dtype != port.dtype:
            raise EngineFailed(f"openvino made {port.dtype} of {spec.name!r}, which is {spec.dtype}")
    return signature


def _fix_batch(model: Any, signature: Signature, batch: int) -> Signature:
    fixed = at_batch(signature, batch)
    ports = model.inputs
    model.reshape({ports[i]: [d if isinstance(d, int) else -1 for d in s.shape] for i, s in enumerate(fixed.inputs)})
    return fixed


def _name_steadily(model: Any, path: Path) -> None:
    """Replace the names the library made up, which count upwards for as long as the process lives.

    Without this the same ONNX file gives another IR, and so another digest, at every build.
    """
    from assay.graph.signature import load_model

    graph = load_model(path).graph
    given = {name for node in graph.node for name in (node.name, *node.input, *node.output)}
    for index, op in enumerate(model.get_ordered_ops()):
        name = op.get_friendly_name()
        if _MADE_UP.search(name) and name not in given:
            op.set_friendly_name(f"{_MADE_UP.sub('', name)}_step{index}")


def _save(model: Any, out_dir: Path) -> Path:
    """``model.xml`` with ``model.bin``, written under another name and then moved, the xml last."""
    out_dir.mkdir(parents=True, exist_ok=True)
    part = out_dir / "part-of-model.xml"
    _library().save_model(model, str(part), compress_to_fp16=False)
    part.with_suffix(".bin").replace(out_dir / "model.bin")
    return part.replace(out_dir / "model.xml")
