"""A small real Open Inference Protocol v2 server on loopback, for tests: REST, JSON and binary tensors."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from assay.core.tensors import DTYPES, Feed, Signature, TensorSpec

_WIRE = {"float32": "FP32", "float16": "FP16", "int64": "INT64", "string": "BYTES", "bool": "BOOL"}
_HEADER = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class ServedModel:
    """``binary`` is whether the server offers (and understands) the binary tensor extension.

    ``drop_every`` closes the connection after every so many answers, as servers do.
    """

    name: str
    signature: Signature
    compute: Callable[[Feed], dict[str, np.ndarray]]
    binary: bool = True
    drop_every: int | None = None


@contextlib.contextmanager
def serve(model: ServedModel) -> Iterator[str]:
    """Serve until the block ends; yields the base URL."""
    counter = iter(range(1, 1_000_000))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            base = f"/v2/models/{model.name}"
            if self.path == "/v2":
                self._send(200, {"name": "loopback", "extensions": ["binary_tensor_data"] if model.binary else []})
            elif self.path in (base, f"{base}/versions/1"):
                specs = model.signature
                self._send(
                    200,
                    {
                        "name": model.name,
                        "inputs": [_meta(s) for s in specs.inputs],
                        "outputs": [_meta(s) for s in specs.outputs],
                    },
                )
            else:
                self._send(404, {"error": f"unknown model in {self.path}"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            size = int(self.headers.get(_HEADER, len(body)))
            request = json.loads(body[:size])
            try:
                feed = _feed(model.signature, request, body[size:])
                results = model.compute(feed)
            except Exception as error:
                self._send(400, {"error": str(error)})
                return
            if model.binary and self.headers.get(_HEADER):
                self._send_binary(results)
            else:
                self._send(200, {"outputs": [{**_head(n, a), "data": _listed(a)} for n, a in results.items()]})

        def _send_binary(self, results: dict[str, np.ndarray]) -> None:
            raws = {n: _raw(a) for n, a in results.items()}
            outputs = [{**_head(n, a), "parameters": {"binary_data_size": len(raws[n])}} for n, a in results.items()]
            head = json.dumps({"model_name": model.name, "outputs": outputs}).encode()
            self._write(200, head + b"".join(raws.values()), {_HEADER: str(len(head))})

        def _send(self, status: int, value: dict[str, Any]) -> None:
            self._write(status, json.dumps(value).encode(), {})

        def _write(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, text in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, text)
            self.end_headers()
            self.wfile.write(body)
            if model.drop_every and next(counter) % model.drop_every == 0:
                self.close_connection = True  # without saying so: the client finds out at its next call

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _meta(spec: TensorSpec) -> dict[str, Any]:
    shape = [d if isinstance(d, int) else -1 for d in spec.shape]
    return {"name": spec.name, "datatype": _WIRE[spec.dtype], "shape": shape}


def _head(name: str, array: np.ndarray) -> dict[str, Any]:
    names = {dtype: wire for key, wire in _WIRE.items() for dtype in (DTYPES[key],)}
    return {"name": name, "datatype": names[array.dtype], "shape": list(array.shape)}


def _raw(array: np.ndarray) -> bytes:
    if array.dtype == object:
        return b"".join(len(v).to_bytes(4, "little") + v for v in array.reshape(-1))
    return array.tobytes()


def _listed(array: np.ndarray) -> list[Any]:
    return [v.decode() for v in array.reshape(-1)] if array.dtype == object else array.reshape(-1).tolist()


def _feed(signature: Signature, request: dict[str, Any], raw: bytes) -> dict[str, np.ndarray]:
    feed = {}
    for tensor in request["inputs"]:
        spec = signature.input(tensor["name"])
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = [v.encode() for v in tensor["data"]] if spec.dtype == "string" else tensor["data"]
            array = np.array(values, dtype=DTYPES[spec.dtype])
        elif spec.dtype == "string":
            items, rest = [], raw[:size]
            while rest:
                length = int.from_bytes(rest[:4], "little")
                items.append(rest[4 : 4 + length])
                rest = rest[4 + length :]
            array = np.array(items, dtype=object)
        else:
            array = np.frombuffer(raw[:size], DTYPES[spec.dtype])
        raw = raw[size or 0 :]
        feed[spec.name] = array.reshape(tensor["shape"])
    return feed
