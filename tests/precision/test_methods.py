"""Every method makes a file that runs as it says, keeps what goes in and out, and can be undone layer by layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from assay.core.artifact import Artifact, file_artifact
from assay.core.compare import compare
from assay.core.engine import OpenOptions
from assay.core.errors import BadInput, EngineFailed, UnknownName
from assay.core.sample import stack
from assay.core.table import resolve
from assay.core.tensors import Array
from assay.engines.onnx_precision import graph_precision
from assay.engines.onnxruntime import OnnxRuntimeEngine
from assay.engines.openvino import OpenVinoEngine
from assay.graph.check import problems
from assay.graph.signature import load_model, read_signature
from assay.precision import DEFAULT, FOR, METHODS
from assay.precision.job import Calibration, Job, Lowered
from assay.precision.onnx_graph import put_in_order

CASES = [(p, m) for p, methods in FOR.items() for m in methods]


def run(artifact: Artifact, precision: str, rows: int = 64) -> dict[str, Array]:
    signature = read_signature(artifact.path)
    engine = OpenVinoEngine() if precision == "bf16" else OnnxRuntimeEngine()
    with engine.open(artifact, OpenOptions(precision=precision)) as session:
        return session.run(stack(samples("test")[:rows], signature))


def samples(split: str):
    from assay.core.sample import Sample
    from assay.data.digits import DigitsReader

    items = DigitsReader(split).items()
    return tuple(Sample(i.id, {"x": (i.content.astype(np.float32) / 255)[None]}, i.target) for i in items)


def lower(source: Artifact, precision: str, method: str, work: Path, count: int = 100) -> Lowered:
    calibration = Calibration(samples("calibration")[:count], "digits:calibration", 0)
    job = Job(source, read_signature(source.path), precision, work, calibration)
    lowered: Lowered = resolve(METHODS, method, "method")(job)
    return lowered


def can_run(precision: str) -> bool:
    return precision != "bf16" or OpenVinoEngine().unavailable("cpu", "bf16") is None


def test_the_tables_agree() -> None:
    assert set(DEFAULT) == set(FOR)
    assert all(DEFAULT[p] in FOR[p] for p in FOR)
    assert {m for methods in FOR.values() for m in methods} == set(METHODS)
    with pytest.raises(UnknownName, match="method"):
        resolve(METHODS, "nncv", "method")


@pytest.mark.parametrize(("precision", "method"), CASES)
def test_the_file_is_in_that_precision_and_close_to_its_source(models, tmp_path, precision, method) -> None:
    lowered = lower(models.easy, precision, method, tmp_path)
    assert isinstance(lowered, Lowered)
    assert lowered.how["library"] and lowered.how["version"]
    made = lowered.write(tmp_path / "out" / "model.onnx")
    assert made.parents == (models.easy.sha256,)
    assert read_signature(made.path) == read_signature(models.easy.path)
    assert graph_precision(onnx.load(str(made.path))) == precision
    assert made.size_bytes < models.easy.size_bytes
    assert problems(made.path) == ()
    if not can_run(precision):
        pytest.skip("no bf16 arithmetic on this processor")
    expected, found = run(models.easy, "fp32"), run(made, precision)
    measures = compare(expected, found)["scores"]
    assert 15 < measures.snr_db < 120  # close, and not the very same file
    assert measures.top1_agreement is not None and measures.top1_agreement > 0.9


@pytest.mark.parametrize(("precision", "method"), CASES)
def test_every_layer_put_back_gives_the_source(models, tmp_path, precision, method) -> None:
    lowered = lower(models.hard, precision, method, tmp_path)
    made = lowered.write(tmp_path / "model.onnx", [layer.name for layer in lowered.layers])
    found = run(made, graph_precision(onnx.load(str(made.path))))
    assert compare(run(models.hard, "fp32"), found)["scores"].snr_db > 100


@pytest.mark.parametrize("method", FOR["int8"])
def test_one_layer_put_back_leaves_the_others(models, tmp_path, method) -> None:
    lowered = lower(models.hard, "int8", method, tmp_path)
    assert {"first", "second", "third", "head"} <= {layer.name for layer in lowered.layers}
    made = onnx.load(str(lowered.write(tmp_path / "model.onnx", ["second"]).path))
    by_name = {node.name: node for node in made.graph.node}
    dequantised = {out for node in made.graph.node if node.op_type == "DequantizeLinear" for out in node.output}
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in made.graph.initializer}
    assert by_name["third"].input[1] in dequantised
    assert not set(by_name["second"].input) & dequantised
    source = {t.name: t for t in onnx.load(str(models.hard.path)).graph.initializer}
    np.testing.assert_array_equal(weights[by_name["second"].input[1]], onnx.numpy_helper.to_array(source["c2.w"]))


@pytest.mark.parametrize(("precision", "method"), CASES)
def test_the_same_samples_give_the_same_bytes(models, tmp_path, precision, method) -> None:
    made = [lower(models.easy, precision, method, tmp_path, 20).write(tmp_path / f"{i}.onnx") for i in range(2)]
    assert made[0].sha256 == made[1].sha256


@pytest.mark.parametrize("method", FOR["int8"])
def test_int8_without_samples_is_refused_with_the_command(models, tmp_path, method) -> None:
    job = Job(models.easy, read_signature(models.easy.path), "int8", tmp_path, None)
    with pytest.raises(BadInput, match="samples") as told:
        resolve(METHODS, method, "method")(job)
    assert "--data" in (told.value.remedy or "")


@pytest.mark.parametrize(("precision", "method"), CASES)
def test_a_file_that_is_quantised_already_is_refused(models, tmp_path, precision, method) -> None:
    made = lower(models.easy, "int8", "ort", tmp_path).write(tmp_path / "quantised.onnx")
    with pytest.raises(BadInput, match="quantised already"):
        lower(made, precision, method, tmp_path)


def test_an_unknown_layer_is_refused(models, tmp_path) -> None:
    with pytest.raises(BadInput, match="no layer 'nowhere'"):
        lower(models.easy, "fp16", "fp16", tmp_path).write(tmp_path / "m.onnx", ["nowhere"])


def test_nothing_to_lower_is_an_error(tmp_path) -> None:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [value("y", TensorProto.FLOAT, ["batch", 1, 8, 8])],
    )
    path = tmp_path / "identity.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    from assay.core.artifact import file_artifact

    source = file_artifact(path, "onnx")
    for precision, method in (("fp16", "fp16"), ("bf16", "bf16")):
        with pytest.raises(EngineFailed):
            lower(source, precision, method, tmp_path)


def test_an_ir_is_quantised_and_a_layer_put_back(models, tmp_path) -> None:
    from assay.core.engine import BuildOptions

    engine = OpenVinoEngine()
    source = engine.build(models.hard, BuildOptions(), tmp_path / "ir")
    lowered = lower_ir(source, tmp_path)
    names = [layer.name for layer in lowered.layers]
    assert len(names) >= 4
    second = next(name for name in names if "second" in name)
    feed = stack(samples("test")[:64], read_signature(models.hard.path))
    found = {}
    for label, keep in (("plain", []), ("kept", [second])):
        made = lowered.write(tmp_path / label / "model.xml", keep)
        with engine.open(made, OpenOptions(precision="int8")) as session:
            found[label] = session.run(feed)
            assert session.attest().share(None, "int8") > 0.2
    expected = run(models.hard, "fp32")
    plain, kept = (compare(expected, found[label])["scores"].snr_db for label in ("plain", "kept"))
    assert plain < 10 < kept


def lower_ir(source: Artifact, work: Path) -> Lowered:
    import json

    from assay.core.tensors import Signature
    from assay.precision.int8_nncf import lower as lower_nncf

    signature = Signature.from_json(json.loads(source.built_for["signature"]))
    return lower_nncf(Job(source, signature, "int8", work, Calibration(samples("calibration"), "digits", 0)))


def test_calibration_says_what_it_used() -> None:
    rows = samples("calibration")
    one, two = Calibration(rows[:7], "here", 3), Calibration(rows[1:8], "here", 3)
    assert one.to_json()["count"] == 7 and one.to_json()["seed"] == 3
    assert one.to_json()["sha256"] != two.to_json()["sha256"]


def test_calibration_fills_a_fixed_batch(models) -> None:
    fixed = read_signature(models.easy.path).with_batch(4)
    feeds = Calibration(samples("calibration")[:6], "here", 0).feeds(fixed)
    assert [f["x"].shape[0] for f in feeds] == [4, 4]
    np.testing.assert_array_equal(feeds[1]["x"][2], feeds[1]["x"][1])


def test_weights_that_only_a_sub_graph_reads_stay(tmp_path) -> None:
    value, floating = helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(op, ["m", "b"], [name])], name, [], [value(name, floating, None)]
        )
        for name, op in (("then", "Add"), ("else", "Sub"))
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("If", ["c"], ["y"], **branches),
    ]
    weights = {"w": np.ones((3, 4), np.float32), "b": np.ones(4, np.float32), "c": np.array(True)}
    made = helper.make_graph(
        nodes,
        "choice",
        [value("x", floating, ["batch", 3])],
        [value("y", floating, ["batch", 4])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    path = tmp_path / "if.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    job = Job(file_artifact(path, "onnx"), read_signature(path), "bf16", tmp_path)
    lowered = resolve(METHODS, "bf16", "method")(job).write(tmp_path / "bf16.onnx")
    kept = {t.name for t in load_model(lowered.path).graph.initializer}
    assert {"b", "c"} <= kept and "w" not in kept


def test_a_graph_that_goes_round_in_a_circle_is_refused() -> None:
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], name="first"),
        helper.make_node("Add", ["a", "x"], ["b"], name="second"),
    ]
    graph = helper.make_graph(nodes, "circle", [value("x", 1, [1])], [value("b", 1, [1])])
    with pytest.raises(BadInput, match="goes round in a circle"):
        put_in_order(graph)
    straight = helper.make_graph(
        [helper.make_node("Relu", [f"t{i + 1}"], [f"t{i}"], name=f"n{i}") for i in range(2000)],
        "backwards",
        [value("t2000", 1, [1])],
        [value("t0", 1, [1])],
    )
    put_in_order(straight)
    assert [n.name for n in straight.node] == [f"n{i}" for i in reversed(range(2000))]


@pytest.mark.parametrize(("kind", "written"), [(np.float64, "fp64"), (np.float16, "fp16")])
@pytest.mark.parametrize("method", ["fp16", "bf16"])
def test_a_file_of_another_float_format_is_refused(tmp_path, kind, written, method) -> None:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "other",
        [value("x", element, ["batch", 3])],
        [value("y", element, ["batch", 4])],
        [numpy_helper.from_array(np.ones((3, 4), kind), "w")],
    )
    path = tmp_path / "other.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    job = Job(file_artifact(path, "onnx"), read_signature(path), method, tmp_path)
    with pytest.raises(BadInput, match=f"is written in {written}"):
        resolve(METHODS, method, "method")(job)
