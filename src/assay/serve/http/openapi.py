"""The API described: OpenAPI 3.1 as JSON, and a page for people that loads nothing from elsewhere."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from assay._version import __version__
from assay.serve.http.message import Answer
from assay.serve.repository import Repository

_POLICY = (
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options: nosniff",
    "Referrer-Policy: no-referrer",
)
_TENSOR: dict[str, Any] = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string"},
        "parameters": {"type": "object"},
        "data": {"type": "array"},
    },
}
_MODEL: dict[str, Any] = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
_REGION: dict[str, Any] = {"name": "region", "in": "path", "required": True, "schema": {"type": "string"}}
_JSON = "application/json"
_GET: tuple[tuple[str, str, tuple[dict[str, Any], ...]], ...] = (
    ("/v2", "Server metadata", ()),
    ("/v2/health/live", "Is the process alive?", ()),
    ("/v2/health/ready", "Is every model ready?", ()),
    ("/v2/models/stats", "Statistics of all models", ()),
    ("/v2/models/{model}", "Model metadata: inputs and outputs", (_MODEL,)),
    ("/v2/models/{model}/ready", "Is this model ready?", (_MODEL,)),
    ("/v2/models/{model}/config", "Model configuration", (_MODEL,)),
    ("/v2/models/{model}/stats", "Model statistics", (_MODEL,)),
    ("/v2/systemsharedmemory/status", "Shared memory regions (--admin)", ()),
)
_POST: tuple[tuple[str, str, tuple[dict[str, Any], ...], dict[str, Any]], ...] = (
    ("/v2/repository/index", "What is there and in which state", (), {"ready": {"type": "boolean"}}),
    ("/v2/repository/models/{model}/load", "Load or reload a model (--admin)", (_MODEL,), {}),
    ("/v2/repository/models/{model}/unload", "Unload a model (--admin)", (_MODEL,), {}),
    (
        "/v2/systemsharedmemory/region/{region}/register",
        "Register a shared memory region (--admin; for trusted clients on this machine only)",
        (_REGION,),
        {"key": {"type": "string"}, "offset": {"type": "integer"}, "byte_size": {"type": "integer"}},
    ),
    ("/v2/systemsharedmemory/region/{region}/unregister", "Unregister a region (--admin)", (_REGION,), {}),
)


def description(repository: Repository) -> dict[str, Any]:
    """OpenAPI 3.1; the models served now are the examples of the path parameter."""
    paths: dict[str, Any] = {path: {"get": _operation(text, names)} for path, text, names in _GET}
    for path, text, names, properties in _POST:
        asked = {"content": {_JSON: {"schema": {"type": "object", "properties": properties}}}}
        paths[path] = {"post": {**_operation(text, names), "requestBody": asked}}
    infer = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "inputs": {"type": "array", "items": _TENSOR},
            "outputs": {"type": "array", "items": {"type": "object"}},
        },
    }
    body = {"required": True, "content": {_JSON: {"schema": infer}, "application/octet-stream": {}}}
    paths["/v2/models/{model}/infer"] = {"post": {**_operation("Run the model", (_MODEL,)), "requestBody": body}}
    picture = {"required": True, "content": {"image/jpeg": {}, "image/png": {}}}
    top: dict[str, Any] = {"name": "top", "in": "query", "schema": {"type": "integer", "default": 5}}
    operation = _operation("Classify a picture: the body is a JPEG or PNG file", (_MODEL, top))
    paths["/predict/{model}"] = {"post": {**operation, "requestBody": picture}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "assay: Open Inference Protocol v2", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {"Error": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}}
        },
        "x-models": [{"name": m.name, "version": m.version, "pictures": m.takes_pictures} for m in repository.served()],
    }


def page() -> Answer:
    """The page for people; it asks /openapi.json what there is."""
    return Answer(200, (_page(),), "text/html; charset=utf-8", _POLICY)


@cache
def _page() -> bytes:
    return resources.files("assay.serve.http").joinpath("docs.html").read_bytes()


def _operation(text: str, parameters: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    error = {"description": "an error object", "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}
    made: dict[str, Any] = {"summary": text, "responses": {"200": {"description": "done"}, "4XX": error, "5XX": error}}
    if parameters:
        made["parameters"] = list(parameters)
    return made
