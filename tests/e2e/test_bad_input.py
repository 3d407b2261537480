"""Mistakes a person makes: one clear message, what to do, the right exit code, no traceback."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import MODEL

Cli = Callable[..., Any]


def wrong(cli: Cli, code: int, *arguments: object) -> str:
    done = cli(*arguments)
    assert done.code == code, done.out + done.err
    assert "Traceback" not in done.err
    assert done.err.strip().splitlines(), "it says something"
    said: str = done.err
    return said


def test_a_missing_file(cli: Cli, tmp_path: Path) -> None:
    assert "nothing.onnx" in wrong(cli, 2, "run", tmp_path / "nothing.onnx", "--out", tmp_path / "r")
    assert "nothing.onnx" in wrong(cli, 2, "inspect", tmp_path / "nothing.onnx")


def test_a_corrupt_onnx(cli: Cli, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x07this is no graph" * 50)
    for verb in (["run", broken, "--out", tmp_path / "r"], ["inspect", broken]):
        assert "broken.onnx" in wrong(cli, 2, *verb)


def test_an_unknown_model_name_suggests_near_ones(cli: Cli, tmp_path: Path) -> None:
    assert "resnet18" in wrong(cli, 2, "run", "timm:resnt18", "--out", tmp_path / "r")


def test_an_unknown_engine_and_precision_suggest_near_ones(cli: Cli, tmp_path: Path) -> None:
    assert "openvino" in wrong(cli, 2, "run", MODEL, "--engine", "opnvino", "--out", tmp_path / "r")
    assert "bf16" in wrong(cli, 2, "run", MODEL, "--precision", "bf61", "--out", tmp_path / "r")


def test_a_checkpoint_for_another_architecture(cli: Cli, trained: Path, tmp_path: Path) -> None:
    said = wrong(cli, 2, "export", "timm:resnet18", "--weights", trained, "-o", tmp_path / "m.onnx")
    assert "weights.pt" in said
    assert not (tmp_path / "m.onnx").exists()


def test_a_shape_that_does_not_fit(cli: Cli, trained: Path, tmp_path: Path) -> None:
    wrong(cli, 2, "export", MODEL, "--weights", trained, "--shape", "input:1x7x32x32", "-o", tmp_path / "m.onnx")
    assert not list(tmp_path.glob("*.onnx*"))


def test_an_empty_data_folder(cli: Cli, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    wrong(cli, 2, "evaluate", MODEL, "--weights", trained, "--data", tmp_path / "empty")


@pytest.mark.parametrize("text", ["0", "-1", "a,b", ""])
def test_batch_sizes_that_are_none(cli: Cli, text: str, tmp_path: Path) -> None:
    wrong(cli, 2, "run", MODEL, f"--batch={text}", "--out", tmp_path / "r")


def test_a_policy_with_a_key_nobody_knows(cli: Cli, tmp_path: Path) -> None:
    policy = tmp_path / "p.toml"
    policy.write_text("[accuracy]\nmax_dorp = 0.01\n")
    assert "max_drop" in wrong(cli, 2, "run", MODEL, "--policy", policy, "--out", tmp_path / "r")


def test_an_out_folder_that_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wrong(cli, 4, "run", MODEL, "--out", tmp_path / "file" / "r")


def test_no_bundle_there(cli: Cli, tmp_path: Path) -> None:
    wrong(cli, 2, "check", tmp_path)
    wrong(cli, 2, "report", tmp_path)
    wrong(cli, 2, "gate", tmp_path, "--policy", tmp_path / "p.toml")
