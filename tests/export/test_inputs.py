"""Names, dtypes, free dims and bindings, from what the source knows and what the user says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from assay.core.artifact import Artifact
from assay.core.errors import BadInput, UnknownName
from assay.core.forward import forward_parameters
from assay.core.model import Model
from assay.core.shapes import parse_shape
from assay.core.tensors import TensorSpec
from assay.export.inputs import InputPlan, plan_inputs
from assay.export.options import ExportOptions


class Three(nn.Module):
    def forward(self, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        return a + b


def plan(*shapes: str, inputs: tuple[TensorSpec, ...] | None = None, **fields) -> InputPlan:
    model = Model("net", "net", Artifact(Path("m"), "source", "0"), "seeded", inputs=inputs)
    return plan_inputs(model, ExportOptions(shapes=tuple(map(parse_shape, shapes)), **fields), Three())


def shapes(made: InputPlan) -> list[str]:
    return [str(s) for s in made.specs]


def test_a_number_in_the_first_dim_is_an_example_unless_the_batch_is_fixed() -> None:
    assert shapes(plan("x:1x3x8x8")) == ["x:batchx3x8x8:float32"]
    assert shapes(plan("x:4x3x8x8", batch=2)) == ["x:2x3x8x8:float32"]
    assert shapes(plan("x:nx3", batch=2)) == ["x:2x3:float32"]
    assert plan("x:1x3").batch == 2 and plan("x:1x3", batch=1).batch == 1


def test_names() -> None:
    assert shapes(plan("1x3")) == ["input:batchx3:float32"]
    assert shapes(plan("1x3", "1x3")) == ["a:batchx3:float32", "b:batchx3:float32"]
    assert shapes(plan("p:1x3", "q:1x3")) == ["p:batchx3:float32", "q:batchx3:float32"]
    assert shapes(plan("a:1x3", "b:1x3", input_names=("X", "Y"))) == ["X:batchx3:float32", "Y:batchx3:float32"]


def test_bindings() -> None:
    assert plan("a:1x3", "b:1x3").bindings == (None, None)
    assert plan("p:1x3", "q:1x3").bindings == (None, None)
    swapped = plan("b:1x3", "a:1x4")
    assert swapped.bindings == (None, None) and shapes(swapped) == ["a:batchx4:float32", "b:batchx3:float32"]
    assert plan("a:1x3", "c:1x3").bindings == ("a", "c")


def test_the_batch_axis() -> None:
    axes = [s.batch_axis for s in plan("x:batchx3", "h:2xbatchx5", "k:7").specs]
    assert axes == [0, 1, None]
    assert plan("x:nx3", "h:2xnx5").batch_name == "n"
    assert [s.batch_axis for s in plan("x:4x3", "k:7x3").specs] == [0, None]
    assert [s.batch_axis for s in plan("time:seqxbatchx3").specs] == [1]


def test_free_dims_and_their_known_sizes() -> None:
    known = (TensorSpec("x", "float32", ("batch", 3, 224, 160)),)
    made = plan("x:batchx3xhxw", inputs=known)
    assert made.free_dims == ("h", "w") and made.known == {"h": 224, "w": 160}
    assert plan("x:batchx3xhxw", inputs=known, sizes=(("h", 64),)).known["h"] == 64


def test_one_of_several_known_inputs_is_refined() -> None:
    known = (TensorSpec("a", "int64", ("batch", 8)), TensorSpec("b", "float32", ("batch", 3)))
    assert shapes(plan("a:batchxseq", inputs=known)) == ["a:batchxseq:int64", "b:batchx3:float32"]
    assert shapes(plan("p:batchx4", "q:batchx5", inputs=known)) == ["p:batchx4:int64", "q:batchx5:float32"]


def test_a_known_static_signature_is_made_free_on_its_batch_axis() -> None:
    known = (TensorSpec("x", "float32", (8, 2, 3), 1), TensorSpec("k", "float32", (5,), None))
    assert shapes(plan(inputs=known)) == ["x:8xbatchx3:float32", "k:5:float32"]
    assert shapes(plan(inputs=known, batch=6)) == ["x:8x6x3:float32", "k:5:float32"]


def test_parameters_of_forward() -> None:
    class Open(nn.Module):
        def forward(self, *tensors: Tensor) -> Tensor:
            return tensors[0]

    assert forward_parameters(Three()) == ["a", "b", "c"]
    assert forward_parameters(Open()) == []
    assert forward_parameters(torch.jit.script(nn.Linear(2, 2))) == ["input"]


def test_shapes_too_many_and_names_twice_are_told_truly() -> None:
    known = (TensorSpec("x", "float32", ("batch", 3)),)
    with pytest.raises(UnknownName, match="'y'"):
        plan("x:1x3", "y:1x3", inputs=known)
    with pytest.raises(BadInput, match="2 shapes were given, the model has 1 inputs: x"):
        plan("x:1x3", "1x3", inputs=known)
    for batch in (1, "dynamic"):
        with pytest.raises(BadInput, match="names must differ: input_1, input_1"):
            plan("input_1:1x3", "1x3", batch=batch)


def test_a_parameter_without_a_place_is_bound_by_name() -> None:
    class Masked(nn.Module):
        def forward(self, tokens: Tensor, *, mask: Tensor, input: Tensor | None = None) -> Tensor:
            return tokens * mask

    model = Model("net", "net", Artifact(Path("m"), "source", "0"), "seeded")

    def of(*texts: str) -> InputPlan:
        return plan_inputs(model, ExportOptions(shapes=tuple(map(parse_shape, texts))), Masked())

    assert of("1x3", "1x3").bindings == of("tokens:1x3", "mask:1x3").bindings == ("tokens", "mask")
    alone = of("1x3")  # not called ``input``, which is another one's name here
    assert alone.bindings == (None,) and shapes(alone) == ["tokens:batchx3:float32"]
