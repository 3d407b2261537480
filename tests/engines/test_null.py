from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assay.core.engine import BuildOptions, OpenOptions
from assay.core.errors import BadInput
from assay.core.tensors import Signature, TensorSpec
from assay.engines.null import NullEngine, null_artifact

SIGNATURE = Signature(
    (TensorSpec("a", "float32", ("batch", 2)), TensorSpec("state", "int64", (3, "batch"), 1)),
    (
        TensorSpec("plain", "float32", ("batch", 2)),
        TensorSpec("second", "bfloat16", (4, "batch"), 1),
        TensorSpec("count", "int64", ("batch",)),
        TensorSpec("yes", "bool", ("batch",)),
        TensorSpec("text", "string", ("batch",)),
        TensorSpec("whole", "uint8", (2,), None),
    ),
)


def test_every_row_is_told_apart(tmp_path: Path) -> None:
    artifact = null_artifact(SIGNATURE, tmp_path / "n.json")
    with NullEngine().open(artifact, OpenOptions()) as session:
        assert session.signature == SIGNATURE
        feed = {
            "a": np.array([[1, 9], [2, 9]], np.float32),
            "state": np.array([[10, 20], [0, 0], [0, 0]], np.int64),
        }
        found = session.run(feed)
    marks = np.array([1 + 2 * 10, 2 + 2 * 20])  # 1*a[row, 0] + 2*state[0, row]
    np.testing.assert_array_equal(found["plain"], np.stack([marks, marks], 1))
    np.testing.assert_array_equal(found["second"].astype(float), np.tile(marks + 1, (4, 1)))
    assert found["second"].dtype.name == "bfloat16"
    np.testing.assert_array_equal(found["count"], marks + 2)
    np.testing.assert_array_equal(found["yes"], [True, True])
    assert list(found["text"]) == [b"25.0", b"46.0"]
    np.testing.assert_array_equal(found["whole"], [26, 26])


def test_build_fixes_the_batch(tmp_path: Path) -> None:
    artifact = null_artifact(SIGNATURE, tmp_path / "n.json")
    built = NullEngine().build(artifact, BuildOptions(batch=4), tmp_path / "out")
    assert built.parents == (artifact.sha256,)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["model.json"]
    with NullEngine().open(built, OpenOptions()) as session:
        assert session.signature.static_batch == 4


def test_what_it_cannot_do_is_said(tmp_path: Path) -> None:
    unknown = Signature((TensorSpec("a", "float32", (2,), None),), (TensorSpec("b", "float32", ("?",), None),))
    with (
        NullEngine().open(null_artifact(unknown, tmp_path / "n.json"), OpenOptions()) as session,
        pytest.raises(BadInput, match="cannot know the size"),
    ):
        session.run({"a": np.zeros(2, np.float32)})
    with pytest.raises(BadInput, match="no streams"):
        NullEngine().open(null_artifact(SIGNATURE, tmp_path / "n.json"), OpenOptions(streams=2))
