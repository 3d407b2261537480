"""A STAND-IN for NVIDIA's ``tensorrt`` package, written from its public Python API documentation.

It has no GPU behind it: "device" memory is the host's, and a plan is run by ONNX Runtime on the
CPU.  What it checks is that the engine calls the documented names in the documented order, for
versions 8.6, 10 and 11.  It proves nothing about TensorRT itself.
"""

from __future__ import annotations

import ctypes
import enum
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime

MAGIC = b"STANDIN-PLAN\n"


class Cuda:
    """Stands in for ``engines.cuda_memory.CudaRuntime``: the same calls on host memory."""

    devices = 1
    label = "Stand-in GPU sm_00"
    live: dict[int, Any] = {}  # noqa: RUF012
    recording: dict[int, list[Any]] = {}  # noqa: RUF012
    graphs: dict[int, list[Any]] = {}  # noqa: RUF012
    launched = 0

    def __init__(self, index: int = 0) -> None:
        self.index = index

    @classmethod
    def device_count(cls) -> int:
        return cls.devices

    def name(self) -> str:
        return self.label

    def activate(self) -> None: ...

    def malloc(self, size_bytes: int) -> int:
        buffer = ctypes.create_string_buffer(max(size_bytes, 1))
        address = ctypes.addressof(buffer)
        self.live[address] = buffer
        return address

    def free(self, address: int) -> None:
        del self.live[address]

    def stream(self) -> int:
        return self.malloc(1)

    destroy_stream = free

    def synchronise(self, stream: int) -> None:
        assert stream in self.live

    def to_device(self, address: int, array: np.ndarray, stream: int) -> None:
        assert array.flags.c_contiguous and stream in self.live
        assert array.nbytes <= ctypes.sizeof(self.live[address])
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def to_host(self, array: np.ndarray, address: int, stream: int) -> None:
        assert array.nbytes <= ctypes.sizeof(self.live[address])
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    event = stream
    destroy_event = free

    def record(self, event: int, stream: int) -> None:
        assert event in self.live and stream in self.live

    def begin_capture(self, stream: int) -> None:
        assert stream in self.live and stream not in self.recording
        self.recording[stream] = []

    def end_capture(self, stream: int) -> int:
        graph = self.malloc(1)
        self.graphs[graph] = self.recording.pop(stream)
        return graph

    def launch(self, graph: int, stream: int) -> None:
        assert stream in self.live
        type(self).launched += 1
        for work in self.graphs[graph]:
            work()

    def destroy_graph(self, graph: int) -> None:
        del self.graphs[graph]
        self.free(graph)

    def elapsed(self, start: int, stop: int) -> float:
        assert start in self.live and stop in self.live
        return 0.001


class Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


def _flags(major: int) -> type[enum.IntEnum]:
    names = {"TF32": 7, "VERSION_COMPATIBLE": 13}
    if major < 11:
        names |= {"FP16": 0, "INT8": 1}
    if major == 10:
        names |= {"BF16": 17}
    return enum.IntEnum("BuilderFlag", names)


def _creation(major: int) -> type[enum.IntEnum]:
    names = {"EXPLICIT_BATCH": 0} if major < 11 else {}
    if major >= 10:
        names["STRONGLY_TYPED"] = 1
    return enum.IntEnum("NetworkDefinitionCreationFlag", names)


class Tensor:
    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name, self.shape = name, shape


class Network:
    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.model: onnx.ModelProto | None = None
        self.inputs: list[Tensor] = []

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, name: str, min: Any, opt: Any, max: Any) -> None:
        assert all(a <= b <= c for a, b, c in zip(min, opt, max, strict=True))
        self.shapes[name] = [list(min), list(opt), list(max)]


class Cache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b"timed"


class Config:
    def __init__(self, trt: ModuleType) -> None:
        self.flags = {trt.BuilderFlag.TF32}  # on by default, as documented
        self.pools: dict[Any, int] = {}
        self.profiles: list[Profile] = []
        self.profiling_verbosity: Any = None
        self.cache: Cache | None = None

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self.pools[pool] = size

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag)

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, content: bytes) -> Cache:
        return Cache(content)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        self.cache = cache
        return True

    def get_timing_cache(self) -> Cache:
        assert self.cache is not None
        return self.cache


class ParserError:
    def __init__(self, node: onnx.NodeProto) -> None:
        self.node = node

    def desc(self) -> str:
        return f"no importer is registered for {self.node.op_type}"

    def node_name(self) -> str:
        return self.node.name

    def node_operator(self) -> str:
        return self.node.op_type


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        allowed = self.engine.header["profile"].get(name)
        if allowed and not all(a <= n <= c for a, n, c in zip(allowed[0], shape, allowed[2], strict=True)):
            return False
        self.shapes[name] = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        batch = next(iter(self.shapes.values()))[0]
        dims = self.engine.outputs[name]
        return tuple(batch if not isinstance(d, int) else d for d in dims)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        shapes, addresses = dict(self.shapes), dict(self.addresses)  # a recorded call replays these
        if stream_handle in Cuda.recording:
            Cuda.recording[stream_handle].append(lambda: self._execute(shapes, addresses))
        else:
            self._execute(shapes, addresses)
        return True

    def _execute(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        def view(name: str, shape: tuple[int, ...]) -> np.ndarray:
            size = int(np.prod(shape)) * 4
            return np.frombuffer((ctypes.c_char * size).from_address(addresses[name]), np.float32).reshape(shape)

        feed = {name: view(name, shape) for name, shape in shapes.items()}
        for name, array in zip(self.engine.outputs, self.engine.session.run(None, feed), strict=True):
            view(name, array.shape)[...] = array


class Inspector:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def get_engine_information(self, format: Any) -> str:
        header = self.engine.header
        dtype, tactic = header["dtype"], header["tactic"]
        layers = [
            {
                "Name": node.name,
                "Metadata": f"[ONNX Layer: {node.name}]",
                "Inputs": [{"Name": node.input[0], **_typed(dtype, header["major"])}],
                "TacticName": tactic,
            }
            for node in self.engine.model.graph.node
        ]
        return json.dumps({"Layers": layers})


def _typed(dtype: str, major: int) -> dict[str, str]:
    """One field up to 10, two in 11 (migration guide, "IEngineInspector")."""
    if major >= 11:
        return {"Format": "Row major linear", "DataType": dtype}
    return {"Format/Datatype": dtype}


class Engine:
    def __init__(self, plan: bytes) -> None:
        head, _, body = plan.removeprefix(MAGIC).partition(b"\n")
        self.header = json.loads(head)
        self.model = onnx.load_model_from_string(body)
        self.outputs = {
            o.name: [d.dim_value or d.dim_param for d in o.type.tensor_type.shape.dim] for o in self.model.graph.output
        }
        self.session = onnxruntime.InferenceSession(body)

    def create_execution_context(self) -> Context:
        return Context(self)

    def create_engine_inspector(self) -> Inspector:
        return Inspector(self)


def make(version: str) -> ModuleType:
    """A module to put into ``sys.modules["tensorrt"]``; ``module.built`` lists every (network, config)."""
    trt: Any = ModuleType("tensorrt")
    major = int(version.partition(".")[0])
    trt.__version__, trt.built = version, []
    trt.BuilderFlag, trt.NetworkDefinitionCreationFlag = _flags(major), _creation(major)
    trt.MemoryPoolType = enum.Enum("MemoryPoolType", ["WORKSPACE"])
    trt.ProfilingVerbosity = enum.Enum("ProfilingVerbosity", ["LAYER_NAMES_ONLY", "NONE", "DETAILED"])
    trt.LayerInformationFormat = enum.Enum("LayerInformationFormat", ["ONELINE", "JSON"])

    class ILogger:
        ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

        def __init__(self) -> None:
            self.ready = True

    class Logger(ILogger):
        def __init__(self, severity: Any = None) -> None:
            super().__init__()

    class Builder:
        def __init__(self, logger: Any) -> None:
            assert logger.ready, "ILogger.__init__ was not called"
            self.logger = logger

        def create_network(self, flags: int = 0) -> Network:
            return Network(flags)

        def create_builder_config(self) -> Config:
            return Config(trt)

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
            trt.built.append((network, config))
            if any(-1 in t.shape for t in network.inputs) and not config.profiles:
                self.logger.log(Severity.ERROR, "a network with dynamic inputs needs an optimization profile")
                return None
            self.logger.log(Severity.INFO, "built by the stand-in")
            return _plan(trt, network, config)

    class OnnxParser:
        def __init__(self, network: Network, logger: Any) -> None:
            self.network, self.errors = network, []

        def parse_from_file(self, path: str) -> bool:
            model = onnx.load(path)
            if major < 10 and not self.network.flags & 1:
                return False  # TensorRT 8 takes ONNX into explicit-batch networks only
            self.errors = [ParserError(n) for n in model.graph.node if n.op_type == "Det"]
            self.network.model = model
            weights = {t.name for t in model.graph.initializer}
            for value in model.graph.input:
                if value.name not in weights:
                    dims = [d.dim_value or -1 for d in value.type.tensor_type.shape.dim]
                    self.network.inputs.append(Tensor(value.name, tuple(dims)))
            return not self.errors

        @property
        def num_errors(self) -> int:
            return len(self.errors)

        def get_error(self, index: int) -> ParserError:
            return self.errors[index]

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.engine_host_code_allowed = False

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            return Engine(plan) if plan.startswith(MAGIC) else None

    trt.ILogger, trt.Logger, trt.Builder, trt.OnnxParser, trt.Runtime = ILogger, Logger, Builder, OnnxParser, Runtime
    return trt


def _plan(trt: Any, network: Network, config: Config) -> bytes:
    names = {flag.name for flag in config.flags}
    dtype = "Int8" if "INT8" in names else "Half" if "FP16" in names else "BFloat16" if "BF16" in names else "Float"
    if int(trt.__version__.partition(".")[0]) >= 11 or network.flags & 2:
        kinds = {t.data_type for t in network.model.graph.initializer}
        dtype = "Half" if onnx.TensorProto.FLOAT16 in kinds else "Float"
    tactic = "sm80_xmma_gemm_tf32" if dtype == "Float" and "TF32" in names else "sm80_xmma_gemm"
    profile = config.profiles[0].shapes if config.profiles else {}
    header = {"major": int(trt.__version__.partition(".")[0]), "dtype": dtype, "tactic": tactic, "profile": profile}
    return MAGIC + json.dumps(header).encode() + b"\n" + network.model.SerializeToString()


def write_nonsense(path: Path) -> None:
    path.write_bytes(b"this is no plan")
