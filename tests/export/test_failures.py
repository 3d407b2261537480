"""What is refused, and that nothing is left behind."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from assay.core.artifact import Artifact
from assay.core.errors import AssayError, BadInput, ExportFailed, StorageFailed, UnknownName
from assay.core.model import Model
from assay.core.shapes import parse_shape
from assay.core.tensors import TensorSpec
from assay.export.export import export_model
from assay.export.options import ExportOptions
from assay.export.prove import Specialised

TS = {"exporter": "torchscript"}


class Frozen(nn.Module):
    """Writes the example's batch into the graph, under either exporter."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.reshape(int(x.shape[0]), -1))


class Baked(nn.Module):
    """The traced file runs at every batch, but divides by the example's: wrong numbers, not a crash."""

    def forward(self, x: Tensor) -> Tensor:
        return x / int(x.shape[0])


class Times(nn.Module):
    """A traced file has the example's factor in it, and no input of that name."""

    def forward(self, x: Tensor, factor: Tensor) -> Tensor:
        return x * float(factor.item())


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        if x.abs().sum() > 0:
            return self.a(x)
        return x


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn(x.shape)


class Nan(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log(x)


class OnlyTwo(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[0] == 2, "two rows, please"
        return x * 2


class Count(nn.Module):
    def forward(self, x: Tensor) -> dict[str, object]:
        return {"a": x * 2, "n": 3}


def refused(export, kind: type[AssayError], *arguments, folder: Path, **fields) -> AssayError:
    with pytest.raises(kind) as caught:
        export(*arguments, **fields)
    assert list(folder.iterdir()) == [], "something was left behind"
    return caught.value


def test_a_specialised_batch_is_an_error_that_says_so(export, tmp_path: Path) -> None:
    error = refused(export, Specialised, Frozen(), "x:1x2x4", folder=tmp_path, **TS)
    assert "'batch' is not free" in str(error) and "batch=1" in str(error)
    assert "--batch N" in str(error.remedy)
    assert export(Frozen(), "x:1x2x4", batch=2, **TS).signature.static_batch == 2


def test_an_input_written_into_the_file_is_named(export, tmp_path: Path) -> None:
    error = refused(export, Specialised, Times(), "x:1x4", "factor:[]", folder=tmp_path, **TS)
    assert "'factor' is not in the exported file" in str(error) and "'output' differs" in str(error)


def test_a_specialised_value_is_found_by_its_numbers(export, tmp_path: Path) -> None:
    error = refused(export, Specialised, Baked(), "x:1x4", folder=tmp_path, **TS)
    assert "'batch'" in str(error) and "'output' differs" in str(error) and "relative error" in str(error)


def test_what_dynamo_cannot_do_falls_back_to_torchscript_and_says_why(export) -> None:
    done = export(Branches(), "x:1x4")
    assert done.exporter == "torchscript"
    assert "dynamo was tried first" in done.why and "data-dependent" in done.why
    assert done.why in done.notes
    assert any("trace may hold for the example only" in w and "test_failures.py" in w for w in done.warnings)


def test_no_fallback_when_dynamo_was_asked_for(export, tmp_path: Path) -> None:
    error = refused(export, ExportFailed, Branches(), "x:1x4", exporter="dynamo", folder=tmp_path)
    assert "data-dependent" in str(error) and "\x1b" not in str(error)


def test_when_neither_exporter_can_both_reasons_are_given(export, tmp_path: Path) -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.svdvals(x)

    error = refused(export, ExportFailed, Both(), "x:batchx4x4", folder=tmp_path)
    assert "neither exporter" in str(error) and "dynamo" in str(error) and "torchscript" in str(error)


def test_an_opset_the_exporter_cannot_write_is_refused_before_it_runs(export, tmp_path: Path) -> None:
    error = refused(export, BadInput, nn.Linear(4, 2), "x:1x4", exporter="dynamo", opset=17, folder=tmp_path)
    assert error.remedy == "--exporter torchscript --opset 17, or --exporter dynamo --opset 18"


def test_an_opset_that_is_not_met_is_an_error(export, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("assay.export.choose.DYNAMO_MIN_OPSET", 7)  # let it try
    error = refused(export, ExportFailed, nn.Linear(4, 2), "x:1x4", exporter="dynamo", opset=11, folder=tmp_path)
    assert "opset 11 was asked for" in str(error) and "wrote 18" in str(error)
    assert error.remedy == "--exporter torchscript"


def test_random_outputs_do_not_pass(export, tmp_path: Path) -> None:
    error = refused(export, ExportFailed, Random(), "x:1x4", folder=tmp_path, **TS)
    assert "another result each time" in str(error)


def test_nan_in_the_reference_does_not_pass(export, tmp_path: Path) -> None:
    error = refused(export, ExportFailed, Nan(), "x:1x4", folder=tmp_path, **TS)
    assert "NaN" in str(error) and "--range" in str(error.remedy)
    assert export(Nan(), "x:1x4", ranges=(("x", 1.0, 2.0),), **TS).comparison["output"].n > 0


def test_a_shape_that_does_not_fit_quotes_torch(export, tmp_path: Path) -> None:
    error = refused(export, BadInput, nn.Conv2d(3, 4, 3), "x:1x4x8x8", folder=tmp_path)
    assert "x:2x4x8x8:float32" in str(error) and "expected input" in str(error)


def test_a_batch_pytorch_refuses_cannot_be_free(export, tmp_path: Path) -> None:
    error = refused(export, BadInput, OnlyTwo(), "x:batchx4", folder=tmp_path)
    assert "batch cannot be free" in str(error) and "two rows, please" in str(error)
    done = export(OnlyTwo(), "x:batchx4", batch=2, **TS)
    assert done.signature.outputs[0].batch_axis is None
    assert any("no output has a batch axis" in n for n in done.notes)


def test_a_dim_pytorch_refuses_cannot_be_free(export, tmp_path: Path) -> None:
    error = refused(export, BadInput, nn.Linear(12, 4), "x:batchxfeatures", folder=tmp_path)
    assert "'features' cannot be free" in str(error) and "write 12" in str(error.remedy)


def test_outputs_that_are_no_tensors(export, tmp_path: Path) -> None:
    assert "'n' is int" in str(refused(export, BadInput, Count(), "x:1x4", folder=tmp_path))


@pytest.mark.parametrize(
    ("shapes", "fields", "kind", "said"),
    [
        ((), {}, BadInput, "input shape of net.py:Net is not known"),
        (("x:1x4",), {"exporter": "dynamoo"}, UnknownName, "dynamoo"),
        (("x:1x4",), {"opset": 6}, BadInput, "opset 6"),
        (("x:1x4",), {"opset": 99}, BadInput, "opset 99"),
        (("x:1x4",), {"opset": 22, **TS}, BadInput, "up to 20"),
        (("x:1x4",), {"batch": 0}, BadInput, "0 is not a batch"),
        (("x:1x4",), {"batch": "many"}, BadInput, "'many' is not a batch"),
        (("x:1x4",), {"input_names": ("a", "b")}, BadInput, "2 input names were given, the model has 1"),
        (("x:1x4",), {"input_names": ("a", "a")}, BadInput, "given more than once"),
        (("x:1x4",), {"output_names": ("a", "b")}, BadInput, "2 output names were given, the model has 1"),
        (("x:1x4",), {"input_names": ("a",), "output_names": ("a",)}, BadInput, "ONNX needs them to differ"),
        (("x:1x4",), {"output_names": ("x",)}, BadInput, "ONNX needs them to differ"),
        (("x:1x4", "x:1x4"), {}, BadInput, "more than once"),
        (("x:1x4",), {"passes": ("onnxslm",)}, UnknownName, "onnxslm"),
        (("x:1x4",), {"ranges": (("y", 0, 1),)}, UnknownName, "'y'"),
        (("x:1x4",), {"sizes": (("h", 3),)}, BadInput, "no input has a free dim 'h'"),
        (("x:1x4:string",), {}, BadInput, "takes no strings"),
    ],
)
def test_bad_requests(export, tmp_path: Path, shapes, fields, kind: type[AssayError], said: str) -> None:
    assert said in str(refused(export, kind, nn.Linear(4, 2), *shapes, folder=tmp_path, **fields))


def test_the_remedies_of_bad_requests(export, tmp_path: Path) -> None:
    net = nn.Linear(4, 2)
    assert "--shape x:1x3x224x224" in str(refused(export, BadInput, net, folder=tmp_path).remedy)
    unknown = refused(export, UnknownName, net, "x:1x4", exporter="dynamoo", folder=tmp_path)
    assert "dynamo" in str(unknown.remedy)
    known = {"inputs": (TensorSpec("a", "float32", (1, 4)), TensorSpec("b", "float32", (1, 4)))}
    wrong = refused(export, UnknownName, net, "aa:1x4", model=known, folder=tmp_path)
    assert "did you mean a" in str(wrong.remedy)


def options(shape: str = "x:1x4") -> ExportOptions:
    return ExportOptions(shapes=(parse_shape(shape),), exporter="torchscript")


def never_run(path: Path, feed) -> dict:
    raise AssertionError("nothing may be run")


def linear(**fields) -> Model:
    artifact = Artifact(Path("m.json"), "source", "0" * 64, module=lambda: nn.Linear(4, 2).eval())
    return Model("net", "net.py:Net", dataclasses.replace(artifact, **fields), "seeded")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="nothing can be written"):
        export_model(linear(), options(), tmp_path / "file" / "net.onnx", never_run)


def test_a_target_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a folder"):
        export_model(linear(), options(), tmp_path, never_run)


def test_a_file_that_opens_as_no_module(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="opens as no PyTorch module"):
        export_model(linear(module=None), options(), tmp_path / "net.onnx", never_run)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda out: {}, "has no output 'output'"),
        (lambda out: {"output": out[:, :1]}, "has the shape"),
        (lambda out: {"output": out * float("nan")}, "NaN"),
        (lambda out: {"output": out * 1.001}, "relative error 1.0"),
        (lambda out: {"output": out.astype("float64")}, "is float64"),
    ],
)
def test_an_engine_that_gives_something_else(tmp_path: Path, answer, said: str) -> None:
    """The comparison is between what ``run`` gives and PyTorch, so a wrong answer must be found there."""
    net = nn.Linear(4, 2).eval()

    def run(path: Path, feed) -> dict:
        with torch.no_grad():
            return answer(net(torch.from_numpy(feed["x"])).numpy())

    with pytest.raises(ExportFailed, match=said):
        export_model(linear(module=lambda: net), options(), tmp_path / "net.onnx", run)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_survives_a_failed_export(tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    target.write_bytes(b"precious")
    with pytest.raises(BadInput):
        export_model(linear(), options("x:1x5"), target, never_run)
    assert target.read_bytes() == b"precious"
