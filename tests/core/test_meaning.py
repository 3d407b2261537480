import math

import numpy as np
import pytest

from assay.core.compare import Accumulator, compare

RNG = np.random.default_rng(0)


def measures(r, c):
    return compare({"y": np.asarray(r)}, {"y": np.asarray(c)})["y"]


def test_psnr_of_an_image():
    r = np.linspace(0, 255, 3 * 8 * 8).reshape(1, 3, 8, 8)
    assert measures(r, r + 2.55).psnr_db == pytest.approx(40, abs=1e-6)
    assert measures(r, r).psnr_db == math.inf
    assert measures(r[:, :2], r[:, :2] + 1).psnr_db is None


def test_dice_of_masks():
    r = np.zeros((1, 2, 4, 4))
    r[0, 1, :2] = 1
    c = np.zeros((1, 2, 4, 4))
    c[0, 1, 1:3] = 1
    assert measures(r, c).dice == pytest.approx(0.5)
    assert measures(r, r).dice == 1.0
    one = r[:, 1:] * 2 - 1
    assert measures(one, c[:, 1:] * 2 - 1).dice == pytest.approx(0.5)
    volume = RNG.normal(size=(2, 3, 4, 4, 4))
    assert measures(volume, volume + 1e-9).dice == 1.0


def test_divergence_of_distributions_and_of_scores():
    p, q = np.array([[0.5, 0.5]]), np.array([[0.9, 0.1]])
    expected = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert measures(p, q).kl_mean == pytest.approx(expected)
    assert measures(np.log(p) + 3, np.log(q) - 1).kl_max == pytest.approx(expected)
    assert measures(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])).kl_max == math.inf


def test_top5_agreement():
    r = np.arange(10.0)[None]
    assert measures(r, r).top5_agreement == 1.0
    assert measures(r, -r).top5_agreement == 0.0
    assert measures(r[:, :5], r[:, :5]).top5_agreement is None


def test_the_worst_row_and_bad_rows_are_named_over_batches():
    found = Accumulator()
    rows = RNG.normal(size=(1000, 6))
    damaged = rows.copy()
    damaged[700] += 0.5
    for a, b in zip(np.split(rows, 10), np.split(damaged, 10), strict=True):
        found.add(a, b)
    m = found.measures()
    assert m.worst_row_index == 700
    assert m.worst_row == pytest.approx(0.5 / m.rms_reference)
    damaged[437, 2] = np.nan
    m = measures(rows, damaged)
    assert (m.bad_rows, m.nan_candidate, m.nan_reference, m.worst_row_index) == ((437,), 1, 0, 437)


def test_denormals_are_counted_in_the_outputs_own_format():
    tiny = np.array([1.0, 1e-40, 0.0], np.float32)
    m = measures(tiny, np.array([1.0, 0.0, 0.0], np.float32))
    assert (m.denormal_reference, m.denormal_candidate) == (1, 0)
    assert measures(np.array([1e-6], np.float16), np.array([1.0], np.float16)).denormal_reference == 1
    assert measures(np.array([1, 2]), np.array([1, 2])).denormal_candidate == 0


def test_a_candidate_that_leaves_the_range_of_probabilities_is_cut_as_its_reference():
    r = RNG.random((2, 1, 8, 8))
    r[0, 0, 0, 0] = 1.0
    c = r.copy()
    c[0, 0, 0, 0] = 1 + 1e-7
    assert measures(r, c).dice == 1.0
