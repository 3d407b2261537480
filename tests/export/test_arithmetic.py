import numpy as np
import pytest
import torch
from torch import nn

from assay.core.compare import compare
from assay.core.errors import EngineFailed
from assay.core.tensors import Signature, TensorSpec
from assay.export.arithmetic import FORMATS, ModuleArithmetic
from assay.export.intermediates import ModuleTensors

SIGNATURE = Signature((TensorSpec("x", "float32", ("n", 3, 12, 12)),), (TensorSpec("y", "float32", ("n", 7)),))
FEED = {"x": np.random.default_rng(0).normal(size=(4, 3, 12, 12)).astype(np.float32)}


class Net(nn.Module):
    """Convolution, grouped convolution, attention, linear: every kind of product."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, groups=16)
        self.qkv, self.last = nn.Linear(16, 48), nn.Linear(16, 7)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = self.second(torch.relu(self.first(x))).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(x).chunk(3, -1)
        x = torch.nn.functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return self.drop(self.last(x.mean(1)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def test_exact_is_float64_and_the_module_stays_as_it_is(net):
    arithmetic = ModuleArithmetic(net, SIGNATURE)
    exact = arithmetic.exact(FEED)["y"]
    assert exact.dtype == np.float64
    assert net.training
    assert net.first.weight.dtype == torch.float32
    with torch.no_grad():
        single = net.eval()(torch.from_numpy(FEED["x"])).numpy()
        double = net.double()(torch.from_numpy(FEED["x"]).double()).numpy()
    assert np.array_equal(exact, double)
    assert 0 < compare({"y": exact}, {"y": single})["y"].relative_rms < 1e-6
    arithmetic.release()
    assert np.array_equal(arithmetic.exact(FEED)["y"], exact)


@pytest.mark.parametrize(
    ("precision", "low", "high"),
    [("fp32", 1e-9, 1e-6), ("tf32", 5e-5, 2e-3), ("fp16", 5e-5, 2e-3), ("bf16", 5e-4, 2e-2), ("int8", 1e-3, 1e-1)],
)
def test_rounding_costs_what_the_format_must(net, precision, low, high):
    arithmetic = ModuleArithmetic(net, SIGNATURE)
    exact = arithmetic.exact(FEED)
    error = compare(exact, arithmetic.rounded(FEED, precision, 0))["y"].relative_rms
    assert low < error < high


def test_the_emulated_cost_is_that_of_the_real_format(net):
    arithmetic = ModuleArithmetic(net, SIGNATURE)
    exact = arithmetic.exact(FEED)
    emulated = compare(exact, arithmetic.rounded(FEED, "bf16", 0))["y"].relative_rms
    with torch.no_grad():
        real = net.eval().bfloat16()(torch.from_numpy(FEED["x"]).bfloat16()).float().numpy()
    assert 0.4 < emulated / compare(exact, {"y": real})["y"].relative_rms < 2.5


@pytest.mark.parametrize("precision", FORMATS)
def test_one_seed_gives_one_result(net, precision):
    arithmetic = ModuleArithmetic(net, SIGNATURE)
    first, again = (arithmetic.rounded(FEED, precision, 5)["y"] for _ in range(2))
    assert np.array_equal(first, again)


def test_a_module_that_cannot_is_an_error_in_words():
    class Stubborn(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :7] @ torch.eye(7, dtype=torch.float32)

    with pytest.raises(EngineFailed, match="float64"):
        ModuleArithmetic(Stubborn(), SIGNATURE).exact(FEED)
    with pytest.raises(EngineFailed, match="2 outputs"):
        twice = nn.Module()
        twice.forward = lambda x: (x, x)
        ModuleArithmetic(twice, SIGNATURE).exact(FEED)


class Skips(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor | None = None, c: torch.Tensor | None = None) -> torch.Tensor:
        return a + b if b is not None else a - 2 * c


def test_inputs_without_a_place_reach_their_parameters() -> None:
    signature = Signature(
        (TensorSpec("a", "float32", ("batch", 3)), TensorSpec("c", "float32", ("batch", 3))),
        (TensorSpec("y", "float32", ("batch", 3)),),
    )
    feed = {"a": np.ones((2, 3), np.float32), "c": np.full((2, 3), 5, np.float32)}
    arithmetic = ModuleArithmetic(Skips(), signature)
    for found in (arithmetic.exact(feed), arithmetic.rounded(feed, "fp32", 0)):
        np.testing.assert_array_equal(found["y"], np.full((2, 3), -9))
    inner = ModuleTensors(Skips().eval(), signature, feed)
    np.testing.assert_array_equal(inner.run(feed)["y"], np.full((2, 3), -9))
    assert any((array == -9).all() for array in inner.values(feed, inner.names).values())
