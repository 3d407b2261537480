"""Windows over images and volumes larger (and smaller) than the model's input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from assay.core.errors import BadInput
from assay.core.tensors import Signature, TensorSpec
from assay.pipeline import Windows, sliding

RNG = np.random.default_rng(0)


def signature(*sizes: int, batch: Any = "batch") -> Signature:
    return Signature(
        (TensorSpec("x", "float32", (batch, 2, *sizes)),), (TensorSpec("y", "float32", (batch, 3, *sizes)),)
    )


def pointwise(feed: Any) -> Any:
    """A model in which a pixel depends on itself alone, so windows cannot be seen in the result."""
    x = feed["x"]
    return {"y": np.stack([x[:, 0], x[:, 1], x[:, 0] * x[:, 1]], axis=1)}


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize(
    ("window", "sizes"),
    [((8, 8), (8, 8)), ((8, 8), (21, 13)), ((8, 16), (5, 40)), ((4, 6, 5), (9, 6, 17)), ((4, 6, 5), (3, 2, 1))],
)
@pytest.mark.parametrize("batch", ["batch", 1, 4])
def test_a_pointwise_model_gives_the_same_as_without_windows(
    window: tuple[int, ...], sizes: tuple[int, ...], overlap: float, batch: Any
) -> None:
    seen = []

    def infer(feed: Any) -> Any:
        seen.append(feed["x"].shape)
        return pointwise(feed)

    run, free = sliding(infer, signature(*window, batch=batch), Windows(overlap))
    image = RNG.standard_normal((1, 2, *sizes)).astype(np.float32)
    found = run({"x": image})["y"]
    np.testing.assert_allclose(found, pointwise({"x": image})["y"], rtol=1e-5, atol=1e-6)
    assert found.dtype == np.float32
    assert {s[2:] for s in seen} == {window}
    assert {s[0] for s in seen} == {batch if isinstance(batch, int) else 1}
    assert all(isinstance(d, str) for d in free.inputs[0].row_shape()[1:])


def test_the_middle_of_a_window_counts_most() -> None:
    starts: list[float] = []

    def infer(feed: Any) -> Any:
        starts.append(float(feed["x"][0, 0, 0, 0]))
        return {"y": np.full((1, 3, 8, 8), len(starts), np.float32)}

    run, _ = sliding(infer, signature(8, 8, batch=1), Windows(0.5))
    image = np.tile(np.arange(12, dtype=np.float32), (2, 8, 1))[None]
    found = run({"x": image})["y"][0, 0, 0]
    assert starts == [0.0, 4.0]
    assert found[0] == 1
    assert found[11] == 2
    assert found[5] < found[6]
    np.testing.assert_allclose(found[5], (1 * 3 + 2 * 2) / 5)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (signature(), "fixed sizes"),
        (Signature((TensorSpec("x", "float32", ("b", 2, "h", 8)),), ()), "batch axis|fixed sizes"),
        (
            Signature((TensorSpec("x", "float32", ("b", 2, 8, 8)),), (TensorSpec("y", "float32", ("b", 3, 4, 4)),)),
            "of the input's sizes",
        ),
    ],
)
def test_models_without_windows(wrong: Signature, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        sliding(pointwise, wrong, Windows())


@pytest.mark.parametrize("overlap", [-0.1, 1.0])
def test_overlaps_that_cannot_be(overlap: float) -> None:
    with pytest.raises(BadInput, match="overlap"):
        Windows(overlap)
