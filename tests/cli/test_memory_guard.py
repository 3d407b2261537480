"""A process that takes too much memory is ended with a sentence, inside a library and while that is kept quiet too."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

GIB = 2**30


@pytest.fixture
def graph(tmp_path):
    """A few hundred bytes that make twelve gigabytes."""
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["large"]),
        helper.make_node("ReduceMean", ["large"], ["mean"], keepdims=0),
        helper.make_node("Add", ["x", "mean"], ["y"]),
    ]
    size = numpy_helper.from_array(np.array([3_000_000_000], np.int64), "size")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 4]) for name in "xy")
    made = helper.make_graph(nodes, "large", [x], [y], [size])
    path = tmp_path / "large.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    assert path.stat().st_size < 1000
    return path


def assay(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "assay.cli.main", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.parametrize("verb", ["inspect", "verify", "bench"])
def test_a_graph_of_a_few_bytes_does_not_take_the_machines_memory(graph, verb):
    files = (graph, graph) if verb == "verify" else (graph,)
    found = assay(verb, *files, ASSAY_MEMORY="1.5GiB")
    assert found.returncode == 4, found.stderr
    assert "ASSAY_MEMORY is 1.5 GiB" in found.stderr or "limit is 1.5 GiB" in found.stderr
    assert "Traceback" not in found.stderr


def test_json_says_it_too(graph):
    found = assay("inspect", graph, "--json", ASSAY_MEMORY="1.5GiB")
    assert found.returncode == 4
    assert "ASSAY_MEMORY is 1.5 GiB" in json.loads(found.stdout)["error"]["message"]


def test_it_is_said_while_a_library_is_kept_quiet():
    code = (
        "import sys, numpy as np\n"
        "from assay.cli import main\n"
        "from assay.graph.quiet import quiet\n"
        "def run(arguments):\n"
        "    with quiet():\n"
        "        np.ones(2**28).sum()\n"
        "    return 0\n"
        "main.run_cli = run\n"
        "main.main(['inspect'])\n"
    )
    environment = {**os.environ, "ASSAY_MEMORY": "1GiB"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)
    assert found.returncode == 4
    assert "ASSAY_MEMORY is 1 GiB" in found.stderr


def test_a_size_that_is_none():
    found = assay("engines", ASSAY_MEMORY="lots")
    assert found.returncode == 2
    assert "ASSAY_MEMORY=lots" in found.stderr and "ASSAY_MEMORY=2GB" in found.stderr


def test_enough_is_enough(tmp_path):
    found = assay("engines", ASSAY_MEMORY="20GB")
    assert found.returncode == 0, found.stderr
