"""docs/adding-an-engine.md is true beyond the conformance tests: its engine runs, and what it says of others holds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import assay.engines
from assay.cli.main import run_cli
from assay.core.artifact import Artifact, file_artifact
from assay.core.engine import Candidate, OpenOptions
from assay.core.table import load
from assay.engines import ENGINES
from assay.graph.signature import read_signature
from assay.job.opening import engine, make_candidate
from assay.job.tune.space import Axes, map_space
from assay.search.objective import parse_objective

DOCUMENT = Path(__file__).parents[2] / "docs" / "adding-an-engine.md"
SOURCE, LINE = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
NAME, TARGET = re.findall(r'"(\w+)": "([\w.]+:\w+)"', LINE)[0]
WEIGHTS = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The file and the line of the document, in place for one test."""
    folder = tmp_path / "engines"
    folder.mkdir()
    (folder / f"{TARGET.partition(':')[0].rpartition('.')[2]}.py").write_text(SOURCE)
    monkeypatch.setattr(assay.engines, "__path__", [*assay.engines.__path__, str(folder)])
    monkeypatch.setitem(ENGINES, NAME, TARGET)
    yield load(TARGET)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    value = helper.make_tensor_value_info
    ends = value("x", TensorProto.FLOAT, ["n", 3]), value("y", TensorProto.FLOAT, ["n", 4])
    graph = helper.make_graph([node], "g", [ends[0]], [ends[1]], [numpy_helper.from_array(WEIGHTS, "w")])
    path = tmp_path / "product.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_the_guides_engine_runs_a_model(added: Any, model: Path) -> None:
    found = engine(NAME)
    assert found.unavailable("cpu") is None and "cpu only" in str(found.unavailable("cuda"))
    x = np.random.default_rng(2).standard_normal((5, 3)).astype(np.float32)
    with found.open(file_artifact(model, "onnx"), OpenOptions(instances=2)) as session:
        np.testing.assert_allclose(session.run({"x": x})["y"], x @ WEIGHTS, rtol=1e-5)
        assert session.parallelism == 2
        assert session.attest().shares == {("onnx:reference", "fp32"): 1.0}


def test_the_guides_engine_answers_to_the_command_line(
    added: Any, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["engines"]) == 0
    assert NAME in capsys.readouterr().out
    rows = np.random.default_rng(3).standard_normal((8, 3)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=rows, target=(rows @ WEIGHTS).argmax(1))
    assert run_cli(["evaluate", str(model), "--engine", NAME, "--data", f"npz:{tmp_path}/rows.npz", "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)["records"]
    assert record["subject"]["engine"] == NAME and record["figures"]["accuracy.top1"]["value"] == 1.0


def candidate(name: str, model: Path) -> Candidate:
    return make_candidate(file_artifact(model, "onnx"), name, OpenOptions(), "a cpu")


def test_its_tuned_options_become_forms_of_the_search(added: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attribute as the table of the guide describes it; without it there is one form."""
    objective, signature = parse_objective("throughput"), read_signature(model)
    plain = map_space([candidate(NAME, model)], signature, objective, Axes(), 2)
    assert [f.options for f in plain.space.families[0].forms] == [()]
    sets = ((("verbose", "1"),), (("verbose", "2"), ("optimized", "0")))
    monkeypatch.setattr(added, "tuned_options", sets, raising=False)
    mapped = map_space([candidate(NAME, model)], signature, objective, Axes(), 2)
    assert [f.options for f in mapped.space.families[0].forms] == [(), *sets]
    assert len(mapped.space) == 3 * len(plain.space)
    opened = {dict(mapped.candidate(p).options.provider_options).get("verbose") for p in mapped.space.points()}
    assert opened == {None, "1", "2"}
    kept = map_space([candidate(NAME, model)], signature, objective, Axes(forms=False), 2)
    assert len(kept.space) == len(plain.space)


def offered() -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    return [(name, options) for name in ENGINES for options in getattr(engine(name), "tuned_options", ())]


def test_the_engines_that_the_guide_names_offer_what_it_says() -> None:
    assert ("onnxruntime", (("graph_optimization_level", "extended"),)) in offered()
    assert ("torch", (("memory_format", "channels_last"),)) in offered()


@pytest.mark.parametrize(("name", "options"), offered())
def test_every_set_that_an_engine_offers_opens(name: str, options: Any, model: Path) -> None:
    import torch

    found = engine(name)
    if (why := found.unavailable("cpu")) is not None:
        pytest.skip(why)
    artifact: Artifact = file_artifact(model, "onnx")
    if "onnx" not in found.opens:
        from assay.job.opening import with_signature

        made = torch.nn.Linear(3, 4, bias=False)
        made.weight.data = torch.from_numpy(WEIGHTS.T.copy())
        artifact = with_signature(Artifact(None, "source", "0" * 64, module=lambda: made), read_signature(model))
    x = np.ones((2, 3), np.float32)
    with found.open(artifact, OpenOptions(provider_options=options)) as session:
        (y,) = session.run({"x": x}).values()
    np.testing.assert_allclose(y, x @ WEIGHTS, rtol=1e-5)


def test_every_attribute_of_the_guides_table_is_read_somewhere() -> None:
    table = DOCUMENT.read_text().partition("## What an engine may say besides")[2].partition("\n## ")[0]
    rows = [row for row in table.splitlines() if not row.endswith("| Python callers |")]
    names = re.findall(r"^\| `(\w+)", "\n".join(rows), re.MULTILINE)
    assert {"tuned_options", "converted_on", "has_buckets"} <= set(names)
    source = "".join(p.read_text() for p in (DOCUMENT.parents[1] / "src" / "assay").rglob("*.py"))
    for name in names:
        assert f'"{name}"' in source or f".{name}" in source, name
