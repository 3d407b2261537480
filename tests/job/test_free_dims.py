"""A file with a free dim besides the batch: ``--shape`` gives it the size that samples are drawn with."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from assay.cli.main import run_cli
from assay.core.errors import BadInput
from assay.core.shapes import parse_shape
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
