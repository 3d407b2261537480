from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch

from assay.core.errors import BadInput
from assay.export.flatten import flatten, is_flat

T = torch.zeros(1)
Pair = namedtuple("Pair", "boxes scores")


@dataclass
class Out:
    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...]


class ModelOutput(OrderedDict):
    """As the usual model libraries have it: an ordered mapping of names."""


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (T, ["output"]),
        ((T,), ["output"]),
        ([T], ["output"]),
        ((T, T), ["output_0", "output_1"]),
        ((T, None), ["output"]),
        ((T, (T, T)), ["output_0", "output_1.0", "output_1.1"]),
        ({"logits": T}, ["logits"]),
        ({"b": T, "a": [T, {"x": T}]}, ["b", "a.0", "a.1.x"]),
        ({0: T, "two words": T}, ["0", "two_words"]),
        ({"a b": T, "a_b": T}, ["a_b", "a_b_2"]),
        (Pair(T, [T, T]), ["boxes", "scores.0", "scores.1"]),
        (Pair(T, None), ["boxes"]),
        (Out(T, (T,)), ["logits", "hidden.0"]),
        (ModelOutput(loss=None, logits=T), ["logits"]),
    ],
)
def test_names(value, names: list[str]) -> None:
    assert [n for n, _ in flatten(value)] == names


@pytest.mark.parametrize(("value", "said"), [({}, "no tensor"), (None, "no tensor"), ((T, 3), "int"), ("x", "str")])
def test_what_is_no_tensor(value, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        flatten(value)


def test_what_exporters_take_as_it_is() -> None:
    assert is_flat(T) and is_flat((T, T)) and is_flat([T])
    assert not any(map(is_flat, ({"a": T}, (T, None), Pair(T, T), (T, (T,)), ())))


def test_no_name_that_was_made_up_takes_another_outputs_place() -> None:
    found = flatten({"a b": T + 1, "a_b_2": T + 2, "a_b": T + 3})
    assert [(name, float(t)) for name, t in found] == [("a_b", 1), ("a_b_2", 2), ("a_b_3", 3)]
