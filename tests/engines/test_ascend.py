"""The ascend engine against stand-ins (standins/atc_standin.py, ais_bench_standin.py): not yet run on hardware."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx_models
import pytest
from onnx import TensorProto, helper
from standins import ais_bench_standin as standin

from assay.core.artifact import Artifact
from assay.core.engine import BuildOptions, OpenOptions
from assay.core.errors import BadInput, EngineFailed, NotAvailable
from assay.engines.ascend import AscendEngine
from assay.engines.ascend_command import aipp_config
from assay.engines.onnxruntime import OnnxRuntimeEngine

FOLDER = Path(__file__).parent


@pytest.fixture(autouse=True)
def ascend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``atc`` on the PATH and ``ais_bench`` importable, both stand-ins."""
    tool = tmp_path / "bin" / "atc"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FOLDER}/standins/atc_standin.py" "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    for name in ("ais_bench", "ais_bench.infer"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "ais_bench.infer.interface", standin)


@pytest.fixture
def model(tmp_path: Path) -> Artifact:
    return onnx_models.conv(tmp_path / "conv.onnx")


def build(model: Artifact, folder: Path, batch: int | None = None, **given: str) -> Artifact:
    pairs = tuple(sorted({"soc_version": "Ascend310P3", **given}.items()))
    options = BuildOptions(precision="fp16", device="npu", batch=batch, provider_options=pairs)
    return AscendEngine().build(model, options, folder / "om")


OPEN = OpenOptions(precision="fp16", device="npu")


def test_one_batch_size(model, tmp_path) -> None:
    made = build(model, tmp_path, batch=2)
    assert made.format == "ascend" and made.runs_code and made.path.name == "model.om"
    assert "run success" in (tmp_path / "om" / "builder.log").read_text()
    assert "--input_shape=x:2,2,6,6" in made.built_for["command"]
    x = np.random.default_rng(0).random((2, 2, 6, 6), dtype=np.float32)
    with OnnxRuntimeEngine().open(model, OpenOptions()) as reference, AscendEngine().open(made, OPEN) as session:
        assert session.signature.static_batch == 2
        spans: dict[str, float] = {}
        np.testing.assert_array_equal(session.run({"x": x}, spans=spans)["y"], reference.run({"x": x})["y"])
        assert spans["compute"] == 0.002
        assert not session.attest().shares and "does not tell" in session.attest().how
    assert standin.InferSession.live == 0


def test_several_batch_sizes_are_padded_to(model, tmp_path) -> None:
    made = build(model, tmp_path, dynamic_batch="4,1")
    assert "--dynamic_batch_size=1,4" in made.built_for["command"]
    x = np.random.default_rng(0).random((7, 2, 6, 6), dtype=np.float32)
    with OnnxRuntimeEngine().open(model, OpenOptions()) as reference, AscendEngine().open(made, OPEN) as session:
        for rows in (1, 3, 4, 7):
            found = session.run({"x": x[:rows]})["y"]
            np.testing.assert_allclose(found, reference.run({"x": x[:rows]})["y"], rtol=1e-5, atol=1e-6)
        assert session.prove({"x": x}).padding_is_harmless
        assert (session.padding.real, session.padding.added) == (15, 2)
    assert standin.InferSession.live == 0


def test_a_free_batch_gets_the_usual_sizes(model, tmp_path) -> None:
    assert build(model, tmp_path).built_for["dynamic_batch"] == "[1, 2, 4, 8, 16, 32]"


def test_options_reach_atc(model, tmp_path) -> None:
    aipp = tmp_path / "aipp.cfg"
    aipp.write_text(aipp_config({"kind": "image", "size": [6, 6], "mean": [0.5], "std": [0.5]}))
    command = build(model, tmp_path, batch=1, aipp=str(aipp), auto_tune_mode="GA").built_for["command"]
    for word in (f"--insert_op_conf={aipp}", "--auto_tune_mode=GA", "--precision_mode=force_fp16", "--framework=5"):
        assert word in command


def test_what_cannot_be_is_refused(model, tmp_path) -> None:
    with pytest.raises(BadInput, match="no option 'soc'"):
        build(model, tmp_path, soc="x")
    with pytest.raises(BadInput, match="contradict"):
        build(model, tmp_path, batch=2, dynamic_batch="1,2")
    for wrong in ("some", "0,4", "-1"):
        with pytest.raises(BadInput, match=f"dynamic_batch is '{wrong}'"):
            build(model, tmp_path, dynamic_batch=wrong)
    with pytest.raises(BadInput, match="no file"):
        build(model, tmp_path, aipp=str(tmp_path / "gone"))
    engine = AscendEngine()
    with pytest.raises(BadInput, match="soc_version") as told:
        engine.build(model, BuildOptions(precision="fp16", device="npu"), tmp_path)
    assert "soc_version=" in (told.value.remedy or "")
    with pytest.raises(NotAvailable, match="int8"):
        engine.build(model, BuildOptions(precision="int8", device="npu"), tmp_path)
    made = build(model, tmp_path, batch=1)
    with pytest.raises(BadInput, match="built for fp16"):
        engine.open(made, replace(OPEN, precision="fp32"))
    with pytest.raises(BadInput, match="signature"):
        engine.open(replace(made, built_for={}), OPEN)
    with pytest.raises(NotAvailable, match="buckets"):
        engine.open(made, replace(OPEN, buckets=(1, 2)))
    made.path.write_bytes(b"damaged")
    with pytest.raises(EngineFailed, match="load model"):
        engine.open(made, OPEN)


def test_an_operator_atc_does_not_take_is_named(tmp_path) -> None:
    values = (
        [onnx_models.value("x", TensorProto.FLOAT, ["batch", 3, 3])],
        [onnx_models.value("y", TensorProto.FLOAT, ["batch"])],
    )
    model = onnx_models.save(tmp_path / "det.onnx", [helper.make_node("Det", ["x"], ["y"], name="node_det")], values)
    with pytest.raises(EngineFailed, match=r"exit code 255: E19010.*node_det") as told:
        build(model, tmp_path, batch=1)
    assert told.value.log is not None and Path(told.value.log).is_file()


def test_without_the_tools_it_says_what_to_install(model, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(NotAvailable, match="atc"):
        build(model, tmp_path, batch=1)
    monkeypatch.setitem(sys.modules, "ais_bench.infer.interface", None)
    why = AscendEngine().unavailable("npu") or ""
    assert "pip install" in why
    assert "npu only" in (AscendEngine().unavailable("cpu") or "")
    line = AscendEngine().build_command(
        model, BuildOptions(precision="fp16", batch=4, provider_options=(("soc_version", "Ascend310"),)), tmp_path, None
    )
    assert line.startswith("atc --framework=5") and "x:4,2,6,6" in line


def test_aipp_normalises_like_the_transform() -> None:
    """AIPP's formula with the numbers in the file gives what the transform gives."""
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    text = aipp_config({"kind": "image", "size": [224, 192], "mean": mean, "std": std})
    rows = dict(line.split(": ") for line in text.splitlines() if ": " in line)
    rows = {key.strip(): value for key, value in rows.items()}
    assert rows["src_image_size_w"] == "192" and rows["src_image_size_h"] == "224"
    assert rows["input_format"] == "RGB888_U8"
    pixels = np.arange(256)
    for channel in range(3):
        found = (pixels - float(rows[f"min_chn_{channel}"])) * float(rows[f"var_reci_chn_{channel}"])
        np.testing.assert_allclose(found, (pixels / 255 - mean[channel]) / std[channel], atol=1e-5)
    for wrong in ({"kind": "none"}, {"kind": "image", "size": [1, 1], "mean": [0.5, 0.5], "std": [1, 1]}):
        with pytest.raises(BadInput, match="AIPP"):
            aipp_config(wrong)


def test_a_file_for_another_card_is_refused_with_the_command(model, tmp_path, monkeypatch) -> None:
    made = build(model, tmp_path, batch=1)
    built = made.built_for["soc_version"]
    acl = ModuleType("acl")
    acl.get_soc_name = lambda: built  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "acl", acl)
    AscendEngine().open(made, OPEN).close()
    acl.get_soc_name = lambda: "Ascend910B4"  # type: ignore[attr-defined]
    with pytest.raises(NotAvailable, match=f"built for {built}; here is Ascend910B4") as told:
        AscendEngine().open(made, OPEN)
    assert "--soc_version=Ascend910B4" in (told.value.remedy or "")


def test_nothing_is_claimed_of_its_precision(model, tmp_path) -> None:
    with AscendEngine().open(build(model, tmp_path, batch=2), OPEN) as session:
        assert session.attest().check(None, "fp16") == [
            "precision and provider could not be attested: ais_bench does not tell the precision of operators"
        ]


def test_a_file_of_another_batch_size_is_refused(tmp_path) -> None:
    values = (
        [onnx_models.value("x", TensorProto.FLOAT, [2, 3])],
        [onnx_models.value("y", TensorProto.FLOAT, [2, 3])],
    )
    static = onnx_models.save(tmp_path / "static.onnx", [helper.make_node("Relu", ["x"], ["y"])], values)
    with pytest.raises(BadInput, match="batch size 2; batch 4"):
        build(static, tmp_path, batch=4)


def test_what_was_noted_at_the_build_is_needed_to_open(model, tmp_path) -> None:
    made = build(model, tmp_path, batch=1)
    for lost in ("precision", "dynamic_batch", "signature"):
        kept = {name: text for name, text in made.built_for.items() if name != lost}
        with pytest.raises(BadInput, match=r"signature of this \.om is unknown"):
            AscendEngine().open(replace(made, built_for=kept), OPEN)


def test_a_session_that_fails_to_open_frees_the_others(model, tmp_path, monkeypatch) -> None:
    made = build(model, tmp_path, batch=1)
    real, opened = standin.InferSession, []

    def second_fails(*given):
        if opened:
            raise RuntimeError("no memory left, 507899")
        opened.append(real(*given))
        return opened[0]

    monkeypatch.setattr(standin, "InferSession", second_fails)
    with pytest.raises(EngineFailed, match="no memory left"):
        AscendEngine().open(made, replace(OPEN, instances=2))
    assert opened and real.live == 0


def test_atc_that_hangs_is_told(model, tmp_path, monkeypatch) -> None:
    (tmp_path / "bin" / "atc").write_text("#!/bin/sh\nexec sleep 20\n")
    monkeypatch.setattr("assay.engines.ascend._TIMEOUT_S", 0.05)
    with pytest.raises(EngineFailed, match="atc did not finish"):
        build(model, tmp_path, batch=1)
