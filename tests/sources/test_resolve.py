"""Which source a MODEL belongs to, and what is said when it belongs to none."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from assay.core.errors import BadInput, UnknownName
from assay.core.table import load
from assay.sources import FILES, SCHEMES, registry, resolve_model
from assay.sources.archive import CONTENTS


@pytest.mark.parametrize("target", [*SCHEMES.values(), *FILES.values(), *CONTENTS.values()])
def test_every_table_line_leads_to_a_function(target: str) -> None:
    assert callable(load(target))


@pytest.mark.parametrize("target", [*registry.LISTS.values(), *registry.CREATORS.values()])
def test_every_registry_line_leads_to_a_function(target: str) -> None:
    assert callable(load(target))


def test_unknown_scheme_suggests(options) -> None:
    with pytest.raises(UnknownName, match="timmm") as caught:
        resolve_model("timmm:resnet18", options())
    assert "timm" in caught.value.remedy
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("spec", ["", "   "])
def test_nothing_given(options, spec: str) -> None:
    with pytest.raises(BadInput, match="no MODEL"):
        resolve_model(spec, options())


@pytest.mark.parametrize("spec", ["timm:", "torchvision:", "http://", "grpc:"])
def test_scheme_without_a_name(options, spec: str) -> None:
    with pytest.raises(BadInput, match="names no model"):
        resolve_model(spec, options())


def test_missing_file_names_near_ones(options, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(BadInput, match="there is no file") as caught:
        resolve_model(str(tmp_path / "modle.onnx"), options())
    assert "model.onnx" in caught.value.remedy


def test_missing_file_in_the_current_folder(options) -> None:
    with pytest.raises(BadInput, match=r"there is no file nowhere\.onnx"):
        resolve_model("nowhere.onnx", options())


def test_missing_folder(options, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        resolve_model(str(tmp_path / "no" / "m.onnx"), options())


def test_folder_is_not_a_model(options, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a folder"):
        resolve_model(str(tmp_path), options())


def test_unknown_suffix_of_a_file_that_exists(options, tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(b"x")
    with pytest.raises(UnknownName, match=r"\.h5") as caught:
        resolve_model(str(path), options())
    assert ".onnx" in caught.value.remedy


def test_unknown_suffix_of_a_file_that_is_missing(options) -> None:
    with pytest.raises(BadInput, match=r"no file model\.h5"):
        resolve_model("model.h5", options())


def test_timm_name_without_prefix(options) -> None:
    with pytest.raises(BadInput) as caught:
        resolve_model("convnextv2_atto", options())
    assert "timm:convnextv2_atto" in caught.value.remedy


def test_missing_user_file(options, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no file"):
        resolve_model(f"{tmp_path}/gone.py:net", options())


@pytest.mark.parametrize(("option", "value"), [("arch", "timm:resnet18"), ("weights", "w.pt")])
def test_finished_models_take_no_weights(options, tmp_path: Path, option: str, value: str) -> None:
    path = tmp_path / "m.plan"
    path.write_bytes(b"engine")
    with pytest.raises(BadInput, match=f"--{option}"):
        resolve_model(str(path), options(**{option: value}))


def test_sources_do_not_know_other_spokes() -> None:
    folder = Path(__file__).parents[2] / "src" / "assay" / "sources"
    files = sorted(folder.glob("*.py"))
    assert len(files) > 15
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("assay."):
                assert node.module.split(".")[1] in ("core", "graph", "sources"), f"{file.name}: {node.module}"
