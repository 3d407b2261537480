"""``assay verify``: what inputs are drawn by when there are no data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from assay.core.errors import UnknownName
from assay.job.bench.one import Bench, bench_one
from assay.job.compare_two import Compared, Pair, compare_two
from assay.job.progress import Silent
from assay.sources import SourceOptions


@pytest.fixture
def embedding(tmp_path: Path) -> str:
    """Rows of a table of four: ids of 4 and more are none."""
    table = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "table")
    node = helper.make_node("Gather", ["table", "tokens"], ["y"])
    ends = [
        helper.make_tensor_value_info("tokens", TensorProto.INT64, ["n", 5]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5, 3]),
    ]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "embedding.onnx")
    return str(tmp_path / "embedding.onnx")


def compared(model: str, tmp_path: Path, **source: object) -> Compared:
    pair = Pair(model, model, None, "fp32", "cpu", None, (2,), 4)
    return compare_two(pair, SourceOptions(out_dir=tmp_path / "work", **source), Silent())  # type: ignore[arg-type]


def test_the_range_that_was_typed_holds(embedding: str, tmp_path: Path) -> None:
    found = compared(embedding, tmp_path, ranges=(("tokens", 0, 3),))
    assert found.record.status == "ok" and found.verdict.passed
    with pytest.raises(UnknownName, match="no input named 'token'"):
        compared(embedding, tmp_path, ranges=(("token", 0, 3),))
    refused = compared(embedding, tmp_path)
    assert not refused.verdict.passed


def test_the_seed_that_was_typed_draws(model: Path, tmp_path: Path) -> None:
    assert (
        "real data: the inputs were drawn from the signature (seed 7)"
        in compared(str(model), tmp_path, seed=7).not_checked
    )


def test_a_bench_draws_within_the_range_too(embedding: str, tmp_path: Path) -> None:
    asked = Bench(embedding, batches=(2,), duration_s=0.05)
    (found,) = bench_one(asked, SourceOptions(out_dir=tmp_path, ranges=(("tokens", 0, 3),)), Silent())
    assert found.status == "ok"
    (refused,) = bench_one(asked, SourceOptions(out_dir=tmp_path), Silent())
    assert refused.status == "failed" and "Gather" in str(refused.reason)
