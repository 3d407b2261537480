"""Models on a running Open Inference Protocol server."""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from assay.core.artifact import Artifact, digest_json
from assay.core.errors import BadInput, NotAvailable
from assay.core.model import Model
from assay.core.tensors import TensorSpec, is_dim_name
from assay.sources.arguments import first_line
from assay.sources.fetch import UNREACHABLE, why
from assay.sources.finish import write_json
from assay.sources.inputs import fit_shapes
from assay.sources.options import SourceOptions

TIMEOUT_S = 5.0
MOST_BYTES = 2**24
"""Of a model's metadata."""
_PATH = re.compile(r"^/v2/models/([^/]+)(?:/versions/([^/]+))?/?$")
_TYPES = {
    "BOOL": "bool", "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
    "FP16": "float16", "BF16": "bfloat16", "FP32": "float32", "FP64": "float64", "BYTES": "string",
}  # fmt: skip


def open_http(spec: str, options: SourceOptions) -> Model:
    """``http(s)://HOST:PORT/v2/models/NAME[/versions/V]``: ask the server for the model's metadata.

    Raises BadInput for another kind of URL or a model the server does not have, NotAvailable when
    the server cannot be reached.
    """
    parts = _parts(spec)
    path = _PATH.match(parts.path)
    if not path or not parts.netloc:
        raise BadInput(
            f"{spec} is not the URL of a served model",
            remedy="write http://HOST:PORT/v2/models/NAME; files from a URL are for --weights",
        )
    metadata = _get(spec.rstrip("/"))
    return _model(spec, unquote(path[1]), metadata, options)


def open_grpc(spec: str, options: SourceOptions) -> Model:
    """``grpc://HOST:PORT/NAME``: likewise over gRPC.  Raises NotAvailable without its client library."""
    parts = _parts(spec)
    name = unquote(parts.path.strip("/"))
    if not parts.netloc or not name or "/" in name:
        raise BadInput(f"{spec} is not the URL of a served model", remedy="write grpc://HOST:PORT/NAME")
    try:
        from tritonclient import grpc
    except ModuleNotFoundError as error:
        raise NotAvailable(
            "a model behind grpc:// needs the gRPC client, which is not installed here",
            remedy='pip install "assay[grpc]"',
        ) from error
    client = grpc.InferenceServerClient(parts.netloc)
    try:
        metadata = client.get_model_metadata(name, as_json=True, client_timeout=TIMEOUT_S)
    except Exception as error:
        said = first_line(error)
        raise NotAvailable(f"{spec} cannot be reached: {said}", remedy="check that it is served") from error
    finally:
        client.close()
    return _model(spec, name, metadata, options)


def specs_from(tensors: Sequence[Mapping[str, Any]], spec: str) -> tuple[TensorSpec, ...]:
    """The protocol's tensor metadata as specs; ``-1`` at axis 0 is the batch.  Raises BadInput."""
    found = []
    try:
        for tensor in tensors:
            name = str(tensor["name"])
            sizes = [int(d) for d in tensor["shape"]]
            stem = name if is_dim_name(name) else "input"
            shape = tuple(
                d if d >= 0 else "batch" if axis == 0 else f"{stem}_dim_{axis}" for axis, d in enumerate(sizes)
            )
            found.append(TensorSpec(name, _TYPES[tensor["datatype"]], shape, 0 if shape else None))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{spec} answered with metadata that cannot be read: {first_line(error)}") from error
    return tuple(found)


def _model(spec: str, name: str, metadata: Mapping[str, Any], options: SourceOptions) -> Model:
    inputs = specs_from(metadata.get("inputs", ()), spec)
    if not inputs:
        raise BadInput(f"{spec} answered without naming any inputs")
    path = write_json(options.out_dir / "remote.json", {**_address(spec, name), "metadata": metadata})
    return Model(
        name=name,
        spec=spec,
        artifact=Artifact(path=path, format="remote", sha256=digest_json({"url": spec, "metadata": metadata})),
        weights=f"on the server {urlsplit(spec).netloc}",
        inputs=fit_shapes(inputs, options.shapes),
    )


def _address(spec: str, name: str) -> dict[str, str]:
    """What the remote engine connects with."""
    parts = urlsplit(spec)
    path = _PATH.match(parts.path)
    return {
        "schema": "assay.remote/1",
        "url": spec,
        "protocol": "grpc" if parts.scheme == "grpc" else "http",
        "model": name,
        "version": unquote(path[2]) if path and path[2] else "",
    }


def _parts(spec: str) -> SplitResult:
    try:
        return urlsplit(spec)
    except ValueError as error:
        raise BadInput(f"{spec} is no URL: {error}", remedy="write http://HOST:PORT/v2/models/NAME") from error


def _get(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(quote(url, safe=":/%[]@"), timeout=TIMEOUT_S) as response:  # noqa: S310 - http(s)
            content = response.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise BadInput(f"{url} answered with more than a model's metadata can be")
        answer = json.loads(content)
    except urllib.error.HTTPError as error:
        said = first_line(Exception(error.read(300).decode(errors="replace")))
        raise BadInput(f"{url}: the server says HTTP {error.code}: {said}", remedy="check the model's name") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{url} did not answer with JSON: it is no Open Inference Protocol server") from error
    except http.client.InvalidURL as error:
        raise BadInput(f"{url} is no URL: {error}", remedy="write http://HOST:PORT/v2/models/NAME") from error
    except UNREACHABLE as error:
        raise NotAvailable(
            f"{url} cannot be reached: {why(error)}",
            remedy="start the server, or check host and port",
        ) from error
    if not isinstance(answer, dict):
        raise BadInput(f"{url} did not answer with a model's metadata")
    return answer
