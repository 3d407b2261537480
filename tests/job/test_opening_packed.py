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
from assay.job.opening import open_bundle, with_signature


def test_a_torchscript_bundle_is_opened_where_its_code_is_trusted(tmp_path: Path) -> None:
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
    files = sorted(p.relative_to(folder) for p in folder.rglob("*"))
    with pytest.raises(UntrustedCode):
        open_bundle(folder)
    with open_bundle(folder, trust=True) as session:
        np.testing.assert_allclose(session.run(feed)["y"], expected["y"], rtol=1e-5)
    assert sorted(p.relative_to(folder) for p in folder.rglob("*")) == files
