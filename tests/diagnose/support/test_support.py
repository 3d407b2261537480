"""Which engine takes which operator at which opset, held against the engines themselves."""

import onnx
import pytest
from onnx import TensorProto, helper

from assay.core.errors import NotAvailable
from assay.diagnose.support.table import ABSENT, ASKED, DOCUMENTED, operator_support, spans
from assay.graph.operator_uses import uses


def value(name, kind=TensorProto.FLOAT, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


@pytest.fixture(scope="module")
def odd():
    """Operators that some engine does not have, at opset 20."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("MaxUnpool", ["x", "i"], ["u"], kernel_shape=[2, 2]),
        helper.make_node("Gelu", ["x"], ["g"]),
        helper.make_node("Curl", ["x"], ["c"], domain="my.ops"),
        helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=0),
    ]
    shape = [1, 2, 4, 4]
    graph = helper.make_graph(
        nodes,
        "odd",
        [value("x", shape=shape), value("i", TensorProto.INT64, shape)],
        [value(n, shape=[]) for n in "rugcm"],
        [helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("my.ops", 1)], ir_version=9
    )


@pytest.fixture(scope="module")
def support(odd):
    return {s.engine: s for s in operator_support(uses(odd), 20)}


def test_what_was_asked_and_what_is_only_documented(support):
    hows = {name: s.how for name, s in support.items()}
    assert hows == {"onnxruntime": ASKED, "openvino": ASKED, "tensorrt": DOCUMENTED, "ascend": DOCUMENTED}
    assert all("not run" in s.source for s in support.values() if s.how == DOCUMENTED)


def test_refusals_at_the_files_own_opset(support):
    assert set(support["onnxruntime"].refused(20)) == {"my.ops::Curl"}
    assert set(support["openvino"].refused(20)) == {"my.ops::Curl", "MaxUnpool"}
    assert set(support["tensorrt"].refused(20)) == {"my.ops::Curl", "MaxUnpool"}
    assert not support["ascend"].covers(20)


def test_other_opsets(support):
    answers = support["onnxruntime"].answers
    assert answers["Gelu"][19] == ABSENT
    assert answers["Gelu"][20] is None
    assert support["onnxruntime"].whole() == ()
    assert support["openvino"].answers["ReduceMean"][13] is None  # written with an attribute there
    assert set(support["tensorrt"].answers["Relu"]) == set(range(11, 21))
    assert set(support["ascend"].answers["Relu"]) == set(range(11, 16))


def opens(part):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:
        return False
    return True


def test_onnx_runtimes_registry_says_what_opening_the_operator_says(odd, support):
    answers = support["onnxruntime"].answers
    compared = 0
    for use in uses(odd):
        for opset, why in answers[use.name].items():
            part = use.at(opset)
            if why == ABSENT or part is None:
                continue
            compared += 1
            assert opens(part) == (why is None), f"{use.name} at {opset}: {why}"
    assert compared > 30


def test_a_missing_library_is_an_answer(odd):
    found = operator_support(uses(odd), 20, {"nowhere": f"{__name__}:missing"})
    assert found[0].missing == "it is not installed"
    assert not found[0].covers(20)


def missing():
    raise NotAvailable("it is not installed")


def test_types_tell_uses_apart():
    nodes = [
        helper.make_node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE),
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["d"], ["b"]),
        helper.make_node("Relu", ["a"], ["c"]),
    ]
    graph = helper.make_graph(nodes, "g", [value("x", shape=[2])], [value("c", shape=[2]), value("b", 11, [2])])
    found = uses(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9))
    assert [(u.op_type, dict(u.types).get("T")) for u in found if u.op_type == "Relu"] == [
        ("Relu", "tensor(float)"),
        ("Relu", "tensor(double)"),
    ]
    for use in found:
        onnx.checker.check_model(use.part)


def test_spans():
    assert spans([13, 11, 12, 17]) == "11–13, 17"
    assert spans([]) == ""
