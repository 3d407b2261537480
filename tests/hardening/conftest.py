"""A finished run that holds a bundle, made once."""

from pathlib import Path

import pytest
from tests.hardening.fuzz import finished_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("hardening"))
