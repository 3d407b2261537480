import json
import subprocess
import sys

import pytest

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
