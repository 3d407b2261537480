"""``import assay`` as a library: any module, any iterable, any metric."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import assay
from assay.core.errors import BadInput


class Tokens(torch.nn.Module):
    """Neither timm nor images: two inputs of different dtypes, two named outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(50, 16)
        self.hidden = torch.nn.Linear(20, 8)
        self.score = torch.nn.Linear(8, 1)

    def forward(self, tokens: torch.Tensor, features: torch.Tensor) -> dict[str, torch.Tensor]:
        mean = self.embedding(tokens).mean(1)
        hidden = torch.relu(self.hidden(torch.cat([mean, features], 1)))
        return {"score": self.score(hidden), "hidden": hidden}


@pytest.fixture(scope="module")
def net() -> Tokens:
    torch.manual_seed(0)
    return Tokens().eval()


@pytest.fixture(scope="module")
def example() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randint(0, 50, (2, 7)), torch.randn(2, 4)


def rows(count: int) -> list[tuple[dict[str, np.ndarray], np.float32]]:
    draw = np.random.default_rng(0)
    return [
        (
            {"tokens": draw.integers(0, 50, 7), "features": draw.standard_normal(4, np.float32)},
            np.float32(draw.standard_normal()),
        )
        for _ in range(count)
    ]


def squared(outputs: dict[str, np.ndarray], target: np.ndarray) -> float:
    return float(np.mean((outputs["score"] - target) ** 2))


def test_run_on_objects(net: Tokens, example: tuple[torch.Tensor, ...], tmp_path: Path) -> None:
    run = assay.run(
        net, example=example, data=rows(24), metric=squared, out=tmp_path / "r", quick=True,
        engines=["torch", "onnxruntime"], precisions=["fp32"], batches=[1, 4],
    )  # fmt: skip
    assert run.verdict.passed, run.verdict.reasons
    assert run.best is not None
    assert run.best.throughput is not None
    assert run.best.throughput.value
    judged = [r.text for r in run.verdict.reasons if r.limit == "accuracy.drop"]
    assert judged and judged[0].startswith("change of the metric"), "nobody said which way it is good"
    report = (run.folder / "report.md").read_text()
    assert "| change " in report and "right from wrong" not in report
    assert {r.subject["engine"] for r in run.records if r.kind == "evaluate"} == {"torch", "onnxruntime"}
    again = assay.run(
        net, example=example, data=rows(24), metric=squared, out=tmp_path / "r", quick=True,
        engines=["torch", "onnxruntime"], precisions=["fp32"], batches=[1, 4],
    )  # fmt: skip
    assert [r.id for r in again.records] == [r.id for r in run.records], "nothing was measured again"
    if run.bundle is not None and run.best.engine == "onnxruntime":
        with assay.open(run.bundle) as session:
            out = session.run({"tokens": np.zeros((3, 7), np.int64), "features": np.zeros((3, 4), np.float32)})
        assert out["score"].shape == (3, 1)
        with assay.open(run.folder) as session:  # stands for the bundle in it
            assert "score" in session.signature.output_names


def test_a_changed_weight_is_another_model(net: Tokens, example: tuple[torch.Tensor, ...], tmp_path: Path) -> None:
    settings = {"quick": True, "engines": ["onnxruntime"], "precisions": ["fp32"], "batches": [1]}
    first = assay.run(net, example=example, out=tmp_path / "r", **settings)
    changed = Tokens().eval()
    changed.load_state_dict(net.state_dict())
    with torch.no_grad():
        changed.score.bias += 1
    second = assay.run(changed, example=example, out=tmp_path / "r", **settings)
    assert not {r.id for r in first.records} & {r.id for r in second.records}


def test_export_and_open(net: Tokens, example: tuple[torch.Tensor, ...], tmp_path: Path) -> None:
    made = assay.export_onnx(net, tmp_path / "m.onnx", example=example, output_names=("OUTPUT__0", "OUTPUT__1"))
    assert made.signature.input_names == ("tokens", "features")
    feed = {"tokens": example[0].numpy(), "features": example[1].numpy()}
    with assay.open(tmp_path / "m.onnx") as session:
        found = session.run(feed)
    with torch.no_grad():
        expected = net(*example)["score"].numpy()
    np.testing.assert_allclose(found["OUTPUT__0"], expected, rtol=1e-5, atol=1e-6)


def test_mistakes(net: Tokens) -> None:
    with pytest.raises(BadInput, match="example"):
        assay.run(net)
    with pytest.raises(BadInput, match="enginse"):
        assay.run(net, example=torch.zeros(1), enginse=["torch"])
    with pytest.raises(AttributeError, match="nothing_here"):
        assay.nothing_here  # noqa: B018


def test_every_public_name_resolves_also_after_its_modules_are_imported() -> None:
    code = (
        "import assay, assay.api, assay.engines, assay.sources, assay.export\n"
        "assert all(getattr(assay, n) is not None for n in assay.__all__)\n"
        "assert all(callable(getattr(assay, n)) for n in assay.__all__ if n != '__version__')\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_registered_names_are_models() -> None:
    @assay.register_model
    def api_test_net(**kwargs: object) -> torch.nn.Module:
        return torch.nn.Linear(3, 2)

    assert assay.list_models("api_test_*") == ["api_test_net"]
    assert isinstance(assay.create_model("api_test_net"), torch.nn.Linear)
