"""Odd, broken and hostile HTTP/2: an answer in the protocol's form or a closed connection; the server goes on."""

import contextlib
import struct
import threading
import zlib
from dataclasses import replace

import numpy as np
import pytest
from grpc_servers import RawClient, grpc_message, infer_message, null_session, repository, serving, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.core.tensors import Signature, TensorSpec
from assay.serve.grpc.frames import PREFACE, header
from assay.serve.grpc.inference_pb2 import message
from assay.serve.grpc.outbound import Outbound
from assay.serve.grpc.stream import Stream
from assay.serve.settings import Limits, ServeSettings

SIGNATURE = Signature((TensorSpec("x", "float32", ("b", 4)),), (TensorSpec("y", "float32", ("b", 2)),))
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
LIMITS = Limits(body=1 << 20, inflated=1 << 20, connections=8)
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
PROTOCOL, INTERNAL, FLOW = 1, 2, 3
CLOSED, SIZE, REFUSED = 5, 6, 7
COMPRESSION, CALM = 9, 11


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def front(request):
    models = repository({"null": null_session(SIGNATURE)})
    with serving(models, ServeSettings(limits=LIMITS), loop=request.param) as found:
        yield found


@pytest.fixture
def raw(front):
    with RawClient(front.port) as found:
        yield found


def alive(front):
    with RawClient(front.port) as raw:
        raw.call(1)
        assert raw.until(DATA, 1)[3][5:] == b"\x08\x01"
        assert raw.trailers(1)["grpc-status"] == "0"
    assert front.errors == []


# What is allowed though odd


def test_a_call_in_single_bytes(front):
    with RawClient(front.port, greet=False) as raw:
        block = raw.headers(INFER)
        content = grpc_message(infer_message())
        stream = PREFACE + header(0, SETTINGS, 0, 0) + header(len(block), HEADERS, 4, 1) + block
        stream += header(len(content), DATA, 1, 1) + content
        for byte in stream:
            raw.socket.send(bytes((byte,)))
        found = message("ModelInferResponse").FromString(raw.until(DATA, 1)[3][5:])
        assert np.frombuffer(found.raw_output_contents[0], np.float32).tolist() == [3.0, 3.0]
        assert raw.trailers(1)["grpc-status"] == "0"


def test_padding_priority_continuation_and_unknown_frames(raw):
    block = raw.headers(INFER)
    raw.send(0xEE, 0xFF, 0, b"an extension")
    raw.send(PRIORITY, 0, 1, bytes(5))
    raw.send(HEADERS, 0x8 | 0x20, 1, bytes((3,)) + bytes(5) + block[:10] + bytes(3))
    raw.send(CONTINUATION, 0, 1, block[10:20])
    raw.send(CONTINUATION, 0x4, 1, block[20:])
    content = grpc_message(infer_message())
    raw.send(DATA, 0x8, 1, bytes((4,)) + content[:7] + bytes(4))
    raw.send(DATA, 0x8, 1, bytes((2,)) + bytes(2))
    raw.send(DATA, 0, 1, content[7:])
    raw.send(DATA, 0x1, 1)
    assert raw.until(DATA, 1) is not None
    assert raw.trailers(1)["grpc-status"] == "0"


def test_trailers_of_a_request(raw):
    raw.send(HEADERS, 0x4, 1, raw.headers())
    raw.send(DATA, 0, 1, grpc_message(b""))
    raw.send(HEADERS, 0x5, 1, raw.encoder.encode([("x-note", "done")]))
    assert raw.trailers(1)["grpc-status"] == "0"


def test_ping_and_settings_are_answered(raw):
    raw.send(PING, 0, 0, b"12345678")
    assert raw.until(PING) == (PING, 1, 0, b"12345678")
    raw.send(SETTINGS, 0, 0, struct.pack(">HI", 0x99, 5))
    assert raw.until(SETTINGS)[1] in (0, 1)


def test_calls_side_by_side(raw):
    for stream in range(1, 41, 2):
        raw.send(HEADERS, 0x4, stream, raw.headers(INFER))
    for stream in range(39, 0, -2):
        raw.send(DATA, 0x1, stream, grpc_message(infer_message(float(stream))))
    found = {}
    while len(found) < 20:
        _, _, stream, payload = raw.until(DATA)
        read = message("ModelInferResponse").FromString(payload[5:])
        found[stream] = np.frombuffer(read.raw_output_contents[0], np.float32)[0]
    assert found == {s: s for s in range(1, 41, 2)}


def test_answers_wait_for_the_clients_window(front):
    with RawClient(front.port, greet=False) as raw:
        raw.socket.sendall(PREFACE + header(6, SETTINGS, 0, 0) + struct.pack(">HI", 4, 10))
        raw.call(1, INFER, infer_message())
        got = raw.until(DATA, 1)[3]
        assert len(got) == 10
        raw.send(WINDOW, 0, 1, struct.pack(">I", 7))
        got += raw.until(DATA, 1)[3]
        assert len(got) == 17
        raw.send(SETTINGS, 0, 0, struct.pack(">HI", 4, 5000))
        got += raw.until(DATA, 1)[3]
        assert message("ModelInferResponse").FromString(got[5:]).id == "i"
        assert raw.trailers(1)["grpc-status"] == "0"


def test_a_window_made_negative(front):
    """RFC 9113 6.9.2: after a smaller SETTINGS a window may be below zero, and is to be respected."""
    with RawClient(front.port, greet=False) as raw:
        raw.socket.sendall(PREFACE + header(6, SETTINGS, 0, 0) + struct.pack(">HI", 4, 10))
        raw.call(1, INFER, infer_message())
        got = raw.until(DATA, 1)[3]
        raw.send(SETTINGS, 0, 0, struct.pack(">HI", 4, 0))  # the window is -10 now
        raw.send(WINDOW, 0, 1, struct.pack(">I", 12))
        got += raw.until(DATA, 1)[3]
        assert len(got) == 12
        raw.send(WINDOW, 0, 1, struct.pack(">I", 1000))
        got += raw.until(DATA, 1)[3]
        assert message("ModelInferResponse").FromString(got[5:]).id == "i"


def test_compressed_messages(raw):
    content = zlib.compress(infer_message())
    raw.send(HEADERS, 0x4, 1, raw.headers(INFER, grpc_encoding="deflate"))
    raw.send(DATA, 0x1, 1, grpc_message(content, flag=1))
    assert raw.until(DATA, 1) is not None
    assert raw.trailers(1)["grpc-status"] == "0"


# Calls that end with an error of their own


@pytest.mark.parametrize(
    ("path", "more", "content", "code"),
    [
        ("/inference.GRPCInferenceService/Nothing", {}, grpc_message(b""), 12),
        ("/", {}, grpc_message(b""), 12),
        (INFER, {}, b"", 13),
        (INFER, {}, grpc_message(b"")[:3], 13),
        (INFER, {}, grpc_message(infer_message())[:-3], 13),
        (INFER, {}, grpc_message(b"\xff\xff"), 13),
        (INFER, {}, grpc_message(infer_message()) * 2, 13),
        (INFER, {}, grpc_message(infer_message(), flag=1), 13),
        (INFER, {}, grpc_message(infer_message(), flag=7), 13),
        (INFER, {"grpc_encoding": "snappy"}, grpc_message(infer_message(), flag=1), 12),
        (INFER, {"grpc_encoding": "gzip"}, grpc_message(b"not gzip", flag=1), 13),
        (INFER, {"grpc_encoding": "deflate"}, grpc_message(zlib.compress(infer_message())[:-9], flag=1), 13),
        (INFER, {"grpc_encoding": "deflate"}, grpc_message(zlib.compress(bytes(1 << 21)), flag=1), 8),
        (INFER, {}, b"\x00" + (1 << 30).to_bytes(4, "big"), 8),
        (INFER, {}, b"\x00\xff\xff\xff\xff", 8),
        (INFER, {}, grpc_message(infer_message(model_name="")), 5),
        ("/inference.GRPCInferenceService/ModelMetadata", {}, grpc_message(b"\xff"), 13),
        ("/inference.GRPCInferenceService/ModelMetadata", {}, grpc_message(b""), 5),
        ("/inference.GRPCInferenceService/ServerLive", {}, grpc_message(b"") * 2, 13),
        ("/inference.GRPCInferenceService/RepositoryModelUnload", {}, grpc_message(b""), 7),
        ("/inference.GRPCInferenceService/SystemSharedMemoryStatus", {}, grpc_message(b""), 7),
    ],
)
def test_a_wrong_call_ends_alone(raw, front, path, more, content, code):
    raw.send(HEADERS, 0x4, 1, raw.headers(path, **more))
    raw.send(DATA, 0x1, 1, content)
    found = raw.trailers(1)
    assert found["grpc-status"] == str(code), found
    raw.call(3)
    assert raw.trailers(3)["grpc-status"] == "0"
    assert front.server.memory.used == 0


def tensors(**changes):
    fields = {"name": "x", "datatype": "FP32", "shape": [1, 4]}
    fields.update(changes)
    made = message("ModelInferRequest")(model_name="null")
    item = made.inputs.add(name=fields["name"], datatype=fields["datatype"], shape=fields["shape"])
    return made, item


@pytest.mark.parametrize(
    ("changes", "raw_contents"),
    [
        ({"shape": [-1, 4]}, [bytes(16)]),
        ({"shape": [1 << 62, 1 << 62]}, [bytes(16)]),
        ({"shape": [0, 4]}, [b""]),
        ({"shape": [4] * 40}, [bytes(16)]),
        ({"shape": []}, [bytes(4)]),
        ({"datatype": "FP33"}, [bytes(16)]),
        ({"datatype": ""}, [bytes(16)]),
        ({"datatype": "BYTES"}, [b"\xff\xff\xff\xffabc"]),
        ({"name": ""}, [bytes(16)]),
        ({}, [bytes(15)]),
        ({}, [bytes(16), bytes(16)]),
        ({}, []),
    ],
)
def test_wrong_tensors(raw, front, changes, raw_contents):
    made, _ = tensors(**changes)
    made.raw_input_contents.extend(raw_contents)
    raw.call(1, INFER, made.SerializeToString())
    assert raw.trailers(1)["grpc-status"] == "3"
    assert front.server.memory.used == 0


def test_typed_contents():
    values = {
        "BOOL": ("bool_contents", [True, False]),
        "INT8": ("int_contents", [-128, 127]),
        "INT16": ("int_contents", [-3, 3]),
        "INT32": ("int_contents", [-(1 << 31), 7]),
        "INT64": ("int64_contents", [-(1 << 63), 7]),
        "UINT8": ("uint_contents", [0, 255]),
        "UINT16": ("uint_contents", [0, 65535]),
        "UINT32": ("uint_contents", [0, (1 << 32) - 1]),
        "UINT64": ("uint64_contents", [0, (1 << 64) - 1]),
        "FP32": ("fp32_contents", [0.5, -1.5]),
        "FP64": ("fp64_contents", [0.1, 1e300]),
        "BYTES": ("bytes_contents", [b"", b"\xff\x00"]),
    }
    from assay.serve.dtypes import numpy_dtype
    from assay.serve.errors import ServeError
    from assay.serve.grpc.message import RequestReader
    from assay.serve.grpc.tensors import read_inputs

    def read(made):
        got = RequestReader().read(memoryview(bytearray(made.SerializeToString())))
        return read_inputs(got.inputs, got.raw, None)

    for datatype, (field, content) in values.items():
        made, item = tensors(datatype=datatype, shape=[2])
        getattr(item.contents, field).extend(content)
        array = read(made)["x"]
        assert array.dtype == numpy_dtype(datatype)
        assert array.tolist() == content
    wrong = [
        ("INT8", "int_contents", [1, 200]),
        ("UINT8", "uint_contents", [1, 300]),
        ("FP16", "fp32_contents", [1.0, 2.0]),
        ("FP32", "fp64_contents", [1.0, 2.0]),
        ("FP32", "fp32_contents", [1.0]),
        ("INT64", "int_contents", [1, 2]),
    ]
    for datatype, field, content in wrong:
        made, item = tensors(datatype=datatype, shape=[2])
        getattr(item.contents, field).extend(content)
        with pytest.raises(ServeError):
            read(made)
    made, item = tensors(shape=[1])
    item.contents.fp32_contents.append(1.0)
    made.raw_input_contents.append(bytes(4))
    with pytest.raises(ServeError, match="one or the other"):
        read(made)


def test_what_is_no_grpc(raw):
    raw.send(HEADERS, 0x5, 1, raw.headers(method="GET"))
    assert raw.trailers(1)[":status"] == "405"
    raw.send(HEADERS, 0x4, 3, raw.headers(content_type="application/json"))
    assert raw.trailers(3)[":status"] == "415"


def test_http1_is_told_so(front):
    with RawClient(front.port, greet=False) as raw:
        raw.socket.sendall(b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n")
        got = b""
        while more := raw.socket.recv(1000):
            got += more
    assert b"HTTP/1.1 400" in got
    assert b"gRPC" in got


# What ends the connection


def framed(kind, flags, stream, payload=b""):
    return header(len(payload), kind, flags, stream) + payload


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (framed(DATA, 0, 1, b"abc"), PROTOCOL),
        (framed(DATA, 0, 0, b"abc"), PROTOCOL),
        (framed(HEADERS, 0x5, 2, b"\x82"), PROTOCOL),
        (framed(HEADERS, 0x5, 0, b"\x82"), PROTOCOL),
        (framed(HEADERS, 0x5, 1, b"\xff\xff\xff\xff"), COMPRESSION),
        (framed(HEADERS, 0xD, 1, b"\xff\x82"), PROTOCOL),
        (framed(HEADERS, 0xD, 1, b""), PROTOCOL),
        (framed(HEADERS, 0x1, 1, b"\x82") + framed(PING, 0, 0, bytes(8)), PROTOCOL),
        (framed(HEADERS, 0x1, 1, b"\x82") + framed(CONTINUATION, 0, 3, b"\x82"), PROTOCOL),
        (framed(CONTINUATION, 0x4, 1, b"\x82"), PROTOCOL),
        (framed(HEADERS, 0x1, 1, b"") + framed(CONTINUATION, 0, 1, b"") * 100, CALM),
        (framed(HEADERS, 0x1, 1, bytes(40_000)), CALM),
        (framed(HEADERS, 0x5, 1, bytes(70_000)), CALM),
        (framed(HEADERS, 0x5, 1, b"\x00\x7f\x80\x7f" + b"a" * 16511 + b"\x7f\x80\x7f" + b"b" * 16511), CALM),
        (framed(PUSH, 0x4, 1, bytes(8)), PROTOCOL),
        (framed(PING, 0, 1, bytes(8)), PROTOCOL),
        (framed(PING, 0, 0, bytes(7)), SIZE),
        (framed(SETTINGS, 0, 1), PROTOCOL),
        (framed(SETTINGS, 0, 0, bytes(5)), SIZE),
        (framed(SETTINGS, 1, 0, bytes(6)), SIZE),
        (framed(SETTINGS, 0, 0, struct.pack(">HI", 2, 2)), PROTOCOL),
        (framed(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 31)), FLOW),
        (framed(SETTINGS, 0, 0, struct.pack(">HI", 5, 1)), PROTOCOL),
        (framed(WINDOW, 0, 0, bytes(4)), PROTOCOL),
        (framed(WINDOW, 0, 0, struct.pack(">I", 0x7FFFFFFF)), FLOW),
        (framed(WINDOW, 0, 0, bytes(3)), SIZE),
        (framed(WINDOW, 0, 9, struct.pack(">I", 1)), PROTOCOL),
        (framed(RST, 0, 0, bytes(4)), PROTOCOL),
        (framed(RST, 0, 1, bytes(4)), PROTOCOL),
        (framed(GOAWAY, 0, 1, bytes(8)), PROTOCOL),
        (header(1 << 23, DATA, 0, 1), SIZE),
        (header((1 << 24) - 1, 0x77, 0, 0), SIZE),
        (framed(PING, 0, 0, bytes(8)) * 3000, CALM),
        (framed(SETTINGS, 0, 0) * 3000, CALM),
        (framed(PRIORITY, 0, 1, bytes(5)) * 3000, CALM),
        (framed(0x50, 0, 0) * 3000, CALM),
    ],
)
def test_a_broken_protocol_ends_the_connection(front, content, code):
    with RawClient(front.port) as raw:
        sender = threading.Thread(target=lambda: push(raw.socket, content))
        sender.start()
        found = raw.goaway()
        sender.join(10)
    assert found in (code, None)  # None: the connection was reset while this side still sent
    if len(content) < 20_000:
        assert found == code
    alive(front)


def push(sock, content):
    with contextlib.suppress(OSError):
        sock.sendall(content)


def test_a_first_frame_that_is_not_settings(front):
    with RawClient(front.port, greet=False) as raw:
        raw.socket.sendall(PREFACE + framed(PING, 0, 0, bytes(8)))
        assert raw.goaway() == PROTOCOL


def test_rapid_resets(front):
    """CVE-2023-44487: calls that are begun and reset at once, faster than anybody means it."""
    with RawClient(front.port) as raw:
        ended = False
        for stream in range(1, 20_001, 2):
            try:
                raw.send(HEADERS, 0x4, stream, raw.headers(INFER))
                raw.send(RST, 0, stream, struct.pack(">I", 8))
            except OSError:
                ended = True
                break
        assert ended or raw.goaway() in (CALM, None)
    alive(front)


def test_the_stream_alone_ends(raw, front):
    raw.send(HEADERS, 0x4, 1, raw.headers(INFER))
    raw.send(WINDOW, 0, 1, bytes(4))
    assert raw.until(RST, 1)[3] == struct.pack(">I", PROTOCOL)
    raw.send(HEADERS, 0x4, 3, raw.headers(INFER))
    raw.send(WINDOW, 0, 3, struct.pack(">I", 0x7FFFFFFF))
    assert raw.until(RST, 3)[3] == struct.pack(">I", FLOW)
    raw.send(HEADERS, 0x4, 3, raw.headers(INFER))
    assert raw.until(RST, 3)[3] == struct.pack(">I", CLOSED)
    raw.send(PRIORITY, 0, 5, bytes(4))
    assert raw.until(RST, 5)[3] == struct.pack(">I", SIZE)
    raw.call(7)
    assert raw.trailers(7)["grpc-status"] == "0"


def test_too_many_streams(raw):
    for stream in range(1, 2 * 1000 + 1, 2):
        raw.send(HEADERS, 0x4, stream, raw.headers(INFER))
    raw.send(HEADERS, 0x4, 2001, raw.headers(INFER))
    assert raw.until(RST, 2001)[3] == struct.pack(">I", REFUSED)


def test_too_many_connections(front):
    held = []
    try:
        for _ in range(LIMITS.connections + 2):
            held.append(RawClient(front.port))
        assert held[-1].goaway() == CALM
    finally:
        for raw in held:
            raw.socket.close()
    until(lambda: front.server.connections == 0)
    alive(front)


def test_a_client_that_goes_away_leaves_nothing_behind(front):
    for cut in range(0, 60, 7):
        until(lambda: front.server.connections < LIMITS.connections)  # the last ones may not have been noticed yet
        with RawClient(front.port) as raw:
            raw.until(SETTINGS)  # it was accepted: one that still waits for that is in nobody's count
            raw.send(HEADERS, 0x4, 1, raw.headers(INFER))
            raw.send(DATA, 0, 1, grpc_message(infer_message())[:cut])
            raw.send(HEADERS, 0x4, 3, raw.headers(STREAM_INFER))
            raw.send(DATA, 0, 3, grpc_message(infer_message()) * 3 + grpc_message(infer_message())[:cut])
    until(lambda: (front.server.memory.used, front.server.connections) == (0, 0))
    alive(front)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=40)), max_size=12)
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_frames_end_in_an_answer_or_a_closed_connection(front, sent):
    with RawClient(front.port) as raw:
        push(raw.socket, b"".join(framed(*f) for f in sent))
        raw.socket.shutdown(1)
        while raw.frame() is not None:
            pass
    assert front.errors == []


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_message_ends_in_a_status(front, content):
    with RawClient(front.port) as raw:
        raw.call(1, INFER, content)
        assert raw.trailers(1)["grpc-status"] in ("3", "5", "13")
    assert front.errors == []
    assert front.server.memory.used == 0


# Slow clients


def test_slow_clients_are_cut_off():
    limits = replace(LIMITS, head_s=0.05, body_s=0.05, slowest=1 << 40)
    with serving(repository({"null": null_session(SIGNATURE)}), ServeSettings(limits=limits)) as front:
        with RawClient(front.port, greet=False) as silent, RawClient(front.port) as slow:
            slow.send(HEADERS, 0x4, 1, slow.headers(INFER))
            slow.send(DATA, 0, 1, grpc_message(infer_message())[:9])
            slow.send(HEADERS, 0x4, 3, slow.headers(STREAM_INFER))
            assert slow.trailers(1)["grpc-status"] == "4"
            assert silent.goaway() is None  # closed
            assert 3 in next(iter(front.server._connections)).streams  # a stream may be silent
        assert front.server.memory.used == 0


def test_a_client_that_takes_no_answer_is_cut_off():
    limits = replace(LIMITS, write_s=0.05)
    with (
        serving(repository({"null": null_session(SIGNATURE)}), ServeSettings(limits=limits)) as front,
        RawClient(front.port, greet=False) as raw,
    ):
        raw.socket.sendall(PREFACE + header(6, SETTINGS, 0, 0) + struct.pack(">HI", 4, 10))
        raw.call(1, INFER, infer_message())
        assert len(raw.until(DATA, 1)[3]) == 10
        assert raw.until(RST, 1)[3] == struct.pack(">I", 8)
        raw.send(WINDOW, 0, 1, struct.pack(">I", 1000))  # too late, and harmless
        raw.send(SETTINGS, 0, 0, struct.pack(">HI", 4, 1000))
        raw.call(3)
        assert raw.trailers(3)["grpc-status"] == "0"


@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_an_empty_tensor_of_immense_sizes_is_refused_as_any_other(front, raw, datatype):
    asked = message("ModelInferRequest")(model_name="null")
    asked.inputs.add(name="x", datatype=datatype, shape=[0, 1 << 40, 1 << 40])
    asked.raw_input_contents.append(b"")
    raw.call(1, INFER, asked.SerializeToString())
    assert raw.trailers(1)["grpc-status"] == "3"
    alive(front)


def test_streams_that_wait_for_windows_of_their_own_cost_the_connections_nothing():
    """An update of the connection's window looks at those alone that it can help."""
    written, finished = [], []
    out = Outbound(finished.append)
    out.attach(Sink(written))
    shut = [Stream(2 * n + 1, 0.0, None, 0) for n in range(50)]
    for stream in shut:
        out.message(stream, [b"abc"], 3, b"")
    assert not out._blocked
    first, second = (Stream(1001 + 2 * n, 0.0, None, 1 << 20) for n in range(2))
    out.message(first, [bytes(65_525)], 65_525)  # with its prefix, 5 bytes short of the connection's window
    for stream in (first, second):
        out.message(stream, [bytes(10)], 10, b"")
    assert list(out._blocked) == [1001, 1003]
    for _ in range(25):
        out.credit(None, 1)
    assert finished == [first, second]
    assert not out._blocked
    out.credit(None, 50 * 8)
    for stream in shut:
        out.credit(stream, 8)
    assert finished[2:] == shut
    assert not any(stream.waiting for stream in (*shut, first, second))


def test_the_last_of_many_settings_of_one_frame_counts():
    out = Outbound(lambda stream: None)
    out.attach(Sink([]))
    stream = Stream(1, 0.0, None, out.initial_window)
    out.message(stream, [bytes(65_000)], 65_000)
    before = stream.send_window
    out.configure([(4, n) for n in range(5000)], [stream])
    assert (out.initial_window, stream.send_window) == (4999, before + 4999 - 65_535)


class Sink:
    """A transport that keeps what it is given."""

    def __init__(self, written):
        self._written = written

    def write(self, data):
        self._written.append(bytes(data))

    def writelines(self, parts):
        self._written.append(b"".join(parts))
