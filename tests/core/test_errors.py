import pickle

import pytest

from assay.core import errors
from assay.core.errors import AssayError, BadInput, SignatureMismatch, UnknownName, WrongPrecision, suggest


def _tree(kind):
    yield kind
    for sub in kind.__subclasses__():
        yield from _tree(sub)


@pytest.mark.parametrize(
    "kind", [k for k in _tree(AssayError) if k is not UnknownName and k.__module__ == errors.__name__]
)
def test_every_error_crosses_a_process_with_its_remedy(kind):
    error = kind("what happened", remedy="do this", log="/tmp/log")
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is kind
    assert (found.message, found.remedy, found.log, str(found)) == (
        "what happened",
        "do this",
        "/tmp/log",
        "what happened",
    )
    assert found.exit_code == error.exit_code


def test_unknown_name_crosses_with_its_suggestions():
    found = pickle.loads(pickle.dumps(UnknownName("engine", "onnxruntme", ["onnxruntime", "openvino"])))
    assert found.near == ["onnxruntime"]
    assert "onnxruntime" in found.remedy
    assert "onnxruntme" in found.message


def test_exit_codes():
    assert AssayError("x").exit_code == 4
    assert BadInput("x").exit_code == SignatureMismatch("x").exit_code == errors.UntrustedCode("x").exit_code == 2
    assert errors.NotAvailable("x").exit_code == 3
    assert WrongPrecision("x").exit_code == errors.ChildFailed("x").exit_code == 4


def test_unknown_name_lists_a_short_table_and_not_a_long_one():
    assert "known: a, b" in UnknownName("thing", "zzzz", ["b", "a"]).remedy
    assert UnknownName("thing", "zzzz", [f"name{i}" for i in range(50)]).remedy is None


def test_suggest():
    assert suggest("ResNet50", ["resnet50", "resnet18"])[0] == "resnet50"
    assert suggest("resn", ["resnet50", "resnet18", "vit"]) == ["resnet50", "resnet18"]
    assert suggest("qqqq", ["resnet50"]) == []


def test_unknown_name_takes_names_that_can_be_walked_once():
    assert "known: a, b" in UnknownName("thing", "zzzz", iter(["b", "a"])).remedy
