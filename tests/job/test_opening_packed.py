"""A bundle of TorchScript keeps the file, not how to load it: opening it says so again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from assay.bundle.contents import BundleContents
from assay.bundle.pack import pack
from assay.core.artifact import file_artifact
from assay.core.engine import Candidate, OpenOptions
from assay.core.errors import UntrustedCode
from assay.core.tensors import Signature, TensorSpec
from assay.job.opening import with_signature
from assay.job.packed import open_bundle


def packed(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The bundle with a feed and what it gives."""
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 2).eval()
    torch.jit.script(module).save(str(tmp_path / "net.pt"))
    ends = [TensorSpec(name, "float32", ("batch", size), 0) for name, size in (("x", 3), ("y", 2))]
    signature = Signature((ends[0],), (ends[1],))
    artifact = with_signature(file_artifact(tmp_path / "net.pt", "torchscript"), signature)
    feed = {"x": np.ones((1, 3), np.float32)}
    with torch.no_grad():
        expected = {"y": module(torch.ones(1, 3)).numpy()}
    candidate = Candidate(artifact, "torch", torch.__version__, OpenOptions(), "a processor")
    tolerance = {"max_relative_rms": 1e-5, "source": "fp32"}
    folder = pack(BundleContents("net", candidate, signature, ((feed, expected),), tolerance), tmp_path / "bundle")
    return folder, feed, expected


def test_a_torchscript_bundle_is_opened_where_its_code_is_trusted(tmp_path: Path) -> None:
    folder, feed, expected = packed(tmp_path)
    files = sorted(p.relative_to(folder) for p in folder.rglob("*"))
    with pytest.raises(UntrustedCode):
        open_bundle(folder)
    with open_bundle(folder, trust=True) as session:
        np.testing.assert_allclose(session.run(feed)["y"], expected["y"], rtol=1e-5)
    assert sorted(p.relative_to(folder) for p in folder.rglob("*")) == files


def test_a_torchscript_bundle_is_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    from assay.job.bench.one import Bench, bench_one
    from assay.job.progress import Silent
    from assay.sources import SourceOptions

    folder = packed(tmp_path)[0]
    source = SourceOptions(out_dir=tmp_path / "work", trust=True)
    (found,) = bench_one(Bench(str(folder), batches=(2,), duration_s=0.05), source, Silent())
    assert found.status == "ok", found.reason
    (found,) = bench_one(Bench(str(folder), batches=(2,), noise_floor=True), source, Silent())
    assert found.status == "ok", found.reason
