"""Which signatures can stand in a bundle's place."""

from __future__ import annotations

import pytest

from assay.core.tensors import Signature, TensorSpec
from assay.job.replay.other_file import differences


def spec(shape: tuple[int | str, ...], dtype: str = "float32", axis: int | None = 0) -> Signature:
    return Signature((TensorSpec("x", dtype, shape, axis),), (TensorSpec("y", "float32", ("batch", 3), 0),))


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (spec(("N", 8)), None),  # what a free dim is called does not matter
        (spec(("batch", 9)), "x:batchx9:float32 now"),
        (spec(("batch", 8, 1)), "x:batchx8x1:float32 now"),
        (spec(("batch", 8), "float16"), "x:batchx8:float16 now"),
        (spec((1, 8)), "x:1x8:float32 now"),
        (spec(("batch", "w")), "x:batchxw:float32 now"),
        (spec(("batch", 8), axis=None), "rows lie along axis 0 then, None now"),
    ],
)
def test_how_inputs_differ(now: Signature, said: str | None) -> None:
    found = differences(spec(("batch", 8)), now)
    assert found == [] if said is None else said in found[0]


@pytest.mark.parametrize(
    ("shape", "dtype", "fits"),
    [
        (("?", 3), "float32", True),
        ((), "float32", True),  # an exporter that knows no shape writes none
        (("batch", "?"), "float32", True),
        (("batch", 4), "float32", False),
        (("batch", 3, 1), "float32", False),
        (("batch", 3), "float64", False),
    ],
)
def test_how_outputs_differ(shape: tuple[int | str, ...], dtype: str, fits: bool) -> None:
    then = spec(("batch", 8))
    now = Signature(then.inputs, (TensorSpec("y", dtype, shape, None),))
    assert (differences(then, now) == []) == fits
