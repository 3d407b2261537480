import onnx
from onnx import helper

from assay.graph.mapping import ONE_TO_MANY, ONE_TO_ONE, aten_mapping
from assay.graph.provenance import UNKNOWN, by_tensor, inherited, node_provenance

TRACE = (
    'File "/home/me/net.py", line 12, in forward\n    x = self.norm(x)\n'
    'File "/env/site-packages/torch/nn/modules/normalization.py", line 3, in forward\n    return F.group_norm(x)'
)


def node(op, inputs, outputs, aten=None, call="", scopes=""):
    made = helper.make_node(op, inputs, outputs, name=f"n_{outputs[0]}")
    if aten:
        fx = f"%{call} : [num_users=1] = call_function[target=torch.ops.{aten}](args = (%x,), kwargs = {{}})"
        for key, value in (("fx_node", fx), ("name_scopes", scopes), ("stack_trace", TRACE)):
            made.metadata_props.add(key=f"pkg.torch.onnx.{key}", value=value)
    return made


def model(*nodes):
    return helper.make_model(helper.make_graph(list(nodes), "g", [], []))


NORM = {"aten": "aten.group_norm.default", "scopes": "['', 'layer1', 'layer1.norm', 'group_norm']"}
RAW = model(
    node("Reshape", ["x"], ["a"], call="group_norm", **NORM),
    node("InstanceNormalization", ["a"], ["b"], call="group_norm", **NORM),
    node("Mul", ["b"], ["c"], call="group_norm", **NORM),
    node("Relu", ["c"], ["d"], aten="aten.relu.default", call="relu", scopes="['', 'relu']"),
    node("Relu", ["d"], ["e"], aten="aten.relu.default", call="relu_1", scopes="['', 'relu_1']"),
)


def test_module_operator_and_the_users_own_line():
    found = node_provenance(RAW.graph.node[1])
    assert found.module == "layer1.norm"
    assert found.aten == "aten.group_norm.default"
    assert found.line == "/home/me/net.py:12: x = self.norm(x)"
    assert str(found) == "module layer1.norm, aten.group_norm.default, /home/me/net.py:12: x = self.norm(x)"
    assert str(UNKNOWN) == "of unknown origin"


def test_names_of_the_torchscript_exporter_say_the_module():
    made = helper.make_node("Conv", ["x"], ["y"], name="/layer1/layer1.0/conv1/Conv")
    assert node_provenance(made).module == "layer1.0.conv1"
    assert node_provenance(helper.make_node("Conv", ["x"], ["y"], name="Conv_0")) == UNKNOWN


def test_nodes_without_metadata_inherit_by_tensor_and_then_from_what_they_read():
    slim = model(
        helper.make_node("GroupNormalization", ["x"], ["c"], name="fused"),
        helper.make_node("Abs", ["c"], ["new"], name="added"),
        helper.make_node("Neg", ["elsewhere"], ["f"], name="alien"),
    )
    found = inherited(slim, by_tensor(RAW))
    assert found["fused"].module == "layer1.norm"
    assert found["added"].aten == "aten.group_norm.default"
    assert found["alien"] == UNKNOWN


def test_one_to_one_one_to_many_and_refused():
    refusals = {"small": lambda op: "no norms" if op == "InstanceNormalization" else None, "large": lambda op: None}
    norm, relu = aten_mapping(RAW, refusals)
    assert (norm.aten, norm.onnx, norm.kind) == (
        "aten.group_norm.default",
        ("Reshape", "InstanceNormalization", "Mul"),
        ONE_TO_MANY,
    )
    assert norm.refused_by == (("small", "no norms"),)
    assert (relu.kind, relu.calls, relu.refused_by) == (ONE_TO_ONE, 2, ())
    assert norm.to_json()["modules"] == ["layer1.norm"]
    assert aten_mapping(model(helper.make_node("Relu", ["x"], ["y"]))) == ()


def test_notes_that_are_none_are_passed_over():
    """Anybody may write into a file."""
    for note in ("[" * 100_000, "{[]: 1}", "[1, 2"):
        node = helper.make_node("Relu", ["x"], ["y"], name="n")
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=note)
        assert node_provenance(node).module is None
    for note in ("[" * 100_000, '[["aten.relu", ["Relu"], Infinity]]', "7"):
        model = onnx.ModelProto()
        model.metadata_props.add(key="assay.aten", value=note)
        assert aten_mapping(model) == ()
