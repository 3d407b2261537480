"""The REST transport of remote models, over the standard library's client."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from assay.core.errors import BadInput, EngineFailed, NotAvailable
from assay.core.tensors import DTYPES, Array, Feed, Signature
from assay.engines.remote_wire import DATATYPES, WIRE_NAMES, from_bytes, signature_of, to_bytes

if TYPE_CHECKING:
    from assay.engines.remote import Address

_HEADER = "Inference-Header-Content-Length"
_RETRY = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


class HttpConnection:
    """One keep-alive connection, reopened when the server closed it between two calls."""

    def __init__(self, address: Address) -> None:
        self._address = address
        kind = http.client.HTTPSConnection if address.tls else http.client.HTTPConnection
        self._http = kind(address.host, address.port, timeout=address.timeout_s)
        version = f"/versions/{quote(address.version, safe='')}" if address.version else ""
        self._model = f"/v2/models/{quote(address.model, safe='')}{version}"
        server = self._json("GET", "/v2")
        self._binary = "binary_tensor_data" in (server.get("extensions") or ())

    def signature(self) -> Signature:
        found = signature_of(self._json("GET", self._model))
        if not self._binary:
            for spec in (*found.inputs, *found.outputs):
                if spec.dtype in ("float16", "bfloat16"):
                    raise NotAvailable(
                        f"{spec.name!r} is {spec.dtype}, which JSON cannot carry, and this server does not offer "
                        "the binary tensor extension"
                    )
        return found

    def infer(self, signature: Signature, feed: Feed) -> list[Array]:
        if self._binary:
            return self._infer_binary(signature, feed)
        inputs = [
            {**_head(s.name, s.dtype, feed[s.name]), "data": _listed(s.name, feed[s.name])} for s in signature.inputs
        ]
        body = json.dumps({"inputs": inputs, "outputs": [{"name": n} for n in signature.output_names]}).encode()
        answer = self._json("POST", f"{self._model}/infer", [body], {"Content-Type": "application/json"})
        return _ordered(signature, {t["name"]: _unlisted(t) for t in answer.get("outputs") or ()})

    def close(self) -> None:
        self._http.close()

    def _infer_binary(self, signature: Signature, feed: Feed) -> list[Array]:
        tensors = [to_bytes(feed[s.name]) for s in signature.inputs]
        inputs = [
            {**_head(s.name, s.dtype, feed[s.name]), "parameters": {"binary_data_size": len(raw)}}
            for s, raw in zip(signature.inputs, tensors, strict=True)
        ]
        outputs = [{"name": n, "parameters": {"binary_data": True}} for n in signature.output_names]
        head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
        headers = {"Content-Type": "application/octet-stream", _HEADER: str(len(head))}
        raw, length = self._request("POST", f"{self._model}/infer", [head, *tensors], headers)
        size = len(raw) if length is None else int(length)
        answer = _parsed(bytes(raw[:size]))
        found: dict[str, Array] = {}
        offset = size
        for tensor in answer.get("outputs") or ():
            count = (tensor.get("parameters") or {}).get("binary_data_size")
            if count is None:
                found[tensor["name"]] = _unlisted(tensor)
                continue
            chunk = memoryview(raw)[offset : offset + int(count)]
            found[tensor["name"]] = from_bytes(chunk, DATATYPES[tensor["datatype"]], tensor["shape"])
            offset += int(count)
        return _ordered(signature, found)

    def _json(
        self, method: str, path: str, parts: Sequence[Any] = (), headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        return _parsed(self._request(method, path, parts, headers or {})[0])

    def _request(
        self, method: str, path: str, parts: Sequence[Any], headers: Mapping[str, str]
    ) -> tuple[bytes, str | None]:
        """The body, and the length of its JSON part where the server says one.

        A connection the server closed meanwhile is opened again, once: a stateless model may be
        asked twice.  Raises EngineFailed with the server's own error text.
        """
        try:
            response, body = self._exchange(method, path, parts, headers)
        except _RETRY:
            self._http.close()
            response, body = self._exchange(method, path, parts, headers)
        if response.status != http.client.OK:
            raise self._refused(response.status, body, path)
        return body, response.getheader(_HEADER)

    def _exchange(
        self, method: str, path: str, parts: Sequence[Any], headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        try:
            size = sum(len(part) for part in parts)
            sized = {**headers, "Content-Length": str(size)} if method == "POST" else dict(headers)
            self._http.request(method, path, body=iter(parts) if parts else None, headers=sized)
            response = self._http.getresponse()
            return response, response.read()
        except _RETRY:
            raise
        except (OSError, http.client.HTTPException) as error:
            self._http.close()  # half a message may be under way: the next call starts afresh
            raise EngineFailed(
                f"the server at {self._address.place} did not answer: {error or type(error).__name__}",
                remedy="is it running, and is the port its HTTP port?",
            ) from error

    def _refused(self, status: int, body: bytes, path: str) -> Exception:
        try:
            said = str(json.loads(body)["error"])
        except (ValueError, KeyError, TypeError):
            said = body[:200].decode(errors="replace").strip() or "no reason given"
        message = f"the server at {self._address.place} answered {status} to {path}: {said}"
        return BadInput(message) if status == http.client.NOT_FOUND else EngineFailed(message)


def _head(name: str, dtype: str, array: Array) -> dict[str, Any]:
    return {"name": name, "datatype": WIRE_NAMES[dtype], "shape": list(array.shape)}


def _listed(name: str, array: Array) -> list[Any]:
    if array.dtype != object:
        return list(array.reshape(-1).tolist())
    try:
        return [item.decode("utf-8") for item in array.reshape(-1)]
    except UnicodeDecodeError as error:
        raise BadInput(f"input {name!r} holds bytes that are not UTF-8, which JSON cannot carry: {error}") from None


def _unlisted(tensor: Mapping[str, Any]) -> Array:
    """``data`` nested or flat -> an array."""
    dtype, shape = DATATYPES[tensor["datatype"]], tensor["shape"]
    if dtype == "string":
        flat = _flattened(tensor["data"])
        items = np.empty(len(flat), dtype=object)
        items[:] = [str(item).encode() for item in flat]
        return items.reshape(shape)
    return np.asarray(tensor["data"], dtype=DTYPES[dtype]).reshape(shape)


def _flattened(data: Any) -> list[Any]:
    return [leaf for item in data for leaf in _flattened(item)] if isinstance(data, list) else [data]


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError:
        raise EngineFailed(f"the server sent what is not JSON: {raw[:80]!r}") from None
    if not isinstance(value, dict):
        raise EngineFailed(f"the server sent a {type(value).__name__} where an object was due")
    return value


def _ordered(signature: Signature, found: Mapping[str, Array]) -> list[Array]:
    """Every output, checked: a server's answer is not taken on trust."""
    arrays = []
    for spec in signature.outputs:
        array = found.get(spec.name)
        if array is None:
            raise EngineFailed(f"the server sent no output {spec.name!r}, only: {', '.join(found) or 'none'}")
        if array.dtype != DTYPES[spec.dtype]:
            raise EngineFailed(f"the server sent {spec.name!r} as {array.dtype}; its metadata says {spec.dtype}")
        arrays.append(array)
    return arrays
