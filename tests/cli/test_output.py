"""Where results go: ``--json`` takes the word behind it, which must cost nobody a file."""

import json
import math
import os
import stat
import threading

import numpy as np
import pytest

from assay.cli.main import run_cli
from assay.cli.output import Output
from assay.core.errors import NotAvailable

MODEL = b"\x08\x07some model's bytes"


@pytest.mark.parametrize("asked", [["--json", "{file}"], ["--json={file}"]])
@pytest.mark.parametrize("rest", [[], ["other.onnx"]])
def test_a_file_that_is_no_result_is_not_replaced(tmp_path, asked, rest, capsys) -> None:
    """``assay inspect --json net.onnx`` names no model: the file is what the result would go into."""
    file = tmp_path / "net.onnx"
    file.write_bytes(MODEL)
    assert run_cli(["inspect", *rest, *(a.format(file=file) for a in asked)]) == 2
    assert file.read_bytes() == MODEL
    said = capsys.readouterr()
    assert "holds no result of assay; it is left alone" in said.err
    assert json.loads(said.out)["error"]["exit_code"] == 2


@pytest.mark.parametrize("file", ["folder", "plain/result.json"])
def test_a_place_that_can_hold_no_result_is_refused_before_the_work(tmp_path, file, capsys) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").write_text("")
    assert run_cli(["engines", f"--json={tmp_path / file}"]) == 2
    assert "there can be no such file" in capsys.readouterr().err


def test_an_older_result_and_an_empty_file_are(tmp_path, capsys) -> None:
    file = tmp_path / "result.json"
    for before in ("", json.dumps({"schema": "assay.result/1", "verb": "run"}, indent=2)):
        file.write_text(before)
        Output("engines", str(file)).result(extra={"n": 1})
        assert json.loads(file.read_text())["verb"] == "engines"
        assert run_cli(["inspect", "nothing.onnx", f"--json={file}"]) == 2
        assert json.loads(file.read_text())["verb"] == "inspect"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_what_is_no_plain_file_is_written_to_and_stays(tmp_path) -> None:
    pipe, link, target = tmp_path / "pipe", tmp_path / "link.json", tmp_path / "target.json"
    os.mkfifo(pipe)
    link.symlink_to(target)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    for file in (pipe, link):
        Output("engines", str(file)).result()
    reader.join(10)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert link.is_symlink()
    assert json.loads(found[0]) == json.loads(target.read_text())


def test_what_a_part_lacks_is_told_with_its_remedy(capsys) -> None:
    output = Output("check")
    output.warn_of(NotAvailable("openvino is not installed", remedy="pip install openvino"))
    assert capsys.readouterr().err == "warning: openvino is not installed\n  try: pip install openvino\n"
    assert output.warnings == ["openvino is not installed"]


def test_json_holds_no_number_that_json_has_not(tmp_path):
    """Other languages' parsers refuse ``Infinity`` and ``NaN``."""
    file = tmp_path / "result.json"
    Output("bench", str(file)).result(extra={"curve": [{"snr": math.inf, "at": tmp_path, "n": np.float32("nan")}]})

    def refuse(name):
        raise AssertionError(name)

    found = json.loads(file.read_text(), parse_constant=refuse)
    assert found["curve"] == [{"snr": "inf", "at": str(tmp_path), "n": "nan"}]
