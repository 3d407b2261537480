"""A user's Python file: what goes wrong in it is told as theirs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from assay.core.errors import BadInput, UnknownName
from assay.graph.user_file import is_user_function, load_file, user_function


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("import sys\nsys.exit(7)\n", "SystemExit: 7"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("def half(:\n", "SyntaxError"),
    ],
)
def test_a_file_that_cannot_be_run(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "a script.py"
    path.write_text(content)
    known = set(sys.modules)
    with pytest.raises(BadInput, match=f"a script.py could not be run: {said}"):
        load_file(path)
    assert not {name for name in set(sys.modules) - known if name.startswith("assay_user_")}


def test_functions_by_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def twice(x):\n    return 2 * x\nnumber = 3\n")
    assert is_user_function(f"{path}:twice") and not is_user_function("onnxslim")
    assert user_function(f"{path}:twice")(2) == 4
    with pytest.raises(UnknownName, match="twise") as told:
        user_function(f"{path}:twise")
    assert told.value.remedy == "did you mean twice?"
    with pytest.raises(BadInput, match="is not a function"):
        user_function(f"{path}:number")
    with pytest.raises(BadInput, match="no file"):
        user_function(f"{tmp_path / 'gone.py'}:twice")
