import io
import json
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.bundle.npz import read_npz, write_npz
from assay.core.errors import BadInput, SignatureMismatch
from assay.core.tensors import DTYPES

NUMERIC = [d for name, d in DTYPES.items() if name not in ("string", "bfloat16")]


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@given(hnp.arrays(st.sampled_from(NUMERIC), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)))
def test_numbers_come_back_bit_for_bit(array):
    with_memory = io.BytesIO()
    described = write_npz(with_memory, {"x": array})
    with_memory.seek(0)
    assert same(read_npz(with_memory, json.loads(json.dumps(described)))["x"], array)


def test_bfloat16_and_strings_come_back(tmp_path):
    arrays = {
        "a/b:0": np.array([[1.5, -2.0], [np.inf, 3e38]], ml_dtypes.bfloat16),
        "words": np.array([[b"", b"ab\0"], [b"\xff", b"c"]], object),
        "no words": np.empty((0, 2), object),
    }
    described = write_npz(tmp_path / "x.npz", arrays)
    found = read_npz(tmp_path / "x.npz", described)
    assert same(found["a/b:0"], arrays["a/b:0"])
    assert found["words"].dtype == object and (found["words"] == arrays["words"]).all()
    assert found["no words"].shape == (0, 2)


def test_equal_arrays_give_equal_files_that_numpy_reads(tmp_path):
    arrays = {"x": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))}
    for name in ("one.npz", "two.npz"):
        write_npz(tmp_path / name, arrays)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with np.load(tmp_path / "one.npz", allow_pickle=False) as loaded:
        assert (loaded["a0"] == arrays["x"]).all()


def test_a_dtype_outside_the_list_is_refused(tmp_path):
    with pytest.raises(SignatureMismatch):
        write_npz(tmp_path / "x.npz", {"x": np.zeros(2, np.complex64)})


def archive(path, content, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as made:
        made.writestr("a0.npy", content)
    return path


def npy(array, **more):
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=(1, 0), **more)
    return out.getvalue()


class Evil:
    def __reduce__(self):
        return (print, ("this was run",))


ITEM = [{"name": "x", "key": "a0", "dtype": "float32", "shape": [2]}]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an array",
        npy(np.zeros(2, np.float64)),
        npy(np.zeros(3, np.float32)),
        npy(np.zeros(2, np.float32))[:-1],
        npy(np.zeros(2, np.float32)) + b"more",
        npy(np.zeros(2, np.float32)).replace(b"(2,)", b"(2000000000000,)").replace(b"          \n", b"\n"),
        npy(np.array([Evil(), Evil()], object), allow_pickle=True),
        pickle.dumps(Evil()),
    ],
)
def test_broken_and_hostile_members_are_bad_input(tmp_path, content, capsys):
    with pytest.raises(BadInput):
        read_npz(archive(tmp_path / "x.npz", content), ITEM)
    assert "this was run" not in capsys.readouterr().out


def test_compressed_members_are_refused(tmp_path):
    path = archive(tmp_path / "x.npz", npy(np.zeros(2, np.float32)), zipfile.ZIP_DEFLATED)
    with pytest.raises(BadInput, match="compressed"):
        read_npz(path, ITEM)


@pytest.mark.parametrize(
    "described",
    [
        [{}],
        [3],
        [{**ITEM[0], "key": "a1"}],
        [{**ITEM[0], "dtype": "object"}],
        [{**ITEM[0], "dtype": "string"}],
        [{**ITEM[0], "shape": [-2]}],
        [{**ITEM[0], "shape": "2"}, 4],
        ITEM * 2,
    ],
)
def test_a_description_that_does_not_fit_is_bad_input(tmp_path, described):
    path = archive(tmp_path / "x.npz", npy(np.zeros(2, np.float32)))
    assert read_npz(path, ITEM)["x"].shape == (2,)
    with pytest.raises(BadInput):
        read_npz(path, described)


def test_no_archive_is_bad_input(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"nothing")
    for name in ("x.npz", "gone.npz"):
        with pytest.raises(BadInput):
            read_npz(tmp_path / name, ITEM)
