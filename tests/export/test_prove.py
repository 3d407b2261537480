from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.core.errors import ExportFailed
from assay.core.tensors import TensorSpec
from assay.export.conditioning import Sides, conditioning
from assay.export.inputs import InputPlan
from assay.export.options import ExportOptions
from assay.export.prove import Specialised, Trial, make_trials, prove, vacuous
from assay.export.reference import Reference, batch_axes
from assay.export.remember import Remembered
from assay.graph.external_data import save_model
from assay.graph.feeds import draw_feed


class IllConditioned(nn.Module):
    """Subtracts nearly equal numbers: float32 keeps few digits, in any implementation."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 3e4) - 3e4


PLAN = InputPlan((TensorSpec("x", "float32", ("batch", 4)),), (None,), "batch", 2)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file whose signature has the input x; what it gives is up to the test's ``run``."""
    import onnx

    value = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["batch", 4]) for n in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", value[:1], value[1:])
    save_model(onnx.helper.make_model(graph, ir_version=8), tmp_path / "f.onnx")
    return tmp_path / "f.onnx"


def double(path: Path, feed) -> dict:
    """The exact answer rounded once: as far from PyTorch's float32 as PyTorch's float32 is from the truth."""
    return {"output": ((feed["x"].astype(np.float64) + 3e4) - 3e4).astype(np.float32)}


def test_a_model_that_loses_digits_in_pytorch_itself_is_held_to_its_own_loss(file: Path) -> None:
    reference = Reference(IllConditioned(), PLAN)
    trials = make_trials(reference, ExportOptions())
    measures, proofs, notes = prove(file, trials, reference, double)
    assert proofs[0].error > 1e-4
    assert any("float64" in n for n in notes)
    assert measures["output"].n == 8 * 4

    def worse(path: Path, feed) -> dict:
        return {"output": double(path, feed)["output"] * np.float32(1.005)}

    with pytest.raises(ExportFailed, match="differs from PyTorch"):
        prove(file, trials, reference, worse)


class Chaotic(nn.Module):
    """A logistic map: each step doubles a difference, so that 28 of them leave nothing of float32's last bit."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(x)
        for _ in range(28):
            x = 3.984375 * x * (1 - x)
        return x


def graph_of(nodes: list, folder: Path, names: str = "xy") -> Path:
    import onnx

    value = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["batch", 4]) for n in names]
    numbers = {"rate": 3.984375}
    weights = [onnx.numpy_helper.from_array(np.array(v, np.float32), k) for k, v in numbers.items()]
    graph = onnx.helper.make_graph([onnx.helper.make_node(*n) for n in nodes], "g", value[:1], value[1:], weights)
    opsets = [onnx.helper.make_opsetid("", 17)]
    save_model(onnx.helper.make_model(graph, ir_version=8, opset_imports=opsets), folder / "g.onnx")
    return folder / "g.onnx"


@pytest.fixture
def chaotic(tmp_path: Path) -> Path:
    """The same function in other steps: x - x*x in place of x*(1 - x), so it rounds elsewhere."""
    nodes = [("Sigmoid", ["x"], ["s0"])]
    for i in range(28):
        nodes += [("Mul", [f"s{i}", f"s{i}"], [f"q{i}"]), ("Sub", [f"s{i}", f"q{i}"], [f"d{i}"])]
        nodes.append(("Mul", [f"d{i}", "rate"], [f"s{i + 1}" if i < 27 else "output"]))
    return graph_of(nodes, tmp_path, ("x", "output"))


def onnxruntime_run(path: Path, feed) -> dict:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return {"output": session.run(None, {"x": feed["x"]})[0]}


def test_amplified_rounding_is_not_blamed_on_a_dim(chaotic: Path) -> None:
    reference = Reference(Chaotic(), PLAN)
    base, *others = make_trials(reference, ExportOptions())
    for trial in others:  # whichever size is seen first: the cause is the same
        with pytest.raises(
            ExportFailed, match=r"amplifies rounding.*both in float64 they differ by .*e-0[5-9]"
        ) as said:
            prove(chaotic, [trial], reference, onnxruntime_run)
        assert not isinstance(said.value, Specialised) and "not free" not in str(said.value)
    assert base.dim is None


def test_a_file_that_computes_something_else_at_one_size_is_blamed_on_it_even_then(chaotic: Path) -> None:
    """The very model, but the file gives what belongs to another batch at a batch of five."""
    reference = Reference(Steep(), PLAN)
    trials = make_trials(reference, ExportOptions())

    def fixed(path: Path, feed) -> dict:
        exact = {"output": np.tanh(feed["x"].astype(np.float64) * 3)}
        factor = 1.0 if feed["x"].shape[0] != 5 else 1.01
        kind = np.float64 if path.name == "double.onnx" else np.float32
        return {"output": (exact["output"] * factor).astype(kind)}

    with pytest.raises(Specialised, match="'batch' is not free"):
        prove(chaotic, trials, reference, fixed)


class Steep(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x * 3)


def test_conditioning_without_float64_rests_on_the_last_bit(chaotic: Path) -> None:
    class Float32Only(Chaotic):
        def double(self):
            raise TypeError("no float64 here")

    reference = Reference(Float32Only(), PLAN)
    trial = make_trials(reference, ExportOptions())[0]
    found = conditioning(
        Sides(chaotic, onnxruntime_run, reference), "output", (trial.feed, trial.feed), trial.reference
    )
    assert found.own is None and found.exact is None and found.moved is not None
    assert found.explains(found.moved) and not found.explains(100 * found.moved)


def test_trials_cover_three_batches_with_different_draws() -> None:
    trials = make_trials(Reference(nn.Linear(4, 2).eval(), PLAN), ExportOptions())
    assert [t.sizes["batch"] for t in trials] == [2, 1, 5]
    assert [t.dim for t in trials] == [None, "batch", "batch"]
    rows = np.concatenate([t.feed["x"] for t in trials])
    assert len(np.unique(rows, axis=0)) == 8


def test_vacuous_outputs() -> None:
    def trial(**outputs: np.ndarray) -> Trial:
        return Trial(None, {}, {}, outputs)

    ones = np.ones((2, 3), np.float32)
    moving = np.arange(6, dtype=np.float32).reshape(2, 3)
    trials = [trial(a=ones, b=moving, c=ones[0]), trial(a=ones[:1], b=moving[:1], c=moving[1])]
    assert vacuous(trials, {"a": 0, "b": 0, "c": None}) == ["a"]


def test_batch_axes_follow_both_sizes() -> None:
    def outputs(batch: int) -> dict[str, np.ndarray]:
        return {
            "first": np.zeros((batch, 2)),
            "second": np.zeros((2, batch)),
            "none": np.zeros(()),
            "windows": np.zeros((4 * batch, 3)),
            "fixed": np.zeros((2, 5)),
        }

    found = batch_axes(outputs(2), outputs(5), (2, 5))
    assert found == {"first": 0, "second": 1, "none": None, "windows": None, "fixed": None}


def test_remembered_runs_each_file_once_per_feed(file: Path, tmp_path: Path) -> None:
    calls = []

    def run(path: Path, feed) -> dict:
        calls.append(path)
        return {"y": feed["x"] * 2}

    remembered = Remembered(run)
    feed = draw_feed(PLAN.specs, 2)
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(file.read_bytes())
    first = remembered(file, feed)
    assert remembered(copy, dict(feed))["y"] is first["y"] and len(calls) == 1
    remembered(file, draw_feed(PLAN.specs, 2, 1))
    assert len(calls) == 2
    copy.write_bytes(file.read_bytes() + b"\x12\x00")
    remembered(copy, feed)
    assert len(calls) == 3


def test_double_precision_leaves_the_module_alone() -> None:
    module = nn.Linear(4, 2).eval()
    found = Reference(module, PLAN).run_double(draw_feed(PLAN.specs, 2))
    assert found is not None and found["output"].dtype == np.float64
    assert module.weight.dtype == torch.float32
