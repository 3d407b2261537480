"""The backbones walkthrough, in its small setting; and a model of one's own is three lines."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path

import onnx
import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "backbones"
FASTER_VIT = importlib.util.find_spec("fastervit") is not None


@pytest.mark.slow
def test_the_small_run_benches_with_and_without_batching(tmp_path) -> None:
    out = tmp_path / "out"
    environment = {**os.environ, "OUT": str(out)}
    environment.pop("MODELS", None)
    command = [str(FOLDER / "run"), "--small"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    expected = ["resnet18", "faster_vit_0_224"] if FASTER_VIT else ["resnet18"]
    assert FASTER_VIT or "faster_vit_0_224: unavailable: assay:" in done.stdout
    for name in ("single", "batched"):
        records = json.loads((out / f"{name}.json").read_text())["records"]
        assert [r["subject"]["model"] for r in records] == expected
        assert all(r["figures"]["throughput"]["value"] > 0 for r in records)
        assert done.stdout.count("| num_clients | 10 |") == 2
    for name in expected:
        model = onnx.load(out / "onnx" / f"{name}.onnx", load_external_data=False)
        assert [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")] == [17]
    summary = (out / "summary.md").read_text()
    assert all(f"| {name} |" in summary for name in expected)
    assert "The published order of the models, merged" in summary


def test_a_model_of_one_s_own_is_three_lines(tmp_path) -> None:
    lines = "\n\n@backbone\ndef my_net():\n    return assay.create_model('timm:test_resnet')\n"
    mine = tmp_path / "models.py"
    mine.write_text((FOLDER / "models.py").read_text() + lines)
    target = tmp_path / "my_net.onnx"
    command = [str(ROOT / ".venv/bin/assay"), "export", f"{mine}:my_net", "--opset", "17", "-o", str(target), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert [i.name for i in onnx.load(target).graph.input] == ["input"]
