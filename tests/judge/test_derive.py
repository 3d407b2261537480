from dataclasses import replace

import pytest

from assay.core.disturbance import taken_by_host, used_by_others
from assay.core.record import Figure, withheld
from assay.judge.derive import speedup, unlike


@pytest.fixture
def pair(evidence):
    return evidence("openvino").measure(8, 300.0), evidence("torch").measure(8, 100.0)


def test_rates(pair):
    found = speedup(*pair)
    assert found.value == pytest.approx(3.0)
    assert found.low < 3.0 < found.high
    assert (found.unit, found.confidence) == ("ratio", 0.95)
    assert found.high / found.low == pytest.approx((1.01 / 0.99) ** (2**0.5), rel=1e-2)


def test_times_are_turned_round(pair):
    assert speedup(*pair, "latency.p50").value == pytest.approx(3.0)


def test_without_intervals(pair):
    bare = replace(pair[0], figures={"throughput": Figure(300.0, "samples/s")})
    found = speedup(bare, pair[1])
    assert (found.value, found.low) == (pytest.approx(3.0), None)


@pytest.mark.parametrize(
    ("field", "change", "said"),
    [
        ("conditions", {"batch": 1}, "batch is 1 here and 8 there"),
        ("conditions", {"scenario": "latency"}, "scenario is 'latency' here and 'offline' there"),
        ("conditions", {"sizes": {"words": 22}}, "sizes is {'words': 22} here and None there"),
        ("environment", {"cpu": "another"}, "cpu is 'another' here"),
        ("environment", {"cores_granted": 64.0}, "cores_granted"),
        ("subject", {"device": "cuda"}, "device is 'cuda' here and 'cpu' there"),
    ],
)
def test_unlike_conditions_are_refused_unless_told(pair, field, change, said):
    record = replace(pair[0], **{field: {**getattr(pair[0], field), **change}})
    refused = speedup(record, pair[1])
    assert refused.value is None
    assert said in refused.reason
    told = speedup(record, pair[1], allow_unlike=True)
    assert told.value == pytest.approx(3.0)
    assert said in told.reason


def test_load_and_versions_may_differ(pair):
    a, b = (replace(r, environment={"versions": {"torch": str(i)}, "load_average": [i]}) for i, r in enumerate(pair))
    assert unlike(a, b) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"figures": {}}, "it was not measured"),
        ({"figures": {"throughput": withheld("samples/s", "too few calls")}}, "too few calls"),
        ({"figures": {"throughput": Figure(0.0, "samples/s")}}, "it is 0"),
        ({"status": "failed", "reason": "crashed", "figures": {}}, "failed: crashed"),
        ({"figures": {"throughput": Figure(3.0, "frames/s")}}, "frames/s"),
    ],
)
def test_what_has_no_ratio_says_why(pair, changes, said):
    for one, other in ((replace(pair[0], **changes), pair[1]), (pair[0], replace(pair[1], **changes))):
        found = speedup(one, other)
        assert found.value is None
        assert said in found.reason


@pytest.mark.parametrize("label", ["drifting", "bimodal", "stable"])
def test_a_ratio_over_an_unsteady_baseline_says_so(pair, label) -> None:
    record, baseline = pair
    found = speedup(record, replace(baseline, label=label))
    assert found.value is not None
    assert (found.reason is None) == (label == "stable")
    assert label == "stable" or label in found.reason


def test_a_ratio_over_a_series_too_short_for_an_interval_is_withheld(pair) -> None:
    record, baseline = pair
    bare = {"throughput": replace(baseline.figures["throughput"], low=None, high=None)}
    found = speedup(record, replace(baseline, label="underpowered", figures=bare))
    assert found.value is None
    assert "too short" in found.reason
    whole = speedup(record, replace(baseline, label="underpowered"))
    assert (whole.value is None) == (baseline.figures["throughput"].low is None)


def shared(record, cores, host=False):
    said = taken_by_host(cores, 2) if host else used_by_others(cores, 2)
    return replace(record, warnings=(*record.warnings, said))


def test_a_disturbed_baseline_may_only_lower_the_ratio(pair) -> None:
    quiet, found = speedup(*pair), speedup(pair[0], shared(pair[1], 0.3))
    assert found.value == quiet.value
    assert found.low == pytest.approx(quiet.low * 0.65) and found.high == quiet.high
    assert found.confidence is None
    assert "the baseline's series was disturbed" in found.reason and "0.3 of 2 cores" in found.reason


def test_a_disturbed_series_may_only_raise_it(pair) -> None:
    quiet, found = speedup(*pair), speedup(shared(pair[0], 0.2, host=True), pair[1])
    assert found.low == quiet.low and found.high == pytest.approx(quiet.high / 0.75)
    assert "this series was disturbed" in found.reason and "the host took" in found.reason


@pytest.mark.parametrize("side", [0, 1])
def test_what_was_disturbed_too_much_has_no_ratio(pair, side) -> None:
    records = list(pair)
    records[side] = shared(shared(records[side], 0.3), 0.2, host=True)
    found = speedup(*records)
    assert found.value is None and "was disturbed" in found.reason and "cores" in found.reason


def test_a_bare_ratio_is_bracketed_too(pair) -> None:
    bare = replace(pair[0], figures={"throughput": Figure(300.0, "samples/s")})
    found = speedup(bare, shared(pair[1], 0.1))
    assert (found.low, found.high) == (pytest.approx(3.0 * 0.85), pytest.approx(3.0))
