from dataclasses import replace

import pytest

from assay.core.record import Figure, Record
from assay.core.verdict import UNCOMPARED
from assay.judge.gate import judge
from assay.judge.policy import DEFAULT_POLICY, Policy


def policy(text):
    return Policy.parse(text, "p.toml")


def reason(verdict, limit):
    (found,) = [r for r in verdict.reasons if r.limit == limit]
    return found


@pytest.fixture
def one(evidence):
    return evidence()


def gate(one, records, limits=DEFAULT_POLICY):
    return judge(one.candidate.digest, records, limits if isinstance(limits, Policy) else policy(limits))


def test_all_in_order_passes(one):
    verdict = gate(one, one.all())
    assert verdict.passed
    assert verdict.exit_code == 0
    assert verdict.not_checked == ()
    assert verdict.subject == one.candidate.digest
    assert "a reason" in reason(verdict, "numeric").text
    assert "0.10 %, limit 1.00 %" in reason(verdict, "accuracy.drop").text


def test_records_read_back_from_disk_judge_the_same(one):
    records = one.all()
    back = [Record.from_json(r.to_json()) for r in records]
    assert gate(one, back) == gate(one, records)


def test_no_records_at_all_never_pass(one):
    verdict = gate(one, [])
    assert verdict.state == "not_shown"
    assert "never compared" in reason(verdict, "numeric").text
    assert verdict.not_checked == ("accuracy: no evaluation was made", "speed: it was not measured")


def test_another_candidates_records_prove_nothing(one, evidence):
    other = evidence("openvino")
    assert gate(one, other.all()).state == "not_shown"


def test_the_latest_record_of_a_kind_counts(one):
    records = one.all()
    assert gate(one, [one.verify(rms=1.0), *records]).passed
    assert gate(one, [*records, one.verify(rms=1.0)]).state == "failed"


@pytest.mark.parametrize(
    ("changes", "state", "said"),
    [
        ({"rms": 1e-3}, "failed", "limit 1e-05"),
        ({"failures": ["output 'y' is missing"]}, "failed", "output 'y' is missing"),
        ({"batches": ()}, "failed", "nothing was compared"),
        ({"status": "failed", "reason": "it crashed"}, "failed", "it crashed"),
        ({"status": "skipped", "reason": "no budget"}, "not_shown", "no budget"),
        ({"figures": {}}, "failed", "not measured"),
        ({"figures": {"numeric.relative_rms": Figure(float("nan"), "ratio")}}, "failed", "relative rms"),
    ],
)
def test_numeric_failures(one, changes, state, said):
    verdict = gate(one, [one.verify(**changes), *one.all()[1:]])
    assert not verdict.passed
    found = reason(verdict, "numeric")
    assert (found.state, said in found.text) == (state, True), found


def test_a_record_without_a_tolerance_is_no_proof(one):
    record = one.verify()
    record = replace(record, details={**record.details, "tolerance": {}})
    assert reason(gate(one, [record]), "numeric").state == "failed"


def test_a_class_that_is_not_accepted_is_believed(one):
    record = one.verify()
    record = replace(record, details={**record.details, "class": "wrong", "judged": {"text": "too far"}})
    assert reason(gate(one, [record]), "numeric").text == "wrong: too far"


@pytest.mark.parametrize(
    ("limits", "state"),
    [
        ("max_relative_rms = 1e-4", "passed"),
        ("max_relative_rms = 1e-6", "failed"),
        ("atol = 1e-4", "passed"),
        ("atol = 1e-6", "failed"),
        ("rtol = 1e-3", "passed"),
        ("rtol = 1e-5", "failed"),
        ("atol = 1e-6\nrtol = 1e-3", "passed"),
        ("atol = 1e-4\nmax_relative_rms = 1e-6", "failed"),
    ],
)
def test_the_policys_own_numeric_limits(one, limits, state):
    record = one.verify(rms=5e-5, limit=1.0)
    assert reason(gate(one, [record], f"[numeric]\n{limits}"), "numeric").state == state


def test_a_stricter_candidate_may_be_let_off_by_the_policy_alone(one):
    record = one.verify(rms=5e-5, limit=1e-6)
    assert reason(gate(one, [record]), "numeric").state == "failed"
    assert reason(gate(one, [record], "[numeric]\nmax_relative_rms = 1e-4"), "numeric").state == "passed"


def test_an_error_that_is_not_finite_meets_no_limit(one):
    record = one.verify()
    record = replace(record, details={**record.details, "outputs": {"1": {"y": {"max_abs": 0.1, "max_rel": None}}}})
    assert reason(gate(one, [record], "[numeric]\nrtol = 10.0"), "numeric").state == "failed"


def test_drawn_inputs_and_what_was_left_out_are_listed(one):
    record = one.verify(real=False)
    details = {**record.details, "not_checked": ["batch 8: static"], "attestation": {"shares": [], "how": ""}}
    verdict = gate(one, [replace(record, details=details), *one.all()[1:]])
    assert verdict.passed
    assert [text.partition(":")[0] for text in verdict.not_checked] == ["verify", "real data", "precision"]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"status": "skipped", "reason": "the weights are randomised"}, "the weights are randomised"),
        ({"conditions": {"synthetic": True}}, "synthetic data"),
        (None, "no evaluation was made"),
    ],
)
def test_no_accuracy_is_listed_or_not_shown_as_the_policy_wants(one, record, said):
    records = [r for r in one.all() if r.kind != "evaluate"]
    if record is not None:
        records.append(one.evaluate(**record))
    listed = gate(one, records)
    assert listed.passed
    assert any(said in text for text in listed.not_checked)
    asked = gate(one, records, "[accuracy]\nmax_drop = 0.01")
    assert asked.state == "not_shown"
    assert said in reason(asked, "accuracy.drop").text


@pytest.mark.parametrize(
    ("drop", "limits", "state"),
    [
        ((0.02, 0.01, 0.03), "max_drop = 0.01", "failed"),
        ((0.01, 0.0, 0.02), "max_drop = 0.01", "passed"),
        ((0.001, -0.01, 0.02), "max_drop = 0.01\njudge_by = 'interval'", "not_shown"),
        ((0.001, -0.01, 0.009), "max_drop = 0.01\njudge_by = 'interval'", "passed"),
        ((0.03, 0.02, 0.04), "max_drop = 0.01\njudge_by = 'interval'", "failed"),
        ((0.001, None, None), "max_drop = 0.01\njudge_by = 'interval'", "not_shown"),
        ((0.008, 0.007, 0.009), "max_drop = 0.01\nkind = 'relative'", "failed"),  # 0.008 of 0.608 is 1.3 %
        ((-0.05, -0.06, -0.04), "max_drop = 0.0", "passed"),
    ],
)
def test_accuracy_drop(one, drop, limits, state):
    records = [one.verify(), one.evaluate(*drop, value=0.6)]
    assert reason(gate(one, records, f"[accuracy]\n{limits}"), "accuracy.drop").state == state


def test_an_evaluation_that_failed_or_lost_samples_never_passes(one):
    crashed = one.evaluate(status="failed", reason="the engine died")
    assert gate(one, [one.verify(), crashed]).state == "failed"
    lossy = one.evaluate(details={"counts": {"read": 360, "scored": 350, "failed": 10}})
    verdict = gate(one, [one.verify(), lossy])
    assert verdict.state == "not_shown"
    assert "10 samples could not be scored" in reason(verdict, "accuracy.drop").text


def test_the_reference_itself_has_no_drop(one):
    record = one.evaluate(drop=None, details={"reference": True})
    assert "the reference itself" in reason(gate(one, [one.verify(), record]), "accuracy.drop").text


def test_a_metric_of_the_users_own_is_compared_with_the_references(one, evidence):
    reference = evidence("torch")
    psnr = {
        "accuracy.psnr": Figure(30.0, "dB", n=5),
        "accuracy.drop": Figure(None, "fraction", reason="no right or wrong"),
    }
    theirs = reference.evaluate(figures=psnr, details={"reference": True, "primary": "accuracy.psnr"})
    details = {"primary": "accuracy.psnr"}
    for value, state in ((29.9, "passed"), (29.0, "failed"), (30.5, "passed")):
        figures = {**psnr, "accuracy.psnr": Figure(value, "dB", n=5)}
        mine = one.evaluate(figures=figures, details=details)
        verdict = gate(one, [theirs, one.verify(), mine])
        assert reason(verdict, "accuracy.drop").state == state
        assert "relative to the reference" in reason(verdict, "accuracy.drop").text
    lower = one.evaluate(
        figures={**psnr, "accuracy.psnr": Figure(33.0, "dB")}, details={**details, "higher_is_better": False}
    )
    assert reason(gate(one, [theirs, one.verify(), lower]), "accuracy.drop").state == "failed"
    alone = gate(one, [one.verify(), mine])
    assert "accuracy: no right or wrong" in alone.not_checked


@pytest.mark.parametrize(
    ("limits", "state", "said"),
    [
        ("p50 = '20ms'", "passed", "10 ms, limit 20 ms"),
        ("p50 = '5ms'", "failed", "10 ms, limit 5 ms"),
        ("p99 = '15ms'", "passed", "p99 at batch 1: 12 ms"),
        ("p99 = '13ms'\njudge_by = 'interval'", "not_shown", "the interval holds the limit"),
        ("p99 = '15ms'\njudge_by = 'interval'", "passed", "95% interval 10.8 ms to 13.2 ms"),
        ("p50 = '20ms'\nbatch = 64", "not_shown", "p50 at batch 64: it was not measured; the limit is 20 ms"),
    ],
)
def test_latency(one, limits, state, said):
    verdict = gate(one, one.all(), f"[latency]\n{limits}")
    (found,) = [r for r in verdict.reasons if r.limit.startswith("latency")]
    assert found.state == state
    assert said in found.text
    assert verdict.state == state


def test_a_withheld_figure_is_not_shown_when_asked_and_listed_when_not(one):
    records = [one.verify(), one.evaluate(), one.measure(p99=None, scenario="latency")]
    asked = gate(one, records, "[latency]\np99 = '15ms'")
    assert asked.state == "not_shown"
    assert "only 40 samples" in reason(asked, "latency.p99").text
    assert not any("latency.p99" in text for text in asked.not_checked)
    listed = gate(one, records)
    assert listed.passed
    assert listed.not_checked == ("latency.p99 (latency) at batch 1: only 40 samples",)
    strict = gate(one, records, "[unchecked]\nfail = true")
    assert strict.state == "not_shown"
    assert "only 40 samples" in reason(strict, "unchecked").text


def test_latency_under_load_is_no_latency(one):
    records = [one.verify(), one.evaluate(), one.measure(scenario="offline")]
    assert gate(one, records, "[latency]\np50 = '1s'").state == "not_shown"


@pytest.mark.parametrize(
    ("limits", "state", "said"),
    [
        ("min = 250", "passed", "throughput at batch 8: 300 samples/s, limit 250 samples/s"),
        ("min = 301", "failed", "batch 8"),
        ("min = 150\nbatch = 1", "failed", "throughput at batch 1: 100 samples/s"),
        ("min = 300\njudge_by = 'interval'", "not_shown", "holds the limit"),
        ("min = 1\nbatch = 64", "not_shown", "it was not measured"),
    ],
)
def test_throughput(one, limits, state, said):
    verdict = gate(one, one.all(), f"[throughput]\n{limits}")
    assert reason(verdict, "throughput").state == state
    assert said in reason(verdict, "throughput").text


def test_memory(one):
    assert gate(one, one.all(), "[memory]\nmax = '1GiB'").passed
    assert gate(one, one.all(), "[memory]\nmax = '100MiB'").state == "failed"
    shared = one.measure(figures={"memory.peak": Figure(None, "B", reason="measured in the caller's process")})
    verdict = gate(one, [one.verify(), one.evaluate(), shared], "[memory]\nmax = '1GiB'")
    assert verdict.state == "not_shown"
    assert "caller's process" in reason(verdict, "memory.peak").text


def test_a_confirming_run_counts_before_the_one_the_choice_was_made_by(one):
    records = [*one.all(), one.measure(8, 200.0, kind="confirm"), one.measure(1, 900.0)]
    found = reason(gate(one, records, "[throughput]\nmin = 250"), "throughput")
    assert found.state == "failed"
    assert "batch 8: 200" in found.text


def test_a_measurement_that_failed_is_said(one):
    broken = one.measure(status="failed", reason="out of memory", figures={})
    verdict = gate(one, [one.verify(), one.evaluate(), broken], "[throughput]\nmin = 1")
    assert verdict.state == "not_shown"
    assert "out of memory" in reason(verdict, "throughput").text
    assert any("out of memory" in text for text in verdict.not_checked)


def test_labels_are_said_and_change_nothing(one):
    records = [one.verify(), one.evaluate(), one.measure(label="drifting", scenario="latency")]
    verdict = gate(one, records, "[latency]\np50 = '1s'")
    assert verdict.passed
    assert "the series is drifting" in reason(verdict, "latency.p50").text


def test_the_evidence_is_named(one):
    records = one.all()
    assert {r.record for r in gate(one, records).reasons} <= {r.id for r in records}


SELF = "self: concurrent against serial"


@pytest.mark.parametrize(("state", "verdict"), [("passed", "passed"), ("failed", "failed"), ("not_shown", "passed")])
def test_a_candidate_that_disagrees_with_itself_fails_though_its_accuracy_is_fine(one, state, verdict):
    record = one.verify()
    finding = {"name": "concurrent against serial", "state": state, "text": "output 'y' differs by 0.1", "error": 0.1}
    record = replace(record, details={**record.details, "self_check": [finding]})
    found = gate(one, [record, *one.all()[1:]])
    assert found.state == verdict
    failed = [r for r in found.reasons if r.limit == SELF]
    assert [(r.state, r.record) for r in failed] == ([("failed", record.id)] if state == "failed" else [])
    listed = [t for t in found.not_checked if "concurrent" in t]
    assert bool(listed) == (state == "not_shown")


def test_a_reference_alone_passes_only_where_the_policy_accepts_it(one):
    record = one.verify(details={"class": "reference"})
    assert reason(gate(one, [record]), "numeric").state == "not_shown"
    accepted = gate(one, [record], "[numeric]\naccept_reference = true")
    assert reason(accepted, "numeric").state == "passed"
    assert reason(accepted, "numeric").text.startswith(UNCOMPARED)
    assert any(t.startswith("numeric: nothing was compared") and "accept_reference" in t for t in accepted.not_checked)
    strict = gate(one, [record], "[numeric]\naccept_reference = true\n[unchecked]\nfail = true")
    assert strict.state == "not_shown"
    compared = gate(one, [one.verify()], "[numeric]\naccept_reference = true")
    assert UNCOMPARED not in reason(compared, "numeric").text


def test_a_relative_drop_is_over_top1_where_the_named_figure_is_missing(evidence):
    side = evidence()
    figures = {
        "accuracy.top5": Figure(0.99, "fraction"),
        "accuracy.top1": Figure(0.50, "fraction"),
        "accuracy.drop": Figure(0.01, "fraction", 0.005, 0.015, 0.95, 360),
    }
    scored = side.evaluate(figures=figures, details={"counts": {"failed": 0}, "primary": "metric"})
    limits = Policy.parse('[accuracy]\nmax_drop = "1.5%"\nkind = "relative"', "p.toml")
    (reason,) = [r for r in judge(side.candidate.digest, [side.verify(), scored], limits).reasons if "drop" in r.limit]
    assert reason.state == "failed" and "1.96 %" in reason.text
