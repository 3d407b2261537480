"""JSON that was made by hand or damaged: what is no JSON of ours is told where it is read."""

import json

import pytest

from assay.core.checked import MOST_DEEP, loads, number


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "-1e999", "1" + "0" * 400, "{", ""])
def test_what_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        loads(text)


@pytest.mark.parametrize("value", [None, True, 1.5, 10**300, -3, "x", [], {}, [[1], {"a": [{}]}], 1e308])
def test_what_is_json_is_read_as_json_reads_it(value):
    assert loads(json.dumps(value)) == value


@pytest.mark.parametrize("opened", ["[", '{"a":'])
@pytest.mark.parametrize("levels", [MOST_DEEP + 1, 900, 100_000])
def test_levels_are_counted(opened, levels):
    closed = "]" if opened == "[" else "}"
    with pytest.raises(ValueError, match="100 levels deep"):
        loads(opened * levels + ("" if opened == "[" else "1") + closed * levels)
    assert loads("[" * MOST_DEEP + "]" * MOST_DEEP) is not None


def test_a_hook_for_pairs():
    assert loads('{"a": 1, "a": 2}', lambda pairs: pairs) == [("a", 1), ("a", 2)]


@pytest.mark.parametrize(
    ("value", "error"), [("1", TypeError), (True, TypeError), ([1], TypeError), (10**400, ValueError)]
)
def test_a_number_is_a_finite_float(value, error):
    with pytest.raises(error):
        number({"n": value}, "n")
    assert number({"n": 3}, "n") == 3.0
    assert number({}, "n") is None
