"""A file that is written in another precision than the default, opened by one who asked for none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import assay
from assay.cli.main import run_cli
from assay.core.errors import BadInput
from assay.job.single import Wanted, as_written, prepare
from assay.sources import SourceOptions

DEFAULT = "computes in int8, and onnxruntime runs it as it is; no precision was asked for, and fp32 is the default"
TYPED = "computes in int8, and onnxruntime runs it as it is; fp32 was asked for"


@pytest.fixture(scope="module")
def quantised(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of the digits in QDQ form: activations uint8, weights int8."""
    plain = onnx.load(str(model))
    weights = {t.name: numpy_helper.to_array(t) for t in plain.graph.initializer}
    scale = np.float32(np.abs(weights["w"]).max() / 127)
    known = {
        "b": weights["b"],
        "q": np.round(weights["w"] / scale).astype(np.int8),
        "qs": scale,
        "qz": np.int8(0),
        "xs": np.float32(1 / 255),
        "xz": np.uint8(0),
        "ys": np.float32(0.15),
        "yz": np.uint8(128),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        helper.make_node("DequantizeLinear", ["q", "qs", "qz"], ["wd"]),
        helper.make_node("Conv", ["xd", "wd", "b"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "ys", "yz"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "ys", "yz"], ["cd"]),
        helper.make_node("Flatten", ["cd"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        list(plain.graph.input),
        list(plain.graph.output),
        [numpy_helper.from_array(np.asarray(v), k) for k, v in known.items()],
    )
    path = tmp_path_factory.mktemp("q8") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def told(text: str) -> str:
    return " ".join(text.split())


def test_that_fp32_is_the_default_is_said_of_the_users_file(
    quantised: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "digit.npy"
    np.save(picture, np.full((1, 8, 8), 0.5, np.float32))
    transform = ["--preprocess", f"{model.parent / 'pre.py'}:unit", "--trust"]
    for command in (
        ["bench", str(quantised), "--batch", "1", "--duration", "50ms"],
        ["evaluate", str(quantised), "--data", "digits", "--limit", "20", *transform],
        ["predict", str(quantised), str(picture)],
        ["verify", str(model), str(quantised)],
    ):
        assert run_cli(command) == 2
        error = told(capsys.readouterr().err)
        assert f"assay: {quantised} {DEFAULT}" in error
        assert "try: --precision int8, or give a file written in float32" in error
        assert "assay-" not in error
        assert run_cli([*command, "--precision", "fp32"]) == 2
        error = told(capsys.readouterr().err)
        assert f"assay: {quantised} {TYPED}" in error and "default" not in error
        code = run_cli([*command, "--precision", "int8"])
        assert code in ((0, 1) if command[0] == "verify" else (0,)), (command, capsys.readouterr().err)
        capsys.readouterr()


def test_the_other_model_of_a_bench_is_told_by_its_own_option(
    quantised: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", str(model), "--against", str(quantised), "--batch", "1", "--duration", "50ms"]
    assert run_cli(command) == 2
    error = told(capsys.readouterr().err)
    assert f"{quantised} {DEFAULT}" in error and "try: --against-precision int8" in error


def test_a_bench_of_many_says_it_of_the_one(quantised: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["bench", str(quantised), str(quantised.parent / "none.onnx"), "--batch", "1"]) == 4
    found = told(capsys.readouterr().out)
    assert f"{DEFAULT} (--precision int8" in found


def test_python_says_it_too(quantised: Path) -> None:
    with pytest.raises(BadInput, match=DEFAULT) as error:
        assay.open(quantised)
    assert str(error.value.remedy).startswith('precision="int8", or ')
    with pytest.raises(BadInput, match=TYPED):
        assay.open(quantised, precision="fp32")
    feed = {"x": np.ones((1, 1, 8, 8), np.float32)}
    with assay.open(quantised, precision="int8") as session:
        assert session.run(feed)["scores"].shape == (1, 10)


def test_a_reference_is_opened_as_it_is_written(quantised: Path, model: Path, tmp_path: Path) -> None:
    assert as_written(str(quantised)).precision == "int8"
    assert as_written(str(model)).precision == "fp32"
    assert as_written("timm:resnet18").precision is as_written(str(tmp_path / "none.onnx")).precision is None
    ready = prepare(Wanted(str(quantised), opened=as_written(str(quantised))), SourceOptions(out_dir=tmp_path))
    assert ready.candidate.options.precision == "int8"


def test_an_evaluation_goes_on_where_the_device_is_spelled_otherwise(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transform = ["--preprocess", f"{model.parent / 'pre.py'}:unit", "--trust"]
    command = ["evaluate", str(model), "--data", "digits", "--limit", "20", *transform, "--out", str(tmp_path / "out")]
    assert run_cli(command) == 0
    capsys.readouterr()
    assert run_cli([*command, "--device", "cpu:0"]) == 0
    assert "20 of them done before" in told(capsys.readouterr().err)
    assert run_cli([*command, "--engine", "openvino"]) == 2
    assert "another evaluation" in told(capsys.readouterr().err)
