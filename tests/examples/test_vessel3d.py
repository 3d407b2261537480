"""The vessel walkthrough, in its small setting: from TorchScript to a served engine and the document's conclusions."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]
RUN = ROOT / "examples" / "vessel3d" / "run"
MODELS = ("torchscript", "engine", "engine_batching")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("vessel3d") / "out"
    environment = {**os.environ, "OUT": str(out)}
    command = [str(RUN), "--small"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=550, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return out, done.stdout


@pytest.mark.slow
def test_torchscript_becomes_opset_9_with_the_symbolic_function(ran) -> None:
    out, _ = ran
    assert "aten::asinh" in (out / "refused.txt").read_text()
    assert "aten::asinh" in (out / "torchscript.txt").read_text()
    model = onnx.load(out / "vessel.onnx")
    assert [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")] == [9]
    assert [i.name for i in model.graph.input] == ["INPUT__0"] and [o.name for o in model.graph.output] == ["OUTPUT__0"]
    assert isinstance(model.graph.input[0].type.tensor_type.shape.dim[0].dim_param, str)
    found = {row["aten"]: row for row in json.loads((out / "inspect.json").read_text())["inspect"]["mapping"]}
    assert found["aten.asinh"]["onnx"] == ["Asinh"]
    assert found["aten.instance_norm"]["kind"] == "one-to-one"
    assert found["aten.group_norm"]["kind"] == "one-to-many"
    assert {"InstanceNormalization", "Mul", "Add"} <= set(found["aten.group_norm"]["onnx"])
    assert "aten.size" not in found


@pytest.mark.slow
def test_it_is_close_to_torchscript_at_every_batch_size_and_finds_vessels(ran) -> None:
    out, printed = ran
    verified = json.loads((out / "verify_onnxruntime.json").read_text())
    assert verified["verdict"]["passed"]
    assert sorted(verified["records"][0]["details"]["outputs"], key=int) == ["1", "4", "8"]
    images = np.stack([np.load(path) for path in sorted((out / "made/test/images").glob("*.npy"))])
    masks = np.stack([np.load(path) for path in sorted((out / "made/test/labels").glob("*.npy"))])
    module = torch.jit.load(str(out / "made/vessel.pt")).eval()
    with torch.inference_mode():
        found = module(torch.from_numpy(images[:, None])).numpy()[:, 0] > 0
    assert 2 * (found & (masks > 0)).sum() / (found.sum() + masks.sum()) > 0.6
    assert (
        "--best --minShapes=INPUT__0:1x1x32x40x28 --optShapes=INPUT__0:4x1x32x40x28 --maxShapes=INPUT__0:8x1" in printed
    )


@pytest.mark.slow
def test_three_models_are_packed_served_and_judged(ran) -> None:
    out, printed = ran
    for name in MODELS:
        text = (out / "repository" / name / "config.pbtxt").read_text()
        assert ("dynamic_batching" in text) == (name == "engine_batching")
    servers = ["serve"] if (out / "skipped.txt").exists() else ["serve", "triton"]
    for server in servers:
        for name in MODELS:
            records = json.loads((out / "bench" / f"{server}-{name}-0.json").read_text())["records"]
            assert [r["conditions"]["clients"] for r in records] == [1, 4]
            assert all(r["figures"]["throughput"]["value"] > 0 for r in records)
    conclusions = (out / "conclusions.md").read_text()
    assert conclusions in printed
    for what in ("at 1 caller", "than TorchScript at 4 callers", "doubles the throughput", "Dice drops", "TensorRT"):
        assert what in conclusions


@pytest.mark.slow
def test_the_same_behind_triton(ran) -> None:
    out, _ = ran
    skipped = out / "skipped.txt"
    if skipped.exists():
        assert "| the same behind Triton | cannot be tested here |" in (out / "conclusions.md").read_text()
        pytest.skip(skipped.read_text().strip())
    assert "behind Triton: dynamic batching doubles" in (out / "conclusions.md").read_text()


@pytest.mark.slow
def test_the_masks_are_drawn_over_the_volume(ran) -> None:
    out, _ = ran
    with Image.open(out / "overlay.png") as picture, Image.open(out / "overlay-difference.png") as difference:
        assert picture.size == difference.size == (8 * 28, 8 * 40)
        pixels = np.asarray(picture).astype(int)
    grey = (pixels[..., 0] == pixels[..., 1]) & (pixels[..., 1] == pixels[..., 2])
    assert 0.3 < grey.mean() < 1 and len(np.unique(pixels[grey])) > 20  # the slice itself, and a mask on it
