"""The model on which plain int8 fails: trained here, lost by int8, kept by accuracy control, from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from assay.cli.main import run_cli

FOLDER = Path(__file__).parents[2] / "examples" / "quantize"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uneven")
    command = [sys.executable, str(FOLDER / "train.py"), "--out", str(folder)]
    trained = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    path = folder / "uneven.onnx"
    model = f"{FOLDER}/model.py:uneven_digits"
    assert run_cli(["export", model, "--weights", str(folder / "weights.pt"), "-o", str(path), "--quiet"]) == 0
    return path


@pytest.mark.slow
@pytest.mark.parametrize("method", ["nncf", "ort"])
def test_plain_int8_loses_and_the_controlled_one_does_not(exported, tmp_path, capsys, method) -> None:
    def quantised(name: str, *more: str) -> dict:
        capsys.readouterr()
        out = str(tmp_path / name)
        run_cli(["quantize", str(exported), "--data", "digits", "-o", out, "--method", method, *more, "--json"])
        return json.loads(capsys.readouterr().out)

    plain = quantised("plain")["records"][0]
    assert plain["figures"]["accuracy.drop"]["value"] > 0.01
    controlled = quantised("controlled", "--max-drop", "0.5%")["records"][0]
    assert controlled["figures"]["accuracy.drop"]["value"] < 0.01
    control = controlled["details"]["control"]
    assert control["plain"]["drop"] > 0.01 and control["chosen"]["drop"] <= 0.005
    assert 0 < len(control["reverted"]) < control["layers"]
    assert {row["op"] for row in control["reverted"]} == {"Conv"}
