"""The command line itself: help without imports, mistakes answered, JSON kept apart."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from assay.cli.main import GROUPS, SUMMARIES, VERBS, root, run_cli


def test_every_verb_has_a_summary_and_a_place_in_the_help() -> None:
    placed = [name for _, names in GROUPS for name in names]
    assert sorted(placed) == sorted(VERBS)
    assert set(SUMMARIES) == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb(verb: str) -> None:
    done = CliRunner().invoke(root, [verb, "--help"])
    assert done.exit_code == 0, done.output
    for option in ("--json", "--quiet", "--debug"):
        assert option in done.output, f"{verb} has no {option}"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from assay.cli.main import run_cli\n"
        "run_cli(['--help'])\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'openvino', 'rich', 'numpy', 'timm', 'PIL', 'sklearn'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unknown_verb_suggests_near_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["exprt"]) == 2
    assert "export" in capsys.readouterr().err


def test_a_failure_is_json_too_where_json_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["inspect", "/nowhere/m.onnx", "--json"]) == 2
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert result["verb"] == "inspect"
    assert result["error"]["exit_code"] == 2
    assert "/nowhere/m.onnx" in result["error"]["message"]
    assert "/nowhere/m.onnx" in said.err


@pytest.mark.parametrize("asked", [["--json", "{file}"], ["--json={file}"]])
def test_a_failure_goes_into_the_file_that_json_named(tmp_path, asked, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "result.json"
    assert run_cli(["inspect", "/nowhere/m.onnx", *(a.format(file=file) for a in asked)]) == 2
    assert capsys.readouterr().out == ""
    assert json.loads(file.read_text())["error"]["exit_code"] == 2


def test_engines_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["engines", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["engines"]
    works = {r["engine"] for r in rows if r["unavailable"] is None}
    assert {"null", "torch", "onnxruntime", "openvino"} <= works
    assert all(r["unavailable"] is None or len(r["unavailable"]) > 10 for r in rows)


def test_doctor_finds_two_onnxruntimes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from assay.job import doctor

    known = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: "1.0" if name == "onnxruntime-gpu" else known(name))
    assert run_cli(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "onnxruntime and onnxruntime-gpu are installed together" in out
    assert "pip uninstall -y" in out


def test_doctor_names_what_is_missing_and_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from assay.job import doctor

    known = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: None if name == "timm" else known(name))
    assert run_cli(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "timm: not installed" in out
    assert "pip install 'assay[timm]'" in out


def test_models_match_with_and_without_the_collection(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["models", "resnet1*", "--json"]) == 0
    names = json.loads(capsys.readouterr().out)["models"]
    assert {"timm:resnet18", "torchvision:resnet18"} <= set(names)
    assert all(n.partition(":")[2].startswith("resnet1") for n in names)
    assert run_cli(["models", "resnet1x*"]) == 2


@pytest.mark.parametrize(("macs", "said"), [(4608, "4,608"), (999_999, "999,999"), (1_814_073_344, "1,814.1 M")])
def test_few_macs_are_counted_out(macs: int, said: str) -> None:
    from assay.job.inspection import _count

    assert _count(macs) == said


def test_an_option_given_twice_is_no_silent_choice(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["run", "net.onnx", "--engine", "torch", "--engine=openvino"]) == 2
    told = capsys.readouterr().err
    assert "--engine is given 2 times" in told
    assert "--engine A,B" in told
    assert "assay run --help" in told
    assert run_cli(["bench", "net.onnx", "--precision", "fp32", "--precision", "bf16"]) == 2
    assert "takes one value\n" in capsys.readouterr().err


def test_what_may_be_repeated_may(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["verify", "a.onnx", "b.onnx", "--shape", "x:1x3", "--shape", "y:1x3"]) == 2
    assert "times" not in capsys.readouterr().err
