import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import helper

from assay.core.errors import StorageFailed
from assay.diagnose.operators import GraphRecorder, Suspect, blame
from assay.diagnose.reproduction import Case, runtime_settings, write_reproduction
from assay.graph.extract import Parts, flat


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("factor", [1.01, 1.0])
def test_the_script_shows_the_difference_with_nothing_of_ours_installed(
    raw, changed, plain, feed, scaled, tmp_path, runtime, factor
):
    pytest.importorskip(runtime)
    recorder = GraphRecorder(Parts(flat(raw)), plain)
    parts = changed(scaled("mid.weight", 1.01))
    (piece,) = blame(recorder, Suspect(parts, plain, 1e-5), feed).guilty
    known = recorder.values(feed, [piece.tensor, *piece.inputs])
    given = {n: known[n] for n in piece.inputs}
    shown = changed(scaled("mid.weight", factor))
    model = shown.cut(piece.places, given, [piece.tensor])
    with plain(model) as run:
        candidate = run(given)
    settings = runtime_settings(runtime, "fp32", "disable")
    case = Case(model, given, {piece.tensor: known[piece.tensor]}, candidate, 1e-5, runtime, settings, {"node": "mid"})
    folder = write_reproduction(tmp_path / "a folder", case)
    assert {p.name for p in folder.iterdir()} == {
        "model.onnx", "input.npz", "expected.npz", "candidate.npz", "about.json", "reproduce.py",
    }  # fmt: skip
    assert json.loads((folder / "about.json").read_text())["node"] == "mid"
    assert "assay" not in (folder / "reproduce.py").read_text()
    done = subprocess.run([sys.executable, folder / "reproduce.py"], capture_output=True, text=True, timeout=120)
    assert done.returncode == (1 if factor != 1.0 else 0), done.stderr
    assert "conv2d_1: relative rms error" in done.stdout


@pytest.mark.parametrize("in_the_way", [".", "input.npz/x"])
def test_a_folder_that_cannot_be_written(tmp_path, in_the_way):
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "xy")
    model = helper.make_model(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y]))
    given, folder = {"x": np.ones(1, np.float32)}, tmp_path / "case"
    if in_the_way == ".":
        folder.write_text("a file")
    else:
        (folder / in_the_way).mkdir(parents=True)
    with pytest.raises(StorageFailed, match="case"):
        write_reproduction(folder, Case(model, given, given, given, 1e-5, "onnxruntime", {}, {}))
