"""The tool in an environment with its core dependencies only: no torch, no OpenVINO, nothing optional."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from tests.footprint.journey import classifier, one_process, refused, travel

ROOT = Path(__file__).parents[2]
OPTIONAL = ("torch", "torchvision", "timm", "openvino", "nncf", "onnxscript", "onnxslim", "PIL", "sklearn", "skimage")
NO_INDEX = (
    "Temporary failure in name resolution",
    "Name or service not known",
    "Failed to establish a new connection",
    "Network is unreachable",
    "NewConnectionError",
    "ConnectTimeoutError",
    "ProxyError",
    "Connection refused",
    "Read timed out",
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The python of a fresh virtual environment that holds assay, built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("bare")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "constraints.txt"):
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--disable-pip-version-check", "--retries", "1"]
    done = run([*install, "-c", source / "constraints.txt", source], timeout=600)
    said = done.stdout + done.stderr
    if done.returncode != 0 and any(sign in said for sign in NO_INDEX):
        pytest.skip("pip cannot reach a package index, so no bare environment could be made")
    assert done.returncode == 0, said[-4000:]
    return python


def run(command, timeout=120):
    words = [str(part) for part in command]
    return subprocess.run(words, capture_output=True, text=True, timeout=timeout, env=clean(), cwd="/", check=False)


def clean():
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "ASSAY"))}


def verbs(python):
    done = run([python, "-c", "import json; from assay.cli.main import VERBS; print(json.dumps(list(VERBS)))"])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_nothing_optional_is_there(bare):
    look = "import sys, importlib.util as u; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    assert run([bare, "-c", look, *OPTIONAL]).stdout.strip() == "[]"


def test_help_and_version_work(bare):
    for arguments in (["--help"], ["--version"]):
        done = run([bare.parent / "assay", *arguments])
        assert done.returncode == 0, done.stderr
        assert "assay" in done.stdout and not done.stderr


def test_every_verb_explains_itself(bare):
    names = verbs(bare)
    assert "run" in names
    failed = {}
    for name in names:
        done = run([bare.parent / "assay", name, "--help"])
        if done.returncode != 0 or "Usage: assay" not in done.stdout:
            failed[name] = (done.stdout + done.stderr)[-600:]
    assert failed == {}


def test_what_is_missing_is_said_with_its_remedy(bare, tmp_path):
    """A source that needs torch: exit code 3 and the command that installs it, no traceback."""
    done = run([bare.parent / "assay", "export", "timm:resnet18", "-o", tmp_path / "m.onnx"])
    assert done.returncode == 3, (done.stdout + done.stderr)[-2000:]
    assert "pip install" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "m.onnx").exists()


def test_an_onnx_file_goes_all_the_way(bare, tmp_path):
    """Every verb from inspect to replay; the server, which is an extra, is refused with its remedy."""
    model = classifier(tmp_path / "model")
    with one_process(bare, {**clean(), "PYTHONPATH": str(ROOT)}) as assay:
        travel(assay, model, tmp_path / "out", "onnxruntime")
        bundle = tmp_path / "out" / "run" / "bundle"
        refused(assay, ["serve", bundle, "--http-port", 0, "--no-grpc", "--no-metrics"], "'assay[serve]'")
        refused(assay, ["bench", model, "--engine", "openvino", "--duration", 0.05], "'assay[openvino]'")
        refused(assay, ["evaluate", model, "--data", "digits"], "'assay[data]'")


def test_this_python_is_not_the_bare_one(bare):
    assert Path(sys.executable) != bare
