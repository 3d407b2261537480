"""Comparison of sessions, with ONNX Runtime as the candidate where a real engine matters."""

import re

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from assay.core.errors import EngineFailed
from assay.core.tensors import Signature, TensorSpec
from assay.measure.numerics import compare_sessions

WEIGHTS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def linear(feed):
    return {"y": feed["x"] @ WEIGHTS}


@pytest.fixture
def reference(session_of, signature):
    return session_of(linear, signature())


@pytest.fixture
def other(session_of, signature):
    def make(function, batch="batch"):
        return session_of(function, signature(batch))

    return make


@pytest.fixture(scope="module")
def runtime():
    """The same linear model in ONNX Runtime, with its weights scaled."""

    def make(scale=1.0):
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        graph = helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
            [numpy_helper.from_array(WEIGHTS * np.float32(scale), "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        opened = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return lambda feed: {"y": opened.run(["y"], dict(feed))[0]}

    return make


def test_a_real_engine_agrees(reference, other, runtime, feeds):
    found = compare_sessions(reference, other(runtime()), {1: feeds(1, 3), 2: feeds(2), 8: feeds(8)})
    assert found.failures == found.not_checked == found.warnings == ()
    assert found.rows == 3 + 2 + 8
    assert set(found.outputs) == {1, 2, 8}
    assert found.outputs[1]["y"].n == 9
    figures = found.figures()
    assert figures["numeric.relative_rms"].value < 1e-6
    assert figures["numeric.top1_agreement"].value == 1.0
    assert figures["numeric.top1_agreement"].n == 13
    assert found.to_json()["8"]["y"]["n"] == 24


def test_a_changed_weight_shows(reference, other, runtime, feeds):
    found = compare_sessions(reference, other(runtime(1.01)), {4: feeds(4)})
    assert found.figures()["numeric.relative_rms"].value == pytest.approx(0.01, rel=1e-3)
    assert found.figures()["numeric.snr"].value == pytest.approx(40, abs=0.1)


def test_equal_outputs_have_no_snr_and_say_why(reference, feeds):
    figures = compare_sessions(reference, reference, {2: feeds(2)}).figures()
    assert figures["numeric.relative_rms"].value == 0.0
    assert figures["numeric.snr"].value is None
    assert "no noise" in figures["numeric.snr"].reason


def test_the_worst_batch_decides_the_figures(reference, other, feeds):
    def worse_at_two(feed):
        return {"y": linear(feed)["y"] * (1.5 if len(feed["x"]) == 2 else 1.0)}

    figures = compare_sessions(reference, other(worse_at_two), {1: feeds(1), 2: feeds(2), 8: feeds(8)}).figures()
    assert figures["numeric.relative_rms"].value == pytest.approx(0.5, rel=1e-5)


CASES = {
    "missing": (lambda f: {"z": f["x"]}, r"the candidate has no output 'y' \(it has z\)"),
    "extra": (lambda f: {**linear(f), "z": f["x"]}, "output 'z' is not in the reference"),
    "shape": (lambda f: {"y": linear(f)["y"].T}, r"shape \(2, 3\) in the reference, \(3, 2\)"),
    "dtype": (lambda f: {"y": linear(f)["y"].astype(np.float64)}, "dtype float32 in the reference, float64"),
    "nan": (lambda f: {"y": linear(f)["y"] * np.nan}, "NaN or infinity in 0 values of the reference and 6"),
    "nothing": (lambda f: {}, r"no output 'y' \(it has none\)"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_never_equal(reference, other, feeds, case):
    function, said = CASES[case]
    found = compare_sessions(reference, other(function), {2: feeds(2)})
    assert found.failures
    assert any(re.search(said, text) for text in found.failures), found.failures


def test_nan_in_the_reference_fails_too(other, feeds):
    def broken(feed):
        return {"y": linear(feed)["y"] * np.nan}

    found = compare_sessions(other(broken), other(broken), {2: feeds(2)})
    assert "NaN or infinity in 6 values of the reference and 6 of the candidate" in found.failures[0]
    assert found.figures()["numeric.relative_rms"].value is None


def test_outputs_are_matched_by_name_never_by_place(session_of, feeds):
    spec = TensorSpec("x", "float32", ("batch", 4))
    outs = tuple(TensorSpec(n, "float32", ("batch", 4)) for n in "ab")
    first = session_of(lambda f: {"a": f["x"], "b": -f["x"]}, Signature((spec,), outs))
    swapped = session_of(lambda f: {"b": -f["x"], "a": f["x"]}, Signature((spec,), outs[::-1]))
    renamed = session_of(lambda f: {"a": -f["x"], "b": f["x"]}, Signature((spec,), outs))
    assert compare_sessions(first, swapped, {2: feeds(2)}).figures()["numeric.max_abs"].value == 0
    assert compare_sessions(first, renamed, {2: feeds(2)}).figures()["numeric.max_abs"].value > 0


def test_nothing_to_compare(reference, feeds):
    assert "there are no feeds" in compare_sessions(reference, reference, {}).failures[0]
    found = compare_sessions(reference, reference, {1: feeds(1), 2: []})
    assert found.failures == ("batch 2: nothing was compared, there are no feeds",)


def test_a_static_batch_is_compared_alone_and_the_rest_listed(reference, other, feeds):
    found = compare_sessions(reference, other(linear, batch=2), {1: feeds(1), 2: feeds(2), 8: feeds(8)})
    assert set(found.outputs) == {2}
    assert found.failures == ()
    assert found.not_checked == (
        "batch 1: the candidate accepts only batch 2",
        "batch 8: the candidate accepts only batch 2",
    )


def test_a_static_batch_that_nobody_fed_compares_nothing(reference, other, feeds):
    found = compare_sessions(reference, other(linear, batch=4), {1: feeds(1)})
    assert "nothing was compared: batch 1" in found.failures[0]


def test_a_side_that_fails_is_named_and_the_other_batches_go_on(reference, other, feeds):
    def fragile(feed):
        if len(feed["x"]) > 1:
            raise EngineFailed("out of memory")
        return linear(feed)

    found = compare_sessions(reference, other(fragile), {1: feeds(1), 2: feeds(2)})
    assert found.failures == ("batch 2: the candidate failed: out of memory",)
    assert set(found.outputs) == {1}
    assert "the reference failed" in compare_sessions(other(fragile), reference, {2: feeds(2)}).failures[0]


def test_feeds_of_the_wrong_size(reference, feeds):
    assert compare_sessions(reference, reference, {2: feeds(3)}).failures[0] == "batch 2: a feed has 3 rows"


def test_an_output_that_never_changes_shows_little(other, feeds):
    def constant(feed):
        return {"y": np.ones((len(feed["x"]), 3), np.float32)}

    found = compare_sessions(other(constant), other(constant), {2: feeds(2), 1: feeds(1)})
    assert "is the same for all 3 rows" in found.warnings[0]


def test_strings_are_equal_or_not(session_of, feeds):
    signature = Signature((TensorSpec("x", "float32", ("batch", 4)),), (TensorSpec("s", "string", ("batch",)),))
    words = np.array([b"cat", b"dog"], object)
    same = session_of(lambda f: {"s": words.copy()}, signature)
    changed = session_of(lambda f: {"s": np.array([b"cat", b"cow"], object)}, signature)
    assert compare_sessions(same, same, {2: feeds(2)}).failures == ()
    assert "1 of 2 strings differ" in compare_sessions(same, changed, {2: feeds(2)}).failures[0]
