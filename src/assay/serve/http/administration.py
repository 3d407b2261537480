"""The repository, shared memory, trace and logging extensions.  Handlers run beside the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from assay.serve.errors import INVALID, UNSUPPORTED, ServeError
from assay.serve.http.asked import parse_json
from assay.serve.http.codec import SharedMemory
from assay.serve.http.message import Answer, empty_answer, json_answer
from assay.serve.http.routes import Route
from assay.serve.repository import Repository

Slow = Callable[[bytes, Route], Answer]
TRACE_OFF = {
    "trace_level": ["OFF"],
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_file": "",
    "trace_mode": "triton",
}
LOGGING = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}


class Administration:
    def __init__(self, repository: Repository, memory: SharedMemory | None) -> None:
        self._repository = repository
        self._memory = memory

    def handlers(self) -> dict[str, Slow]:
        return {
            "index": self._index,
            "load": self._load,
            "unload": self._unload,
            "memory_status": self._memory_status,
            "memory_register": self._memory_register,
            "memory_unregister": self._memory_unregister,
            "cuda_memory_status": lambda body, route: json_answer([]),
            "cuda_memory_register": self._no_cuda,
            "cuda_memory_unregister": lambda body, route: empty_answer(),
            "trace": lambda body, route: json_answer(TRACE_OFF),
            "set_trace": lambda body, route: self._only_as_it_is(body, TRACE_OFF, "tracing"),
            "logging": lambda body, route: json_answer(LOGGING),
            "set_logging": lambda body, route: self._only_as_it_is(body, LOGGING, "changing the log"),
        }

    def _index(self, body: bytes, route: Route) -> Answer:
        ready = _object(body).get("ready", False)
        if not isinstance(ready, bool):
            raise ServeError(INVALID, "ready must be true or false")
        return json_answer(self._repository.index(ready=ready))

    def _load(self, body: bytes, route: Route) -> Answer:
        parameters = _object(body).get("parameters", {})
        if not isinstance(parameters, dict):
            raise ServeError(INVALID, "parameters must be a JSON object")
        check_load(parameters)
        self._repository.load(route.name)
        return empty_answer()

    def _unload(self, body: bytes, route: Route) -> Answer:
        _object(body)
        self._repository.unload(route.name)
        return empty_answer()

    def _memory_status(self, body: bytes, route: Route) -> Answer:
        return json_answer(self._regions().status(route.name or None))

    def _memory_register(self, body: bytes, route: Route) -> Answer:
        data = _object(body)
        key, offset, size = data.get("key"), data.get("offset", 0), data.get("byte_size")
        numbers = all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in (offset, size))
        if not isinstance(key, str) or not numbers:
            raise ServeError(INVALID, "register needs key (text), offset and byte_size (whole numbers)")
        self._regions().register(route.name, key, offset, data["byte_size"])
        return empty_answer()

    def _memory_unregister(self, body: bytes, route: Route) -> Answer:
        self._regions().unregister(route.name or None)
        return empty_answer()

    def _regions(self) -> SharedMemory:
        if self._memory is None:
            raise ServeError(UNSUPPORTED, "this server has no shared memory")
        return self._memory

    def _no_cuda(self, body: bytes, route: Route) -> Answer:
        raise ServeError(UNSUPPORTED, "CUDA shared memory is not supported; system shared memory is")

    def _only_as_it_is(self, body: bytes, current: dict[str, Any], what: str) -> Answer:
        """Settings may be stated as they are; nothing here can change them."""
        for name, value in _object(body).items():
            if name not in current:
                raise ServeError(INVALID, f"unknown setting {name[:60]!r}; known: {', '.join(current)}")
            if value is not None and value != current[name]:
                raise ServeError(UNSUPPORTED, f"{what} is not supported ({name} stays {current[name]!r})")
        return json_answer(current)


def check_load(parameters: dict[str, Any]) -> None:
    """Raises ServeError for overrides: what is served is what lies in the repository, and nothing else."""
    for name, value in parameters.items():
        if name.startswith("file:"):
            raise ServeError(INVALID, "load takes no file: overrides; put the files into the repository")
        if name == "config" and value not in ("", "{}"):
            raise ServeError(INVALID, "load takes no config override; the bundle's own configuration is used")
        if name != "config":
            raise ServeError(INVALID, f"unknown load parameter {name[:60]!r}")


def _object(body: bytes) -> dict[str, Any]:
    """An empty body is an empty object."""
    data = parse_json(body) if body.strip() else {}
    if not isinstance(data, dict):
        raise ServeError(INVALID, "the request must be a JSON object")
    return data
