import numpy as np
import pytest

from assay.core.errors import BadInput
from assay.core.sample import Sample, digest, stack
from assay.core.tensors import Signature, TensorSpec

SIGNATURE = Signature(
    (
        TensorSpec("x", "float32", ("batch", 2)),
        TensorSpec("h", "float32", (1, "batch", 3), batch_axis=1),
        TensorSpec("scale", "float32", (), batch_axis=None),
    ),
    (TensorSpec("y", "float32", ("batch", 2)),),
)


def sample(i, width=2):
    row = np.full(width, i, np.float32)
    state = np.full((1, 3), i, np.float32)
    return Sample(str(i), {"x": row, "h": state, "scale": np.float32(i).reshape(())}, i)


def test_stacks_along_each_inputs_own_axis():
    feed = stack([sample(1), sample(2)], SIGNATURE)
    assert feed["x"].tolist() == [[1, 1], [2, 2]]
    assert feed["h"].shape == (1, 2, 3)
    assert feed["h"][0, :, 0].tolist() == [1, 2]
    assert feed["scale"] == 1  # unbatched inputs come from the first
    assert all(a.flags.c_contiguous for a in feed.values())
    assert SIGNATURE.check_feed(feed) == {"batch": 2}


def test_refusals():
    with pytest.raises(BadInput, match="no samples"):
        stack([], SIGNATURE)
    with pytest.raises(BadInput, match="different shapes"):
        stack([sample(1), sample(2, width=3)], SIGNATURE)
    with pytest.raises(BadInput, match="no input 'x'; they have: z"):
        stack([Sample("1", {"z": np.zeros(2)})], SIGNATURE)


def test_digest_sees_ids_values_targets_and_order():
    a, b = sample(1), sample(2)
    base = digest([a, b])
    assert base == digest([sample(1), sample(2)])
    changed = Sample("1", {**a.inputs, "x": np.array([1, 1.5], np.float32)}, 1)
    others = [[b, a], [a], [changed, b], [Sample("9", a.inputs, 1), b], [Sample("1", a.inputs, 7), b]]
    assert len({base, *(digest(o) for o in others)}) == 6


def test_digest_sees_the_dtype():
    zeros = [digest([Sample("a", {"x": np.zeros(2, t)})]) for t in (np.float32, np.int32)]
    assert zeros[0] != zeros[1]


def test_digest_of_a_string_tensor_is_that_of_its_strings():
    def words(*texts):
        return Sample("a", {"x": np.array([bytes(bytearray(t)) for t in texts], dtype=object)})

    assert digest([words(b"one", b"two")]) == digest([words(b"one", b"two")])
    assert len({digest([words(*texts)]) for texts in ((b"one", b"two"), (b"onet", b"wo"), (b"two", b"one"))}) == 3


def test_digest_sees_all_of_a_target():
    class Tensor:  # as torch's: its repr leaves the middle out
        def __init__(self, values):
            self.values = values

        def __array__(self, dtype=None, copy=None):
            return self.values

        def __repr__(self):
            return "tensor([...])"

    one, other = np.zeros(5000), np.zeros(5000)
    other[2500] = 1
    for wrap in (lambda v: v, Tensor, lambda v: {"mask": v}, lambda v: ["name", Tensor(v)]):
        found = [digest([Sample("a", {}, wrap(v))]) for v in (one, other, one.copy())]
        assert found[0] == found[2] != found[1]
