from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from assay.core.errors import BadInput, StorageFailed
from assay.core.shapes import parse_shape
from assay.sources import from_module, resolve_model


def test_edited_code_changes_the_digest(options, net_file: Path) -> None:
    first = resolve_model(f"{net_file}:Net", options())
    net_file.write_text(net_file.read_text() + "\n# a comment\n")
    second = resolve_model(f"{net_file}:Net", options())
    assert first.artifact.sha256 != second.artifact.sha256


def test_unwritable_folder(options, net_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="could not be written"):
        resolve_model(f"{net_file}:Net", options(out_dir=tmp_path / "file" / "out"))


def test_silent_branches_of_given_weights_are_told(options) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    nn.init.zeros_(net[1].weight)
    model = from_module(net, "net", torch.zeros(1, 4), options())
    assert any("1 normalisation layers have all-zero weights (1)" in w for w in model.warnings)


def test_unknown_shapes_are_said(options, net_file: Path) -> None:
    net_file.write_text(net_file.read_text().replace("Net.assay_inputs", "Net.other"))
    model = resolve_model(f"{net_file}:Net", options())
    assert model.inputs is None
    assert any("give --shape" in w for w in model.warnings)
    shaped = resolve_model(f"{net_file}:Net", options(shapes=(parse_shape("batchx2x8x8"),)))
    assert str(shaped.inputs[0]) == "input:batchx2x8x8:float32"
    assert shaped.warnings == ()


def test_shape_of_the_wrong_rank(options, net_file: Path) -> None:
    with pytest.raises(BadInput, match="does not accept image:2x8x8"):
        resolve_model(f"{net_file}:Net", options(shapes=(parse_shape("image:2x8x8"),)))


def test_free_dims_are_not_guessed(options, net_file: Path) -> None:
    model = resolve_model(f"{net_file}:Net", options(shapes=(parse_shape("image:batchx2xHxW"),)))
    assert any("other than the batch" in w for w in model.warnings)


def test_source_json_is_whole(options, net_file: Path) -> None:
    model = resolve_model(f"{net_file}:Net", options())
    written = json.loads(model.artifact.path.read_text())
    assert written["runs_code"] == [str(net_file)]
    assert [c["file"] for c in written["code"]] == ["net.py"]
    assert list(model.artifact.path.parent.iterdir()) == [model.artifact.path]
    assert model.artifact.size_bytes > 0


def test_names_beyond_ascii_are_written_as_utf8(options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A locale of another encoding is what ``open`` would use unasked."""
    import io

    with monkeypatch.context() as patch:
        patch.setattr(io, "text_encoding", lambda encoding, level=2: "ascii" if encoding is None else encoding)
        model = from_module(nn.Linear(4, 2), "模型", torch.zeros(1, 4), options())
    assert json.loads(model.artifact.path.read_text(encoding="utf-8"))["name"] == "模型"
