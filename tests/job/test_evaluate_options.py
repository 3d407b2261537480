"""``assay evaluate`` with --fuse-preprocess, --preprocess fast, --against and --sequential, on a linear classifier of
the digits that was fitted by least squares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from assay.cli.main import run_cli
from assay.core.errors import BadInput
from assay.data import open_reader, transform_from_json
from assay.job.evaluate.against import Against
from assay.job.evaluate.one import Evaluated, Evaluation, evaluate_one
from assay.job.progress import Silent
from assay.sources import SourceOptions

SIZE = 32


def save(path: Path, weights: np.ndarray) -> str:
    constants = [onnx.numpy_helper.from_array(weights.astype(np.float32), "w")]
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    value = helper.make_tensor_value_info
    ends = (value("x", TensorProto.FLOAT, ["n", 1, SIZE, SIZE]), value("y", TensorProto.FLOAT, ["n", 10]))
    graph = helper.make_graph(nodes, "g", [ends[0]], [ends[1]], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """(good, nearly the same, bad)."""
    folder = tmp_path_factory.mktemp("models")
    reader = open_reader("digits:train")
    transform = transform_from_json(reader.preprocess)
    items = list(reader.items())
    x = np.stack([transform(i.content).ravel() for i in items]).astype(np.float64)
    y = np.eye(10)[[i.target for i in items]]
    weights = np.linalg.solve(x.T @ x + 50 * np.eye(x.shape[1]), x.T @ y)
    rng = np.random.default_rng(0)
    size = weights.std()
    near = weights + 0.01 * size * rng.standard_normal(weights.shape)
    bad = weights + 3 * size * rng.standard_normal(weights.shape)
    return save(folder / "good.onnx", weights), save(folder / "near.onnx", near), save(folder / "bad.onnx", bad)


def evaluated(model: str, tmp_path: Path, **options: Any) -> Evaluated:
    asked = Evaluation(model, "digits", engine=options.pop("engine", "onnxruntime"), **options)
    return evaluate_one(asked, SourceOptions(out_dir=tmp_path / "work"), Silent())


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_fused_normalising_gives_the_same_classes(engine: str, models: Any, tmp_path: Path) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    plain = evaluated(models[0], tmp_path, engine=engine)
    fused = evaluated(models[0], tmp_path, engine=engine, fuse=True)
    assert fused.record.conditions["transform"]["kind"] == "image_bytes"
    assert fused.record.figures == plain.record.figures
    assert plain.record.value("accuracy.top1") > 0.8
    assert any(note.startswith("fused: the model takes bytes") and "equal" in note for note in fused.notes)
    assert fused.record.subject["artifact"] != plain.record.subject["artifact"]


def quantised(path: Path, model: str) -> str:
    """The model with int8 operands: inputs in steps of a 64th, weights of a 127th of the largest."""
    weights = onnx.numpy_helper.to_array(onnx.load(model).graph.initializer[0])
    scale = np.float32(np.abs(weights).max() / 127)
    known = {"q": np.round(weights / scale).astype(np.int8), "qs": scale, "xs": np.float32(1 / 64), "z": np.int8(0)}
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("QuantizeLinear", ["f", "xs", "z"], ["fq"]),
        helper.make_node("DequantizeLinear", ["fq", "xs", "z"], ["fd"]),
        helper.make_node("DequantizeLinear", ["q", "qs", "z"], ["w"]),
        helper.make_node("MatMul", ["fd", "w"], ["y"]),
    ]
    constants = [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in known.items()]
    value = helper.make_tensor_value_info
    ends = (value("x", TensorProto.FLOAT, ["n", 1, SIZE, SIZE]), value("y", TensorProto.FLOAT, ["n", 10]))
    graph = helper.make_graph(nodes, "g", [ends[0]], [ends[1]], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


@pytest.mark.parametrize("asked", [None, "int8"])
def test_normalising_is_fused_into_a_file_as_it_is_written(asked: str | None, models: Any, tmp_path: Path) -> None:
    model = quantised(tmp_path / "q.onnx", models[0])
    fused = evaluated(model, tmp_path, precision=asked, fuse=True)
    assert fused.record.subject["precision"] == "int8"
    assert fused.record.conditions["transform"]["kind"] == "image_bytes"
    plain = evaluated(model, tmp_path, precision="int8")
    assert fused.record.value("accuracy.top1") == pytest.approx(plain.record.value("accuracy.top1"), abs=0.02)


def test_fused_normalising_needs_pictures(models: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.zeros((3, 1, SIZE, SIZE), np.float32), target=np.zeros(3, np.int64))
    asked = Evaluation(models[0], f"npz:{tmp_path}/rows.npz", fuse=True)
    with pytest.raises(BadInput, match="about pictures"):
        evaluate_one(asked, SourceOptions(out_dir=tmp_path / "work"), Silent())


@pytest.mark.parametrize("limit", [None, 60])
def test_fast_preprocessing_says_what_it_costs(models: Any, tmp_path: Path, limit: int | None) -> None:
    pytest.importorskip("torch")
    exact = evaluated(models[0], tmp_path, limit=limit)
    fast = evaluated(models[0], tmp_path, preprocess="fast", limit=limit)
    (note,) = [n for n in fast.notes if n.startswith("fast preprocessing")]
    top1 = exact.record.value("accuracy.top1")
    assert f"{fast.record.value('accuracy.top1'):.4f} against {top1:.4f} exactly" in note
    cost = fast.record.details["fast_preprocessing"]
    assert cost["n"] == exact.record.conditions["samples"] == (limit or 450)
    assert cost["drop"]["value"] == pytest.approx(top1 - fast.record.value("accuracy.top1"))
    assert fast.record.conditions["transform"]["kind"] == "fast_image"


def test_paired_with_an_earlier_evaluation(models: Any, tmp_path: Path) -> None:
    good = evaluated(models[0], tmp_path, out=tmp_path / "good")
    bad = evaluated(models[2], tmp_path, against=Against(tmp_path / "good", 0.02))
    assert bad.comparison is not None
    assert bad.comparison.text.startswith("worse by more than 2.00%")
    drop = bad.record.figures["accuracy.drop"]
    assert drop.value == pytest.approx(good.record.value("accuracy.top1") - bad.record.value("accuracy.top1"))
    assert drop.low > 0.02
    near = evaluated(models[1], tmp_path, against=Against(tmp_path / "good" / "predictions.jsonl.gz", 0.05))
    assert near.comparison is not None
    assert near.comparison.text.startswith("not worse by 5.00%")


def test_a_sequential_evaluation_stops_once_it_is_clear(models: Any, tmp_path: Path) -> None:
    evaluated(models[0], tmp_path, out=tmp_path / "good")
    against = Against(tmp_path / "good", 0.05, sequential=True)
    bad = evaluated(models[2], tmp_path, batch=8, against=against, out=tmp_path / "bad")
    comparison = bad.comparison
    assert comparison is not None
    assert comparison.sequential is not None
    assert comparison.sequential.answer == "worse"
    assert comparison.sequential.taken <= bad.record.conditions["samples"] < bad.record.conditions["available"]
    assert bad.record.details["counts"]["read"] == bad.record.conditions["samples"]
    assert f"clear after {comparison.sequential.taken} samples" in comparison.text
    again = evaluated(models[2], tmp_path, batch=8, against=against, out=tmp_path / "bad")
    assert again.comparison is not None
    assert again.comparison.sequential is not None
    assert again.comparison.sequential.taken == comparison.sequential.taken


def test_mistakes_on_the_command_line(models: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["evaluate", models[0], "--data", "digits"]
    assert run_cli([*common, "--sequential"]) == 2
    assert "--against DIR" in capsys.readouterr().err
    assert run_cli([*common, "--against", str(tmp_path), "--sequential"]) == 2
    assert "--margin 1%" in capsys.readouterr().err
    assert run_cli([*common, "--against", str(tmp_path), "--margin", "1%"]) == 2
    assert "no predictions" in capsys.readouterr().err
