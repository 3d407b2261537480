from __future__ import annotations

import pytest

from assay.core.errors import BadInput
from assay.sources.arguments import call_builder, first_line, split_arguments


def test_values_are_typed() -> None:
    name, arguments = split_arguments("net?a=1&b=0.5&c=true&d=None&e=avg&f=96,128&g=1e-3&h=a%26b")
    assert name == "net"
    assert arguments == {"a": 1, "b": 0.5, "c": True, "d": None, "e": "avg", "f": (96, 128), "g": 1e-3, "h": "a&b"}
    assert isinstance(arguments["a"], int)


def test_no_arguments() -> None:
    assert split_arguments("net") == ("net", {})
    assert split_arguments("net?") == ("net", {})


@pytest.mark.parametrize("text", ["net?a", "net?=1", "net?a-b=1"])
def test_malformed(text: str) -> None:
    with pytest.raises(BadInput, match="not an argument"):
        split_arguments(text)


def test_given_twice() -> None:
    with pytest.raises(BadInput, match="twice"):
        split_arguments("net?a=1&a=2")


def test_code_in_a_value_stays_text() -> None:
    assert split_arguments("net?a=__import__('os')")[1] == {"a": "__import__('os')"}


def test_builder_failure_names_arguments() -> None:
    with pytest.raises(BadInput, match=r"net could not be built with b=1: TypeError"):
        call_builder(lambda a: a, {"b": 1}, "net")


def test_first_line_skips_blank_ones() -> None:
    assert first_line(ValueError("\n\n  here\nthere")) == "here"
    assert first_line(ValueError()) == "no message"


@pytest.mark.parametrize("value", ["{[]:1}", "(" * 300, "-" * 100_000 + "1"])
def test_what_python_cannot_read_stays_text(value: str) -> None:
    assert split_arguments(f"net?a={value}")[1] == {"a": value}
