"""The RegNetY walkthrough, in its small setting: from a checkpoint to the document's conclusions, judged."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import onnx
import pytest

ROOT = Path(__file__).parents[2]
RUN = ROOT / "examples" / "regnety_imagenet" / "run"
ENGINES = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    pytest.importorskip("openvino")
    out = tmp_path_factory.mktemp("regnety") / "out"
    environment = {**os.environ, "OUT": str(out)}
    environment.pop("IMAGENET", None)
    command = [str(RUN), "--small"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=550, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return out, done.stdout


@pytest.mark.slow
def test_the_checkpoint_becomes_opset_11_and_its_md5_is_checked(ran, tmp_path) -> None:
    out, _ = ran
    checkpoint = out / "made" / "regnety_016.pth"
    assert (out / "made" / "md5").read_text().strip() == hashlib.md5(checkpoint.read_bytes()).hexdigest()
    model = onnx.load(out / "RegNetY-1.6GF.onnx")
    assert [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")] == [11]
    assert [i.name for i in model.graph.input] == ["image"] and [o.name for o in model.graph.output] == ["class"]

    command = [str(ROOT / ".venv/bin/assay"), "export", str(checkpoint), "--arch", "timm:regnety_016.pycls_in1k"]
    command += ["--md5", "0" * 32, "-o", str(tmp_path / "no.onnx")]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert refused.returncode == 2 and "md5" in refused.stderr
    assert not (tmp_path / "no.onnx").exists()


@pytest.mark.slow
def test_every_engine_gives_the_reference_s_answers_in_the_document_s_form(ran) -> None:
    out, printed = ran
    assert json.loads((out / "prep" / "prepared.json").read_text())
    for engine in ENGINES:
        for batch in (1, 8):
            result = json.loads((out / f"result_{engine}_bs{batch}.json").read_text())
            assert result["title"] == "Overall statistical evaluation"
            value = {row["key"]: row["value"] for row in result["value"]}
            assert value["Number of images"] == "20" and value["Number of classes"] == "1000"
            # The labels are PyTorch's own answers; fp32 engines differ from it by rounding only.
            assert [value[f"Top{k} accuracy"] for k in range(1, 6)] == ["100.0%"] * 5
    for stage in ("[e2e] throughputRate", "[data read]", "[preprocess]", "Interface throughputRate", "[post]"):
        assert printed.count(stage) >= 5


@pytest.mark.slow
def test_the_imported_logs_are_compared_and_judged(ran) -> None:
    out, _ = ran
    gate = json.loads((out / "gate.json").read_text())["verdict"]
    assert gate["passed"] and len(gate["reasons"]) == 4
    conclusions = (out / "conclusions.md").read_text()
    assert "1.367×" in conclusions and "2.068×" in conclusions  # the logs' ratios; 1.339 and 2.036 are the table's
    assert conclusions.count("| does not |") >= 2 and "cannot be tested here" in conclusions
    for engine in ENGINES:
        assert f"{engine}, batch 8: top-1 drops by at most 1%" in conclusions
        assert f"{engine}: the best batch size is not the largest" in conclusions
