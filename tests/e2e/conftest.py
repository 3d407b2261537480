"""One trained model and one finished run, shared by the end-to-end tests."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODEL = f"{ROOT / 'examples' / 'demo' / 'model.py'}:ge_resnet_digits"


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def assay(*arguments: object, cwd: Path | None = None) -> Ended:
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "assay.cli.main", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=dict(os.environ), timeout=600)
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def cli() -> Callable[..., Ended]:
    return assay


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo classifier's weights, trained here and now."""
    folder = tmp_path_factory.mktemp("trained")
    train = [sys.executable, str(ROOT / "examples" / "demo" / "train.py"), "--out", str(folder)]
    done = subprocess.run(train, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "weights.pt"


@pytest.fixture(scope="session")
def finished(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the demo on real data."""
    out = tmp_path_factory.mktemp("runs") / "demo"
    done = assay("run", MODEL, "--weights", trained, "--data", "digits", "--quick", "--out", out)
    assert done.code == 0, done.out + done.err
    return out
