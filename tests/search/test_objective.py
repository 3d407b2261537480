"""The words of an objective: what they become, and what is refused with the corrected words."""

import pytest

from assay.core.errors import BadInput, UnknownName
from assay.search.objective import parse_objective


def test_throughput_is_made_large_and_latency_small():
    found = parse_objective("throughput")
    assert (found.figure, found.maximize, found.limits, found.scenario) == ("throughput", True, (), "offline")
    found = parse_objective("  latency ")
    assert (found.figure, found.maximize, found.scenario) == ("latency.p50", False, "latency")
    assert parse_objective("p99").figure == "latency.p99"
    assert parse_objective("memory").figure == "memory.peak"
    assert parse_objective("minimize latency").figure == "latency.p50"


def test_limits_have_their_units():
    found = parse_objective("throughput where p99 < 15ms and drop < 0.5% and memory <= 1GiB")
    limits = {limit.figure: limit for limit in found.limits}
    assert limits["latency.p99"].value == pytest.approx(0.015)
    assert limits["accuracy.drop"].value == pytest.approx(0.005)
    assert limits["memory.peak"].value == 2**30
    assert all(limit.upper for limit in found.limits)
    low = parse_objective("latency where throughput > 100/s").limits[0]
    assert (low.figure, low.value, low.upper) == ("throughput", 100.0, False)
    assert low.broken_by(99) and not low.broken_by(101)


def test_the_tightest_limit_counts():
    found = parse_objective("throughput where p99 < 20ms and p99 < 15ms")
    assert found.limit("latency.p99").value == pytest.approx(0.015)
    assert found.limit("memory.peak") is None


def test_gain_is_above_one_for_the_better():
    assert parse_objective("throughput").gain(200, 100) == 2
    assert parse_objective("latency").gain(0.01, 0.02) == 2


@pytest.mark.parametrize(
    ("words", "said", "remedy"),
    [
        ("", "empty", "throughput where"),
        ("throughput where", "nothing stands after 'where'", "throughput where"),
        ("throughput where p99", "is not a limit", "p99 < 15ms"),
        ("throughput where p99 < 15", "the unit is missing", "p99 < 15ms"),
        ("latency where memory < 1", "the unit is missing", "GiB"),
        ("throughput where p99 > 15ms", "limited the other way", "p99 < 15ms"),
        ("latency where throughput < 100", "limited the other way", "throughput > 100"),
        ("throughput where p99 < soon", "is no value", "15ms"),
        ("throughput where drop < 150%", "is no value", "0.5%"),
        ("throughput where p99 < 0ms", "above zero", "15ms"),
        ("p99 < 15ms", "is a limit", "throughput where p99 < 15ms"),
        ("drop", "something to limit", "throughput where drop"),
        ("maximize latency", "is minimized", "--objective latency"),
        ("fast please", "not one word", "throughput where"),
    ],
)
def test_wrong_words_are_told_the_right_ones(words, said, remedy):
    with pytest.raises(BadInput, match=said) as caught:
        parse_objective(words)
    assert remedy in (caught.value.remedy or "")


def test_a_near_word_is_suggested():
    with pytest.raises(UnknownName, match="throughputt") as caught:
        parse_objective("throughputt")
    assert "throughput" in caught.value.remedy
    with pytest.raises(UnknownName) as caught:
        parse_objective("throughput where p98 < 15ms")
    assert "p9" in caught.value.remedy


@pytest.mark.parametrize(
    "words", ["throughput where drop < nan%", "latency where throughput > nan", "latency where throughput > inf"]
)
def test_a_limit_that_nothing_could_break_is_refused(words):
    with pytest.raises(BadInput, match="is no value for"):
        parse_objective(words)
