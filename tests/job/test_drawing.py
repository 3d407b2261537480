"""An accuracy on fewer than all samples is on drawn ones, not on the first classes of a folder."""

import json
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from assay.cli.main import run_cli
from assay.core.dataset import Item
from assay.core.tensors import Signature, TensorSpec
from assay.data import from_iterable
from assay.job.context import Data
from assay.job.drawing import in_random_order, some_of
from assay.measure.predictions import read_predictions

SIGNATURE = Signature((TensorSpec("x", "float32", ("b", 1), 0),), ())


class Rows:
    name, synthetic, labels, preprocess, warnings = "rows", False, ("a", "b"), None, ("odd",)

    def __init__(self, count):
        self.count = count
        self.read = []

    def __len__(self):
        return self.count

    def items(self, start=0, stop=None):
        for index in range(*slice(start, stop).indices(self.count)):
            self.read.append(index)
            yield Item(f"row{index}", {"x": np.float32([index])}, index)


class Streamed(Rows):
    streams = True


def data(reader):
    return Data("rows", SIGNATURE, 0, reader, identity="i")


def places(found, *where):
    return [item.target for item in found.reader.items(*where)]


@pytest.mark.parametrize("kind", [Rows, Streamed])
def test_the_drawn_are_in_their_order_and_nothing_else_is_read(kind):
    reader = kind(1000)
    found = some_of(data(reader), 50, seed=3)
    drawn = places(found)
    assert drawn == sorted(set(drawn)) and len(drawn) == len(found.reader) == 50
    assert drawn[0] < 100 and drawn[-1] > 900
    assert places(found, 10, 20) == drawn[10:20]
    assert (found.drawn_from, found.warnings, found.reader.labels) == (1000, ("odd",), ("a", "b"))
    if kind is Rows:
        assert reader.read == drawn + drawn[10:20]
    else:
        assert len(reader.read) <= 1000 + 400, "one pass over what lies between"


def test_fewer_are_among_more_and_another_seed_draws_others():
    few, more = (set(places(some_of(data(Rows(1000)), n, seed=3))) for n in (50, 80))
    assert few < more
    assert set(places(some_of(data(Rows(1000)), 50, seed=4))) != few


def test_all_are_what_they_were():
    whole = data(Rows(10))
    assert some_of(whole, 10, 0) is whole and some_of(whole, None, 0) is whole
    assert some_of(data(None), 3, 0).reader is None


def test_each_draw_has_an_identity_of_its_own():
    whole = data(Rows(100))
    drawn = [whole, some_of(whole, 10, 0), some_of(whole, 10, 1), some_of(whole, 11, 0), in_random_order(whole, 0)]
    assert len({d.identity for d in drawn}) == 5


def test_a_callers_iterable_is_gone_through_once(tmp_path):
    elements = [({"x": np.float32([[i]])}, [i]) for i in range(200)]
    found = some_of(data(from_iterable(elements, "mine", SIGNATURE.inputs)), 20, seed=0)
    drawn = places(found)
    assert len(set(drawn)) == 20 and drawn == sorted(drawn)


def test_evaluate_on_some_of_a_folder_of_classes_meets_all_classes(tmp_path, capsys):
    for name in ("cat", "dog", "owl"):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for i in range(40):
            Image.new("RGB", (8, 8), (i, i, i)).save(folder / f"{i}.png")
    path = tmp_path / "net.onnx"
    weights = numpy_helper.from_array(np.random.default_rng(0).normal(size=(192, 3)).astype(np.float32), "w")
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "net", [x], [y], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    (tmp_path / "pre.py").write_text(
        "import io\nimport numpy as np\nfrom PIL import Image\n"
        "def unit(content):\n"
        "    return np.asarray(Image.open(io.BytesIO(content)), np.float32).transpose(2, 0, 1) / 255\n"
    )
    out = tmp_path / "out"
    asked = ["evaluate", str(path), "--data", f"imagefolder:{tmp_path / 'data'}", "--limit", "30", "-o", str(out)]
    asked += ["--preprocess", f"{tmp_path / 'pre.py'}:unit", "--trust"]
    assert run_cli([*asked, "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)["records"]
    assert (record["conditions"]["samples"], record["conditions"]["available"]) == (30, 120)
    scored = read_predictions(out / "predictions.jsonl.gz")
    assert Counter(s.id.split("/")[0] for s in scored).keys() == {"cat", "dog", "owl"}
