"""The tensorrt engine against a stand-in (standins/tensorrt_standin.py): not yet run on hardware."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnx_models
import pytest
from onnx import TensorProto, helper
from standins import tensorrt_standin as standin

from assay.core.artifact import Artifact, file_artifact
from assay.core.engine import BuildOptions, OpenOptions, Session
from assay.core.errors import BadInput, EngineFailed, NotAvailable, SignatureMismatch
from assay.engines.onnxruntime import OnnxRuntimeEngine
from assay.engines.tensorrt import TensorRtEngine

VERSIONS = ("8.6.1", "10.13.0", "11.1.0")


class StandInEngine(TensorRtEngine):
    runtime = standin.Cuda


@pytest.fixture(params=VERSIONS)
def trt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = standin.make(request.param)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


@pytest.fixture
def ten(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = standin.make("10.13.0")
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


@pytest.fixture
def model(tmp_path: Path) -> Artifact:
    return onnx_models.conv(tmp_path / "conv.onnx")


def build(model: Artifact, folder: Path, precision: str = "fp32", **given: str) -> Artifact:
    options = BuildOptions(precision=precision, device="cuda", provider_options=tuple(sorted(given.items())))
    return StandInEngine().build(model, options, folder / "trt")


def major(trt: ModuleType) -> int:
    return int(trt.__version__.partition(".")[0])


def flags(trt: Any) -> set[str]:
    return {flag.name for flag in trt.built[-1][1].flags}


def opened(plan: Artifact, **given: Any) -> Session:
    return StandInEngine().open(plan, OpenOptions(device="cuda", **given))


def test_it_runs_like_the_file_it_was_built_from(trt, model, tmp_path) -> None:
    before = len(standin.Cuda.live)
    plan = build(model, tmp_path)
    assert plan.format == "tensorrt" and plan.runs_code and plan.path.name == "model.plan"
    assert "built by the stand-in" in (tmp_path / "trt" / "builder.log").read_text()
    x = np.random.default_rng(0).random((3, 2, 6, 6), dtype=np.float32)
    with OnnxRuntimeEngine().open(model, OpenOptions()) as reference, opened(plan, instances=2) as session:
        assert session.parallelism == 2
        for rows in (3, 1, 2):
            spans: dict[str, float] = {}
            found = session.run({"x": x[:rows]}, spans=spans)
            np.testing.assert_array_equal(found["y"], reference.run({"x": x[:rows]})["y"])
            assert spans["compute"] == 0.001
        attestation = session.attest()
        assert attestation.share("tensorrt", "fp32") == 1
        with pytest.raises(SignatureMismatch):
            session.run({"x": x.astype(np.float64)})
    assert len(standin.Cuda.live) == before  # every buffer, stream and event was given back
    with pytest.raises(EngineFailed, match="closed"):
        session.run({"x": x})


def test_versions_differ_in_flags(trt, model, tmp_path) -> None:
    build(model, tmp_path)
    network, config = trt.built[-1]
    assert network.flags == (1 if major(trt) == 8 else 0)
    assert "TF32" not in flags(trt)
    assert config.profiling_verbosity is trt.ProfilingVerbosity.DETAILED
    build(model, tmp_path, "tf32")
    assert "TF32" in flags(trt)
    with opened(build(model, tmp_path, "tf32"), precision="tf32") as session:
        assert session.attest().share(None, "tf32") == 1
    if major(trt) < 11:
        plan = build(model, tmp_path, "fp16")
        assert "FP16" in flags(trt)
        with opened(plan, precision="fp16") as session:
            assert session.attest().share(None, "fp16") == 1
        build(model, tmp_path, best="1")
        assert {"FP16", "INT8"} <= flags(trt)
    else:
        with pytest.raises(BadInput, match="takes the precision from the file") as told:
            build(model, tmp_path, "fp16")
        assert "assay quantize" in (told.value.remedy or "")


def test_bf16_by_version(trt, model, tmp_path) -> None:
    why = StandInEngine().unavailable("cuda", "bf16")
    if major(trt) == 8:
        assert why is not None and "no bf16" in why
    else:
        assert why is None
    if major(trt) == 10:
        build(model, tmp_path, "bf16")
        assert "BF16" in flags(trt)


def test_a_strongly_typed_network(ten, model, tmp_path) -> None:
    build(model, tmp_path, strongly_typed="1")
    assert ten.built[-1][0].flags == 2 and "FP16" not in flags(ten)
    with pytest.raises(BadInput, match="takes the precision from the file"):
        build(model, tmp_path, "fp16", strongly_typed="1")


def test_int8_needs_a_quantised_graph(ten, model, tmp_path) -> None:
    with pytest.raises(BadInput, match="quantised graph") as told:
        build(model, tmp_path, "int8")
    assert "--precision int8" in (told.value.remedy or "")
    build(onnx_models.quantised_conv(tmp_path / "q.onnx"), tmp_path, "int8")
    assert "INT8" in flags(ten)


def test_batches(ten, model, tmp_path) -> None:
    plan = build(model, tmp_path, min_batch="1", opt_batch="2", max_batch="4")
    assert ten.built[-1][1].profiles[0].shapes == {"x": [[1, 2, 6, 6], [2, 2, 6, 6], [4, 2, 6, 6]]}
    with opened(plan) as session, pytest.raises(BadInput, match="outside what the plan"):
        session.run({"x": np.zeros((5, 2, 6, 6), np.float32)})
    fixed = StandInEngine().build(model, BuildOptions(device="cuda", batch=3), tmp_path / "fixed")
    assert ten.built[-1][1].profiles[0].shapes == {"x": [[3, 2, 6, 6]] * 3}
    with opened(fixed) as session:
        assert session.signature.static_batch == 3
    for wrong in ({"min_batch": "4", "max_batch": "2"}, {"opt_batch": "64"}, {"min_batch": "0"}):
        with pytest.raises(BadInput, match="nest"):
            build(model, tmp_path, **wrong)
    for wrong in ({"max_batch": "many"}, {"workspace": "4 bananas"}):
        with pytest.raises(BadInput, match="no number"):
            build(model, tmp_path, **wrong)
    with pytest.raises(BadInput, match="no option 'workspce'"):
        build(model, tmp_path, workspce="1")


def test_workspace_cache_and_compatibility(ten, model, tmp_path) -> None:
    cache = tmp_path / "timing.cache"
    build(model, tmp_path, workspace="1GiB", timing_cache=str(cache), version_compatible="1")
    config = ten.built[-1][1]
    assert config.pools == {ten.MemoryPoolType.WORKSPACE: 1 << 30} and "VERSION_COMPATIBLE" in flags(ten)
    assert cache.read_bytes() == b"timed"
    build(model, tmp_path, timing_cache=str(cache))
    assert cache.read_bytes() == b"timedtimed"


def test_a_plan_of_another_place_is_refused_with_the_command(ten, model, tmp_path, monkeypatch) -> None:
    plan = build(model, tmp_path)
    monkeypatch.setattr(standin.Cuda, "label", "Another GPU sm_99")
    with pytest.raises(NotAvailable, match="Another GPU") as told:
        opened(plan)
    assert told.value.remedy is not None and told.value.remedy.startswith("trtexec --onnx=")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "tensorrt", standin.make("10.14.0"))
    with pytest.raises(NotAvailable, match=r"10\.13\.0.*10\.14\.0"):
        opened(plan)
    movable = {**plan.built_for, "version_compatible": "True"}
    opened(replace(plan, built_for=movable)).close()
    with pytest.raises(BadInput, match="built for fp32"):
        opened(plan, precision="fp16")


def test_a_damaged_plan_and_an_unknown_signature(ten, model, tmp_path) -> None:
    plan = build(model, tmp_path)
    standin.write_nonsense(plan.path)
    with pytest.raises(EngineFailed, match="damaged"):
        opened(plan)
    with pytest.raises(BadInput, match="signature"):
        good = build(model, tmp_path)
        opened(replace(good, built_for={}))


def test_an_operator_it_does_not_take_is_named_with_its_source_line(ten, tmp_path) -> None:
    node = helper.make_node("Det", ["x"], ["y"], name="node_det")
    node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value='File "/home/me/net.py", line 12, in forward\n')
    values = (
        [onnx_models.value("x", TensorProto.FLOAT, ["batch", 3, 3])],
        [onnx_models.value("y", TensorProto.FLOAT, ["batch"])],
    )
    model = onnx_models.save(tmp_path / "det.onnx", [node], values)
    with pytest.raises(EngineFailed, match=r"Det node_det.*net\.py.*no importer") as told:
        build(model, tmp_path)
    assert told.value.log is not None and Path(told.value.log).is_file()


def test_devices(ten, monkeypatch) -> None:
    engine = StandInEngine()
    assert engine.unavailable("cuda") is None and engine.version() == "10.13.0"
    assert "no cuda:1" in (engine.unavailable("cuda:1") or "")
    assert "cuda only" in (engine.unavailable("cpu") or "")
    monkeypatch.setitem(sys.modules, "tensorrt", standin.make("8.2.0"))
    assert "too old" in (engine.unavailable("cuda") or "")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert "pip install tensorrt" in (engine.unavailable("cuda") or "")


def test_the_status_is_said() -> None:
    assert TensorRtEngine.status == "not yet run on hardware"


@pytest.mark.parametrize(
    ("version", "precision", "given", "words", "absent"),
    [
        ("8", "fp16", {}, ["--fp16", "--skipInference", "--optShapes=x:8x2x6x6"], ["--explicitBatch", "--noTF32"]),
        ("10", "fp32", {}, ["--noTF32", "--memPoolSize=workspace:4096M"], ["--workspace"]),
        ("10", "bf16", {"max_batch": "4"}, ["--bf16", "--maxShapes=x:4x2x6x6", "--optShapes=x:4x2x6x6"], []),
        ("10", "fp32", {"strongly_typed": "1"}, ["--stronglyTyped"], []),
        ("10", "fp32", {"best": "1"}, ["--best"], ["--noTF32"]),
        ("11", "fp32", {"version_compatible": "1"}, ["--versionCompatible", "--noTF32"], ["--stronglyTyped"]),
    ],
)
def test_the_trtexec_line(model, tmp_path, version, precision, given, words, absent) -> None:
    options = BuildOptions(precision=precision, provider_options=tuple(sorted(given.items())))
    line = TensorRtEngine().build_command(model, options, tmp_path, version).split()
    assert line[0] == "trtexec" and f"--onnx={model.path}" in line
    assert set(words) <= set(line)
    assert not [word for word in line if any(word.startswith(a) for a in absent)]


def test_trtexec_lines_that_cannot_be(model, tmp_path) -> None:
    engine = TensorRtEngine()
    with pytest.raises(BadInput, match="no bf16"):
        engine.build_command(model, BuildOptions(precision="bf16"), tmp_path, "8")
    with pytest.raises(BadInput, match="takes the precision"):
        engine.build_command(model, BuildOptions(precision="fp16"), tmp_path, "11")
    with pytest.raises(BadInput, match="not known"):
        engine.build_command(model, BuildOptions(), tmp_path, "9")
    two = [onnx_models.value("x", TensorProto.FLOAT, ["batch", "width"])]
    free = onnx_models.save(
        tmp_path / "free.onnx",
        [helper.make_node("Relu", ["x"], ["y"])],
        (two, [onnx_models.value("y", TensorProto.FLOAT, ["batch", "width"])]),
    )
    with pytest.raises(BadInput, match="width"):
        engine.build_command(free, BuildOptions(), tmp_path, "10")


def test_the_standin_is_an_onnx_file_behind_a_label(model, tmp_path, ten) -> None:
    """So that nobody mistakes a stand-in's plan for one of TensorRT's."""
    plan = build(model, tmp_path)
    assert plan.path.read_bytes().startswith(b"STANDIN")
    assert file_artifact(plan.path, "tensorrt").sha256 == plan.sha256
    assert onnx.load_model_from_string(plan.path.read_bytes().split(b"\n", 2)[2]).graph.node[0].op_type == "Conv"


def test_a_call_is_recorded_and_replayed(trt, model, tmp_path) -> None:
    """cuda_graph: first call plain, second recorded, later ones replayed; other shapes start anew."""
    before = len(standin.Cuda.live)
    plan = build(model, tmp_path)
    rng = np.random.default_rng(0)
    with (
        OnnxRuntimeEngine().open(model, OpenOptions()) as reference,
        opened(plan, provider_options=(("cuda_graph", "1"),)) as session,
    ):
        launched = []
        for rows in (2, 2, 2, 4, 4, 2):
            x = {"x": rng.random((rows, 2, 6, 6), dtype=np.float32)}
            already = standin.Cuda.launched
            np.testing.assert_array_equal(session.run(x)["y"], reference.run(x)["y"])
            launched.append(standin.Cuda.launched - already)
        assert launched == [0, 1, 1, 0, 1, 0]
    assert len(standin.Cuda.live) == before and not standin.Cuda.graphs
    with pytest.raises(BadInput, match="only cuda_graph"):
        opened(plan, provider_options=(("workspace", "1GiB"),))


def test_a_device_that_does_not_exist_is_refused_with_those_that_do(ten, model, tmp_path) -> None:
    with pytest.raises(BadInput, match=r"no cuda:3: tensorrt sees cuda:0") as told:
        StandInEngine().build(model, BuildOptions(device="cuda:3"), tmp_path / "trt")
    assert told.value.remedy == "--device cuda:0"
    plan = build(model, tmp_path)
    with pytest.raises(BadInput, match="no cuda:1"):
        StandInEngine().open(plan, OpenOptions(device="cuda:1"))


def test_the_trtexec_line_of_a_file_with_fixed_shapes_tells_none(tmp_path) -> None:
    """trtexec refuses shapes for a model that has its own."""
    values = (
        [onnx_models.value("x", TensorProto.FLOAT, [2, 3])],
        [onnx_models.value("y", TensorProto.FLOAT, [2, 3])],
    )
    static = onnx_models.save(tmp_path / "static.onnx", [helper.make_node("Relu", ["x"], ["y"])], values)
    for batch in (None, 2):
        assert "Shapes" not in TensorRtEngine().build_command(static, BuildOptions(batch=batch), tmp_path, "10")
    with pytest.raises(BadInput, match="batch size 2; batch 4"):
        TensorRtEngine().build_command(static, BuildOptions(batch=4), tmp_path, "10")


def test_the_remedy_for_a_free_dim_is_a_shape_that_can_be_typed(tmp_path) -> None:
    values = (
        [onnx_models.value("heights", TensorProto.FLOAT, ["batch", "h"])],
        [onnx_models.value("y", TensorProto.FLOAT, ["batch", "h"])],
    )
    free = onnx_models.save(tmp_path / "free.onnx", [helper.make_node("Relu", ["heights"], ["y"])], values)
    with pytest.raises(BadInput, match="'h'") as told:
        TensorRtEngine().build_command(free, BuildOptions(), tmp_path, "10")
    assert told.value.remedy == "assay export MODEL --shape heights:batchxSIZE:float32"


def test_a_switch_is_on_or_off(ten, model, tmp_path) -> None:
    for name in ("best", "strongly_typed", "version_compatible"):
        with pytest.raises(BadInput, match=f"{name} is 'yes'") as told:
            build(model, tmp_path, **{name: "yes"})
        assert told.value.remedy == f"{name}=1 or {name}=0"
    plan = build(model, tmp_path, best="0")
    with pytest.raises(BadInput, match="cuda_graph is 'true'"):
        opened(plan, provider_options=(("cuda_graph", "true"),))


def test_a_timing_cache_that_cannot_be_written_is_told_before_the_build(ten, model, tmp_path) -> None:
    with pytest.raises(BadInput, match=r"no folder .*gone"):
        build(model, tmp_path, timing_cache=str(tmp_path / "gone" / "timing.cache"))
    assert not (tmp_path / "trt" / "builder.log").exists()


def test_a_device_without_room_for_a_context(ten, model, tmp_path, monkeypatch) -> None:
    plan = build(model, tmp_path)
    before, made = len(standin.Cuda.live), []
    real = standin.Engine.create_execution_context

    def only_one(engine):
        made.append(real(engine) if not made else None)
        return made[-1]

    monkeypatch.setattr(standin.Engine, "create_execution_context", only_one)
    with pytest.raises(EngineFailed, match="too little memory"):
        opened(plan, instances=2)
    assert len(made) == 2 and len(standin.Cuda.live) == before


def test_a_plan_that_does_not_say_what_it_multiplies(ten, model, tmp_path) -> None:
    plan = build(model, tmp_path)
    without = {name: text for name, text in plan.built_for.items() if name != "macs"}
    with opened(replace(plan, built_for=without)) as session:
        assert "does not tell" in session.attest().check("tensorrt", "fp32")[0]
