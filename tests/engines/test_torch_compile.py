"""What is particular to the compiled PyTorch engine; the rest is in tests/conformance."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.core.artifact import file_artifact
from assay.core.engine import BuildOptions, OpenOptions
from assay.core.errors import BadInput, EngineFailed, NotAvailable
from assay.core.tensors import Signature, TensorSpec
from assay.engines.torch import TorchEngine
from assay.engines.torch_compile import TorchCompileEngine

ENGINE = TorchCompileEngine()
SIGNATURE = Signature((TensorSpec("x", "float32", ("batch", 4)),), (TensorSpec("y", "float32", ("batch", 3)),))
needs_compiler = pytest.mark.skipif(ENGINE.unavailable() is not None, reason=str(ENGINE.unavailable()))


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    why = ENGINE.unavailable() or ""
    assert "C++ compiler" in why and "apt install g++" in why
    with pytest.raises(NotAvailable, match=r"C\+\+ compiler"):
        ENGINE.open_module(torch.nn.Linear(4, 3), SIGNATURE, OpenOptions())


def test_missing_headers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sysconfig

    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": "/nowhere"})
    assert ENGINE.unavailable() is None or "python3-dev" in (ENGINE.unavailable() or "")


def test_precisions_of_gpus_are_refused_on_the_cpu() -> None:
    for precision in ("fp16", "tf32"):
        for engine in (ENGINE, TorchEngine()):
            assert "GPUs" in (engine.unavailable("cpu", precision) or "")


@needs_compiler
def test_a_graph_break_is_an_error_that_names_its_place() -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch._dynamo.graph_break()
            return x[:, :3]

    with pytest.raises(EngineFailed, match="does not take this model whole") as told:
        ENGINE.open_module(Broken().eval(), SIGNATURE, OpenOptions())
    assert "test_torch_compile.py" in told.value.message


@needs_compiler
def test_a_package_opens_from_its_file_alone(tmp_path: Path) -> None:
    import json

    torch.manual_seed(0)
    module = torch.nn.Linear(4, 3).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(module, (torch.zeros(2, 4),), dynamic_shapes=({0: batch},))
    path = tmp_path / "program.pt2"
    torch.export.save(program, str(path))
    signature = {"signature": json.dumps(SIGNATURE.to_json())}
    made = ENGINE.build(file_artifact(path, "exported", built_for=signature), BuildOptions(), tmp_path / "out")
    assert made.format == "aoti" and made.runs_code and made.module is None
    x = np.random.default_rng(0).random((5, 4), dtype=np.float32)
    with ENGINE.open(made, OpenOptions()) as session:
        expected = module(torch.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(session.run({"x": x})["y"], expected, rtol=1e-5)
        assert session.attest().share("inductor:cpu", "fp32") == 1
    with pytest.raises(BadInput, match="compiled in fp32"):
        ENGINE.open(made, OpenOptions(precision="bf16"))
    with pytest.raises(NotAvailable, match="buckets"):
        ENGINE.open(made, OpenOptions(buckets=(1, 2)))
    for name, other in (("torch", "1.0"), ("device", "cuda")):
        with pytest.raises(NotAvailable, match=f"compiled for {name} {other}; here it is") as told:
            ENGINE.open(replace(made, built_for={**made.built_for, name: other}), OpenOptions())
        assert "assay build" in (told.value.remedy or "")
    elsewhere = replace(made, built_for=signature)
    with ENGINE.open(elsewhere, OpenOptions()) as session:
        attestation = session.attest()
        assert not attestation.shares and "package from elsewhere does not tell" in attestation.check(None, "fp32")[0]
    with pytest.raises(BadInput, match="signature"):
        ENGINE.open(replace(made, built_for={}), OpenOptions())


def test_channels_last_changes_nothing_but_the_layout() -> None:
    torch.manual_seed(0)
    module = torch.nn.Conv2d(3, 4, 3).eval()
    signature = Signature(
        (TensorSpec("x", "float32", ("batch", 3, 8, 8)),), (TensorSpec("y", "float32", ("batch", 4, 6, 6)),)
    )
    x = {"x": np.random.default_rng(0).random((2, 3, 8, 8), dtype=np.float32)}
    engine = TorchEngine()
    with engine.open_module(module, signature, OpenOptions()) as session:
        expected = session.run(x)["y"]
    options = OpenOptions(provider_options=(("memory_format", "channels_last"),))
    with engine.open_module(module, signature, options) as session:
        found = session.run(x)["y"]
        assert found.flags.c_contiguous
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert module.weight.is_contiguous()  # the caller's module is as it was
    for wrong in (("memory_format", "sideways"), ("memory", "channels_last")):
        with pytest.raises(BadInput, match="memory"):
            engine.open_module(module, signature, OpenOptions(provider_options=(wrong,)))


@needs_compiler
def test_buckets_of_a_model_that_cannot_be_cut_into_rows_are_refused() -> None:
    whole = Signature(SIGNATURE.inputs, (TensorSpec("y", "float32", (3,), None),))

    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :3].mean(0)

    with pytest.raises(NotAvailable, match="'y' has no batch axis"):
        ENGINE.open_module(Mean().eval(), whole, OpenOptions(buckets=(1, 2)))
    with pytest.raises(BadInput, match="batch size 3"):
        ENGINE.open_module(torch.nn.Linear(4, 3), SIGNATURE.with_batch(3), OpenOptions(buckets=(1, 2)))


@needs_compiler
def test_more_batch_sizes_and_sessions_than_torch_compiles_by_default() -> None:
    limit = torch._dynamo.config.recompile_limit
    sizes = tuple(range(1, limit + 3))
    x = np.random.default_rng(0).random((sizes[-1], 4), dtype=np.float32)
    with ExitStack() as held:
        for buckets in (sizes, *[()] * limit):
            module = Doubled().eval()
            session = held.enter_context(ENGINE.open_module(module, SIGNATURE, OpenOptions(buckets=buckets)))
            expected = module(torch.from_numpy(x)).detach().numpy()
            np.testing.assert_allclose(session.run({"x": x})["y"], expected, rtol=1e-5, atol=1e-6)
    assert torch._dynamo.config.recompile_limit == limit  # the caller's own


class Doubled(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.head(x)
