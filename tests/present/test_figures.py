import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.record import Figure, withheld
from assay.present.figures import format_drop, format_figure


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Figure(0.0123, "s"), "12.3 ms"),
        (Figure(0.0123, "s", 0.0121, 0.0126, 0.95, 30), "12.3 ms (12.1–12.6)"),
        (Figure(1.5, "s"), "1.50 s"),
        (Figure(4.2e-5, "s"), "42.0 µs"),
        (Figure(5e-8, "s"), "50.0 ns"),
        (Figure(0.0, "s"), "0 s"),
        (Figure(12345.6, "samples/s", 12000.0, 12700.0), "12,346 samples/s (12,000–12,700)"),
        (Figure(0.98667, "fraction", 0.9712, 0.9941), "98.67 % (97.12–99.41)"),
        (Figure(3.21, "ratio"), "3.21×"),
        (Figure(5 * 2**20, "B"), "5.00 MiB"),
        (Figure(12, "bytes"), "12 B"),
        (Figure(31.4159, "dB"), "31.4 dB"),
        (Figure(2.5e-9, ""), "2.50e-09"),
        (None, "—"),
        (withheld("s", "too few samples for p99"), "— (too few samples for p99)"),
        (Figure(math.nan, "s"), "— (no value and no reason given)"),
    ],
)
def test_a_figure_is_written_with_its_unit(figure, text):
    assert format_figure(figure) == text


def test_the_ends_of_the_interval_use_the_unit_of_the_value():
    figure = Figure(0.00099, "s", 0.0005, 0.0015)
    assert format_figure(figure) == "990 µs (500–1,500)"


def test_an_interval_can_be_left_out():
    assert format_figure(Figure(0.5, "fraction", 0.4, 0.6), interval=False) == "50.00 %"


def test_a_drop_is_in_points():
    assert format_drop(Figure(0.003, "fraction", -0.001, 0.007)) == "0.30 points (-0.10–0.70)"


@given(st.floats(min_value=1e-12, max_value=1e6), st.sampled_from(["s", "B", "samples/s", "fraction", "ratio", "?"]))
def test_what_is_written_is_the_value(value, unit):
    """Reading the text back gives the value within the rounding of three digits (two decimals for per cent)."""
    text = format_figure(Figure(value, unit))
    number, _, written = text.replace("×", " ×").replace(",", "").partition(" ")
    factors = {"s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9, "%": 1e-2, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
    read = float(number) * factors.get(written, 1)
    slack = {"fraction": 0.5e-4, "B": 0.5}.get(unit, 0.0)
    assert math.isclose(read, value, rel_tol=0.006, abs_tol=slack + 1e-15)
