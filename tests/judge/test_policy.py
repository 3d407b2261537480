from dataclasses import replace
from pathlib import Path

import pytest

from assay.core.errors import BadInput
from assay.judge.policy import DEFAULT_POLICY, Policy

SHIPPED = Path(__file__).parents[2] / "policies" / "default.toml"


def parse(text):
    return Policy.parse(text, "p.toml")


def test_the_shipped_file_says_what_the_defaults_are():
    assert replace(Policy.load(SHIPPED), source="default") == DEFAULT_POLICY


def test_an_empty_file_changes_nothing():
    assert replace(parse(""), source="default") == DEFAULT_POLICY


def test_every_key():
    policy = parse("""
        [numeric]
        max_relative_rms = 1e-4
        atol = 1e-3
        rtol = 0.01
        [accuracy]
        max_drop = "0.5%"
        kind = "relative"
        judge_by = "interval"
        [latency]
        p50 = "10ms"
        p90 = "0.5 s"
        p99 = "900us"
        batch = 4
        judge_by = "interval"
        [throughput]
        min = "100/s"
        batch = 8
        judge_by = "interval"
        [memory]
        max = "1GiB"
        [unchecked]
        fail = true
        [objective]
        minimize = "latency.p99"
        batch = 2
    """)
    assert (policy.numeric.max_relative_rms, policy.numeric.atol, policy.numeric.rtol) == (1e-4, 1e-3, 0.01)
    assert (policy.accuracy.max_drop, policy.accuracy.kind, policy.accuracy.required) == (0.005, "relative", True)
    assert (policy.latency.p50, policy.latency.p90, policy.latency.p99) == pytest.approx((0.01, 0.5, 9e-4))
    assert (policy.latency.batch, policy.throughput.min, policy.throughput.batch) == (4, 100.0, 8)
    assert policy.memory.max == 2**30
    assert policy.unchecked.fail
    assert (policy.objective.figure, policy.objective.maximize, policy.objective.batch) == ("latency.p99", False, 2)
    assert {policy.accuracy.judge_by, policy.latency.judge_by, policy.throughput.judge_by} == {"interval"}
    assert policy.source == "p.toml"


def test_a_drop_that_is_asked_for_is_required_unless_told():
    assert parse("[accuracy]\nmax_drop = 0.01").accuracy.required
    assert not parse("[accuracy]\nmax_drop = 0.01\nrequired = false").accuracy.required
    assert not parse('[accuracy]\nkind = "relative"').accuracy.required


def test_minimizing_a_latency_is_at_batch_1_unless_told():
    assert parse('[objective]\nminimize = "latency.p50"').objective.batch == 1
    assert parse('[objective]\nmaximize = "throughput"\nbatch = "best"').objective.batch is None


WRONG = {
    "[latencyy]\np99 = '1ms'": ("table named 'latencyy'", "latency"),
    "[latency]\np98 = '1ms'": (r"key in \[latency\] named 'p98'", "p9"),
    "[accuracy]\nmaxdrop = 0.1": ("named 'maxdrop'", "max_drop"),
    "latency = 3": (r"latency must be a table, written \[latency\]", None),
    "[latency]\np99 = 15": (r"\[latency\] p99 must be a text with its unit, such as \"15ms\", not 15", None),
    "[latency]\np99 = '15'": ("with its unit", None),
    "[latency]\np99 = '15 lightyears'": ("unknown unit of time", "15ms"),
    "[latency]\nbatch = 0": ("a batch size of 1 or more", None),
    "[latency]\nbatch = true": ("a batch size of 1 or more", None),
    "[latency]\njudge_by = 'pint'": ("must be one of point, interval", "point"),
    "[throughput]\nmin = 'fast'": ("samples per second", None),
    "[throughput]\nmin = -3": ("samples per second", None),
    "[throughput]\nbatch = 'worst'": ('or "best"', None),
    "[memory]\nmax = 1000": ("with its unit", None),
    "[memory]\nmax = '1 GB of it'": ("a number with a unit", "1GiB"),
    "[numeric]\ntolerance = 'loose'": ("must be one of auto", None),
    "[numeric]\ntolerance = 'auto'\natol = 1e-3": ("left out where atol is given", None),
    "[numeric]\nmax_relative_rms = nan": ("a number, zero or more", None),
    "[numeric]\natol = -1.0": ("a number, zero or more", None),
    "[accuracy]\nmax_drop = 'some%'": ("percentage", None),
    "[accuracy]\nmax_drop = true": ("a number, zero or more", None),
    "[accuracy]\nrequired = 'yes'": ("must be true or false", None),
    "[unchecked]\nfail = 1": ("must be true or false", None),
    "[objective]\nmaximize = 'throughputs'": ("must be one of throughput", "throughput"),
    "[objective]\nmaximize = 'throughput'\nminimize = 'latency.p50'": ("left out where maximize is given", None),
    "[latency\n": ("is not TOML", None),
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_named_with_the_file(text):
    said, near = WRONG[text]
    with pytest.raises(BadInput, match=said) as caught:
        parse(text)
    assert "p.toml" in caught.value.message
    if near:
        assert near in caught.value.remedy


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(BadInput, match="cannot read the policy"):
        Policy.load(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9")
    with pytest.raises(BadInput, match="not UTF-8"):
        Policy.load(tmp_path / "latin.toml")
    with pytest.raises(BadInput, match="cannot read the policy"):
        Policy.load(tmp_path)


def test_a_number_that_no_float_can_hold_is_refused():
    for text in ("[accuracy]\nmax_drop = 1" + 400 * "0", "[throughput]\nmin = 1" + 400 * "0"):
        with pytest.raises(BadInput, match=r"p\.toml"):
            parse(text)
