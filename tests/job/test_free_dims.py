"""A file with a free dim besides the batch: ``--shape`` gives it the size that samples are drawn with."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from assay.bundle.contents import BundleContents
from assay.bundle.pack import pack
from assay.cli.main import run_cli
from assay.core.artifact import file_artifact
from assay.core.engine import Candidate, OpenOptions
from assay.core.errors import BadInput
from assay.core.shapes import parse_shape
from assay.engines.onnxruntime import OnnxRuntimeEngine
from assay.graph.signature import read_signature
from assay.job.compare_two import Pair, data_of
from assay.job.single import Wanted, prepare
from assay.sources import SourceOptions


@pytest.fixture(scope="module")
def free(tmp_path_factory):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "words", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "words", 3])
    weights = np.random.default_rng(0).normal(size=12).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "free",
        [x],
        [y],
        [helper.make_tensor("w", TensorProto.FLOAT, [4, 3], weights)],
    )
    path = tmp_path_factory.mktemp("free") / "free.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def drawn(free, tmp_path, *shapes):
    source = SourceOptions(out_dir=tmp_path, shapes=tuple(map(parse_shape, shapes)))
    ready = prepare(Wanted(str(free)), source)
    return data_of(Pair(str(free), str(free), None, "fp32", "cpu", None, (1,), 4), source, ready, ready)


def test_samples_have_the_size_that_was_given(free, tmp_path):
    data = drawn(free, tmp_path, "x:batchx22x4")
    (feed,) = data.feeds(3, 3)
    assert feed["x"].shape == (3, 22, 4)
    assert [str(s) for s in (*data.signature.inputs, *data.signature.outputs)] == [
        "x:batchx22x4:float32",
        "y:batchx22x3:float32",
    ]


def test_a_fixed_batch_is_not_taken_for_one_of_the_others(free, tmp_path):
    (feed,) = drawn(free, tmp_path, "x:1x22x4").feeds(2, 2)
    assert feed["x"].shape == (2, 22, 4)


def test_without_a_size_it_is_said_how_to_give_one(free, tmp_path):
    with pytest.raises(BadInput, match="no size is given for the free dim 'words'") as caught:
        drawn(free, tmp_path).feeds(1, 1)
    assert "--shape" in caught.value.remedy


def test_every_verb_that_draws_takes_it(free, capsys):
    for command in (["verify", str(free), str(free)], ["bench", str(free), "--batch", "2", "--duration", "100ms"]):
        assert run_cli([*command, "--shape", "x:batchx22x4", "--json"]) == 0
        (record,) = json.loads(capsys.readouterr().out)["records"]
        assert record["conditions"]["sizes"] == {"words": 22}
        if command[0] == "bench":
            assert record["details"]["inputs"] == ["x:batchx22x4:float32"]


def test_real_samples_have_sizes_of_their_own(free, tmp_path):
    rows = tmp_path / "rows.npz"
    np.savez(rows, x=np.zeros((3, 7, 4), np.float32))
    source = SourceOptions(out_dir=tmp_path, shapes=(parse_shape("x:batchx22x4"),))
    ready = prepare(Wanted(str(free)), source)
    data = data_of(Pair(str(free), str(free), None, "fp32", "cpu", f"npz:{rows}", (1,), 3), source, ready, ready)
    (feed,) = data.feeds(3, 3)
    assert feed["x"].shape == (3, 7, 4)
    assert data.sizes == ()


def test_synthetic_samples_are_drawn(free, tmp_path):
    source = SourceOptions(out_dir=tmp_path, shapes=(parse_shape("x:batchx22x4"),))
    ready = prepare(Wanted(str(free)), source)
    data = data_of(Pair(str(free), str(free), None, "fp32", "cpu", "synthetic:5", (1,), 3), source, ready, ready)
    assert data.feeds(3, 3)[0]["x"].shape == (3, 22, 4)


def test_a_bundle_takes_it_too(free, tmp_path, capsys):
    artifact, engine = file_artifact(free, "onnx"), OnnxRuntimeEngine()
    candidate = Candidate(artifact, "onnxruntime", engine.version(), OpenOptions(threads=1), "a processor")
    feed = {"x": np.ones((1, 5, 4), np.float32)}
    with engine.open(artifact, candidate.options) as session:
        goldens = ((feed, session.run(feed)),)
    tolerance = {"max_relative_rms": 1e-5, "source": "test"}
    pack(BundleContents("free", candidate, read_signature(free), goldens, tolerance), tmp_path / "bundle")
    asked = ["bench", str(tmp_path / "bundle"), "--batch", "1", "--duration", "100ms", "--json"]
    assert run_cli([*asked, "--shape", "x:batchx9x4"]) == 0
    (record,) = json.loads(capsys.readouterr().out)["records"]
    assert record["conditions"]["sizes"] == {"words": 9}


def test_two_sizes_of_one_dim_are_refused(tmp_path, capsys):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "words"]) for name in ("x", "z", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "z"], ["y"])], "two", ends[:2], ends[2:])
    path = tmp_path / "two.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    shapes = ["--shape", "x:batchx5", "--shape", "z:batchx9"]
    assert run_cli(["bench", str(path), *shapes]) == 2
    assert "'words' of input z:batchxwords:float32 cannot be both 5 and 9" in capsys.readouterr().err
