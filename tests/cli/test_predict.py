"""What ``assay predict`` says of its classes."""

from assay.cli.main import run_cli
from assay.job import predict_one
from assay.job.predict_one import Predicted


def test_a_label_that_is_the_class_number_is_not_said_twice(monkeypatch, tmp_path, capsys):
    ranked = ((7, "7", 0.9), (3, "three", 0.06), (1, None, 0.04))
    found = Predicted(tmp_path / "seven.png", "classes", ranked)
    monkeypatch.setattr(predict_one, "predict_one", lambda *_: [found])
    assert run_cli(["predict", "model.onnx", "seven.png"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:4]]
    assert lines == [["90.00%", "7"], ["6.00%", "3", "three"], ["4.00%", "1"]]
