"""Tensors as arrays, whatever views torch makes of them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch

from assay.core.errors import BadInput
from assay.export.reference import to_array, to_tensor


def test_a_lazy_negation_is_carried_out() -> None:
    imaginary = torch.view_as_complex(torch.tensor([[1.0, 2.0]])).conj().imag
    assert imaginary.is_neg()
    np.testing.assert_array_equal(to_array(imaginary, "y"), [-2.0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "bool", "uint8"])
def test_there_and_back(dtype: str) -> None:
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    for array in (np.array([[1, 0], [1, 1]]).astype(kind), np.array(1).astype(kind)):
        found = to_array(to_tensor(array), "y")
        assert found.dtype == array.dtype and found.shape == array.shape
        np.testing.assert_array_equal(found, array)


def test_what_is_no_dense_real_tensor_is_refused() -> None:
    for tensor in (torch.eye(2).to_sparse(), torch.zeros(2, dtype=torch.complex64)):
        with pytest.raises(BadInput, match="only dense real tensors"):
            to_array(tensor, "y")
