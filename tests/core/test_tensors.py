import ml_dtypes
import numpy as np
import pytest

from assay.core.errors import SignatureMismatch
from assay.core.tensors import DTYPES, Signature, TensorSpec, dtype_name, is_dim_name, is_float

IMAGE = TensorSpec("x", "float32", ("batch", 3, "h", "w"))
SCORES = TensorSpec("y", "float32", ("batch", 10))
SIGNATURE = Signature((IMAGE,), (SCORES,))


def feed(shape=(2, 3, 8, 8), dtype=np.float32):
    return {"x": np.zeros(shape, dtype)}


@pytest.mark.parametrize("name", DTYPES)
def test_dtype_names_round_trip(name):
    assert dtype_name(np.empty(1, DTYPES[name])) == name


def test_dtypes_outside_the_list_are_refused():
    with pytest.raises(SignatureMismatch, match="complex64"):
        dtype_name(np.zeros(1, np.complex64))
    with pytest.raises(SignatureMismatch, match="float33"):
        TensorSpec("x", "float33", (1,))
    assert is_float("bfloat16")
    assert not is_float("int8")
    assert DTYPES["bfloat16"] == ml_dtypes.bfloat16


def test_batch_axis_must_exist():
    with pytest.raises(SignatureMismatch, match="batch axis 2"):
        TensorSpec("x", "float32", (1, 3), batch_axis=2)
    assert TensorSpec("x", "float32", (), batch_axis=None).batch is None


def test_static_and_free_batches():
    assert SIGNATURE.static_batch is None
    fixed = SIGNATURE.with_batch(4)
    assert fixed.static_batch == 4
    assert fixed.input("x").shape == (4, 3, "h", "w")
    assert fixed.free_dims() == ("h", "w")
    assert SIGNATURE.free_dims() == ("batch", "h", "w")
    assert IMAGE.row_shape() == (3, "h", "w")
    assert not IMAGE.is_static


def test_an_lstm_batches_along_axis_one():
    state = TensorSpec("h0", "float32", (2, "batch", 16), batch_axis=1)
    signature = Signature((state,), (SCORES,))
    assert signature.batch_of({"h0": np.zeros((2, 5, 16), np.float32)}) == 5
    assert state.with_batch(3).shape == (2, 3, 16)


def test_unbatched_outputs():
    signature = Signature((IMAGE,), (TensorSpec("mean", "float32", (), batch_axis=None),))
    assert not signature.is_batched
    assert SIGNATURE.is_batched


def test_check_feed_gives_the_free_sizes():
    assert SIGNATURE.check_feed(feed()) == {"batch": 2, "h": 8, "w": 8}
    assert SIGNATURE.batch_of(feed()) == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "inputs given: none; expected: x"),
        ({"z": np.zeros(1)}, "inputs given: z"),
        (feed(dtype=np.float64), "must be float32, found float64"),
        (feed((3, 8, 8)), "must have 4 dims"),
        (feed((2, 4, 8, 8)), "dim 1 must be 3"),
        ({"x": [[1.0]]}, "numpy array, not list"),
    ],
)
def test_check_feed_names_what_is_wrong(given, said):
    with pytest.raises(SignatureMismatch, match=said):
        SIGNATURE.check_feed(given)


def test_equal_names_mean_equal_sizes():
    signature = Signature((IMAGE, TensorSpec("mask", "bool", ("batch", "h"))), (SCORES,))
    with pytest.raises(SignatureMismatch, match="'mask' dim 1 must be 8"):
        signature.check_feed({**feed(), "mask": np.zeros((2, 7), bool)})


def test_json_round_trip():
    assert Signature.from_json(SIGNATURE.to_json()) == SIGNATURE
    assert str(SIGNATURE) == "x:batchx3xhxw:float32 -> y:batchx10:float32"


def test_unknown_tensor_names_are_listed():
    with pytest.raises(SignatureMismatch, match="no output 'z'; there are: y"):
        SIGNATURE.output("z")
    assert is_dim_name("max_len")
    assert not is_dim_name("2*h")
