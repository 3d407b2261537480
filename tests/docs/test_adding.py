"""docs/adding.md is true: each of its files, with its one line in the table, works."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from assay.core.errors import BadInput
from assay.core.table import load

DOCUMENT = Path(__file__).parents[2] / "docs" / "adding.md"
FILES = dict(re.findall(r'```python title="([\w/.]+)"\n(.*?)```', DOCUMENT.read_text(), re.DOTALL))
LINES = dict(re.findall(r'```python\n    "(\w+)": "([\w.]+:\w+)",\n```', DOCUMENT.read_text()))
Added = Callable[[str], object]


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Added:
    """Puts a documented file into its package and its line into the table; what the line names is returned."""

    def add(name: str) -> object:
        target = LINES[name]
        package_name, _, module = target.partition(":")[0].rpartition(".")
        package = importlib.import_module(package_name)
        (file,) = [f for f in FILES if f"assay.{f.removesuffix('.py').replace('/', '.')}" == f"{package_name}.{module}"]
        (tmp_path / f"{module}.py").write_text(FILES[file])
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        tables = [v for v in vars(package).values() if isinstance(v, dict) and any(":" in str(t) for t in v.values())]
        known = [t for t in tables if all(str(v).startswith(f"{package_name}.") for v in t.values())]
        assert known, f"{package_name} has no table"
        monkeypatch.setitem(known[0], name, target)
        return load(target)

    return add


def test_every_file_has_its_line() -> None:
    assert set(LINES) == {"mlp", "csv", "regression", "stopwatch", "drop_identity"}
    assert len(FILES) == len(LINES)


def test_the_source(added: Added, tmp_path: Path) -> None:
    added("mlp")
    from assay.sources import SourceOptions, resolve_model

    model = resolve_model("mlp:16x32x4", SourceOptions(out_dir=tmp_path))
    assert (model.name, model.randomised, str(model.inputs[0])) == ("mlp", True, "input:batchx16:float32")
    with pytest.raises(BadInput, match="widths"):
        resolve_model("mlp:16", SourceOptions(out_dir=tmp_path))


def test_the_reader(added: Added, tmp_path: Path) -> None:
    added("csv")
    from assay.data import open_reader

    file = tmp_path / "rows.csv"
    file.write_text("1,2,0\n3,4,1\n5,six,1\n")
    reader = open_reader(f"csv:{file}")
    assert len(reader) == 3
    (item,) = reader.items(1, 2)
    assert (item.id, item.content.tolist(), item.target) == ("row000001", [3.0, 4.0], 1)
    with pytest.raises(BadInput, match=r"rows\.csv:3"):
        list(reader.items())
    with pytest.raises(BadInput, match="no file"):
        open_reader("csv:/nowhere.csv")


def test_the_task(added: Added) -> None:
    added("regression")
    from assay.tasks import open_task

    task = open_task("regression")
    outputs = {"y": np.array([[1.0], [2.5], [3.0], [1.0]], np.float32)}
    figure = task.figures(task.score(["a", "b", "c", "d"], outputs, [1.0, 2.0, 5.0, 0.0]))[task.primary]
    assert figure.value == pytest.approx((0 + 0.5 + 2 + 1) / 4) and figure.low < figure.value < figure.high
    with pytest.raises(BadInput):
        task.figures([])
    with pytest.raises(BadInput):
        task.score(["a"], outputs, [1.0])


def test_the_importer(added: Added, tmp_path: Path) -> None:
    added("stopwatch")
    from assay.importers import Hints, import_file

    log = tmp_path / "times.log"
    log.write_text("stopwatch 1.0\nbatch 1: 4.5 ms\nbatch 4: 12.5 ms\n")
    found = import_file(log, Hints(model="net")).records
    assert [(r.conditions["batch"], r.value("latency.mean")) for r in found] == [(1, 0.0045), (4, 0.0125)]
    log.write_text("stopwatch 1.0\nbatch one: soon\n")
    with pytest.raises(BadInput, match=r"times\.log:2"):
        import_file(log)


def test_the_pass(added: Added) -> None:
    from onnx import TensorProto, checker, helper

    one = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["a"]), helper.make_node("Relu", ["a"], ["b"]),
         helper.make_node("Identity", ["b"], ["y"])],
        "g", [one("x", TensorProto.FLOAT, [1])], [one("y", TensorProto.FLOAT, [1])],
    )  # fmt: skip
    model = added("drop_identity")(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    checker.check_model(model)
    assert [n.op_type for n in model.graph.node] == ["Relu", "Identity"]
