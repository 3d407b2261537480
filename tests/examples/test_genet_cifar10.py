"""The GENet walkthrough, in its small setting: CIFAR-10's files, errors from dumps, rates, and the imported rule."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from assay.data import open_reader

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "genet_cifar10"
CELLS = (("onnxruntime", 1), ("onnxruntime", 16), ("openvino", 1), ("openvino", 16))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    for needed in ("openvino", "skimage"):
        pytest.importorskip(needed)
    out = tmp_path_factory.mktemp("genet") / "out"
    environment = {n: v for n, v in os.environ.items() if n != "CIFAR10"} | {"OUT": str(out)}
    command = [str(FOLDER / "run"), "--small"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=550, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return out, done.stdout


def test_the_files_are_cifar_s_and_no_pixel_is_in_both_halves(tmp_path) -> None:
    pytest.importorskip("skimage")
    command = [sys.executable, str(FOLDER / "pictures.py"), "--out", str(tmp_path), "--train", "5", "--test", "2"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    learnt, tested = (list(open_reader(f"cifar10:{tmp_path}:{split}").items()) for split in ("train", "test"))
    assert [len(learnt), len(tested)] == [50, 20]
    assert sorted(item.target for item in tested) == sorted(2 * list(range(10)))
    assert all(item.content.shape == (32, 32, 3) and item.content.dtype == np.uint8 for item in learnt)

    spec = importlib.util.spec_from_file_location("genet_pictures", FOLDER / "pictures.py")
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    # A picture whose red says which square a pixel is in: none of the odd ones in crops of the even ones.
    places = np.add.outer(np.arange(256) // 64, np.arange(256) // 64) % 2
    marked = pictures.Image.fromarray(np.repeat(places[:, :, None] * 255, 3, 2).astype(np.uint8))
    for odd in (False, True):
        assert {int(v) for row in pictures.crops(marked, 20, odd, np.random.default_rng(0)) for v in row} == {255 * odd}


@pytest.mark.slow
def test_opset_11_and_a_prepared_set(ran) -> None:
    out, _ = ran
    model = onnx.load(out / "genet.onnx")
    assert [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")] == [11]
    lines = (out / "prep" / "prep_bin.info").read_text().splitlines()
    assert len(lines) == 200 and lines[0] == "0 ./prep_dataset/00000.bin 32 32"
    assert (out / "prep" / "prep_dataset" / "00000.bin").stat().st_size == 4 * 3 * 32 * 32


@pytest.mark.slow
def test_every_batch_size_is_scored_from_its_own_dumps(ran) -> None:
    out, _ = ran
    (reference,) = json.loads((out / "accuracy" / "torch.json").read_text())["records"]
    assert reference["figures"]["error@1"]["value"] < 0.6  # a guess is wrong nine times in ten
    for engine, batch in CELLS:
        assert len(list((out / "dumps" / f"{engine}_bs{batch}").iterdir())) >= 200
        (record,) = json.loads((out / "accuracy" / f"dumps_{engine}_bs{batch}.json").read_text())["records"]
        for name in ("error@1", "error@5"):
            assert abs(record["figures"][name]["value"] - reference["figures"][name]["value"]) <= 0.01


@pytest.mark.slow
def test_the_rule_is_judged_with_what_there_is(ran) -> None:
    out, _ = ran
    alone = json.loads((out / "gate-alone.json").read_text())["verdict"]
    assert [r["state"] for r in alone["reasons"]] == ["not_shown", "not_shown"]
    assert all("no figures of 310P" in r["text"] for r in alone["reasons"])
    conclusions = (out / "conclusions.md").read_text()
    # The cells that were published: 9981 / 7796.88 and 9981 / 5922.109, and batch 1.
    for figure in ("1.280×", "1.685×", "0.819× at batch 1", "1.469× at batch 1"):
        assert figure in conclusions
    assert conclusions.count("| holds (printed figures) |") == 2
    assert "identical accuracies" in conclusions
    rates = [line for line in conclusions.splitlines() if line.startswith("| 16 |")]
    assert len(rates) == 1 and rates[0].endswith("| 5922 | 7797 | 9981 |")
