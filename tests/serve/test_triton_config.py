"""Triton's config.pbtxt: what we read of it, against protobuf's own text format, and what we say about the rest."""

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.batching.settings import BatcherSettings
from assay.core.errors import BadInput
from assay.serve.protobuf_text import Message, Word, parse
from assay.serve.triton_config import parse_triton_config, read_triton_config
from assay.serve.triton_settings import QueuePolicy, Tensor, VersionPolicy

WHOLE = """
# A model as Triton's documentation writes them.
name: "resnet18"
backend: "onnxruntime"
max_batch_size: 16
input [
  { name: "input" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, 224, 224 ] }
]
output { name: "output", data_type: TYPE_FP32; dims: 1000 }
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  preferred_batch_size: 16
  max_queue_delay_microseconds: 1500
  priority_levels: 3
  default_priority_level: 2
  default_queue_policy {
    timeout_action: DELAY
    default_timeout_microseconds: 250000
    allow_timeout_override: true
    max_queue_size: 64
  }
  priority_queue_policy: [ { key: 1, value: { max_queue_size: 7 } } ]
}
instance_group [ { count: 2 kind: KIND_CPU }, { kind: KIND_GPU gpus: [ 0, 1 ] } ]
version_policy: { specific: { versions: [ 2, 5 ] } }
model_warmup [{
  name: "first"
  batch_size: 4
  inputs { key: "input" value: { data_type: TYPE_FP32 dims: [ 3, 224, 224 ] random_data: true } }
}]
parameters { key: "intra_op_thread_count" value: { string_value: "1" } }
"""


def test_a_whole_file():
    found = parse_triton_config(WHOLE)
    assert (found.name, found.backend, found.max_batch) == ("resnet18", "onnxruntime", 16)
    assert found.inputs == (Tensor("input", "FP32", (3, 224, 224)),)
    assert found.outputs == (Tensor("output", "FP32", (1000,)),)
    batching = found.batching
    assert batching.preferred == (4, 8, 16)
    assert batching.max_delay_s == pytest.approx(1.5e-3)
    assert (batching.priority_levels, batching.default_priority) == (3, 2)
    assert batching.queue == QueuePolicy("delay", 0.25, 64)
    assert batching.by_priority == {1: QueuePolicy(max_queue=7)}
    assert (found.instances, found.instance_kinds) == (3, ("KIND_CPU", "KIND_GPU"))
    assert found.version_policy.chosen([1, 2, 3, 5]) == [2, 5]
    (warmup,) = found.warmups
    assert (warmup.name, warmup.batch_size, warmup.count) == ("first", 4, 1)
    assert warmup.inputs == {"input": (Tensor("input", "FP32", (3, 224, 224)), "random")}
    assert [w.partition(": ")[0] for w in found.warnings] == [f"config.pbtxt:{n}" for n in (7, 22, 24, 31)]
    assert "parameters has no meaning here" in found.warnings[-1]


def test_the_same_file_is_protobufs():
    """What we take from it is what Triton's own message holds."""
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    theirs = text_format.Parse(WHOLE, ModelConfig())
    ours = parse_triton_config(WHOLE)
    batching = theirs.dynamic_batching
    assert ours.max_batch == theirs.max_batch_size
    assert ours.batching.preferred == tuple(batching.preferred_batch_size)
    assert ours.batching.max_delay_s == pytest.approx(1e-6 * batching.max_queue_delay_microseconds)
    assert ours.batching.queue.max_queue == batching.default_queue_policy.max_queue_size
    assert ours.batching.by_priority[1].max_queue == batching.priority_queue_policy[1].max_queue_size
    assert ours.version_policy.versions == tuple(theirs.version_policy.specific.versions)


def test_in_the_batchers_words():
    found = BatcherSettings(**parse_triton_config(WHOLE).batcher_options())
    assert (found.max_batch, found.policy, found.preferred, found.instances) == (16, "delay", (4, 8, 16), 3)
    assert (found.max_queue, found.slo_s, found.on_timeout) == (64, 0.25, "delay")
    assert (found.priority_levels, found.default_priority) == (3, 2)


def test_what_a_file_leaves_open_is_absent():
    assert parse_triton_config("max_batch_size: 8").batcher_options() == {"max_batch": 1}
    assert parse_triton_config("").batcher_options() == {"max_batch": 1}
    found = parse_triton_config("max_batch_size: 8 dynamic_batching { }").batcher_options()
    assert found == {
        "max_batch": 8,
        "policy": "delay",
        "max_delay_s": 0.0,
        "preferred": (),
        "on_timeout": "reject",
    }
    assert BatcherSettings(**found).max_batch == 8


def test_version_policies():
    def chosen(text):
        return parse_triton_config(text).version_policy.chosen([3, 1, 2])

    assert chosen("") == [3]
    assert chosen("version_policy { latest { num_versions: 2 } }") == [2, 3]
    assert chosen("version_policy: { all {} }") == [1, 2, 3]
    assert chosen("version_policy: { specific { versions: 2 versions: 9 } }") == [2]
    assert VersionPolicy().chosen([]) == []


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('name: "a"\nmax_batch_size: "8"', 2, "whole number"),
        ("max_batch_size: -1", 1, "at least 0"),
        ("max_batch_size: 1.5", 1, "whole number"),
        ("max_batch_size: 99999999999999999999", 1, "whole number"),
        ("\n\nname: resnet", 3, "quotes"),
        ('name: "a', 1, "not expected"),
        ("dynamic_batching {\n  preferred_batch_size: [ 4, 8\n}", 2, "',' or ']'"),
        ("max_batch_size: 4\ndynamic_batching {\n preferred_batch_size: [ 8 ]\n}", 2, "over max_batch_size"),
        ("dynamic_batching { }", 1, "max_batch_size"),
        ("max_batch_size: 4 dynamic_batching { priority_levels: 2 }", 1, "default_priority_level"),
        ("dynamic_batching {", 1, "not closed"),
        ("dynamic_batching: 3", 1, "message"),
        ("input { name: 'x'\n data_type: FP32 }", 2, "TYPE_FP32"),
        ("instance_group { count: 0 }", 1, "at least 1"),
        ("instance_group { kind: KIND_TPU }", 1, "KIND_CPU"),
        ("version_policy { latest { } all { } }", 1, "one of"),
        ("version_policy { specific { } }", 1, "no versions"),
        ("\nsequence_batching { }", 2, "stateful"),
        ("ensemble_scheduling { }", 1, "ensemble"),
        ("model_transaction_policy {\n decoupled: true }", 2, "decoupled"),
        ("max_batch_size 8", 1, "':'"),
        ("max_batch_size:", 1, "no value"),
        ("}", 1, "name is expected"),
        ("a { " * 200, 1, "deeply"),
        ("dynamic_batching { preserve_ordering: maybe }", 1, "true or false"),
        ("max_batch_size: 8 §", 1, "§"),
    ],
)
def test_errors_name_file_and_line(text, line, says):
    with pytest.raises(BadInput) as caught:
        parse_triton_config(text, "models/m/config.pbtxt")
    assert caught.value.message.startswith(f"models/m/config.pbtxt:{line}: "), caught.value.message
    assert says in caught.value.message


def test_unknown_fields_are_warned_of():
    found = parse_triton_config("max_batchsize: 8\ndynamic_batching { delay: 5 }\nmax_batch_size: 2")
    assert found.max_batch == 2
    assert found.warnings[0] == "config.pbtxt:1: unknown field max_batchsize is ignored (did you mean max_batch_size?)"
    assert "delay" in found.warnings[1]


def test_a_timeout_that_must_not_be_overridden_is_told_of():
    text = "max_batch_size: 2 dynamic_batching { default_queue_policy { allow_timeout_override: %s } }"
    assert parse_triton_config(text % "true").warnings == ()
    (warning,) = parse_triton_config(text % "false").warnings
    assert "allow_timeout_override false has no meaning here" in warning


def test_reading_files(tmp_path):
    path = tmp_path / "config.pbtxt"
    path.write_text('name: "grüß\\303\\244"')
    assert read_triton_config(path).name == "grüßä"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="text"):
        read_triton_config(path)
    with pytest.raises(BadInput, match="cannot read"):
        read_triton_config(tmp_path / "absent")


# The text format itself

TEXTS = st.text(st.characters(codec="ascii", exclude_categories=()), max_size=12)


@st.composite
def configs(draw):
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    made = ModelConfig(name=draw(TEXTS), max_batch_size=draw(st.integers(0, 1 << 30)))
    for name in draw(st.lists(TEXTS, max_size=3)):
        made.input.add(name=name, dims=draw(st.lists(st.integers(-1, 1 << 40), max_size=3)), data_type=11)
    made.instance_group.add(count=draw(st.integers(1, 9)), kind=draw(st.integers(0, 3)))
    for key, value in draw(st.dictionaries(TEXTS, TEXTS, max_size=3)).items():
        made.parameters[key].string_value = value
    return made


@given(configs(), st.booleans(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_what_protobuf_writes_is_read(truth, one_line, brackets):
    text = text_format.MessageToString(
        truth, as_one_line=one_line, pointy_brackets=brackets, use_short_repeated_primitives=not one_line
    )
    found = parse_triton_config(text)
    assert (found.name, found.max_batch) == (truth.name, truth.max_batch_size)
    assert [(t.name, t.dims) for t in found.inputs] == [(i.name, tuple(i.dims)) for i in truth.input]
    assert found.instances == truth.instance_group[0].count


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_or_refused(text):
    try:
        parse_triton_config(text)
    except BadInput as error:
        assert error.message.startswith("config.pbtxt:")


def test_values():
    found = parse("a: 0x1F b: 017 c: -3 d: 1.5e3 e: 2.5f f: 'x' \"y\" g: WORD h < i: 1 > j [1, 2] [some.ext]: 4", "f")
    values = [(f.name, f.value) for f in found.fields]
    assert values[:7] == [("a", 31), ("b", 15), ("c", -3), ("d", 1500.0), ("e", 2.5), ("f", "xy"), ("g", Word("WORD"))]
    assert isinstance(values[7][1], Message)
    assert values[8:] == [("j", 1), ("j", 2), ("some.ext", 4)]
