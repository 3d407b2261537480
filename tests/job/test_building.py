"""An equal build is made once; anything it depends on makes it anew."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from assay.cli.main import run_cli
from assay.core.artifact import file_artifact
from assay.core.engine import BuildOptions
from assay.job.building import build_in_folder, build_key


@pytest.fixture
def artifact(model):
    return file_artifact(model, "onnx")


def test_the_key_covers_model_options_version_and_device(artifact, monkeypatch) -> None:
    options = BuildOptions()
    keys = [build_key("onnxruntime", artifact, options), build_key("openvino", artifact, options)]
    keys.append(build_key("onnxruntime", replace(artifact, sha256="0" * 64), options))
    for change in ({"precision": "int8"}, {"batch": 4}, {"device": "cuda"}, {"provider_options": (("a", "1"),)}):
        keys.append(build_key("onnxruntime", artifact, replace(options, **change)))
    monkeypatch.setattr("assay.engines.onnxruntime.OnnxRuntimeEngine.version", lambda self: "0.1")
    keys.append(build_key("onnxruntime", artifact, options))
    monkeypatch.setattr("assay.job.building.device_name", lambda device: "another processor")
    keys.append(build_key("onnxruntime", artifact, options))
    assert len(set(keys)) == len(keys)


def test_an_equal_build_is_found_whole_and_otherwise_made_again(artifact, tmp_path: Path) -> None:
    first = build_in_folder("onnxruntime", artifact, BuildOptions(), tmp_path)
    assert not first.unchanged
    second = build_in_folder("onnxruntime", artifact, BuildOptions(), tmp_path)
    assert second.unchanged and second.artifact == first.artifact
    first.artifact.path.write_bytes(b"damaged")
    third = build_in_folder("onnxruntime", artifact, BuildOptions(), tmp_path)
    assert not third.unchanged and third.artifact.sha256 == first.artifact.sha256
    assert not build_in_folder("onnxruntime", artifact, BuildOptions(batch=2), tmp_path).unchanged


def test_the_verb_says_so(model, tmp_path, capsys) -> None:
    for expected in (False, True):
        assert run_cli(["build", str(model), "--engine", "onnxruntime", "-o", str(tmp_path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["unchanged"] is expected


def test_an_engine_file_opened_by_its_path_knows_what_it_was_built_for(tmp_path: Path) -> None:
    """A plan moved without its note, or replaced, is of unknown origin: nothing is guessed."""
    from assay.sources import SourceOptions, resolve_model

    plan = tmp_path / "model.plan"
    plan.write_bytes(b"a plan")
    made = replace(file_artifact(plan, "tensorrt"), built_for={"tensorrt": "10.1", "command": "trtexec --onnx=m.onnx"})
    (tmp_path / "build.json").write_text(json.dumps({"artifact": made.to_json(tmp_path)}))

    def built_for() -> dict[str, str]:
        return dict(resolve_model(str(plan), SourceOptions(out_dir=tmp_path)).artifact.built_for)

    assert built_for() == {"tensorrt": "10.1", "command": "trtexec --onnx=m.onnx"}
    plan.write_bytes(b"another plan")
    assert built_for() == {}
    (tmp_path / "build.json").write_text("{")
    assert built_for() == {}
