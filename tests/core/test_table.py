import math

import pytest

from assay.core.errors import UnknownName
from assay.core.table import load, resolve

TABLE = {"root": "math:sqrt", "missing": "no.such.module:thing"}


def test_resolves_lazily():
    assert resolve(TABLE, "root", "function") is math.sqrt
    assert load("math:pi") == math.pi


def test_unknown_names_are_not_import_paths():
    with pytest.raises(UnknownName, match="no function named 'os:system'"):
        resolve(TABLE, "os:system", "function")


def test_near_names():
    with pytest.raises(UnknownName) as caught:
        resolve(TABLE, "rot", "function")
    assert caught.value.near == ["root"]


def test_a_broken_target_says_which_module():
    with pytest.raises(ModuleNotFoundError, match="no"):
        resolve(TABLE, "missing", "function")
