"""Completion in real shells: what is offered after a few letters."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from assay.cli.main import VERBS, run_cli

BIN = Path(sys.executable).parent


def offered(words: str, at: int) -> set[str]:
    """What the program offers to bash for the word at that place."""
    told = {**os.environ, "COMP_WORDS": words, "COMP_CWORD": str(at), "_ASSAY_COMPLETE": "bash_complete"}
    done = subprocess.run([str(BIN / "assay")], env=told, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return {line.partition(",")[2] for line in done.stdout.splitlines()}


def test_verbs_and_options_are_offered() -> None:
    assert offered("assay re", 1) == {"report", "replay"}
    assert offered("assay ", 1) == set(VERBS)
    assert {"--opset", "--output-names", "--out"} & offered("assay export --o", 2) == {
        "--opset",
        "--output-names",
        "--out",
    }


def test_bash_completes_a_verb() -> None:
    """The printed script in a real bash, its function called as Tab does."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    script = (
        'eval "$(assay completion bash)"\n'
        "complete -p assay >&2\n"
        "COMP_WORDS=(assay verif) COMP_CWORD=1\n"
        "_assay_completion assay verif assay\n"
        'echo "${COMPREPLY[@]}"\n'
    )
    told = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run([bash, "--norc", "-c", script], env=told, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "verify", done.stderr
    assert "-o default" in done.stderr  # files, where the program has nothing to offer
    assert "_assay_completion assay" in done.stderr


SHELLS = {
    "zsh": (
        "autoload -Uz compinit && compinit -u -D\n"
        'eval "$(assay completion zsh)"\n'
        "_describe() { print -l -- $completions_with_descriptions }\n"
        "_path_files() { print files }\n"
        "words=(assay verif) CURRENT=2; _assay_completion\n"
        "words=(assay verify model.on) CURRENT=3; _assay_completion\n"
    ),
    "fish": (
        "assay completion fish | source\n"
        "complete --do-complete 'assay verif'\n"
        "complete --do-complete 'assay verify model.on'\n"
    ),
}


@pytest.mark.parametrize("shell", SHELLS)
def test_other_shells_complete_a_verb_and_a_file(shell: str, tmp_path: Path) -> None:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"there is no {shell}")
    (tmp_path / "model.onnx").touch()
    told = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    command = [found, "-c", SHELLS[shell]]
    done = subprocess.run(command, env=told, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    offers = [re.split(r"[:\t]", line)[0] for line in done.stdout.splitlines()]  # a description follows
    assert offers == ["verify", "files" if shell == "zsh" else "model.onnx"], done.stderr


@pytest.mark.parametrize(
    ("shell", "says"), [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --command assay")]
)
def test_every_shell_has_its_script(shell: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert says in text and "_ASSAY_COMPLETE" in text


def test_without_a_shell_it_is_the_one_that_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    assert run_cli(["completion"]) == 0
    assert "compdef" in capsys.readouterr().out
    monkeypatch.delenv("SHELL")
    assert run_cli(["completion"]) == 2
    assert "assay completion bash" in capsys.readouterr().err


def test_other_shells_are_refused_with_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["completion", "tcsh"]) == 2
    said = capsys.readouterr().err
    assert "tcsh" in said and "bash, zsh and fish" in said


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["completion", "fish", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["shell"], result["verb"]) == ("fish", "completion")
    assert result["script"] and "config.fish" in result["how"]
