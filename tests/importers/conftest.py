"""Where the fixtures are, and how a test reads one."""

from pathlib import Path

import pytest

from assay.importers import Hints, import_file

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def fixture_file():
    return lambda name: FIXTURES / name


@pytest.fixture
def load():
    """``load("trtexec_7.txt", batch=2)`` -> Imported."""
    return lambda name, **hints: import_file(FIXTURES / name, Hints(**hints))


@pytest.fixture
def load_text(tmp_path):
    """The same for text at hand."""

    def read(text, name="log.txt", **hints):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return import_file(path, Hints(**hints))

    return read
