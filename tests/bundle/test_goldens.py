import numpy as np
import pytest

from assay.bundle.goldens import Goldens, check_pairs, compare_goldens, limit_of
from assay.core.errors import BadInput, SignatureMismatch
from assay.core.tensors import Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("x", "float32", ("n", 2)),), (TensorSpec("y", "float32", ("n", 2)), TensorSpec("k", "int64", ("n",)))
)
FEED = {"x": np.ones((1, 2), np.float32)}
OUT = {"y": np.array([[3.0, 4.0]], np.float32), "k": np.array([1])}
GOLDENS = Goldens(((FEED, OUT), (FEED, OUT)), 1e-3, "a test")


def compared(second):
    return {c.output: c for c in compare_goldens(GOLDENS, [OUT, second])}


def test_the_same_bits():
    for check in compared(OUT).values():
        assert check.passed and check.bit_equal and check.text in ("bit-equal", "equal")


def test_noise_within_and_beyond_the_limit():
    near = {**OUT, "y": OUT["y"] * np.float32(1.0005)}
    assert compared(near)["y"].passed and not compared(near)["y"].bit_equal
    # one pair exact, one off by 1 %: √(0.01²/2) of the signal
    far = compared({**OUT, "y": OUT["y"] * np.float32(1.01)})["y"]
    assert not far.passed
    assert far.relative_rms == pytest.approx(0.01 / 2**0.5, rel=1e-3)
    assert "allowed 0.001" in far.text


@pytest.mark.parametrize(
    ("second", "output", "text"),
    [
        ({"k": OUT["k"]}, "y", "is missing for golden 1"),
        ({}, "k", "is missing for golden 1"),
        ({**OUT, "y": np.array([[np.nan, 4.0]], np.float32)}, "y", "holds NaN for golden 1"),
        ({**OUT, "y": np.array([[np.inf, 4.0]], np.float32)}, "y", "is infinite elsewhere than it was for golden 1"),
        ({**OUT, "y": OUT["y"].astype(np.float64)}, "y", "is float64[1, 2] for golden 1, it was float32[1, 2]"),
        ({**OUT, "y": OUT["y"][:, :1]}, "y", "is float32[1, 1] for golden 1, it was float32[1, 2]"),
        ({**OUT, "k": OUT["k"] + 1}, "k", "differs; it is not floating point"),
        ({**OUT, "z": OUT["y"]}, "z", "is an output that the bundle does not have"),
    ],
)
def test_what_fails(second, output, text):
    check = compared(second)[output]
    assert not check.passed and not check.bit_equal and check.text == text


def test_a_golden_that_was_not_run_fails():
    assert all("1 of 2 goldens" in c.text and not c.passed for c in compare_goldens(GOLDENS, [OUT]))


def test_infinities_in_their_place_are_equal():
    masked = {**OUT, "y": np.array([[-np.inf, 4.0]], np.float32)}
    goldens = Goldens(((FEED, masked),), 1e-3, "a test")
    (y, _) = compare_goldens(goldens, [{**masked, "y": np.array([[-np.inf, 4.0001]], np.float32)}])
    assert y.passed and not y.bit_equal
    (y, _) = compare_goldens(goldens, [{**masked, "y": np.array([[np.inf, 4.0]], np.float32)}])
    assert not y.passed


def test_all_zero_outputs_are_not_excused():
    zero = {**OUT, "y": np.zeros((1, 2), np.float32)}
    goldens = Goldens(((FEED, zero),), 1e-3, "a test")
    (y, _) = compare_goldens(goldens, [{**zero, "y": np.full((1, 2), 1e-30, np.float32)}])
    assert not y.passed


def test_an_error_beyond_all_measure_fails_without_a_crash():
    small = {"y": np.array([[1e-150]]), "k": OUT["k"]}
    (y, _) = compare_goldens(Goldens(((FEED, small),), 0.1, ""), [{**small, "y": np.array([[1e150]])}])
    assert not y.passed


@pytest.mark.parametrize(
    "pairs",
    [
        (),
        ((FEED, {}),),
        ((FEED, {"y": OUT["y"]}),),
        ((FEED, {**OUT, "y": np.zeros((0, 2), np.float32)}),),
        ((FEED, {**OUT, "y": np.array([[np.nan, 1]], np.float32)}),),
    ],
)
def test_goldens_that_prove_nothing_are_refused(pairs):
    with pytest.raises(BadInput):
        check_pairs(pairs, SIGNATURE)


def test_feeds_must_fit_the_signature():
    with pytest.raises(SignatureMismatch):
        check_pairs((({"x": np.ones((1, 3), np.float32)}, OUT),), SIGNATURE)
    check_pairs(((FEED, OUT),), SIGNATURE)


@pytest.mark.parametrize("limit", [None, -1, float("nan"), float("inf"), "1", True])
def test_a_tolerance_must_limit_something(limit):
    with pytest.raises(BadInput):
        limit_of({"max_relative_rms": limit})


@pytest.mark.parametrize("limit", [10**400, -1, "x", None, True, [], float("nan"), float("inf")])
def test_a_tolerance_is_a_finite_number(limit):
    with pytest.raises(BadInput, match="finite max_relative_rms"):
        limit_of({"max_relative_rms": limit})
