"""The workflow example has the shape GitHub asks for, and every command in it is one that assay knows."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from assay.cli.main import VERBS, root

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
FILES = sorted((Path(__file__).parents[2] / "examples" / "github-actions").glob("*.yml"))
WORKFLOWS = sorted((Path(__file__).parents[2] / ".github" / "workflows").glob("*.yml"))
JOB_KEYS = {"name", "runs-on", "needs", "if", "env", "steps", "timeout-minutes", "permissions", "strategy"}
STEP_KEYS = {"name", "id", "if", "uses", "run", "with", "env", "working-directory", "shell", "continue-on-error"}


def steps(path: Path) -> list[dict[str, object]]:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_there_is_an_example() -> None:
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_its_shape(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(workflow) <= {"name", True, "permissions", "env", "jobs"}, "YAML reads the key `on` as true"
    assert "pull_request" in workflow[True]
    for job in workflow["jobs"].values():
        assert set(job) <= JOB_KEYS and job["runs-on"]
        for step in job["steps"]:
            assert set(step) <= STEP_KEYS
            assert ("uses" in step) != ("run" in step), step
            if "uses" in step:
                assert re.fullmatch(r"[\w.-]+/[\w./-]+@v\d+", step["uses"])


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_command_and_option_is_known(path: Path) -> None:
    found = 0
    for step in steps(path):
        words = shlex.split(str(step.get("run", "")).replace("$", ""))
        if words[:1] != ["assay"]:
            continue
        found += 1
        assert words[1] in VERBS
        context = click.Context(root)
        command = root.get_command(context, words[1])
        assert command is not None
        command.make_context(words[1], words[2:], parent=context)
    assert found >= 3


@pytest.mark.parametrize("path", [*FILES, *WORKFLOWS], ids=lambda p: p.name)
def test_githubs_own_schema_accepts_it(path: Path, tmp_path: Path) -> None:
    """By the schema that check-jsonschema ships; the same file with a misspelt key is refused."""
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed")
    broken = tmp_path / path.name
    broken.write_text(path.read_text(encoding="utf-8").replace("runs-on:", "runs_on:"), encoding="utf-8")
    codes = [
        subprocess.run(
            [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(file)],
            capture_output=True,
            check=False,
        ).returncode
        for file in (path, broken)
    ]
    assert codes == [0, 1]
