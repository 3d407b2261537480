"""The table of methods: everything but inference, through protobuf.

What a method may cost or change decides how it is called: ``admin`` ones are refused unless the server was
started with ``--admin``, ``open`` ones need no token, ``slow`` ones run beside the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay.serve.errors import FORBIDDEN, INVALID, UNSUPPORTED, ServeError
from assay.serve.http.administration import LOGGING, TRACE_OFF, check_load
from assay.serve.http.application import server_metadata

if TYPE_CHECKING:
    from assay.serve.repository import Repository
    from assay.serve.shared_memory import SharedMemoryRegistry

SERVICE = "/inference.GRPCInferenceService/"
INFER = SERVICE + "ModelInfer"
STREAM_INFER = SERVICE + "ModelStreamInfer"
HEALTH = "/grpc.health.v1.Health/Check"


@dataclass(frozen=True)
class Served:
    """What methods answer from.  ``memory`` is None where shared memory is not allowed; ``admin``: settings may be
    changed, as far as they can be."""

    repository: Repository
    memory: SharedMemoryRegistry | None
    admin: bool = False


Handler = Callable[[Served, Any], Mapping[str, Any]]
"""A request message -> the response as its JSON."""


@dataclass(frozen=True)
class Method:
    request: str
    response: str
    handler: Handler
    admin: bool = False
    open: bool = False
    slow: bool = False


def _model_ready(served: Served, asked: Any) -> Mapping[str, Any]:
    repository = served.repository
    try:
        ready = repository.is_ready(asked.name, asked.version) and not repository.closing
    except ServeError as error:
        if error.kind is INVALID:
            raise
        ready = False
    return {"ready": ready}


def _index(served: Served, asked: Any) -> Mapping[str, Any]:
    _only_repository(asked)
    return {"models": served.repository.index(ready=asked.ready)}


def _load(served: Served, asked: Any) -> Mapping[str, Any]:
    _only_repository(asked)
    chosen = {name: getattr(value, value.WhichOneof("parameter_choice") or "", None) for name, value in _map(asked)}
    check_load(chosen)
    served.repository.load(asked.model_name)
    return {}


def _unload(served: Served, asked: Any) -> Mapping[str, Any]:
    _only_repository(asked)
    served.repository.unload(asked.model_name)
    return {}


def _map(asked: Any) -> list[tuple[str, Any]]:
    return [(name, asked.parameters[name]) for name in asked.parameters]


def _only_repository(asked: Any) -> None:
    if asked.repository_name:
        raise ServeError(UNSUPPORTED, "'repository_name' specification is not supported")


def _memory_status(served: Served, asked: Any) -> Mapping[str, Any]:
    return {"regions": {region["name"]: region for region in _memory(served).status(asked.name)}}


def _memory_register(served: Served, asked: Any) -> Mapping[str, Any]:
    _memory(served).register(asked.name, asked.key, asked.offset, asked.byte_size)
    return {}


def _memory_unregister(served: Served, asked: Any) -> Mapping[str, Any]:
    _memory(served).unregister(asked.name or None)
    return {}


def _memory(served: Served) -> SharedMemoryRegistry:
    if served.memory is None:
        raise ServeError(UNSUPPORTED, "this server has no shared memory")
    return served.memory


def _no_cuda(served: Served, asked: Any) -> Mapping[str, Any]:
    raise ServeError(UNSUPPORTED, "CUDA shared memory is not supported; system shared memory is")


def _trace(served: Served, asked: Any) -> Mapping[str, Any]:
    if asked.model_name:
        served.repository.lookup(asked.model_name)
    current = {name: value if isinstance(value, list) else [value] for name, value in TRACE_OFF.items()}
    wanted = {name: list(asked.settings[name].value) for name in asked.settings}
    _only_as_it_is(served, {name: value for name, value in wanted.items() if value}, current, "tracing")
    return {"settings": {name: {"value": value} for name, value in current.items()}}


def _logging(served: Served, asked: Any) -> Mapping[str, Any]:
    wanted = {}
    for name in asked.settings:
        choice = asked.settings[name].WhichOneof("parameter_choice")
        if choice is not None:
            wanted[name] = getattr(asked.settings[name], choice)
    _only_as_it_is(served, wanted, LOGGING, "changing the log")
    kinds = {bool: "bool_param", int: "uint32_param", str: "string_param"}
    return {"settings": {name: {kinds[type(value)]: value} for name, value in LOGGING.items()}}


def _only_as_it_is(served: Served, wanted: Mapping[str, Any], current: Mapping[str, Any], what: str) -> None:
    """Settings may be read, and stated as they are; nothing here can change them."""
    if wanted and not served.admin:
        raise ServeError(FORBIDDEN, f"{what} is off; start the server with --admin to allow it")
    for name, value in wanted.items():
        if name not in current:
            raise ServeError(INVALID, f"unknown setting {name[:60]!r}; known: {', '.join(current)}")
        if value != current[name]:
            raise ServeError(UNSUPPORTED, f"{what} is not supported ({name} stays {current[name]!r})")


def _method(name: str, handler: Handler, *, admin: bool = False, open: bool = False, slow: bool = False) -> Method:
    return Method(f"{name}Request", f"{name}Response", handler, admin, open, slow)


_METHODS: dict[str, Method] = {
    "ServerLive": _method("ServerLive", lambda s, a: {"live": True}, open=True),
    "ServerReady": _method("ServerReady", lambda s, a: {"ready": s.repository.ready}, open=True),
    "ModelReady": _method("ModelReady", _model_ready),
    "ServerMetadata": _method("ServerMetadata", lambda s, a: server_metadata(memory=s.memory is not None)),
    "ModelMetadata": _method("ModelMetadata", lambda s, a: s.repository.metadata(a.name, a.version)),
    "ModelConfig": _method("ModelConfig", lambda s, a: {"config": s.repository.lookup(a.name, a.version).config()}),
    "ModelStatistics": _method("ModelStatistics", lambda s, a: s.repository.statistics(a.name, a.version)),
    "RepositoryIndex": _method("RepositoryIndex", _index, slow=True),
    "RepositoryModelLoad": _method("RepositoryModelLoad", _load, admin=True, slow=True),
    "RepositoryModelUnload": _method("RepositoryModelUnload", _unload, admin=True, slow=True),
    "SystemSharedMemoryStatus": _method("SystemSharedMemoryStatus", _memory_status, admin=True),
    "SystemSharedMemoryRegister": _method("SystemSharedMemoryRegister", _memory_register, admin=True),
    "SystemSharedMemoryUnregister": _method("SystemSharedMemoryUnregister", _memory_unregister, admin=True),
    "CudaSharedMemoryStatus": _method("CudaSharedMemoryStatus", lambda s, a: {}, admin=True),
    "CudaSharedMemoryRegister": _method("CudaSharedMemoryRegister", _no_cuda, admin=True),
    "CudaSharedMemoryUnregister": _method("CudaSharedMemoryUnregister", lambda s, a: {}, admin=True),
    "TraceSetting": _method("TraceSetting", _trace),
    "LogSettings": _method("LogSettings", _logging),
}
METHODS: dict[str, Method] = {SERVICE + name: method for name, method in _METHODS.items()}
"""Path -> method, inference aside."""
