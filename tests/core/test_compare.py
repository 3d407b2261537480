import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.core.compare import Accumulator, compare

ARRAYS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(-1e3, 1e3, width=32)
)


def measures(r, c):
    return compare({"y": np.asarray(r)}, {"y": np.asarray(c)})["y"]


def test_known_values():
    m = measures([[1.0, 2.0, 2.0]], [[1.0, 2.0, 2.3]])
    assert m.n == 3
    assert m.max_abs == pytest.approx(0.3)
    assert m.mean_abs == pytest.approx(0.1)
    assert m.max_rel == pytest.approx(0.15)
    assert m.snr_db == pytest.approx(10 * math.log10(9 / 0.09))
    assert m.relative_rms == pytest.approx(0.1)
    assert m.rms_reference == pytest.approx(math.sqrt(3))
    assert m.cosine == pytest.approx((1 + 4 + 4.6) / (3 * math.sqrt(1 + 4 + 5.29)))


@given(ARRAYS)
def test_equal_arrays(array):
    m = measures(array, array.copy())
    assert (m.max_abs, m.relative_rms, m.snr_db) == (0.0, 0.0, math.inf)
    assert m.cosine == pytest.approx(1.0)
    assert m.top1_agreement in (None, 1.0)
    assert m.to_json()["snr_db"] is None


@given(ARRAYS, st.integers(1, 5))
def test_batches_add_up_to_the_whole(array, cut):
    other = array + np.float32(0.5)
    parts = Accumulator()
    for a, b in zip(np.array_split(array, cut), np.array_split(other, cut), strict=True):
        parts.add(a, b)
    split, whole = parts.measures(), measures(array, other)
    assert split.n == whole.n
    assert split.rows == whole.rows
    assert split.max_abs == whole.max_abs
    assert split.relative_rms == pytest.approx(whole.relative_rms, rel=1e-9)
    assert split.cosine == pytest.approx(whole.cosine, abs=1e-12)


def test_bad_values_are_counted_and_do_not_hide_the_rest():
    m = measures([[1.0, np.nan, 3.0, 4.0]], [[1.0, 2.0, np.inf, 5.0]])
    assert (m.bad_reference, m.bad_candidate, m.n) == (1, 1, 2)
    assert m.max_abs == 1.0


def test_nothing_finite_at_all():
    m = measures([[np.nan]], [[1.0]])
    assert m.n == 0


def test_zero_references():
    assert measures([[0.0, 0.0]], [[0.0, 0.0]]).cosine == 1.0
    m = measures([[0.0, 0.0]], [[1.0, 0.0]])
    assert m.snr_db == -math.inf
    assert m.relative_rms == math.inf
    assert m.cosine == 0.0
    assert m.max_rel == m.mean_rel == math.inf
    assert m.to_json()["max_rel"] is None


def test_top1_only_for_rows_of_scores():
    agree = measures([[1.0, 2.0], [3.0, 1.0]], [[1.0, 2.5], [1.0, 3.0]])
    assert (agree.top1_agreement, agree.rows) == (0.5, 2)
    assert measures([[[1.0, 2.0]]], [[[1.0, 2.0]]]).top1_agreement is None


def test_half_precisions_are_compared_in_float64():
    r = np.array([[1.0, 2.0]], ml_dtypes.bfloat16)
    c = np.array([[1.0, 2.015625]], ml_dtypes.bfloat16)
    assert measures(r, c).max_abs == 0.015625
    big = np.array([[60000.0]], np.float16)
    assert measures(big, big).rms_reference == pytest.approx(60000, rel=1e-3)  # its square overflows float16


def test_names_and_shapes_must_agree():
    with pytest.raises(ValueError, match="outputs differ"):
        compare({"a": np.zeros(1)}, {"b": np.zeros(1)})
    with pytest.raises(ValueError, match="shapes differ"):
        measures([1.0], [1.0, 2.0])


@pytest.mark.parametrize(("reference", "candidate"), [([1e-155], [1e155]), ([1e-165, 0.0], [1e-165, 1e154])])
def test_errors_beyond_all_measure_are_infinite(reference, candidate):
    m = measures(np.array(reference), np.array(candidate))
    assert (m.relative_rms, m.bad_candidate) == (math.inf, 0)


def test_a_value_whose_square_is_no_number_hides_no_error():
    """Such as the smallest float64, with which what is masked is filled."""
    lowest = np.finfo(np.float64).min
    m = measures(np.array([[1.0, lowest]]), np.array([[2.0, lowest / 2]]))
    assert m.max_rel == 0.5
    assert m.relative_rms > 0


@pytest.mark.parametrize(
    ("dtype", "reference", "candidate", "error"),
    [
        (np.int64, 2**53, 2**53 + 1, 1),
        (np.int64, -(2**53) - 1, -(2**53), 1),
        (np.int64, -(2**63), 2**63 - 1, 2**64 - 1),
        (np.uint64, 2**64 - 1, 2**64 - 3, 2),
        (np.uint64, 0, 2**64 - 1, 2**64 - 1),
        (np.int32, -(2**31), 2**31 - 1, 2**32 - 1),
    ],
)
def test_integers_are_told_apart_beyond_what_a_float_holds(dtype, reference, candidate, error):
    m = measures(np.array([[reference, 7]], dtype), np.array([[candidate, 7]], dtype))
    assert (m.max_abs, m.equal, m.n) == (float(error), 1, 2)
    assert m.worst_row > 0
    assert measures(np.array(reference, dtype), np.array(candidate, dtype)).max_abs == float(error)
