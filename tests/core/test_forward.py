"""How inputs of given names must be passed to a module."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from assay.core.forward import forward_parameters, passed_by_name


class Optional:
    def forward(self, a, b=None, c=None):
        """Parameters that may be left out."""


class KeywordOnly:
    def forward(self, a, *, b, **others):
        """One that has no place."""


class Open:
    def forward(self, *inputs):
        """It does not say."""


@pytest.mark.parametrize(
    ("module", "names", "by_name"),
    [
        (Optional(), ["a"], False),
        (Optional(), ["a", "b"], False),
        (Optional(), ["a", "c"], True),
        (Optional(), ["b", "a"], True),
        (Optional(), ["x"], False),
        (Optional(), ["a", "x"], False),
        (Optional(), [], False),
        (KeywordOnly(), ["a"], False),
        (KeywordOnly(), ["a", "b"], True),
        (Open(), ["a", "c"], False),
        (SimpleNamespace(), ["a"], False),
    ],
)
def test_by_name_only_where_places_would_not_do(module, names, by_name) -> None:
    assert passed_by_name(module, names) is by_name


def test_parameters() -> None:
    assert forward_parameters(Optional()) == ["a", "b", "c"]
    assert forward_parameters(KeywordOnly()) == ["a", "b"]
    assert forward_parameters(Open()) == forward_parameters(SimpleNamespace()) == []
