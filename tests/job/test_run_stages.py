"""int8, buckets and the compiled baseline inside ``assay run``: real models, real samples, tiny efforts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from assay.core.errors import BadInput, UnknownName
from assay.core.record import Record
from assay.core.shapes import parse_shape
from assay.job.pipeline import RunResult, run
from assay.job.progress import Silent
from assay.job.request import Effort, Int8, Objects, RunRequest
from assay.job.user_code import user_transform
from assay.measure.predictions import read_predictions
from assay.sources import SourceOptions

TINY = Effort(measure_s=0.05, confirm_s=0.05, verify_samples=8)


class Said(Silent):
    """Keeps what every stage ended with."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self._stage = ""

    def stage(self, name: str, detail: str = "") -> None:
        self._stage = name

    def done(self, text: str) -> None:
        self.lines.append((self._stage, text))


def of_kind(result: RunResult, kind: str, **subject: Any) -> list[Record]:
    found = [r for r in result.records if r.kind == kind]
    return [r for r in found if all(r.subject.get(k) == v for k, v in subject.items())]


def digits(model: Path) -> Objects:
    return Objects(preprocess=user_transform(f"{model.parent}/pre.py:unit"))


def request(model: Path, out: Path, **settings: Any) -> RunRequest:
    given: dict[str, Any] = {"engines": ("onnxruntime",), "batches": (1, 8), "effort": TINY}
    return RunRequest(str(model), out, **{**given, **settings})


def test_int8_is_made_checked_and_measured_like_any_candidate(model, tmp_path) -> None:
    asked = request(
        model,
        tmp_path / "r",
        data="digits",
        engines=("onnxruntime", "openvino"),
        precisions=("int8",),
        batches=(8,),
        int8=Int8(method="ort", max_drop=0.02),
    )
    found = run(asked, digits(model))
    (made,) = of_kind(found, "quantize")
    sets = made.details["sets"]
    assert (sets["calibration"]["source"], sets["calibration"]["count"]) == ("digits:calibration", 150)
    assert sets["control"]["count"] == 1000 and sets["control"]["source"].startswith("digits:train")
    assert sets["control"]["sha256"] != sets["calibration"]["sha256"]
    assert made.conditions["max_drop"] == 0.02 and made.details["control"]["chosen"]["drop"] <= 0.02
    assert made.details["how"]["calibration"]["seed"] == 0
    for engine in ("onnxruntime", "openvino"):
        (verified,) = of_kind(found, "verify", engine=engine, precision="int8")
        assert verified.status == "ok" and verified.details["attestation"]["shares"]
        assert of_kind(found, "evaluate", engine=engine, precision="int8")[0].value("accuracy.drop") is not None
        assert len(of_kind(found, "measure", engine=engine, precision="int8")) == 2
    assert not any("not tried" in text for text in found.verdict.not_checked)
    said = Said()
    again = run(asked, digits(model), said)
    assert [r.id for r in again.records] == [r.id for r in found.records]
    for stage, text in said.lines:
        if stage in ("quantize", "build", "verify", "measure", "confirm"):
            assert text.endswith("(unchanged since the last run)"), (stage, text)


def rows(count: int) -> list[tuple[np.ndarray, int]]:
    from sklearn.datasets import load_digits

    data = load_digits()
    images = data.images[:count].astype(np.float32)[:, None] / 16
    return [(image, int(target)) for image, target in zip(images, data.target, strict=False)]


def test_samples_that_made_int8_are_not_evaluated(model, tmp_path) -> None:
    asked = request(model, tmp_path / "r", int8=Int8(method="ort", calibration_count=40), seed=3, batches=(1,))
    found = run(asked, Objects(data=rows(120)))
    (made,) = of_kind(found, "quantize")
    assert made.details["sets"]["calibration"]["count"] == 40
    assert "control" not in made.details["sets"]
    evaluated = of_kind(found, "evaluate")
    assert {r.conditions["samples"] for r in evaluated} == {80}
    chosen = np.random.default_rng(3).permutation(120)[:40]
    left = set(range(120)) - {int(i) for i in chosen}
    for record in evaluated:
        assert record.raw is not None
        scored = read_predictions(tmp_path / "r" / record.raw.path)
        assert {int(s.id.removeprefix("sample")) for s in scored} == left
    assert any(text.startswith("40 of 120 samples") for text in found.warnings)


def test_the_division_follows_the_seed_and_shares_nothing(model, tmp_path) -> None:
    from assay.core.tensors import Signature
    from assay.data import from_iterable, samples
    from assay.graph.signature import read_signature
    from assay.job.quantize.parts import Subset

    signature: Signature = read_signature(model)
    reader = from_iterable(rows(20), "rows", signature.inputs)
    some = Subset(reader, [7, 3, 19, 3 + 8])
    ids = [item.id for item in reader.items()]
    assert len(some) == 4
    assert [item.id for item in some.items()] == [ids[i] for i in (3, 7, 11, 19)]
    assert [item.id for item in some.items(1, 3)] == [ids[7], ids[11]]
    assert list(some.items(4)) == []
    assert next(iter(samples(some, None, signature.inputs, 0, 1))).id == ids[3]  # arrays need no transform


@pytest.mark.parametrize(
    ("settings", "library", "said"),
    [
        ({"data": "synthetic"}, "nncf", "--calibration synthetic tries it"),
        ({}, "nncf", "no samples to calibrate with"),
        ({"data": "digits"}, "no_such_library", "no_such_library is not installed: pip install"),
    ],
)
def test_int8_that_is_not_tried_is_listed_with_its_reason(
    model, tmp_path, monkeypatch, settings, library, said
) -> None:
    monkeypatch.setattr("assay.job.stages.quantize._LIBRARIES", {"nncf": (library, "pip install it")})
    objects = digits(model) if settings.get("data") == "digits" else Objects()
    found = run(request(model, tmp_path / "r", batches=(1,), **settings), objects)
    (skipped,) = of_kind(found, "build", precision="int8")
    assert skipped.status == "skipped" and said in str(skipped.reason)
    assert any(text.startswith("int8: not tried: ") and said in text for text in found.verdict.not_checked)
    assert found.exit_code == found.verdict.exit_code  # nobody asked for it by name
    assert not of_kind(found, "quantize")


def test_synthetic_calibration_has_to_be_typed(model, tmp_path) -> None:
    asked = request(
        model, tmp_path / "r", data="synthetic", batches=(1,), int8=Int8("synthetic", calibration_count=8, method="ort")
    )
    found = run(asked)
    (made,) = of_kind(found, "quantize")
    assert made.details["how"]["calibration"]["synthetic"] is True
    assert of_kind(found, "verify", precision="int8")[0].status == "ok"
    assert any("accuracy" in text for text in found.verdict.not_checked)


def test_a_failed_conversion_does_not_end_the_run(tmp_path) -> None:
    asked = Int8("synthetic", calibration_count=8, method="ort")
    found = run(request(crowd(tmp_path / "crowd.onnx"), tmp_path / "r", batches=(1,), int8=asked))
    (made,) = of_kind(found, "quantize")
    assert made.status == "failed" and "nothing of" in str(made.reason) and "was quantised" in str(made.reason)
    assert of_kind(found, "build", precision="int8")[0].reason == made.reason
    assert of_kind(found, "measure", precision="fp32")


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"precisions": ("int8",)}, BadInput, "needs samples"),
        ({"precisions": ("int8",), "data": "synthetic"}, BadInput, "random values"),
        ({"int8": Int8(max_drop=0.01)}, BadInput, "--max-drop needs an accuracy"),
        ({"int8": Int8(max_drop=0.01), "data": "synthetic"}, BadInput, "--max-drop needs an accuracy"),
        ({"int8": Int8(method="nccf")}, UnknownName, "no method"),
        ({"int8": Int8(calibration="digits:test"), "data": "digits"}, BadInput, "must not share"),
        ({"int8": Int8(max_drop=0.0005), "data": "digits"}, BadInput, "cannot show"),
        ({"device": "cpu:2"}, BadInput, "no cpu:2"),
    ],
)
def test_what_cannot_be_is_refused(model, tmp_path, settings, error, said) -> None:
    objects = digits(model) if settings.get("data") == "digits" else Objects()
    with pytest.raises(error, match=said):
        run(request(model, tmp_path / "r", **settings), objects)


@pytest.mark.parametrize("wrong", [(4, 2), (0, 2), (2, 2)])
def test_buckets_that_are_no_sizes(wrong) -> None:
    with pytest.raises(BadInput, match="rising order"):
        RunRequest("m.onnx", Path("r"), buckets=wrong)


def crowd(path: Path) -> Path:
    """Every row minus the mean of all rows: a neighbour changes a row, whatever the engine."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], name="mean", axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["y"], name="minus"),
    ]
    kind, dims = TensorProto.FLOAT, ["batch", 4]
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "crowd", [tensor("x", kind, dims)], [tensor("y", kind, dims)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_buckets_are_proved_kept_and_their_padding_counted(model, tmp_path) -> None:
    asked = request(
        model, tmp_path / "r", data="digits", engines=("openvino",), precisions=("fp32",), batches=(3, 4),
        buckets=(1, 2, 4),
    )  # fmt: skip
    found = run(asked, digits(model))
    (proof,) = of_kind(found, "buckets")
    assert proof.status == "ok" and proof.details["differing"] == []
    assert set(proof.details["between"]) == {"2", "4"}
    assert proof.value("padding.share") == pytest.approx(1 / 11)
    padded = {r.conditions["batch"]: r.value("padding.share") for r in of_kind(found, "measure")}
    assert padded == {3: 0.25, 4: 0.0}


def test_buckets_whose_padding_changes_rows_are_disabled_and_that_is_said(tmp_path) -> None:
    found = run(request(crowd(tmp_path / "crowd.onnx"), tmp_path / "r", precisions=("fp32",), buckets=(1, 4)))
    (proof,) = of_kind(found, "buckets")
    assert proof.status == "failed" and "padding changes output 'y'" in str(proof.reason)
    assert any("runs without buckets" in text for text in found.warnings)
    measured = of_kind(found, "measure")
    assert measured and all("padding.share" not in r.figures for r in measured)
    assert proof.subject["candidate"] not in {r.subject["candidate"] for r in measured}


NET = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x).mean((2, 3))
"""


@pytest.fixture
def two_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run tries unasked, without the one that these tests do not need."""
    monkeypatch.setattr("assay.job.stages.build.default_engines", lambda device: ("torch", "onnxruntime"))


def module(folder: Path, out: Path, batches: Sequence[int] = (2,)) -> RunRequest:
    (folder / "net.py").write_text(NET)
    source = SourceOptions(out_dir=out, shapes=(parse_shape("x:batchx3x8x8"),))
    return request(f"{folder}/net.py:Net", out, engines=None, precisions=("fp32",), batches=batches, source=source)


@pytest.mark.slow
def test_torch_compile_is_a_baseline_and_never_chosen(two_engines, tmp_path) -> None:
    from assay.job.opening import engine

    if engine("torch_compile").unavailable() is not None:
        pytest.skip(str(engine("torch_compile").unavailable()))
    found = run(module(tmp_path, tmp_path / "r"))
    compiled = of_kind(found, "measure", engine="torch_compile")
    assert {r.conditions["scenario"] for r in compiled} == {"latency", "offline"}
    for record in compiled:
        assert record.status == "ok" and record.details["role"] == "baseline"
        assert "speedup.eager" in record.figures and "speedup.torch_compile" not in record.figures
    for record in of_kind(found, "measure", engine="onnxruntime"):
        assert {"speedup.eager", "speedup.torch_compile"} <= set(record.figures)
    (verified,) = of_kind(found, "verify", engine="torch_compile")
    assert verified.details["class"] in ("equal", "within format cost")
    assert of_kind(found, "evaluate", engine="torch_compile")[0].status == "skipped"
    assert found.best is None or found.best["engine"] != "torch_compile"


def test_without_a_compiler_the_baseline_says_what_is_missing(two_engines, tmp_path, monkeypatch) -> None:
    from assay.job.opening import engine

    monkeypatch.setenv("PATH", str(tmp_path))
    why = engine("torch_compile").unavailable()
    assert why is not None and "C++ compiler" in why
    found = run(module(tmp_path, tmp_path / "r"))
    (skipped,) = of_kind(found, "build", engine="torch_compile")
    assert (skipped.status, skipped.reason) == ("skipped", why)
    assert all("speedup.torch_compile" not in r.figures for r in found.records)
    assert any("speedup.eager" in r.figures for r in of_kind(found, "measure", engine="onnxruntime"))


def test_a_bundle_of_an_earlier_run_does_not_outlive_a_run_that_chose_nothing(model, tmp_path) -> None:
    from assay.judge.policy import Policy

    given: dict[str, Any] = {"data": "digits", "engines": ("onnxruntime", "openvino"), "precisions": ("fp32",)}
    given["batches"] = (1,)
    first = run(request(model, tmp_path / "r", **given), digits(model))
    assert first.bundle is not None and first.bundle.is_dir()
    strict = tmp_path / "strict.toml"
    strict.write_text('[latency]\np50 = "1ns"\n')
    again = run(request(model, tmp_path / "r", **given, policy=Policy.load(strict)), digits(model))
    assert again.best is None and again.bundle is None
    assert not first.bundle.exists()
    assert any("was removed: an earlier run packed it" in text for text in again.warnings)


def test_what_is_missing_is_told_by_its_own_name() -> None:
    """``torch`` is not told by a line about ``torch_compile``, nor fp16 by a reason in which it occurs."""
    from types import SimpleNamespace

    from assay.job.stages.build import _note_missing

    ctx: Any = SimpleNamespace(
        request=SimpleNamespace(engines=("torch", "torch_compile"), precisions=("int8", "fp16"), device="cpu"),
        missing=["torch_compile int8: it has no kernels for fp16 here"],
    )
    exported: Any = SimpleNamespace(not_lowered={})
    _note_missing(ctx, exported, [])
    assert [text.partition(":")[0] for text in ctx.missing[1:]] == ["torch", "no engine here runs fp16"]


def test_an_export_is_made_again_when_the_users_own_files_change(tmp_path) -> None:
    from assay.export.options import ExportOptions
    from assay.job.stages.export import _code

    for name in ("ops.py", "passes.py"):
        (tmp_path / name).write_text("a = 1\n")
    options = ExportOptions(custom_ops=tmp_path / "ops.py", passes=("onnxslim", f"{tmp_path}/passes.py:mine"))
    seen = [_code(options)]
    for name in ("ops.py", "passes.py"):
        (tmp_path / name).write_text("a = 2\n")
        seen.append(_code(options))
    assert len({tuple(s) for s in seen}) == 3
    assert _code(ExportOptions()) == []


def test_data_that_can_be_gone_through_once_are_kept(model, tmp_path) -> None:
    asked = request(model, tmp_path / "r", precisions=("fp32",), batches=(1,))
    found = run(asked, Objects(data=(row for row in rows(40))))
    (evaluated, *_) = of_kind(found, "evaluate")
    assert evaluated.status == "ok" and evaluated.conditions["samples"] == 40
