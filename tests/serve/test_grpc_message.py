"""The hand-written reader and writer of ModelInfer against protobuf itself."""

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.serve.grpc import wire
from assay.serve.grpc.inference_pb2 import message
from assay.serve.grpc.message import (
    OutputHead,
    RequestReader,
    ResponseHead,
    ResponseWriter,
    first_raw,
    read_parameter,
)

Request, Response, Parameter = message("ModelInferRequest"), message("ModelInferResponse"), message("InferParameter")
NAMES = st.text(max_size=8)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
SHAPES = st.lists(INT64, max_size=5)


@st.composite
def parameters(draw):
    kind = draw(st.sampled_from(["bool_param", "int64_param", "string_param", "double_param", "uint64_param", None]))
    if kind is None:
        return Parameter()
    values = {
        "bool_param": st.booleans(),
        "int64_param": INT64,
        "string_param": NAMES,
        "double_param": st.floats(allow_nan=False),
        "uint64_param": st.integers(0, (1 << 64) - 1),
    }
    return Parameter(**{kind: draw(values[kind])})


PARAMETERS = st.dictionaries(NAMES, parameters(), max_size=3)


def fill(entries, given_):
    for key, value in given_.items():
        entries[key].CopyFrom(value)


@st.composite
def requests(draw):
    made = Request(model_name=draw(NAMES), model_version=draw(NAMES), id=draw(NAMES))
    fill(made.parameters, draw(PARAMETERS))
    for name, datatype, shape in draw(st.lists(st.tuples(NAMES, NAMES, SHAPES), max_size=3)):
        item = made.inputs.add(name=name, datatype=datatype, shape=shape)
        fill(item.parameters, draw(PARAMETERS))
        values = draw(st.lists(st.integers(-(1 << 31), (1 << 31) - 1), max_size=3))
        if values:
            item.contents.int_contents.extend(values)
    for name in draw(st.lists(NAMES, max_size=2)):
        fill(made.outputs.add(name=name).parameters, draw(PARAMETERS))
    made.raw_input_contents.extend(draw(st.lists(st.binary(max_size=40), max_size=3)))
    return made


def chosen(entries):
    found = {}
    for key in entries:
        choice = entries[key].WhichOneof("parameter_choice")
        found[key] = None if choice is None else getattr(entries[key], choice)
    return found


def set_aside(truth, number):
    """Keys of map entries that hold a field nobody knows.

    Protobuf's Python (upb) keeps such an entry among the unknown fields; its C++, which Triton runs,
    and the specification (a map is a repeated entry) read it, and so does ours.
    """
    return {read_parameter(f.data)[0] for f in UnknownFieldSet(truth) if f.field_number == number and f.wire_type == 2}


def same_parameters(read, truth, number):
    aside = set_aside(truth, number)
    ours = {k: v for k, v in read.parameters.items() if k not in aside}
    theirs = {k: v for k, v in chosen(truth.parameters).items() if k not in aside}
    assert repr(dict(sorted(ours.items()))) == repr(dict(sorted(theirs.items())))
    assert set(read.parameters) == set(truth.parameters) | aside


def same(read, truth):
    assert (read.model_name, read.model_version, read.id) == (truth.model_name, truth.model_version, truth.id)
    same_parameters(read, truth, 4)
    assert len(read.inputs) == len(truth.inputs)
    for a, b in zip(read.inputs, truth.inputs, strict=True):
        assert (a.name, a.datatype, list(a.shape)) == (b.name, b.datatype, list(b.shape))
        same_parameters(a, b, 4)
        contents = message("InferTensorContents").FromString(a.contents or b"")
        assert contents == b.contents
        assert (a.contents is not None) == b.HasField("contents")
    assert [o.name for o in read.outputs] == [o.name for o in truth.outputs]
    for a, b in zip(read.outputs, truth.outputs, strict=True):
        same_parameters(a, b, 2)
    assert [bytes(r) for r in read.raw] == list(truth.raw_input_contents)


def view(content):
    return memoryview(bytearray(content))


@given(requests())
@settings(max_examples=150, deadline=None)
def test_a_request_is_read_as_protobuf_reads_it(truth):
    same(RequestReader().read(view(truth.SerializeToString())), truth)


@given(requests(), st.data())
@settings(max_examples=400, deadline=None)
def test_damaged_requests_are_read_or_refused_as_protobuf_does(truth, data):
    content = bytearray(truth.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        if not content:
            break
        at = data.draw(st.integers(0, len(content) - 1))
        change = data.draw(st.sampled_from(["set", "cut", "insert"]))
        if change == "set":
            content[at] = data.draw(st.integers(0, 255))
        elif change == "cut":
            del content[at:]
        else:
            content[at:at] = data.draw(st.binary(min_size=1, max_size=12))
    agree(bytes(content))


@given(st.binary(max_size=60))
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_read_or_refused_as_protobuf_does(content):
    agree(content)


def agree(content):
    try:
        expected = Request.FromString(content)
    except DecodeError:
        expected = None
    try:
        read = RequestReader().read(view(content))
    except wire.MalformedMessage:
        assert expected is None, "protobuf reads this"
        return
    if expected is None:
        # The contents of a tensor are looked at when they are needed, not before.
        with pytest.raises(DecodeError):
            for item in read.inputs:
                message("InferTensorContents").FromString(item.contents or b"")
        return
    same(read, expected)


def test_a_map_entry_with_a_field_nobody_knows_is_read_as_the_specification_says():
    content = b'"\x0c\n\x03key\x12\x03\x1a\x01v8\x07'
    assert RequestReader().read(view(content)).parameters == {"key": "v"}
    agree(content)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\x0a\x05abc", "ends before its length"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a length of 2^64 - 1"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a varint of eleven bytes"),
        (b"\x02\x00", "field number 0"),
        (b"\x0f", "wire type 7"),
        (b"\x0c", "the end of a group that was not begun"),
        (b"\x0b" * 200, "two hundred groups in each other"),
        (b"\x0a\x01\xff", "a name that is not UTF-8"),
        (b"\x2a\x03\x1a\x05\x01", "packed sizes that run over their field"),
        (b"\x2a\x04\x1a\x02\x01\x80", "packed sizes that end within a number"),
    ],
)
def test_what_protobuf_refuses_is_refused(content, why):
    with pytest.raises(DecodeError):
        Request.FromString(content)
    with pytest.raises(wire.MalformedMessage):
        RequestReader().read(view(content))


def test_remembered_inputs_do_not_mix():
    reader = RequestReader()
    for shape in ([1, 2], [2, 1], [1, 2]):
        truth = Request(model_name="m")
        truth.inputs.add(name="x", datatype="FP32", shape=shape)
        assert reader.read(view(truth.SerializeToString())).inputs[0].shape == tuple(shape)


def test_more_kinds_of_inputs_than_are_remembered():
    reader = RequestReader()
    for size in range(3000):
        truth = Request()
        truth.inputs.add(name="x", datatype="FP32", shape=[size])
        assert reader.read(view(truth.SerializeToString())).inputs[0].shape == (size,)
    assert len(reader._inputs) <= 1024


def test_raw_contents_are_views_of_the_message():
    truth = Request(raw_input_contents=[b"abcd"])
    data = view(truth.SerializeToString())
    read = RequestReader().read(data)
    data[-1] = ord("z")
    assert bytes(read.raw[0]) == b"abcz"


@given(requests(), st.integers(0, 200))
@settings(max_examples=100, deadline=None)
def test_the_first_raw_tensor_is_found_from_a_beginning(truth, seen):
    content = truth.SerializeToString()
    found = first_raw(memoryview(content[:seen]))
    if found is not None:
        raw = RequestReader().read(view(content)).raw[0]
        assert content[found : found + len(raw)] == bytes(raw)
    elif seen >= len(content):
        assert not truth.raw_input_contents


@given(
    st.tuples(NAMES, NAMES, NAMES),
    st.dictionaries(
        NAMES, st.one_of(st.booleans(), INT64, NAMES, st.floats(allow_nan=False), st.just(1 << 63)), max_size=3
    ),
    st.lists(
        st.tuples(NAMES, NAMES, st.lists(st.integers(0, 1 << 40), max_size=4), st.binary(max_size=50)), max_size=3
    ),
)
@settings(max_examples=150, deadline=None)
def test_a_response_is_what_protobuf_reads(texts, given_, tensors):
    heads = [OutputHead(name, datatype, tuple(shape), given_) for name, datatype, shape, _ in tensors]
    raw = [content for *_, content in tensors]
    writer = ResponseWriter()
    for _ in range(2):  # the second time from what was remembered
        parts, size = writer.write(ResponseHead(*texts, given_), heads, raw)
        content = b"".join(parts)
        assert len(content) == size
        read = Response.FromString(content)
        assert (read.model_name, read.model_version, read.id) == texts
        assert list(read.raw_output_contents) == raw
        assert {k: repr(v) for k, v in chosen(read.parameters).items()} == {k: repr(v) for k, v in given_.items()}
        for head, output in zip(heads, read.outputs, strict=True):
            assert (output.name, output.datatype, tuple(output.shape)) == (head.name, head.datatype, head.shape)
            assert {k: repr(v) for k, v in chosen(output.parameters).items()} == {k: repr(v) for k, v in given_.items()}


def test_an_answer_holds_the_tensor_itself():
    array = np.arange(4, dtype=np.float32)
    data = array.view(np.uint8).data
    parts, _ = ResponseWriter().write(ResponseHead("m", "1"), [OutputHead("y", "FP32", (4,))], [data])
    assert any(part is data for part in parts)
