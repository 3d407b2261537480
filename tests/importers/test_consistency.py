"""The remaining contradictions, on made-up logs."""

import pytest

from assay.core.record import Figure, Record
from assay.importers.consistency import check

LOG = {"file": "x.log", "sha256": "0", "lines": [1, 1]}


def record(conditions=(), details=(), **figures):
    values = {name.replace("__", "."): value for name, value in figures.items()}
    made = {name: value if isinstance(value, Figure) else Figure(value, "s") for name, value in values.items()}
    base = {"tool": "t", "evidence": "log", "source_log": LOG, **dict(conditions)}
    subject = {"model": "m", "device_name": "T4", "batch": 1, "precision": None}
    return Record("measure", subject, figures=made, conditions=base, details=dict(details))


def kinds(*records):
    return [f.kind for f in check(records)]


@pytest.mark.parametrize(("enqueue", "found"), [(0.79, []), (0.80, ["launch-bound"])])
def test_the_line_for_launch_bound(enqueue, found):
    assert kinds(record(latency__enqueue__p50=enqueue, latency__compute__p50=1.0)) == found


def test_copy_bound():
    assert kinds(record(latency__h2d__p50=2.0, latency__compute__p50=1.0)) == ["copy-bound"]
    assert kinds(record(latency__d2h__p50=0.9, latency__compute__p50=1.0)) == []


def test_percentiles_in_disorder():
    assert kinds(record(latency__p50=2.0, latency__p99=1.0)) == ["percentile-order"]
    assert kinds(record(latency__p99=2.0, latency__max=1.0)) == ["percentile-order"]
    assert kinds(record(latency__mean=0.5, latency__min=1.0, latency__max=2.0)) == ["percentile-order"]
    assert kinds(record(latency__mean=2.5, latency__min=1.0, latency__max=2.0)) == ["percentile-order"]
    assert kinds(record(latency__min=1.0, latency__p50=1.5, latency__p99=1.5, latency__max=2.0)) == []


@pytest.mark.parametrize(("n", "found"), [(367, ["percentile-from-too-few"]), (368, [])])
def test_how_many_a_p99_takes(n, found):
    assert kinds(record(latency__p99=Figure(1.0, "s", n=n))) == found


def test_a_stall_is_a_jump_with_a_flat_top():
    samples = {"samples": 10000}
    assert kinds(record(samples, latency__p50=1.0, latency__p90=1.1, latency__p99=5.0, latency__max=5.5)) == ["stall"]
    # One slow request is an outlier, a slope is a tail.
    assert kinds(record(samples, latency__p50=1.0, latency__p99=1.1, latency__max=5.5)) == []
    assert kinds(record(samples, latency__p50=1.0, latency__p90=3.5, latency__p99=5.0, latency__max=50.0)) == []
    assert kinds(record({"samples": 100}, latency__p50=1.0, latency__p99=5.0, latency__max=5.5)) == []


def test_samples_of_the_log_itself():
    conditions = {"samples": 1000, "duration_s": 2.0}
    assert kinds(record(conditions, throughput=Figure(500.0, "samples/s"))) == []
    assert kinds(record(conditions, throughput=Figure(600.0, "samples/s"))) == ["samples-do-not-add-up"]


def test_a_version_that_fits_its_format():
    conditions = {"format_versions": ["8.4", "12.0"], "claimed_version": "8.6.1"}
    assert kinds(record(conditions)) == []
    assert kinds(record({**conditions, "claimed_version": "8.2"})) == ["version-contradicts-format"]


def test_findings_are_sorted_said_once_and_plain():
    low = record({"streams": 4, "tool": "trtexec"}, latency__p50=2.0, latency__p99=1.0)
    found = check([low, low])
    assert [f.severity for f in found] == ["contradiction", "note"]
    assert found[0].to_json()["where"] == "x.log:1"


def test_nothing_to_check_finds_nothing():
    assert check([]) == ()
