from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.core.artifact import Artifact
from assay.core.engine import OpenOptions
from assay.core.errors import BadInput, EngineFailed, NotAvailable
from assay.core.tensors import Signature, TensorSpec
from assay.engines.torch import TorchEngine, TorchSession

ENGINE = TorchEngine()


def spec(name: str, *shape: int | str, dtype: str = "float32", axis: int | None = 0) -> TensorSpec:
    return TensorSpec(name, dtype, shape, axis)


ONE = Signature((spec("x", "batch", 3),), (spec("y", "batch", 3),))


class Lambda(torch.nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


def opened(function: Any, signature: Signature = ONE, **options: Any) -> TorchSession:
    module = function if isinstance(function, torch.nn.Module) else Lambda(function).eval()
    return ENGINE.open_module(module, signature, OpenOptions(**options))


X = np.array([[1, -2, 3], [4, 5, -6]], np.float32)


def test_nested_outputs_are_flattened_in_torchs_order() -> None:
    outputs = tuple(spec(n, "batch", 3) for n in ("z", "a", "b", "c"))
    with opened(lambda x: {"z": x, "a": (x + 1, [x + 2, None, x + 3])}, Signature(ONE.inputs, outputs)) as session:
        found = session.run({"x": X})
    for name, plus in zip("zabc", range(4), strict=True):
        np.testing.assert_array_equal(found[name], X + plus)


def test_inputs_go_by_the_signatures_order_and_not_the_feeds() -> None:
    signature = Signature((spec("b", "batch", 3), spec("a", "batch", 3)), ONE.outputs)
    with opened(lambda first, second: first - 2 * second, signature) as session:
        found = session.run({"a": X, "b": 3 * X})
    np.testing.assert_array_equal(found["y"], X)


def test_outputs_that_do_not_match_the_signature_are_errors() -> None:
    for function, said in (
        (lambda x: (x, x), "returned 2 tensors; the signature has 1 outputs: y"),
        (lambda x: (x, 3), "returned a int"),
        (lambda x: x.long(), "int64; the signature says float32"),
        (lambda x: x @ x, "could not run the model"),
    ):
        with opened(function) as session, pytest.raises(EngineFailed, match=said):
            session.run({"x": X})


def test_a_module_that_writes_into_its_input_does_not_reach_the_caller() -> None:
    with opened(lambda x: x.relu_()) as session:
        feed = {"x": X.copy()}
        np.testing.assert_array_equal(session.run(feed)["y"], np.maximum(X, 0))
        np.testing.assert_array_equal(feed["x"], X)


def test_a_module_that_returns_its_own_buffer_does_not_hand_it_out() -> None:
    kept = torch.zeros(2, 3)
    with opened(lambda x: kept.copy_(x)) as session:
        first = session.run({"x": X})["y"]
        session.run({"x": X + 1})
        np.testing.assert_array_equal(first, X)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(2, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.head = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y: torch.Tensor = self.head(self.norm(self.conv(x)).mean((2, 3)))
        return y, y.argmax(1)


NET = Signature((spec("x", "batch", 2, 6, 6),), (spec("y", "batch", 3), spec("best", "batch", dtype="int64")))
FEED = {"x": np.random.default_rng(0).random((2, 2, 6, 6), dtype=np.float32)}


def test_precisions_differ_as_they_should_and_dtypes_stay() -> None:
    results = {}
    for precision in ("fp64", "fp32", "bf16"):
        with opened(Net().eval(), NET, precision=precision) as session:
            results[precision] = session.run(FEED)["y"]
            assert session.attest().check("torch:cpu", precision) == []
        assert results[precision].dtype == np.float32
    rounding = np.abs(results["fp32"] - results["fp64"]).max()
    coarse = np.abs(results["bf16"] - results["fp64"]).max()
    assert rounding < 1e-6 < coarse < 5e-2


def test_the_callers_module_is_left_alone() -> None:
    net = Net()
    assert net.training
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with opened(net, NET, precision="bf16") as session:
        first = session.run(FEED)
        np.testing.assert_array_equal(first["y"], session.run(FEED)["y"])
    assert net.training
    for name, tensor in net.state_dict().items():
        assert tensor.dtype == before[name].dtype and torch.equal(tensor, before[name])


def test_float64_and_half_inputs_are_given_in_the_precision_and_returned_in_their_dtype() -> None:
    for dtype in ("float64", "float16", "bfloat16"):
        signature = Signature((spec("x", "batch", 3, dtype=dtype),), (spec("y", "batch", 3, dtype=dtype),))
        seen = []

        def look(x: torch.Tensor, seen: list[torch.dtype] = seen) -> torch.Tensor:
            seen.append(x.dtype)
            return x * 2

        with opened(look, signature) as session:
            given = X.astype(dtype)
            found = session.run({"x": given})["y"]
        assert seen == [torch.float32]
        assert found.dtype == given.dtype
        np.testing.assert_array_equal(found.astype(np.float32), 2 * X)


def test_threads_are_one_setting_per_process() -> None:
    default = torch.get_num_threads()
    with opened(lambda x: x, threads=1) as session:
        assert torch.get_num_threads() == 1
        for other in (2, None):
            with pytest.raises(EngineFailed, match="one thread count per process") as told:
                opened(lambda x: x, threads=other)
            assert told.value.remedy is not None and "child process" in told.value.remedy
        with opened(lambda x: x, threads=1):
            pass
        session.run({"x": X})
    assert torch.get_num_threads() == default
    opened(lambda x: x).close()


def test_a_failed_open_does_not_count_as_open() -> None:
    class Complex(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))
            self.v = torch.nn.Parameter(torch.zeros(2))

    with pytest.raises(EngineFailed, match="complex"):
        opened(Complex(), precision="bf16", threads=1)
    with opened(lambda x: x, threads=2 if torch.get_num_threads() == 1 else 1):
        pass


def test_open_needs_a_signature_and_says_how_to_give_one(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path / "source.json", "source", "0" * 64, module=lambda: Lambda(lambda x: x).eval())
    with pytest.raises(BadInput, match=r"signature .* unknown") as told:
        ENGINE.open(artifact, OpenOptions())
    assert "open_module" in (told.value.remedy or "")
    known = Artifact(
        artifact.path, "source", "0" * 64, built_for={"signature": json.dumps(ONE.to_json())}, module=artifact.module
    )
    with ENGINE.open(known, OpenOptions()) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], X)


def test_spans_hold_the_time_of_the_module_alone() -> None:
    spans: dict[str, float] = {}
    with opened(lambda x: x) as session:
        session.run({"x": X}, spans=spans)
    assert spans["compute"] > 0


def test_string_tensors_and_streams_are_refused() -> None:
    with pytest.raises(BadInput, match="string"):
        opened(lambda x: x, Signature((spec("x", "batch", dtype="string"),), ONE.outputs))
    with pytest.raises(BadInput, match="no streams"):
        opened(lambda x: x, streams=2)
    if not torch.cuda.is_available():
        with pytest.raises(NotAvailable, match="pip install"):
            opened(lambda x: x, device="cuda")


@pytest.mark.parametrize(
    ("module", "inputs"),
    [
        (torch.nn.Conv2d(2, 4, 3, groups=2), (2, 6, 6)),
        (torch.nn.ConvTranspose2d(2, 4, 3, stride=2), (2, 6, 6)),
        (torch.nn.Conv3d(1, 2, 3), (1, 5, 5, 5)),
        (torch.nn.Linear(6, 5), (4, 6)),
        (Lambda(lambda x: torch.einsum("bij,bkj->bik", x, x)), (4, 6)),
        (Lambda(lambda x: torch.nn.functional.scaled_dot_product_attention(x, x, x)), (2, 4, 6)),
    ],
    ids=["grouped", "transposed", "volume", "linear", "einsum", "attention"],
)
def test_attest_sees_every_kind_of_product(module: torch.nn.Module, inputs: tuple[int, ...]) -> None:
    out = module(torch.zeros(1, *inputs)).shape[1:]
    signature = Signature((spec("x", "batch", *inputs),), (spec("y", "batch", *out),))
    for precision in ("fp32", "bf16"):
        with opened(module.eval(), signature, precision=precision) as session:
            assert session.attest().shares == {("torch:cpu", precision): 1.0}


def test_attest_of_a_recurrent_layer_and_of_none() -> None:
    signature = Signature(
        (spec("x", "batch", 7, 5),),
        (spec("y", "batch", 7, 6), spec("h", 1, "batch", 6, axis=1), spec("c", 1, "batch", 6, axis=1)),
    )
    lstm = torch.nn.LSTM(5, 6, batch_first=True).eval()
    with opened(lstm, signature) as session:
        assert session.attest().share("torch:cpu", "fp32") == 1
    with opened(lambda x: x + 1) as session:
        attestation = session.attest()
        assert not attestation.shares
        assert "could not be attested" in attestation.check(None, "fp32")[0]


def test_attest_tells_a_part_that_computes_in_another_precision() -> None:
    """8 x 8 products in fp32 beside 8 x 8 in bf16: half each."""
    weight = torch.eye(3)

    def mixed(x: torch.Tensor) -> torch.Tensor:
        return x @ weight + (x.bfloat16() @ weight.bfloat16()).float()

    with opened(mixed) as session:
        attestation = session.attest()
    assert attestation.shares == {("torch:cpu", "fp32"): 0.5, ("torch:cpu", "bf16"): 0.5}
    assert "only 50%" in attestation.check(None, "fp32")[0]


def test_attest_counts_by_hand() -> None:
    """Conv 4*4*4 outputs x 18 + Linear 3*4, of which the linear layer runs in fp64."""

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(2, 4, 3)
            self.weight = torch.ones(3, 4, dtype=torch.float64)  # neither parameter nor buffer: not cast

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.linear(self.conv(x).mean((2, 3)).double(), self.weight).float()

    signature = Signature(NET.inputs, (spec("y", "batch", 3),))
    with opened(Two().eval(), signature) as session:
        found = session.attest().shares
    conv, linear = 4 * 4 * 4 * 18, 3 * 4
    assert found["torch:cpu", "fp32"] == pytest.approx(conv / (conv + linear))
    assert found["torch:cpu", "fp64"] == pytest.approx(linear / (conv + linear))


def test_inputs_that_have_no_place_are_passed_by_name() -> None:
    """An optional parameter left out, and one that is keyword-only."""

    class Sum(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor | None = None, *, c: torch.Tensor) -> torch.Tensor:
            return a - 2 * c if b is None else a + b

    signature = Signature((spec("a", "batch", 3), spec("c", "batch", 3)), (spec("y", "batch", 3),))
    feed = {"a": np.ones((2, 3), np.float32), "c": np.full((2, 3), 5, np.float32)}
    scripted = torch.jit.script(Sum())
    for module in (Sum().eval(), scripted.eval()):
        with ENGINE.open_module(module, signature, OpenOptions()) as session:
            np.testing.assert_array_equal(session.run(feed)["y"], np.full((2, 3), -9))


@pytest.mark.parametrize("kind", ["layer", "attention"])
def test_operators_that_hold_a_whole_layer_are_attested(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch runs these as one operator in evaluation; counted as the operators it is made of."""
    from assay.engines import torch_attest

    torch.manual_seed(0)
    if kind == "layer":
        module: torch.nn.Module = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
    else:
        attention = torch.nn.MultiheadAttention(32, 4, batch_first=True).eval()
        module = Lambda(lambda x: attention(x, x, x, need_weights=False)[0])
        module.attention = attention
        module.eval()
    signature = Signature((spec("x", "batch", 5, 32),), (spec("y", "batch", 5, 32),))
    counted = []
    real = torch_attest.shares
    monkeypatch.setattr(torch_attest, "shares", lambda ran: counted.append(sum(r[2] for r in ran)) or real(ran))
    for fast in (True, False):
        torch.backends.mha.set_fastpath_enabled(fast)
        try:
            with ENGINE.open_module(module, signature, OpenOptions()) as session:
                attestation = session.attest()
        finally:
            torch.backends.mha.set_fastpath_enabled(True)
        assert attestation.shares == {("torch:cpu", "fp32"): 1.0}
    assert counted[0] == counted[1] > 0
