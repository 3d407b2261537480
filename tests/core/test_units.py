import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.units import (
    format_bytes,
    format_percent,
    format_rate,
    format_seconds,
    parse_bytes,
    parse_seconds,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("15ms", 0.015), ("2m", 120.0), ("1.5", 1.5), ("3 us", 3e-6), ("3µs", 3e-6), ("1h", 3600.0), ("1e-3 s", 1e-3)],
)
def test_parse_seconds(text, seconds):
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "fast", "15 parsecs", "-3s", "1.2.3s", "nan", "inf", "1e308h"])
def test_parse_seconds_refuses(text):
    with pytest.raises(ValueError, match="unit"):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("text", "size"), [("1GiB", 2**30), ("500MB", 500_000_000), ("4096", 4096), ("1 kib", 1024), ("0.5KiB", 512)]
)
def test_parse_bytes(text, size):
    assert parse_bytes(text) == size


def test_parse_bytes_names_the_units_it_knows():
    with pytest.raises(ValueError, match="GiB"):
        parse_bytes("3 bananas")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 ns"),
        (2.5e-9, "2.5 ns"),
        (12e-6, "12 µs"),
        (0.0123, "12.3 ms"),
        (1.5, "1.5 s"),
        (179.7, "3 min 0 s"),
        (125.0, "2 min 5 s"),
        (-0.0123, "-12.3 ms"),
        (0.9999, "1 s"),
        (9.996e-4, "1 ms"),
        (9.999e-7, "1 µs"),
        (119.4, "119 s"),
        (math.inf, "inf s"),
        (math.nan, "nan s"),
    ],
)
def test_format_seconds(value, text):
    assert format_seconds(value) == text


@given(st.floats(1e-9, 100))
def test_seconds_survive_formatting_to_three_digits(value):
    assert parse_seconds(format_seconds(value)) == pytest.approx(value, rel=6e-3)


@pytest.mark.parametrize(
    ("size", "text"),
    [(999.6, "1000 B"), (1023, "1023 B"), (1024 * 1023.8, "1 MiB"), (1000 * 2**20, "1000 MiB"), (2**51, "2048 TiB")],
)
def test_sizes_have_no_exponents(size, text):
    assert format_bytes(size) == text


def test_a_size_larger_than_any_number_is_refused():
    with pytest.raises(ValueError, match="1e308TB"):
        parse_bytes("1e308TB")


def test_other_formats():
    assert format_bytes(0) == "0 B"
    assert format_bytes(1536) == "1.5 KiB"
    assert format_bytes(3 * 2**40) == "3 TiB"
    assert format_rate(1234.5) == "1,234"
    assert format_rate(1.234) == "1.23"
    assert format_percent(0.9887) == "98.87 %"
