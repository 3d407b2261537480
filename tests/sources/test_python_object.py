from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from assay.core.errors import BadInput
from assay.core.shapes import parse_shape
from assay.sources import from_module


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None = None, extra: torch.Tensor | None = None):
        y = self.fc(ids.float())
        y = y if mask is None else y * mask
        return y if extra is None else y + extra


class TakesDict(nn.Module):
    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return batch["a"] - batch["b"]


class TakesKeywords(nn.Module):
    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        return inputs["a"] - inputs["b"]


def test_one_tensor(options) -> None:
    net = nn.Linear(3, 2).train()
    model = from_module(net, "mine", torch.zeros(5, 3), options())
    assert [str(s) for s in model.inputs] == ["input:batchx3:float32"]
    assert (model.name, model.weights, model.randomised) == ("mine", "as given in Python", False)
    assert model.artifact.module() is not net
    assert net.training
    assert not model.artifact.module().training
    assert torch.equal(model.artifact.module().weight, net.weight)


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        (np.zeros((1, 3), np.float32), ["input:batchx3:float32"]),
        ((torch.zeros(4, 3), torch.zeros(4, 2)), ["ids:batchx3:float32", "mask:batchx2:float32"]),
        (
            [torch.zeros(4, 3, dtype=torch.int64), np.ones((2,), np.float32)],
            ["ids:batchx3:int64", "mask:2:float32"],
        ),
        ((torch.zeros(4, 3), 2.0), ["ids:batchx3:float32", "mask:scalar:float64"]),
    ],
)
def test_tensors_arrays_and_tuples(options, example, expected: list[str]) -> None:
    model = from_module(Two(), "two", example, options())
    assert [str(s) for s in model.inputs] == expected


def test_bfloat16() -> None:
    from assay.sources.python_object import specs_of

    assert specs_of({"x": torch.zeros(1, 2, dtype=torch.bfloat16)})[0].dtype == "bfloat16"


def test_dict_in_another_order(options) -> None:
    example = {"mask": torch.ones(2, 2), "ids": torch.ones(2, 3)}
    model = from_module(Two(), "two", example, options())
    assert [s.name for s in model.inputs] == ["ids", "mask"]
    assert isinstance(model.artifact.module(), Two)


def test_dict_that_leaves_a_parameter_out(options) -> None:
    net = Two().eval()
    model = from_module(net, "two", {"extra": torch.ones(2, 2), "ids": torch.ones(2, 3)}, options())
    assert [s.name for s in model.inputs] == ["ids", "extra"]
    ids, extra = torch.randn(2, 3), torch.randn(2, 2)
    assert torch.equal(model.artifact.module()(ids, extra), net(ids, extra=extra))


@pytest.mark.parametrize("net", [TakesDict(), TakesKeywords()])
def test_modules_that_take_dicts_or_any_keyword(options, net: nn.Module) -> None:
    model = from_module(net, "net", {"a": torch.ones(2, 3), "b": torch.ones(2, 3)}, options())
    a, b = torch.randn(2, 3), torch.randn(2, 3)
    assert torch.equal(model.artifact.module()(a, b), a - b)


def test_wrapped_modules_can_be_exported(options) -> None:
    model = from_module(TakesDict(), "net", {"a": torch.ones(2, 3), "b": torch.ones(2, 3)}, options())
    rows = torch.export.Dim("batch")
    example = (torch.ones(2, 3), torch.ones(2, 3))
    program = torch.export.export(model.artifact.module(), example, dynamic_shapes={"a": {0: rows}, "b": {0: rows}})
    out = program.module()(torch.ones(5, 3), torch.ones(5, 3))
    assert out.shape == (5, 3)


def test_names_that_forward_does_not_have(options) -> None:
    with pytest.raises(BadInput, match="not parameters of forward, which has ids, mask, extra"):
        from_module(Two(), "two", {"tokens": torch.ones(2, 3)}, options())


def test_shapes_replace_the_example(options) -> None:
    model = from_module(nn.Linear(3, 2), "net", None, options(shapes=(parse_shape("x:1x3"),)))
    assert str(model.inputs[0]) == "x:1x3:float32"


def test_example_that_does_not_run(options) -> None:
    with pytest.raises(BadInput, match="net does not accept input:batchx4"):
        from_module(nn.Linear(3, 2), "net", torch.zeros(1, 4), options())


@pytest.mark.parametrize(
    "example", ["text", object(), (torch.zeros(1), "text"), (), {}, torch.zeros(2, dtype=torch.complex64)]
)
def test_examples_that_are_no_tensors(options, example) -> None:
    with pytest.raises(BadInput, match="example"):
        from_module(Two(), "two", example, options())


def test_not_a_module(options) -> None:
    with pytest.raises(BadInput, match=r"not a torch\.nn\.Module"):
        from_module(lambda x: x, "f", torch.zeros(1), options())


def test_digest_follows_weights_and_settings(options) -> None:
    def digest(net: nn.Module) -> str:
        return from_module(net, "net", torch.zeros(1, 4), options()).artifact.sha256

    net = nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(0.1))
    first = digest(net)
    assert first == digest(net)
    net[1] = nn.LeakyReLU(0.2)
    assert digest(net) != first
    net[1] = nn.LeakyReLU(0.1)
    with torch.no_grad():
        net[0].bias[0] += 1
    assert digest(net) != first


def test_lazy_parameters_are_refused(options) -> None:
    with pytest.raises(BadInput, match="no values yet"):
        from_module(nn.LazyLinear(3), "lazy", None, options())


def test_weights_can_be_replaced(options, tmp_path) -> None:
    trained = nn.Linear(3, 2)
    torch.save(trained.state_dict(), tmp_path / "w.pt")
    model = from_module(nn.Linear(3, 2), "net", torch.zeros(1, 3), options(weights=str(tmp_path / "w.pt")))
    assert torch.equal(model.artifact.module().weight, trained.weight)


def test_compiled_modules_say_no_names(options) -> None:
    script = torch.jit.script(nn.Linear(3, 2))
    model = from_module(script, "net", (torch.zeros(1, 3),), options())
    assert str(model.inputs[0]) == "input:batchx3:float32"
    with pytest.raises(BadInput, match="not parameters of forward"):
        from_module(script, "net", {"other": torch.zeros(1, 3)}, options())


@pytest.mark.filterwarnings("error:The given NumPy array is not writable")
def test_arrays_that_torch_does_not_take_as_they_are(options) -> None:
    x = np.zeros((2, 3), np.float32)
    x.flags.writeable = False
    assert str(from_module(nn.Linear(3, 2), "net", x, options()).inputs[0]) == "input:batchx3:float32"
    with pytest.raises(BadInput, match="is an array of >f4"):
        from_module(nn.Linear(3, 2), "net", x.astype(">f4"), options())
