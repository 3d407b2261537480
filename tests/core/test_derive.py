"""The derivations: known figures, and no figure from nothing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core import derive
from assay.core.errors import BadInput

POSITIVE = st.floats(1e-6, 1e9)


@pytest.mark.parametrize(
    ("derived", "value", "unit", "measured"),
    [
        (derive.per_card(263.872, 4), 1055.488, "samples/s", False),
        (derive.from_queries(91.5943, 16), 1465.5088, "samples/s", True),
        (derive.from_mean_time(4.29297e-3, 1), 232.939, "samples/s", False),
        (derive.from_count(10000, 2.5), 4000, "samples/s", True),
        (derive.samples_done(185.966, 268.866), 49999.93, "samples", False),
        (derive.concurrency(4201.44, 2.37e-3), 9.9574, "requests", False),
        (derive.interface_excess(263.872, 185.966), 1.41893, "ratio", True),
        (derive.ratio(3907.39, 2858.056), 1.36715, "ratio", True),
    ],
)
def test_known_figures(derived, value, unit, measured):
    assert derived.value == pytest.approx(value, rel=1e-5)
    assert (derived.unit, derived.measured) == (unit, measured)


def test_a_derivation_shows_its_formula_and_inputs():
    card = derive.per_card(263.872, 4)
    assert card.to_json() == {
        "value": card.value,
        "unit": "samples/s",
        "formula": "rate of one die × dies per card",
        "inputs": {"rate": 263.872, "dies": 4.0},
        "measured": False,
    }
    assert card.shown() == "rate of one die × dies per card (rate 263.872, dies 4) = 1055.488 samples/s"


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("function", [derive.from_mean_time, derive.from_count, derive.ratio])
def test_nothing_is_derived_from_nothing(function, bad):
    with pytest.raises(BadInput):
        function(bad, 1)
    with pytest.raises(BadInput):
        function(1.0, bad)


def test_a_result_out_of_range_is_refused():
    with pytest.raises(BadInput, match="range"):
        derive.ratio(1e308, 1e-308)


@given(POSITIVE, POSITIVE)
def test_rate_and_duration_undo_each_other(samples, duration_s):
    rate = derive.from_count(samples, duration_s)
    assert derive.samples_done(rate.value, duration_s).value == pytest.approx(samples)
