from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from assay.core.errors import BadInput, UnknownName
from assay.graph.feeds import draw_feed
from assay.graph.passes import PASSES
from assay.graph.signature import read_signature
from assay.graph.simplify import SimplifyResult, difference, simplify

HEADER = "import numpy as np\nimport onnx\nfrom onnx import helper, numpy_helper\n"


@pytest.fixture
def go(net: Path, run, tmp_path: Path):
    """Run passes on the small net; ``body`` is a user's pass, called ``mine``."""

    def simplified(*passes: str, body: str = "") -> SimplifyResult:
        names = passes
        if body:
            (tmp_path / "user.py").write_text(f"{HEADER}def mine(model):\n{body}")
            names = (*passes, f"{tmp_path / 'user.py'}:mine")
        signature = read_signature(net)
        feeds = [draw_feed(signature, b, b, None, {"h": 6, "w": 5}) for b in (1, 3)]
        return simplify(net, tmp_path / "out.onnx", names, run, feeds)

    return simplified


def test_onnxslim_is_kept_and_removes_the_identity(go) -> None:
    result = go("onnxslim")
    (row,) = result.passes
    assert (row.name, row.status, row.nodes_before, row.nodes_after) == ("onnxslim", "kept", 6, 5)
    assert row.error is not None and row.error <= result.tolerance
    assert (result.nodes_before, result.nodes_after) == (6, 5)
    assert read_signature(result.path).inputs[0].shape == ("batch", 3, "h", "w")


def test_no_passes_copy_the_model(go, net: Path) -> None:
    result = go()
    assert result.passes == ()
    assert onnx.load(str(result.path)) == onnx.load(str(net))


def test_a_pass_that_changes_outputs_is_rolled_back_with_figures_and_the_rest_goes_on(go, net: Path) -> None:
    body = (
        "    w = numpy_helper.to_array(model.graph.initializer[0]) * 1.001\n"
        "    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(w.astype('float32'), 'conv.weight'))\n"
        "    return model\n"
    )
    result = go("onnxslim", body=body)
    slim, mine = result.passes
    assert slim.status == "kept" and mine.status == "rolled_back"
    assert mine.error is not None and 1e-5 < mine.error < 1e-2
    assert "it changed the outputs" in mine.reason and "e-0" in mine.reason
    saved = {t.name: t for t in onnx.load(str(result.path)).graph.initializer}
    original = {t.name: t for t in onnx.load(str(net)).graph.initializer}
    assert saved["conv.weight"].raw_data == original["conv.weight"].raw_data


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("    raise ValueError('no such luck')\n", "it failed: ValueError: no such luck"),
        ("    return None\n", "not an onnx.ModelProto"),
        ("    model.graph.node[2].op_type = 'Reluu'\n    return model\n", "Reluu"),
        (
            "    model.graph.output[0].name = 'z'\n    model.graph.node[5].output[0] = 'z'\n    return model\n",
            "y became z",
        ),
        (
            "    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3\n    return model\n",
            "changed the input x:batchx3xhxw:float32 to x:3x3xhxw:float32",
        ),
        (
            "    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 3\n    return model\n",
            "changed the output y:batchx5:float32 to y:3x5:float32",
        ),
        (
            "    b = np.full(5, np.nan, 'float32')\n"
            "    model.graph.initializer[3].CopyFrom(numpy_helper.from_array(b, 'fc.bias'))\n    return model\n",
            "changed the outputs: relative error inf",
        ),
        ("    del model.graph.node[3:]\n    return model\n", "checker"),
    ],
)
def test_everything_else_that_is_rolled_back(go, net: Path, body: str, reason: str) -> None:
    result = go(body=body)
    assert result.passes[0].status == "rolled_back"
    assert reason in result.passes[0].reason
    assert onnx.load(str(result.path)) == onnx.load(str(net))


def test_a_users_pass_that_is_right_is_kept_and_prints_nothing(go, capfd) -> None:
    result = go(body="    print('hello')\n    model.graph.node[1].name = 'renamed'\n    return model\n")
    assert result.passes[0].status == "kept"
    assert capfd.readouterr() == ("", "")


def test_dropped_metadata_dim_names_and_unread_inputs_come_back(run, build, tmp_path: Path) -> None:
    proto = build()
    proto.metadata_props.add(key="k", value="v")
    proto.graph.input.append(onnx.helper.make_tensor_value_info("unread", onnx.TensorProto.FLOAT, ["batch"]))
    path = tmp_path / "unread.onnx"
    onnx.save_model(proto, str(path))
    (tmp_path / "user.py").write_text(
        "def mine(model):\n"
        "    del model.metadata_props[:]\n"
        "    del model.graph.input[1]\n"
        "    model.graph.output[0].type.tensor_type.shape.dim[0].Clear()\n"
        "    return model\n"
    )
    feed = draw_feed(read_signature(path), 2, 0, None, {"h": 4, "w": 4})
    result = simplify(path, tmp_path / "out.onnx", (f"{tmp_path / 'user.py'}:mine",), run, [feed])
    assert result.passes[0].status == "kept", result.passes
    assert read_signature(result.path) == read_signature(path)
    assert onnx.load(str(result.path)).metadata_props[0].value == "v"


@pytest.mark.parametrize("name", ["onnxsim", "polygraphy_fold", "graphsurgeon_cleanup"])
def test_optional_passes_are_checked_or_said_to_be_missing_with_the_remedy(go, name: str) -> None:
    library = {"onnxsim": "onnxsim", "polygraphy_fold": "polygraphy", "graphsurgeon_cleanup": "onnx_graphsurgeon"}[name]
    (row,) = go(name).passes
    if importlib.util.find_spec(library) is None:
        assert row.status == "unavailable" and "pip install" in row.reason
    else:
        assert row.status == "kept", row.reason


def test_a_model_above_protobufs_limit_is_left_as_it_is_and_said(go, monkeypatch) -> None:
    from assay.graph import simplify as module

    monkeypatch.setattr(module, "PASS_LIMIT_BYTES", 100)
    (row,) = go("onnxslim").passes
    assert row.status == "unavailable" and "weights take" in row.reason


def test_every_pass_of_the_table_resolves() -> None:
    from assay.graph.simplify import find_pass

    assert all(callable(find_pass(name)) for name in PASSES)


def test_bad_requests(net: Path, run, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    with pytest.raises(UnknownName) as caught:
        simplify(net, out, ("onnxslm",), run, [])
    assert "onnxslim" in str(caught.value.remedy)
    with pytest.raises(BadInput, match="no feeds"):
        simplify(net, out, ("onnxslim",), run, [])
    with pytest.raises(BadInput, match="there is no file"):
        simplify(net, out, (f"{tmp_path / 'none.py'}:f",), run, [])
    (tmp_path / "u.py").write_text("x = 1\n")
    with pytest.raises(UnknownName):
        simplify(net, out, (f"{tmp_path / 'u.py'}:mine",), run, [])
    with pytest.raises(BadInput, match="not a function"):
        simplify(net, out, (f"{tmp_path / 'u.py'}:x",), run, [])
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(BadInput, match="ZeroDivisionError"):
        simplify(net, out, (f"{tmp_path / 'broken.py'}:mine",), run, [])
    assert not out.exists()


def test_a_model_with_nan_before_any_pass_is_refused(build, run, tmp_path: Path) -> None:
    proto = build()
    bias = onnx.numpy_helper.from_array(np.full(5, np.nan, np.float32), "fc.bias")
    proto.graph.initializer[3].CopyFrom(bias)
    onnx.save_model(proto, str(tmp_path / "nan.onnx"))
    feed = draw_feed(read_signature(tmp_path / "nan.onnx"), 1, 0, None, {"h": 4, "w": 4})
    with pytest.raises(BadInput, match="before any pass"):
        simplify(tmp_path / "nan.onnx", tmp_path / "out.onnx", ("onnxslim",), run, [feed])


def test_difference() -> None:
    one = {"y": np.array([3.0, 4.0], np.float32)}
    assert difference(one, one) == (0.0, 0.0)
    error, largest = difference(one, {"y": np.array([3.0, 4.5], np.float32)})
    assert error == pytest.approx(0.1) and largest == 0.5
    infinite = (float("inf"), float("inf"))
    assert difference(one, {}) == infinite
    assert difference(one, {"y": one["y"][:1]}) == infinite
    assert difference(one, {"y": np.array([3.0, np.nan], np.float32)}) == infinite
    words = {"y": np.array([b"a"], object)}
    assert difference(words, words) == (0.0, 0.0)
    assert difference(words, {"y": np.array([b"b"], object)}) == infinite


def test_outputs_that_are_all_empty_show_nothing(run, tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Sub", ["x", "x"], ["z"]), helper.make_node("NonZero", ["z"], ["y"])],
        "empty",
        [value("x", onnx.TensorProto.FLOAT, ["n"])],
        [value("y", onnx.TensorProto.INT64, [1, "found"])],
    )
    path = tmp_path / "empty.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    result = simplify(path, tmp_path / "out.onnx", ("onnxslim",), run, [{"x": np.ones(3, np.float32)}])
    assert (result.passes[0].status, result.passes[0].error) == ("rolled_back", None)
    assert "nothing could be compared" in result.passes[0].reason
