"""Answers that a client does not take, because it opens no window or does not read: bounded, and nobody else waits."""

import gc
import struct
import threading
import time
import weakref
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import tritonclient.grpc as client
from grpc_servers import RawClient, grpc_message, repository, serving, until

from assay.core.tensors import Signature, TensorSpec
from assay.engines.null import NullSession
from assay.serve.grpc.frames import PREFACE, header
from assay.serve.grpc.gate import MOST_DEFERRED, UNKNOWN
from assay.serve.grpc.inference_pb2 import message
from assay.serve.grpc.outbound import WHOLE_BYTES
from assay.serve.grpc.stream import Stream
from assay.serve.settings import Limits, ServeSettings

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
DATA, HEADERS, RST, SETTINGS, PING, WINDOW = 0, 1, 3, 4, 6, 8
WIDTH = 25_000
ANSWER = 4 * WIDTH
OPEN = struct.pack(">I", (1 << 31) - 1 - 65_535)
SIGNATURE = Signature((TensorSpec("x", "float32", ("b", 4)),), (TensorSpec("y", "float32", ("b", WIDTH)),))
LIMITS = Limits(body=1 << 20, inflated=1 << 20, bodies=1, answers=10 * ANSWER, connections=32)


class Counting(NullSession):
    """``rows`` that were run, and what they gave, for as long as anybody keeps it."""

    rows = 0
    made = ()

    def __init__(self):
        super().__init__(SIGNATURE, 1)

    def run(self, feed, out=None, spans=None):
        type(self).rows += len(feed["x"])
        found = super().run(feed, out, spans)
        type(self).made = [*self.made, *map(weakref.ref, found.values())]
        return found


@pytest.fixture(params=["uvloop", "asyncio"])
def front(request):
    with serving(repository({"large": Counting}), ServeSettings(limits=LIMITS), loop=request.param) as found:
        Counting.rows, Counting.made = 0, ()
        yield found
        until(lambda: (found.server.memory.used, found.server.answers.used) == (0, 0))
        until(lambda: found.server.memory.spare == 0)


def question(value=3.0, rows=1, **more):
    made = message("ModelInferRequest")(model_name="large", **more)
    made.inputs.add(name="x", datatype="FP32", shape=[rows, 4])
    made.raw_input_contents.append(np.full((rows, 4), value, np.float32).tobytes())
    return made.SerializeToString()


def connected(front, window=0):
    """A client that lets so many bytes of each stream through, and everything of the connection."""
    raw = RawClient(front.port, greet=False)
    raw.socket.sendall(PREFACE + header(6, SETTINGS, 0, 0) + struct.pack(">HI", 4, window))
    raw.send(WINDOW, 0, 0, OPEN)
    return raw


def its_connection(front):
    (found,) = front.server._connections
    return found


def settled(raw, connection):
    """Everything that was sent was read, and what could begin was answered."""
    raw.send(PING, 0, 0, b"settled?")
    assert raw.until(PING)[3] == b"settled?"
    until(lambda: connection.gate.begun == 0)


def answers(raw, streams):
    """stream -> the first number of its answer; every one must be whole and end well."""
    content, found = dict.fromkeys(streams, b""), {}
    while len(found) < len(content):
        kind, flags, stream, payload = raw.frame()
        if kind == DATA:
            content[stream] += payload
        elif kind == HEADERS:
            fields = dict(raw.decoder.decode(payload))
            if flags & 1:
                assert fields["grpc-status"] == "0", fields
                read = message("ModelInferResponse").FromString(content[stream][5:])
                (found[stream],) = set(np.frombuffer(read.raw_output_contents[0], np.float32).tolist())
    return found


def served(front):
    """Another client, which reads."""
    with connected(front, 1 << 20) as raw:
        raw.call(1, INFER, question(8.0))
        assert answers(raw, [1]) == {1: 8.0}


def test_a_client_that_opens_no_window_has_few_answers_waiting_and_gets_all_when_it_does(front):
    streams = range(1, 201, 2)
    with connected(front) as raw:
        raw.call(1, INFER, question(1.0))
        raw.until(SETTINGS)
        connection = its_connection(front)
        settled(raw, connection)
        for stream in streams[1:]:
            raw.call(stream, INFER, question(float(stream)))
        settled(raw, connection)
        held = connection.held
        assert LIMITS.answers - 2 * ANSWER < held < LIMITS.answers + ANSWER + 2000  # one may always begin
        assert front.server.answers.used == held
        assert Counting.rows == held // ANSWER  # the others wait where they cost their question
        assert front.server.memory.used == (len(streams) - Counting.rows) * 4096
        served(front)
        raw.call(999, "/inference.GRPCInferenceService/ServerLive")  # not behind inferences; a window of its own
        raw.send(WINDOW, 0, 999, struct.pack(">I", 1000))
        assert raw.trailers(999)["grpc-status"] == "0"
        raw.send(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 20))
        assert answers(raw, streams) == {stream: float(stream) for stream in streams}
        assert (connection.held, connection.gate.begun) == (0, 0)


def test_before_any_answer_is_known_few_begin(front):
    with connected(front) as raw:
        for stream in range(1, 201, 2):
            raw.call(stream, INFER, question())
        raw.until(SETTINGS)
        connection = its_connection(front)
        settled(raw, connection)
        assert connection.held < LIMITS.answers + UNKNOWN * (ANSWER + 1000)
        assert Counting.rows <= 10 + UNKNOWN
        served(front)


def test_a_client_that_does_not_read_is_not_read(front):
    streams = range(1, 401, 2)
    with RawClient(front.port, greet=False) as raw:
        raw.socket.sendall(PREFACE + header(6, SETTINGS, 0, 0) + struct.pack(">HI", 4, 1 << 20))
        raw.send(WINDOW, 0, 0, OPEN)
        sender = threading.Thread(target=lambda: [raw.call(s, INFER, question(float(s))) for s in streams])
        sender.start()
        until(lambda: front.server.connections == 1)
        connection = its_connection(front)
        until(lambda: quiet(connection))
        assert not connection._transport.is_reading()
        assert connection._transport.get_write_buffer_size() <= WHOLE_BYTES + 100_000
        assert connection.held <= LIMITS.answers + UNKNOWN * (ANSWER + 1000)
        served(front)
        assert answers(raw, streams) == {stream: float(stream) for stream in streams}
        sender.join(10)


def quiet(connection):
    """Nothing begins or leaves any more."""
    before = connection._out.sent, Counting.rows
    time.sleep(0.1)
    return connection._out._paused and not connection.gate.begun and before == (connection._out.sent, Counting.rows)


def test_over_all_connections_the_one_that_keeps_the_most_loses_first(front):
    limit = front.server.answers.limit
    assert limit == 2 << 20
    with ExitStack() as stack:
        honest = stack.enter_context(connected(front, 1000))
        honest.call(1, INFER, question(5.0))
        assert len(honest.until(DATA, 1)[3]) == 1000
        hogs = [stack.enter_context(connected(front)) for _ in range(4)]
        for raw in hogs:
            for stream in range(1, 41, 2):
                raw.call(stream, INFER, question())
            raw.send(PING, 0, 0, b"12345678")
        for raw in hogs:
            assert raw.until(PING) is not None
        connections = list(front.server._connections)
        until(lambda: not any(c.gate.begun for c in connections))
        assert limit - 2 * ANSWER < front.server.answers.used <= limit
        assert sum(c.held for c in connections) == front.server.answers.used
        served(front)
        honest.send(WINDOW, 0, 1, struct.pack(">I", 1 << 20))
        assert honest.trailers(1)["grpc-status"] == "0"
        told = [raw.trailers(stream) for raw, stream in ended(hogs)]
        assert told
        assert {fields["grpc-status"] for fields in told} == {"8"}


def ended(hogs):
    """(client, stream) of the calls that ended without their answers being taken."""
    for raw in hogs:
        raw.send(PING, 0, 0, b"the last")
        found, left = [], b""
        while (frame := raw.frame())[3] != b"the last":
            left += header(len(frame[3]), frame[0], frame[1], frame[2]) + frame[3]
            if frame[0] == HEADERS and frame[1] & 1:
                found.append(frame[2])
        raw.left = left + raw.left
        yield from ((raw, stream) for stream in found)


def test_a_stream_of_questions_waits_and_keeps_their_order(front):
    count = 90
    with connected(front) as raw:
        raw.send(HEADERS, 0x4, 1, raw.headers(STREAM_INFER))
        for n in range(count):  # 900 KB of questions: more than half of the window for them
            raw.send(DATA, 0, 1, grpc_message(question(float(n), id=str(n) + " " * 10_000)))
        raw.until(SETTINGS)
        connection = its_connection(front)
        raw.send(PING, 0, 0, b"12345678")
        seen = []
        while (frame := raw.frame())[0] != PING:
            seen.append((frame[0], frame[2]))
        assert (WINDOW, 1) not in seen  # it may send no more than it has a window for
        until(lambda: connection.gate.begun == 0)
        assert connection.held <= LIMITS.answers + UNKNOWN * (ANSWER + 11_000)
        assert Counting.rows < count
        served(front)
        raw.send(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 30))
        raw.send(DATA, 1, 1)
        content, credited = b"", False
        while (frame := raw.frame())[:2] != (HEADERS, 5):
            content += frame[3] if frame[0] == DATA else b""
            credited = credited or (frame[0], frame[2]) == (WINDOW, 1)
        assert dict(raw.decoder.decode(frame[3]))["grpc-status"] == "0"
    ids = []
    while content:
        size = int.from_bytes(content[1:5], "big")
        read = message("ModelStreamInferResponse").FromString(content[5 : 5 + size]).infer_response
        assert np.frombuffer(read.raw_output_contents[0], np.float32)[0] == float(read.id.strip())
        ids.append(int(read.id))
        content = content[5 + size :]
    assert ids == list(range(count))


def test_questions_that_wait_are_few_too():
    limits = replace(LIMITS, bodies=16 << 20)  # of which each counts 4 KiB at least
    with serving(repository({"large": Counting}), ServeSettings(limits=limits)) as front, connected(front) as raw:
        raw.send(HEADERS, 0x4, 1, raw.headers(STREAM_INFER))
        asked = grpc_message(question())
        for _ in range(12):
            raw.send(DATA, 0, 1, asked * ((MOST_DEFERRED + 100) // 10))
        raw.send(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 30))  # what was answered comes first
        assert raw.trailers(1)["grpc-status"] == "8"
        raw.call(3)
        assert raw.trailers(3)["grpc-status"] == "0"
        until(lambda: (front.server.memory.used, front.server.answers.used) == (0, 0))


def test_those_who_go_away_take_what_waits_with_them(front):
    """Reset, ended by their deadline, or with the connection: the others of the connection go on."""
    with connected(front) as raw:
        for stream in range(1, 101, 2):
            raw.call(stream, INFER, question(float(stream)))
        raw.send(HEADERS, 0x4, 101, raw.headers(STREAM_INFER))
        raw.send(DATA, 0, 101, grpc_message(question()) * 5)
        raw.until(SETTINGS)
        settled(raw, its_connection(front))
        for stream in range(1, 102, 2):
            if stream % 10 != 1:
                raw.send(RST, 0, stream, struct.pack(">I", 8))
        raw.send(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 20))
        assert answers(raw, range(1, 100, 10)) == {s: float(s) for s in range(1, 100, 10)}
        raw.send(SETTINGS, 0, 0, struct.pack(">HI", 4, 0))
        for stream in range(103, 203, 2):
            raw.call(stream, INFER, question())
        settled(raw, its_connection(front))
        assert front.server.memory.used
        assert front.server.answers.used


@pytest.mark.parametrize("path", [INFER, STREAM_INFER])
def test_answers_that_nobody_takes_any_more_are_freed_at_once(front, path):
    gc.disable()
    try:
        with connected(front) as raw:
            for stream in range(1, 101, 2):
                raw.call(stream, path, question())
            raw.until(SETTINGS)
            settled(raw, its_connection(front))
            assert sum(made() is not None for made in Counting.made) >= LIMITS.answers // ANSWER // 4
        until(lambda: not any(made() is not None for made in Counting.made))
    finally:
        gc.enable()


def test_a_deferred_call_is_answered_in_time(front):
    with connected(front) as raw:
        for stream in range(1, 101, 2):
            raw.call(stream, INFER, question())
        raw.until(SETTINGS)
        connection = its_connection(front)
        settled(raw, connection)
        waits = [s for s in connection.streams.values() if s.deferred]
        assert waits
        late = LIMITS.request_s + 1
        assert all(connection._patience.fault(s, s.began_s + late, 0).kind.grpc == "DEADLINE_EXCEEDED" for s in waits)


@pytest.mark.parametrize("form", ["calls", "stream"])
def test_a_client_that_asks_much_at_once_and_reads_gets_everything(form):
    """Answers of 100 KB, of which the connection may have three waiting; and of 2 MB, of which it may have none."""
    got, done = [], threading.Semaphore(0)

    def heard(result=None, error=None):
        assert error is None, error
        got.append((int(result.get_response().id), result.as_numpy("y")))
        done.release()

    asked = client.InferInput("x", [1, 4], "FP32"), client.InferInput("x", [20, 4], "FP32")
    for made in asked:
        made.set_data_from_numpy(np.full(made.shape(), 7.0, np.float32))
    limits = replace(LIMITS, answers=3 * ANSWER, bodies=64 << 20)
    options = [("grpc.max_receive_message_length", -1)]
    batcher = replace(serving_settings(), max_batch=20)
    with serving(repository({"large": Counting}, batcher), ServeSettings(limits=limits)) as front:
        with client.InferenceServerClient(f"127.0.0.1:{front.port}", channel_args=options) as triton:
            if form == "stream":
                triton.start_stream(heard)
            for n in range(120):
                if form == "stream":
                    triton.async_stream_infer("large", [asked[n % 2]], request_id=str(n))
                else:
                    triton.async_infer("large", [asked[n % 2]], heard, request_id=str(n))
            for _ in range(120):
                assert done.acquire(timeout=30)
        until(lambda: (front.server.memory.used, front.server.answers.used) == (0, 0))
    assert sorted(n for n, _ in got) == list(range(120))
    assert form == "calls" or [n for n, _ in got] == list(range(120))
    assert all(array.shape == (20 if n % 2 else 1, WIDTH) and (array == 7.0).all() for n, array in got)


def serving_settings():
    from assay.batching.settings import BatcherSettings

    return BatcherSettings()


def test_a_stalled_answer_lets_the_rest_of_its_batch_go():
    batch = np.zeros((8, 1000), np.float32)
    stream = Stream(1, 0.0, None, 0)
    stream.waiting.extend(memoryview(p) for p in (batch[3].view(np.uint8).data, b"prefix", np.ones(9).data))
    stream.held = 1
    assert stream.stalled_since(1.0, 0) == 1.0
    first = stream.waiting[0]
    assert first.obj.base is not None
    assert stream.stalled_since(2.0, 0) == 1.0
    assert [bytes(p) for p in stream.waiting] == [bytes(4000), b"prefix", np.ones(9).tobytes()]
    assert isinstance(stream.waiting[0].obj, bytes)


def test_a_stream_behind_others_stalls_when_its_connection_does():
    stream = Stream(1, 0.0, None, 1000)
    stream.waiting.append(memoryview(b"abc"))
    stream.held = 3
    assert stream.stalled_since(1.0, 500) == 1.0
    assert stream.stalled_since(2.0, 600) == 2.0
    assert stream.stalled_since(3.0, 600) == 2.0
    stream.send_window = 0
    assert stream.stalled_since(4.0, 700) == 4.0
    assert stream.stalled_since(5.0, 800) == 4.0
