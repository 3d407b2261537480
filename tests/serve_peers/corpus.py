"""Requests to replay against two servers of the same models: good ones, odd ones and hostile ones.

The models are those of ``models.py`` beside this file: ``small`` (x FP32 [n, 16] -> scores FP32 [n, 4], best INT64
[n]), ``pair`` (two inputs), and an identity for each datatype.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

GOOD, ODD, HOSTILE = "good", "odd", "hostile"
ROW = [0.5, -1.25, 3.0, 0.0, 1e-3, 7.0, -2.0, 4.5, 0.125, 9.0, -0.75, 2.0, 1.5, -3.5, 6.0, 0.25]
X = np.array([ROW], np.float32)


@dataclass(frozen=True)
class Case:
    """``content`` is the request's bytes; ``numbers`` False leaves the body's values uncompared (times, counts).

    ``patience_s`` is how long to wait for an answer; short where a server may go on waiting for the rest.
    """

    name: str
    kind: str
    content: bytes
    method: str = "POST"
    numbers: bool = True
    patience_s: float = 15.0


def request(method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    given = {"Host": "localhost", **(headers or {})}
    if (body or method == "POST") and not {"Content-Length", "Transfer-Encoding"} & set(given):
        given["Content-Length"] = str(len(body))
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in given.items()) + "\r\n"
    return head.encode("latin-1") + body


def infer(model: str, document: Any, tail: bytes = b"", path: str = "", **headers: str) -> bytes:
    """An inference request; ``document`` may be bytes, sent as they are."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    given = {k.replace("_", "-"): v for k, v in headers.items()}
    if tail:
        given.setdefault("Inference-Header-Content-Length", str(len(text)))
    return request("POST", f"/v2/models/{model}{path}/infer", text + tail, given)


def x(data: Any = None, shape: Any = None, datatype: Any = "FP32", name: str = "x", **more: Any) -> dict[str, Any]:
    found = {"name": name, "shape": [1, 16] if shape is None else shape, "datatype": datatype}
    return {**found, "data": ROW if data is None else data, **more}


def binary(array: np.ndarray[Any, Any], datatype: str, name: str = "x", **more: Any) -> dict[str, Any]:
    size = array.nbytes if array.dtype != object else len(elements(array))
    described = {"name": name, "shape": list(array.shape), "datatype": datatype}
    return {**described, "parameters": {"binary_data_size": size}, **more}


def elements(array: np.ndarray[Any, Any]) -> bytes:
    return b"".join(struct.pack("<I", len(e)) + e for e in array.ravel())


def cases() -> Iterator[Case]:
    for group in (_good, _good_tensors, _odd, _odd_json, _odd_binary, _hostile):
        yield from group()


def _good() -> Iterator[Case]:
    for name, path in (
        ("server metadata", "/v2"),
        ("live", "/v2/health/live"),
        ("ready", "/v2/health/ready"),
        ("model ready", "/v2/models/small/ready"),
        ("model version ready", "/v2/models/small/versions/1/ready"),
        ("model metadata", "/v2/models/small"),
        ("model version metadata", "/v2/models/small/versions/1"),
        ("metadata of two inputs", "/v2/models/pair"),
        ("metadata of BYTES", "/v2/models/id_BYTES"),
    ):
        yield Case(name, GOOD, request("GET", path), "GET")
    yield Case("statistics", GOOD, request("GET", "/v2/models/small/stats"), "GET", numbers=False)
    yield Case("statistics of all", GOOD, request("GET", "/v2/models/stats"), "GET", numbers=False)
    yield Case("repository index", GOOD, request("POST", "/v2/repository/index"), numbers=False)
    ready = request("POST", "/v2/repository/index", b'{"ready": true}')
    yield Case("repository index, ready ones", GOOD, ready, numbers=False)
    plain = {"inputs": [x()]}
    yield Case("flat data", GOOD, infer("small", plain))
    yield Case("nested data", GOOD, infer("small", {"inputs": [x([ROW])]}))
    yield Case("three rows", GOOD, infer("small", {"inputs": [x([ROW, ROW[::-1], ROW], [3, 16])]}))
    yield Case("a version", GOOD, infer("small", plain, path="/versions/1"))
    yield Case("an id", GOOD, infer("small", {"id": "a-7 ü", **plain}))
    yield Case("an empty id", GOOD, infer("small", {"id": "", **plain}))
    yield Case("empty parameters", GOOD, infer("small", {"parameters": {}, **plain}))
    for number, parameters in enumerate(({"priority": 0}, {"timeout": 9_000_000}, {"mine": "s", "b": True, "i": 3})):
        yield Case(f"parameters {number}", GOOD, infer("small", {"parameters": parameters, **plain}))
    yield Case("one output", GOOD, infer("small", {**plain, "outputs": [{"name": "best"}]}))
    order = [{"name": "best"}, {"name": "scores"}]
    yield Case("outputs in an order of their own", GOOD, infer("small", {**plain, "outputs": order}))
    yield Case("an empty list of outputs", GOOD, infer("small", {**plain, "outputs": []}))
    content_type = infer("small", plain, Content_Type="application/json")
    yield Case("a JSON content type", GOOD, content_type)
    yield Case("an odd content type", GOOD, infer("small", plain, Content_Type="text/plain"))
    text = json.dumps(plain).encode()
    for name, packed in (("gzip", gzip.compress(text, mtime=0)), ("deflate", zlib.compress(text))):
        given = {"Content-Encoding": name}
        yield Case(f"{name} body", GOOD, request("POST", "/v2/models/small/infer", packed, given))
    yield Case("header length of a whole JSON body", GOOD, infer("small", text, **_length(text)))
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(text), text)
    yield Case("chunked", GOOD, request("POST", "/v2/models/small/infer", chunked, {"Transfer-Encoding": "chunked"}))
    expect = {"Expect": "100-continue"}
    yield Case("Expect: 100-continue", GOOD, request("POST", "/v2/models/small/infer", text, expect))
    yield Case("Connection: close", GOOD, infer("small", plain, Connection="close"))


def _length(text: bytes) -> dict[str, str]:
    return {"Inference_Header_Content_Length": str(len(text))}


def _good_tensors() -> Iterator[Case]:
    both = {"inputs": [x(name="a"), x(name="b")]}
    yield Case("two inputs", GOOD, infer("pair", both))
    yield Case("two inputs the other way round", GOOD, infer("pair", {"inputs": both["inputs"][::-1]}))
    out = {"parameters": {"binary_data_output": True}}
    yield Case("binary out", GOOD, infer("small", {**out, "inputs": [x()]}))
    mixed = {"outputs": [{"name": "scores", "parameters": {"binary_data": True}}, {"name": "best"}]}
    yield Case("one binary out, one JSON", GOOD, infer("small", {**mixed, "inputs": [x()]}))
    mixed = {**out, "outputs": [{"name": "scores", "parameters": {"binary_data": False}}, {"name": "best"}]}
    yield Case("all binary but one", GOOD, infer("small", {**mixed, "inputs": [x()]}))
    yield Case("binary in", GOOD, infer("small", {"inputs": [binary(X, "FP32")]}, X.tobytes()))
    yield Case("binary in and out", GOOD, infer("small", {**out, "inputs": [binary(X, "FP32")]}, X.tobytes()))
    yield Case("raw binary", GOOD, infer("small", b"", X.tobytes(), Inference_Header_Content_Length="0"))
    half = {"inputs": [x(name="a"), binary(X, "FP32", "b")]}
    yield Case("one input JSON, one binary", GOOD, infer("pair", half, X.tobytes()))
    for k, batch in (("1", 1), ("2", 3)):
        rows = x([ROW] * batch, [batch, 16])
        wanted = {"outputs": [{"name": "scores", "parameters": {"classification": int(k)}}]}
        yield Case(f"classification {k}", GOOD, infer("small", {**wanted, "inputs": [rows]}))
    for datatype, array in arrays().items():
        raw = elements(array) if datatype == "BYTES" else array.tobytes()
        given = {"inputs": [binary(array, datatype)]}
        model = f"id_{datatype}"
        yield Case(f"{datatype} binary in and out", GOOD, infer(model, {**out, **given}, raw))
        if datatype != "FP16":
            yield Case(f"{datatype} binary in, JSON out", GOOD, infer(model, given, raw))
            data = [e.decode() for e in array.ravel()] if datatype == "BYTES" else array.ravel().tolist()
            plain = {"inputs": [x(data, list(array.shape), datatype)]}
            yield Case(f"{datatype} JSON in and out", GOOD, infer(model, plain))
            yield Case(f"{datatype} JSON in, binary out", GOOD, infer(model, {**out, **plain}))


def arrays() -> dict[str, np.ndarray[Any, Any]]:
    """One [2, 3] array of each datatype, with its extremes."""
    found: dict[str, Any] = {
        "BOOL": np.array([[True, False, True], [False, False, True]]),
        "BYTES": np.array([[b"", b"abc", "ü三".encode()], [b'"\\', b"\n\t", b"x" * 300]], dtype=object),
        "FP16": np.array([[1, -2, 0.5], [65504, 6e-8, -0.0]], np.float16),
        "FP32": np.array([[1, -2, 0.1], [3.4e38, 1e-45, -0.0]], np.float32),
        "FP64": np.array([[1, -2, 0.1], [1.7e308, 5e-324, -0.0]]),
    }
    for name in ("INT8", "INT64", "UINT8", "UINT64"):
        limits = np.iinfo(name.lower())
        found[name] = np.array([[limits.min, limits.max, 0], [1, 2, 3]], name.lower())
    return found


def _odd() -> Iterator[Case]:
    plain = {"inputs": [x()]}
    yield Case("unknown model", ODD, infer("nobody", plain))
    yield Case("unknown version", ODD, infer("small", plain, path="/versions/7"))
    yield Case("a version that is no number", ODD, infer("small", plain, path="/versions/latest"))
    for name, method, path in (
        ("unknown model's metadata", "GET", "/v2/models/nobody"),
        ("unknown model's readiness", "GET", "/v2/models/nobody/ready"),
        ("unknown model's statistics", "GET", "/v2/models/nobody/stats"),
        ("unknown model's configuration", "GET", "/v2/models/nobody/config"),
        ("unknown version's readiness", "GET", "/v2/models/small/versions/7/ready"),
        ("an unknown path", "GET", "/v2/nothing"),
        ("outside v2", "GET", "/"),
        ("GET of infer", "GET", "/v2/models/small/infer"),
        ("POST of metadata", "POST", "/v2/models/small"),
        ("POST of live", "POST", "/v2/health/live"),
        ("PUT", "PUT", "/v2/models/small/infer"),
        ("DELETE", "DELETE", "/v2/models/small"),
        ("GET of the index", "GET", "/v2/repository/index"),
        ("a double slash", "GET", "/v2//models/small"),
        ("a slash at the end", "GET", "/v2/models/small/"),
        ("a query", "GET", "/v2/models/small?x=1"),
        ("an escaped letter in the path", "GET", "/v2/models/sm%61ll"),
    ):
        yield Case(name, ODD, request(method, path), method)
    yield Case("no inputs", ODD, infer("small", {"inputs": []}))
    yield Case("inputs missing", ODD, infer("small", {"id": "1"}))
    yield Case("one input of two", ODD, infer("pair", {"inputs": [x(name="a")]}))
    yield Case("an input too many", ODD, infer("small", {"inputs": [x(), x(name="z")]}))
    yield Case("an input twice", ODD, infer("small", {"inputs": [x(), x()]}))
    yield Case("an unknown input", ODD, infer("small", {"inputs": [x(name="z")]}))
    yield Case("an unknown output", ODD, infer("small", {**plain, "outputs": [{"name": "z"}]}))
    yield Case("an output twice", ODD, infer("small", {**plain, "outputs": [{"name": "best"}, {"name": "best"}]}))
    yield Case("another datatype", ODD, infer("small", {"inputs": [x(datatype="INT32", data=[1] * 16)]}))
    yield Case("a datatype that is none", ODD, infer("small", {"inputs": [x(datatype="FLOAT")]}))
    yield Case("FP16 in JSON", ODD, infer("id_FP16", {"inputs": [x([1, 2, 3], [1, 3], "FP16")]}))
    for name, shape, data in (
        ("a dim too small", [1, 8], ROW[:8]),
        ("a dim too many", [1, 1, 16], ROW),
        ("a dim too few", [16], ROW),
        ("no dims", [], ROW[:1]),
        ("a zero dim", [0, 16], []),
        ("a zero last dim", [1, 0], []),
        ("a negative dim", [-1, 16], ROW),
        ("two negative dims", [-1, -16], ROW),
        ("a fraction as dim", [1.5, 16], ROW),
        ("a text as dim", ["1", 16], ROW),
        ("a huge dim", [1 << 40, 16], ROW),
        ("dims that overflow", [1 << 33, 1 << 33], ROW),
        ("a zero beside a dim beyond 63 bits", [0, 16, 1 << 63, 2], []),
        ("dims beyond 64 bits", [1 << 70, 16], ROW),
        ("more rows than the batch takes", [9, 16], ROW * 9),
        ("too little data", [1, 16], ROW[:15]),
        ("too much data", [1, 16], [*ROW, 1.0]),
        ("no data at all", [1, 16], []),
    ):
        yield Case(name, ODD, infer("small", {"inputs": [x(data, shape)]}))
    for name in ("name", "shape", "datatype", "data"):
        given = x()
        del given[name]
        yield Case(f"{name} missing", ODD, infer("small", {"inputs": [given]}))


def _odd_json() -> Iterator[Case]:
    plain = {"inputs": [x()]}
    text = json.dumps(plain).encode()
    for name, body in (
        ("an empty body", b""),
        ("blanks", b"  \n"),
        ("not JSON", b"{'inputs': []}"),
        ("JSON cut off", text[:-5]),
        ("something after the JSON", text + b" x"),
        ("two documents", text + text),
        ("a list", b"[]"),
        ("a number", b"7"),
        ("null", b"null"),
        ("a byte order mark", b"\xef\xbb\xbf" + text),
        ("not UTF-8", b'{"id": "\xff\xfe", "inputs": []}'),
        ("NaN", text.replace(b"-1.25", b"NaN")),
        ("Infinity", text.replace(b"-1.25", b"Infinity")),
        ("a number beyond a double", text.replace(b"-1.25", b"1e999")),
        ("inputs as an object", b'{"inputs": {}}'),
        ("inputs as null", b'{"inputs": null}'),
        ("an input as a number", b'{"inputs": [7]}'),
        ("a repeated key", text[:-1] + b', "inputs": []}'),
        ("a comma too many", text.replace(b"[0.5", b"[,0.5")),
        ("deep nesting", b'{"inputs": ' + b"[" * 2000 + b"]" * 2000 + b"}"),
        ("data nested deeply", text.replace(b"[0.5", b"[" * 200 + b"0.5").replace(b"0.25]", b"0.25" + b"]" * 200)),
    ):
        yield Case(name, ODD, infer("small", body))
    for name, more in (
        ("a number as id", {"id": 7}),
        ("null as id", {"id": None}),
        ("an object as id", {"id": {}}),
        ("an unknown field", {"extra": 1}),
        ("parameters as a list", {"parameters": []}),
        ("a negative timeout", {"parameters": {"timeout": -1}}),
        ("a text as timeout", {"parameters": {"timeout": "soon"}}),
        ("a fraction as priority", {"parameters": {"priority": 0.5}}),
        ("a nested parameter", {"parameters": {"a": {"b": 1}}}),
        ("outputs as an object", {"outputs": {}}),
        ("an output without a name", {"outputs": [{}]}),
        ("classification 0", {"outputs": [{"name": "scores", "parameters": {"classification": 0}}]}),
        ("classification of too many", {"outputs": [{"name": "scores", "parameters": {"classification": 99}}]}),
        ("classification as text", {"outputs": [{"name": "scores", "parameters": {"classification": "2"}}]}),
        ("binary_data as text", {"outputs": [{"name": "scores", "parameters": {"binary_data": "yes"}}]}),
        ("shared memory nobody registered", {"outputs": [{"name": "scores", "parameters": _region()}]}),
    ):
        yield Case(name, ODD, infer("small", {**plain, **more}))
    for name, model, datatype, data in (
        ("a text as FP32", "id_FP32", "FP32", ["1", "2", "3"]),
        ("a truth value as FP32", "id_FP32", "FP32", [True, False, True]),
        ("null as FP32", "id_FP32", "FP32", [None, 1, 2]),
        ("whole numbers as FP32", "id_FP32", "FP32", [1, 2, 3]),
        ("a number beyond FP32", "id_FP32", "FP32", [1e39, 1, 2]),
        ("a fraction as INT64", "id_INT64", "INT64", [1.5, 1, 2]),
        ("a number beyond INT64", "id_INT64", "INT64", [1 << 63, 1, 2]),
        ("a number beyond INT8", "id_INT8", "INT8", [128, 1, 2]),
        ("a negative UINT8", "id_UINT8", "UINT8", [-1, 1, 2]),
        ("a number as BOOL", "id_BOOL", "BOOL", [1, 0, 1]),
        ("a number as BYTES", "id_BYTES", "BYTES", [1, 2, 3]),
        ("ragged data", "id_FP32", "FP32", [[1], [2, 3]]),
    ):
        yield Case(name, ODD, infer(model, {"inputs": [x(data, [1, 3], datatype)]}))


def _region() -> dict[str, Any]:
    return {"shared_memory_region": "nobody", "shared_memory_byte_size": 16}


def _odd_binary() -> Iterator[Case]:
    given = {"inputs": [binary(X, "FP32")]}
    size = {"binary_data_size": 64}
    raw = X.tobytes()
    for name, inputs, tail in (
        ("binary data cut off", given, raw[:-1]),
        ("binary data too long", given, raw + b"\0"),
        ("binary data missing", given, b""),
        (
            "binary size too small",
            {"inputs": [{**binary(X, "FP32"), "parameters": {"binary_data_size": 60}}]},
            raw[:60],
        ),
        (
            "binary size too large",
            {"inputs": [{**binary(X, "FP32"), "parameters": {"binary_data_size": 68}}]},
            raw + raw[:4],
        ),
        ("binary size negative", {"inputs": [{**binary(X, "FP32"), "parameters": {"binary_data_size": -64}}]}, raw),
        ("binary size as text", {"inputs": [{**binary(X, "FP32"), "parameters": {"binary_data_size": "64"}}]}, raw),
        ("binary data beside JSON data", {"inputs": [x(parameters=size)]}, raw),
        ("binary data nobody wants", {"inputs": [x()]}, raw),
    ):
        yield Case(name, ODD, infer("small", inputs, tail))
    text = json.dumps(given).encode()
    for name, length in (
        ("header length beyond the body", str(len(text) + 65)),
        ("header length too short", str(len(text) - 3)),
        ("header length negative", "-5"),
        ("header length as text", "many"),
        ("header length beyond 64 bits", "99999999999999999999999"),
        ("header length empty", ""),
    ):
        yield Case(name, ODD, infer("small", text, raw, Inference_Header_Content_Length=length))
    yield Case("raw binary of a wrong size", ODD, infer("small", b"", raw[:-4], Inference_Header_Content_Length="0"))
    yield Case("raw binary for two inputs", ODD, infer("pair", b"", raw, Inference_Header_Content_Length="0"))
    yield Case("raw binary, empty", ODD, infer("small", b"", b"", Inference_Header_Content_Length="0"))
    bad = [binary(np.array([[b"abc", b"d", b"e"]], dtype=object), "BYTES")]
    broken = elements(np.array([b"abc", b"d"], dtype=object)) + struct.pack("<I", 99) + b"e"
    yield Case("BYTES whose length lies", ODD, infer("id_BYTES", {"inputs": bad}, broken[: 3 * 4 + 5]))
    packed = gzip.compress(text)
    given_gzip = {"Content-Encoding": "gzip"}
    yield Case("gzip cut off", ODD, request("POST", "/v2/models/small/infer", packed[:-9], given_gzip))
    yield Case("gzip that is none", ODD, request("POST", "/v2/models/small/infer", text, given_gzip))
    unknown = {"Content-Encoding": "br"}
    yield Case("an unknown encoding", ODD, request("POST", "/v2/models/small/infer", text, unknown))


def _hostile() -> Iterator[Case]:
    plain = json.dumps({"inputs": [x()]}).encode()
    path = "/v2/models/small/infer"
    length = f"Content-Length: {len(plain)}\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n"
    for name, headers in (
        ("Content-Length twice, different", length + "Content-Length: 5\r\n"),
        ("Content-Length twice, the same", length + length),
        ("Content-Length and Transfer-Encoding", length + "Transfer-Encoding: chunked\r\n"),
        ("Content-Length with a sign", f"Content-Length: +{len(plain)}\r\n"),
        ("Content-Length negative", "Content-Length: -1\r\n"),
        ("Content-Length in hexadecimal", "Content-Length: 0x10\r\n"),
        ("Content-Length of 10 TB", "Content-Length: 10000000000000\r\n"),
        ("a header without a colon", length + "nonsense\r\n"),
        ("a blank before the colon", length + "X-A : b\r\n"),
        ("a zero byte in a header", length + "X-A: a\0b\r\n"),
        ("no length at all", ""),
        ("an unknown transfer encoding", "Transfer-Encoding: rot13\r\n"),
        ("4000 headers", length + "".join(f"X-{i}: {i}\r\n" for i in range(4000))),
        ("a header of 200 KB", length + f"X-A: {'a' * 200_000}\r\n"),
    ):
        waits = 0.5 if "10 TB" in name else 15.0
        yield Case(name, HOSTILE, (head + headers + "\r\n").encode("latin-1") + plain, patience_s=waits)
    yield Case("no Host", HOSTILE, f"POST {path} HTTP/1.1\r\n{length}\r\n".encode() + plain)
    yield Case("a URL of 100 KB", HOSTILE, request("GET", "/v2/models/" + "a" * 100_000), "GET")
    for name, start in (
        ("no HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
        ("HTTP/9.9", b"GET /v2 HTTP/9.9\r\nHost: a\r\n\r\n"),
        ("a bare line feed", b"GET /v2 HTTP/1.1\nHost: a\n\n"),
        ("a method that is none", b"FROB /v2 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ):
        yield Case(name, HOSTILE, start, "GET", patience_s=0.5 if "feed" in name else 15.0)
    chunked = {"Transfer-Encoding": "chunked"}
    yield Case("a chunk that is none", HOSTILE, request("POST", path, b"zz\r\nabc\r\n0\r\n\r\n", chunked))
    huge = request("POST", path, b"ffffffffffffffff\r\nabc\r\n", chunked)
    yield Case("a chunk of 2^64 bytes", HOSTILE, huge, patience_s=0.5)
    for name, where in (
        ("up the tree", "/v2/models/../../../etc/passwd"),
        ("up the tree, escaped", "/v2/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd"),
        ("a zero byte in the path", "/v2/models/small%00"),
    ):
        yield Case(name, HOSTILE, request("GET", where), "GET")
    file = {"parameters": {"config": "{}", "file:1/model.py": "cHJpbnQoMSk="}}
    load = json.dumps(file).encode()
    yield Case("load with a file", HOSTILE, request("POST", "/v2/repository/models/small/load", load))
    yield Case("load of a path", HOSTILE, request("POST", "/v2/repository/models/..%2f..%2fetc/load"))
    region = json.dumps({"key": "/../etc/passwd", "offset": 0, "byte_size": 64}).encode()
    yield Case("shared memory of a path", HOSTILE, request("POST", "/v2/systemsharedmemory/region/r/register", region))
    bomb = gzip.compress(b" " * 200_000_000, 1, mtime=0)
    yield Case("200 MB in a gzip body", HOSTILE, request("POST", path, bomb, {"Content-Encoding": "gzip"}))
