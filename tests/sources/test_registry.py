from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from assay.core.errors import BadInput, UnknownName
from assay.sources import create_model, list_models, register_model, registry, resolve_model


@pytest.fixture(autouse=True)
def clean_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_registered", {})
    yield


def test_bare_decorator_takes_the_functions_name() -> None:
    @register_model
    def my_net(width: int = 3) -> nn.Module:
        return nn.Linear(2, width)

    assert list_models("my_*") == ["my_net"]
    assert create_model("my_net", width=5).out_features == 5


def test_named_in_both_ways() -> None:
    @register_model("first")
    def a() -> nn.Module:
        return nn.Linear(1, 1)

    @register_model(name="second")
    def b() -> nn.Module:
        return nn.Linear(2, 2)

    assert list_models() == ["first", "second"]
    assert create_model("second").in_features == 2


def test_classes_can_be_registered() -> None:
    @register_model
    class Net(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 3)

    assert isinstance(create_model("Net"), Net)


def test_duplicate_from_another_function_raises() -> None:
    @register_model
    def net() -> nn.Module:
        return nn.Linear(1, 1)

    with pytest.raises(BadInput, match="is taken by") as caught:

        @register_model(name="net")
        def other() -> nn.Module:
            return nn.Linear(1, 1)

    assert "net_2" in caught.value.remedy
    assert create_model("net").in_features == 1


def test_redefinition_at_another_line_raises() -> None:
    @register_model
    def net() -> nn.Module:
        return nn.Linear(1, 1)

    with pytest.raises(BadInput, match="is taken by"):

        @register_model
        def net() -> nn.Module:
            return nn.Linear(2, 1)


def test_the_same_function_again_is_fine() -> None:
    def net() -> nn.Module:
        return nn.Linear(1, 1)

    register_model(net)
    register_model(net)
    assert list_models() == ["net"]


def test_neither_function_nor_name() -> None:
    with pytest.raises(BadInput, match="function or a name"):
        register_model(3)


def test_unknown_name_suggests_a_registered_one() -> None:
    register_model(name="gather_net")(lambda: nn.Linear(1, 1))
    with pytest.raises(BadInput) as caught:
        create_model("gathr_net")
    assert "gather_net" in caught.value.remedy


def test_unknown_name_suggests_the_prefix() -> None:
    with pytest.raises(BadInput) as caught:
        create_model("resnet18")
    assert "timm:resnet18" in caught.value.remedy
    assert "torchvision:resnet18" in caught.value.remedy


def test_nothing_like_it() -> None:
    register_model(name="mine")(lambda: nn.Linear(1, 1))
    with pytest.raises(UnknownName, match="zzzzqqqq"):
        create_model("zzzzqqqq")


def test_builder_must_give_a_module() -> None:
    register_model(name="wrong")(lambda: 3)
    with pytest.raises(BadInput, match=r"not a torch\.nn\.Module"):
        create_model("wrong")


def test_prefixed_names_are_created_and_listed() -> None:
    assert create_model("timm:resnet18", num_classes=4).num_classes == 4
    assert create_model("torchvision:squeezenet1_1", num_classes=4).num_classes == 4
    assert "timm:resnet18" in list_models("timm:resnet1*")
    assert all(n.startswith("timm:resnet1") for n in list_models("timm:resnet1*"))
    assert "torchvision:resnet18" in list_models("torchvision:*")
    with pytest.raises(UnknownName):
        list_models("tim:*")


def test_registered_name_is_a_model(options) -> None:
    @register_model
    def seen_net() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    seen_net.assay_inputs = ["x:batchx4"]
    model = resolve_model("seen_net", options())
    assert (model.name, model.randomised) == ("seen_net", True)
    assert model.artifact.module()(torch.zeros(2, 4)).shape == (2, 2)


def test_what_has_no_name_of_its_own_needs_one() -> None:
    import functools

    with pytest.raises(BadInput, match="a partial has no name") as caught:
        register_model(functools.partial(nn.Linear, 3, 2))
    assert "name=" in caught.value.remedy
    register_model(functools.partial(nn.Linear, 3, 2), name="a_partial")
    assert create_model("a_partial").out_features == 2
    with pytest.raises(BadInput, match="is taken by functools"):
        register_model(lambda: nn.Linear(1, 1), name="a_partial")
