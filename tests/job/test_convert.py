"""fp16 and bf16 files for engines that run a graph as it is written: what is planned where, and what is made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from assay.core.engine import Engine
from assay.engines.onnxruntime import OnnxRuntimeEngine
from assay.graph.signature import load_model
from assay.job.pipeline import run
from assay.job.plan import plan
from assay.job.request import Effort, RunRequest
from assay.job.stages.convert import plan_conversions

TINY = Effort(measure_s=0.05, confirm_s=0.05, verify_samples=4)


def asked(tmp_path: Any, **settings: Any) -> RunRequest:
    return RunRequest("m.onnx", tmp_path / "r", **{"engines": ("onnxruntime", "openvino"), **settings})


def test_on_a_cpu_they_are_listed_as_not_tried(tmp_path) -> None:
    found = plan_conversions(asked(tmp_path), "fp32")
    assert {(p.engine, p.precision) for p in found} == {("onnxruntime", "fp16"), ("onnxruntime", "bf16")}
    assert all(str(p.reason).startswith("not tried: no CUDA device") for p in found)


def test_where_the_library_has_no_cuda_that_is_the_reason(tmp_path) -> None:
    for planned in plan_conversions(asked(tmp_path, device="cuda:0"), "fp32"):
        assert str(planned.reason).startswith("not tried: no CUDA device") and "onnxruntime" in str(planned.reason)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-in for a machine with a GPU: onnxruntime says that it works there.  Nothing runs on it."""

    def unavailable(self: Engine, device: str = "cpu", precision: str = "fp32") -> str | None:
        return None if precision == "fp32" else f"{precision} needs a converted file"

    monkeypatch.setattr(OnnxRuntimeEngine, "unavailable", unavailable)


@pytest.mark.usefixtures("cuda")
def test_with_a_gpu_they_are_planned(tmp_path) -> None:
    request = asked(tmp_path, device="cuda:0", engines=("onnxruntime",))
    found = plan_conversions(request, "fp32")
    assert [(p.precision, p.reason) for p in found] == [("fp16", None), ("bf16", None)]
    steps = [(s.name, s.what) for s in plan(request).steps]
    assert ("convert", "the graph in fp16") in steps and ("build", "onnxruntime fp16") in steps


@pytest.mark.usefixtures("cuda")
def test_only_what_was_asked_for_and_only_from_fp32(tmp_path) -> None:
    request = asked(tmp_path, device="cuda", engines=("onnxruntime",), precisions=("fp32", "bf16"))
    assert [p.precision for p in plan_conversions(request, "fp32")] == ["bf16"]
    assert plan_conversions(request, "fp16") == []
    assert plan_conversions(asked(tmp_path, device="cuda", engines=("torch",)), "fp32") == []


def test_the_rows_of_a_run_say_so(model, tmp_path) -> None:
    request = RunRequest(str(model), tmp_path / "r", engines=("onnxruntime",), batches=(1,), effort=TINY)
    found = run(request)
    rows = {r.subject["precision"]: r for r in found.records if r.kind == "build"}
    for precision in ("fp16", "bf16"):
        assert rows[precision].status == "skipped"
        assert str(rows[precision].reason).startswith("not tried: no CUDA device")
    assert not [r for r in found.records if r.kind == "quantize"]


def test_a_planned_file_is_really_made_and_becomes_a_candidate(model, tmp_path, monkeypatch) -> None:
    """The same path on the device that is here: the CPU opens an fp16 file, and attests that it multiplies in fp32."""
    monkeypatch.setattr(OnnxRuntimeEngine, "converted_on", {"cpu": ("fp16",)})
    request = RunRequest(
        str(model), tmp_path / "r", engines=("onnxruntime",), precisions=("fp32", "fp16"), batches=(1,), effort=TINY
    )
    found = run(request)
    (made,) = [r for r in found.records if r.kind == "quantize"]
    assert made.status == "ok" and made.conditions["precision"] == "fp16" and made.details["layers"] > 0
    (file,) = (tmp_path / "r" / "artifacts" / "fp16").glob("*.onnx")
    assert {t.data_type for t in load_model(file).graph.initializer} & {10}
    (built,) = [r for r in found.records if r.kind == "build" and r.subject["precision"] == "fp16"]
    assert built.status == "ok"
    (verified,) = [r for r in found.records if r.kind == "verify" and r.subject["precision"] == "fp16"]
    assert verified.status == "failed" and "another precision" in str(verified.reason)
    again = run(request)
    assert [r.id for r in again.records if r.kind == "quantize"] == [made.id]


def test_a_context_without_an_onnx_file_plans_nothing() -> None:
    from assay.job.stages.convert import convert

    exported = SimpleNamespace(onnx=None)
    assert convert(SimpleNamespace(), exported) is exported
