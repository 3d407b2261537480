"""A finished run that holds a bundle, made once, and a watched process for the tool."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hardening.faults import small_model
from tests.hardening.fuzz import Worker, finished_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("hardening"))


@pytest.fixture(scope="session")
def worker() -> Iterator[Worker]:
    with Worker() as started:
        yield started


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ONNX file whose numbers are known."""
    return small_model(tmp_path_factory.mktemp("model") / "small.onnx")
