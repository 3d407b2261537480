"""Which request means what: the paths of the protocol and its extensions."""

from __future__ import annotations

from typing import NamedTuple

from assay.serve.errors import METHOD, NOT_FOUND, ServeError
from assay.serve.http.head import Head


class Route(NamedTuple):
    """``action`` names a handler; ``name`` is a model or a region; ``admin``: only where ``--admin`` allows it."""

    action: str
    name: str = ""
    version: str = ""
    admin: bool = False
    open: bool = False
    """Needs no token: the health probes."""


_Methods = dict[str, Route]
_FIXED: dict[tuple[str, ...], _Methods] = {
    (): {"GET": Route("docs", open=True)},
    ("docs",): {"GET": Route("docs", open=True)},
    ("openapi.json",): {"GET": Route("openapi", open=True)},
    ("v2",): {"GET": Route("server")},
    ("v2", "health", "live"): {"GET": Route("live", open=True)},
    ("v2", "health", "ready"): {"GET": Route("ready", open=True)},
    ("v2", "models", "stats"): {"GET": Route("statistics")},
    ("v2", "repository", "index"): {"POST": Route("index")},
    ("v2", "logging"): {"GET": Route("logging"), "POST": Route("set_logging", admin=True)},
    ("v2", "trace", "setting"): {"GET": Route("trace"), "POST": Route("set_trace", admin=True)},
}
_OF_MODELS: dict[tuple[str, ...], tuple[str, str]] = {
    (): ("GET", "metadata"),
    ("ready",): ("GET", "model_ready"),
    ("config",): ("GET", "config"),
    ("stats",): ("GET", "statistics"),
    ("infer",): ("POST", "infer"),
    ("trace", "setting"): ("GET", "trace"),
}
_OF_MEMORY = {"status": "GET", "register": "POST", "unregister": "POST"}


def route(head: Head) -> Route:
    """Raises ServeError: not found, or method (saying the allowed ones)."""
    segments = head.segments()
    methods = _FIXED.get(segments) or _of_models(segments) or _of_repository(segments) or _of_memory(segments)
    if not methods:
        raise ServeError(NOT_FOUND, f"there is nothing at {head.path[:200]}; see /docs")
    found = methods.get(head.method)
    if found is None:
        allow = ", ".join(methods)
        error = ServeError(METHOD, f"{head.method} is not allowed at {head.path[:200]}; {allow} is")
        error.allow = allow
        raise error
    return found


def _of_models(segments: tuple[str, ...]) -> _Methods:
    if segments[:1] == ("predict",) and len(segments) == 2:
        return {"POST": Route("predict", segments[1])}
    if segments[:2] != ("v2", "models") or len(segments) < 3:
        return {}
    name, version, rest = segments[2], "", segments[3:]
    if rest[:1] == ("versions",) and len(rest) >= 2:
        version, rest = rest[1], rest[2:]
    if rest not in _OF_MODELS:
        return {}
    method, action = _OF_MODELS[rest]
    return {method: Route(action, name, version)}


def _of_repository(segments: tuple[str, ...]) -> _Methods:
    if len(segments) == 5 and segments[:3] == ("v2", "repository", "models") and segments[4] in ("load", "unload"):
        return {"POST": Route(segments[4], segments[3], admin=True)}
    return {}


def _of_memory(segments: tuple[str, ...]) -> _Methods:
    if segments[:1] != ("v2",) or segments[1:2] not in (("systemsharedmemory",), ("cudasharedmemory",)):
        return {}
    kind = "memory" if segments[1] == "systemsharedmemory" else "cuda_memory"
    rest = segments[2:]
    region = ""
    if rest[:1] == ("region",) and len(rest) == 3:
        region, rest = rest[1], rest[2:]
    if len(rest) != 1 or rest[0] not in _OF_MEMORY or (rest[0] == "register" and not region):
        return {}
    return {_OF_MEMORY[rest[0]]: Route(f"{kind}_{rest[0]}", region, admin=True)}
