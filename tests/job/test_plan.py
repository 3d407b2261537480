"""``--dry-run`` says what the run would do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay.job.plan import plan
from assay.job.request import Int8, RunRequest


def steps(model: str = "net.onnx", **settings: Any) -> list[tuple[str, str]]:
    request = RunRequest(model, Path("run"), compiled=False, **settings)
    return [(s.name, s.what) for s in plan(request).steps]


def test_a_precision_that_an_engine_does_not_have_is_not_planned() -> None:
    asked = {"engines": ("torch",), "precisions": ("int8", "fp32"), "data": "digits", "int8": Int8(method="ort")}
    found = steps("timm:resnet18", **asked)
    assert ("build", "torch int8: skipped, torch does not do int8") in found
    assert not any("int8" in what for name, what in found if name in ("verify", "measure", "quantize"))


def test_the_samples_of_int8_are_those_that_were_named() -> None:
    given = {"engines": ("onnxruntime",), "precisions": ("int8",)}
    for settings, name in (
        ({"int8": Int8("synthetic", method="ort")}, "synthetic"),
        ({"int8": Int8("npz:a.npz", method="ort"), "data": "digits"}, "npz:a.npz"),
        ({"int8": Int8(method="ort"), "data": "digits"}, "digits"),
    ):
        assert ("quantize", f"the graph in int8, from samples of {name}") in steps(**given, **settings)


def test_the_search_of_settings_is_a_step_with_its_time() -> None:
    request = RunRequest("net.onnx", Path("run"), engines=("onnxruntime",), precisions=("fp32",), compiled=False)
    without = plan(request).seconds
    searched = plan(RunRequest(**{**vars(request), "tune_s": 600.0}))
    assert searched.seconds == without + 600
    names = [s.name for s in searched.steps]
    assert names.index("build") < names.index("search") < names.index("verify")


def test_a_file_is_not_exported_and_only_what_reads_it_is_planned() -> None:
    found = steps("net.onnx", engines=("torch", "onnxruntime"), precisions=("fp32",))
    assert ("open", "net.onnx, used as it is") in found and "export" not in dict(found)
    assert [what for name, what in found if name == "verify"] == ["onnxruntime fp32"]
    assert any(what.startswith("torch fp32: skipped, torch reads") for _, what in found)
    found = steps("timm:resnet18", engines=("torch", "onnxruntime"), precisions=("fp32",))
    assert "export" in dict(found) and [w for n, w in found if n == "verify"] == ["torch fp32", "onnxruntime fp32"]
