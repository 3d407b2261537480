"""Messages of all gRPC clients together: what came is counted and has memory, what was only announced is not and has
none."""

import random
import zlib
from contextlib import ExitStack

import numpy as np
import pytest
from grpc_servers import RawClient, grpc_message, null_session, repository, serving, until
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.tensors import Signature, TensorSpec
from assay.serve.errors import ServeError
from assay.serve.grpc.inference_pb2 import message
from assay.serve.grpc.stream import Assembler, MessageMemory
from assay.serve.http.buffers import ALIGNMENT, SMALLEST
from assay.serve.settings import Limits, ServeSettings

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
DATA, HEADERS = 0, 1
WIDTH = 60_000
BODY = 1 << 20
SIGNATURE = Signature((TensorSpec("x", "float32", ("b", WIDTH)),), (TensorSpec("y", "float32", ("b", 1)),))
LIMITS = Limits(body=BODY, inflated=BODY, bodies=1, connections=64)


@pytest.fixture(params=["uvloop", "asyncio"])
def front(request):
    with serving(repository({"wide": null_session(SIGNATURE)}), ServeSettings(limits=LIMITS), loop=request.param) as it:
        assert it.server.memory.held.limit == 2 * BODY
        yield it
        until(lambda: it.server.memory.used == 0)
        assert it.server.memory.spare == 0


def wide(rows=1, value=3.0):
    made = message("ModelInferRequest")(model_name="wide")
    made.inputs.add(name="x", datatype="FP32", shape=[rows, WIDTH])
    made.raw_input_contents.append(np.full((rows, WIDTH), value, np.float32).tobytes())
    return made.SerializeToString()


def asked(front, content, pieces=1, flag=0, **more):
    """The status of a call of its own, and the first number of its answer."""
    with RawClient(front.port) as raw:
        raw.send(HEADERS, 0x4, 1, raw.headers(INFER, **more))
        content = grpc_message(content, flag)
        size = -(-len(content) // pieces)
        for start in range(0, len(content), size):
            raw.send(DATA, start + size >= len(content), 1, content[start : start + size])
        first = raw.until(HEADERS, 1)
        fields = dict(raw.decoder.decode(first[3]))
        if first[1] & 1:
            return fields, None
        found = message("ModelInferResponse").FromString(raw.until(DATA, 1)[3][5:])
        return raw.trailers(1), np.frombuffer(found.raw_output_contents[0], np.float32)[0]


def slow(front, announced, sent, path=INFER):
    raw = RawClient(front.port)
    raw.send(HEADERS, 0x4, 1, raw.headers(path))
    raw.send(DATA, 0, 1, b"\0" + announced.to_bytes(4, "big") + bytes(sent))
    return raw


@pytest.mark.parametrize("path", [INFER, STREAM_INFER, "/inference.GRPCInferenceService/ServerLive"])
def test_what_is_only_announced_locks_nobody_out_and_has_no_memory(front, path):
    memory = front.server.memory
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(slow(front, BODY, 10, path))
        until(lambda: memory.used == 40 * SMALLEST)
        assert memory.spare <= memory.held.limit // 4 + 40 * SMALLEST  # where 40 MiB were announced
        for pieces in (1, 7):
            found, value = asked(front, wide(4), pieces)
            assert (found["grpc-status"], value) == ("0", 3.0)
        until(lambda: memory.used == 40 * SMALLEST)


def test_what_came_is_counted_and_more_is_refused_until_there_is_room(front):
    memory, came = front.server.memory, 950_000
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(slow(front, BODY, came))
        until(lambda: memory.used == 2 * came)
        for content, more in ((wide(1), {}), (zlib.compress(wide(1)), {"flag": 1, "grpc_encoding": "deflate"})):
            refused, _ = asked(front, content, **more)
            assert refused["grpc-status"] == "14", refused
            assert refused["grpc-retry-pushback-ms"] == "1000"
        small = message("ModelInferRequest")(model_name="unknown").SerializeToString()
        assert asked(front, small)[0]["grpc-status"] == "5"  # it was read
        until(lambda: memory.used == 2 * came)
    until(lambda: memory.used == 0)
    for content, more in ((wide(1), {}), (zlib.compress(wide(1)), {"flag": 1, "grpc_encoding": "deflate"})):
        found, value = asked(front, content, **more)
        assert (found["grpc-status"], value) == ("0", 3.0)


def test_one_stream_that_is_refused_leaves_the_others_of_its_connection(front):
    memory = front.server.memory
    with slow(front, BODY, 1_000_000), slow(front, BODY, 1_000_000), RawClient(front.port) as raw:
        until(lambda: memory.used == 2_000_000)
        raw.send(HEADERS, 0x4, 1, raw.headers(INFER))
        raw.send(DATA, 0, 1, b"\0" + BODY.to_bytes(4, "big") + bytes(500_000))
        assert raw.trailers(1)["grpc-status"] == "14"
        raw.send(DATA, 0, 1, bytes(100_000))  # nobody's any more
        raw.call(3)
        assert raw.trailers(3)["grpc-status"] == "0"
        assert memory.used == 2_000_000


def test_a_message_gets_memory_as_it_comes():
    memory = MessageMemory(1 << 30)
    one = Assembler(memory, 1 << 28)
    one.feed(memoryview(b"\0" + (100 << 20).to_bytes(4, "big") + b"abc"))
    assert (memory.used, memory.spare) == (SMALLEST, (1 << 20) - 3)
    came = 3
    while one.room() is not None and came < 1 << 20:
        count = min(30_000, len(one.room()))
        assert one.filled(count) is None
        came += count
    assert memory.used == came == 1 << 20
    assert memory.spare == 15 << 20
    one.drop()
    assert (memory.used, memory.spare) == (0, 0)


def test_a_message_up_to_a_megabyte_has_one_buffer_from_the_start():
    one = Assembler(MessageMemory(1 << 30), 1 << 28)
    one.feed(memoryview(b"\0" + (602_112).to_bytes(4, "big") + b"x"))
    first = one.room()
    assert len(first) == 602_111
    assert one.filled(602_111).data.obj is first.obj


@given(st.integers(0, 300_000), st.integers(0, 2**32), st.sampled_from([1, 1 << 19, 1 << 30]))
@settings(max_examples=60, deadline=None)
def test_messages_that_grow_are_whole_and_leave_nothing(size, seed, spare):
    """``spare`` is what may be allocated ahead of what comes."""
    draw = random.Random(seed)
    memory = MessageMemory(1 << 30)
    memory._most_spare = spare
    lead = b"\x3a" + bytes(message_varint(size))  # as if it were one raw tensor
    content = lead + draw.randbytes(size)
    one = Assembler(memory, 1 << 20)
    data = memoryview(grpc_message(content))
    at, got = 0, None
    while at < len(data):
        assert got is None
        room = one.room()
        count = draw.choice([1, 3, 4096, 40_000, 200_000])
        if room is not None and len(room) and draw.random() < 0.5:
            count = min(count, len(room))
            room[:count] = data[at : at + count]
            got = one.filled(count)
        else:
            got, count = one.feed(data[at : at + count])
        at += count
        assert memory.spare <= max(spare, memory.used)
    assert bytes(got.data) == content
    assert memory.used == max(SMALLEST, len(content))
    memory.give(got.lease)
    assert (memory.used, memory.spare) == (0, 0)


def message_varint(value):
    while value > 127:
        yield value & 127 | 128
        value >>= 7
    yield value


def test_a_tensor_stays_aligned_while_its_message_grows():
    content = b"\x3a" + bytes(message_varint(3 << 20)) + bytes(3 << 20)
    one = Assembler(MessageMemory(1 << 30), 1 << 28)
    data = memoryview(grpc_message(content))
    got, at = None, 0
    while got is None:
        got, count = one.feed(data[at : at + 50_000])
        at += count
    address = np.frombuffer(got.data, np.uint8).ctypes.data
    assert (address + len(content) - (3 << 20)) % ALIGNMENT == 0


def test_what_does_not_fit_is_refused_and_leaves_nothing():
    memory = MessageMemory(10_000)
    first, second = Assembler(memory, 9_000), Assembler(memory, 9_000)
    assert first.feed(memoryview(b"\0" + (9_000).to_bytes(4, "big") + bytes(5_000)))[0] is None
    with pytest.raises(ServeError) as caught:
        second.feed(memoryview(b"\0" + (9_000).to_bytes(4, "big") + bytes(5_001)))
    assert caught.value.kind.grpc == "UNAVAILABLE"
    second.drop()
    assert memory.used == 5_000
    first.drop()
    assert (memory.used, memory.spare) == (0, 0)
