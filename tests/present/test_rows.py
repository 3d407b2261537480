from dataclasses import replace

import pytest

from assay.core.record import Figure, Record
from assay.present.columns import accuracy_text, compact_text, numeric_text, table_text
from assay.present.rows import NOT_CHECKED_SPEED, Report, table_rows

from .conftest import evaluated, measured, subject, verified

SPEEDS = ("throughput", "latency.p50", "latency.p90", "latency.p99", "speedup.eager")


def row_of(report, engine, batch=1):
    found = [r for r in table_rows(report) if r.subject["engine"] == engine and r.batch == batch]
    assert len(found) == 1
    return found[0]


def text_of(row):
    table = table_text([row])
    return " | ".join((*table.cells[0], *table.notes))


def test_one_row_per_candidate_and_batch_in_a_stable_order(report):
    places = [(r.subject["engine"], r.batch, r.status) for r in table_rows(report)]
    assert places == [
        ("torch", 1, "ok"),
        ("onnxruntime", 1, "ok"),
        ("onnxruntime", 8, "ok"),
        ("openvino", 1, "ok"),
        ("openvino", None, "skipped"),
    ]


def test_the_fresh_run_after_the_choice_gives_the_published_figures(report):
    row = row_of(report, "onnxruntime", 8)
    assert row.confirmed and row.chosen
    assert row.speeds["throughput"].value == 390.0
    assert [r.chosen for r in table_rows(report)].count(True) == 1


def test_a_fresh_run_that_failed_withholds_the_earlier_speed(report):
    failed = Record(
        "confirm",
        subject("onnxruntime"),
        status="failed",
        reason="the engine crashed",
        conditions={"batch": 8, "scenario": "latency"},
    )
    row = row_of(replace(report, records=(*report.records, failed)), "onnxruntime", 8)
    assert row.status == "failed"
    assert row.speeds["throughput"].value is None
    assert "390" not in text_of(row) and "400" not in text_of(row)


def test_no_speed_without_a_verification_of_that_very_candidate(report):
    others = tuple(r for r in report.records if r.id != "verify-onnxruntime-fp32")
    row = row_of(replace(report, records=others), "onnxruntime")
    assert [row.speeds[name].value for name in SPEEDS if name in row.speeds] == [None] * 4
    assert row.speeds["throughput"].reason == NOT_CHECKED_SPEED
    assert NOT_CHECKED_SPEED in text_of(row)
    assert "100" not in text_of(row)


@pytest.mark.parametrize("change", ["another candidate", "no candidate", "no class", "failed", "skipped"])
def test_what_does_not_count_as_a_verification(change):
    checks = {
        "another candidate": [verified("openvino")],
        "no candidate": [Record("verify", {"engine": "onnxruntime"}, details={"class": "equal"})],
        "no class": [Record("verify", subject("onnxruntime"))],
        "failed": [verified("onnxruntime", status="failed", reason="outputs are missing")],
        "skipped": [verified("onnxruntime", status="skipped", reason="no time left")],
    }
    report = Report("m", (*checks[change], measured("onnxruntime")))
    row = row_of(report, "onnxruntime")
    assert row.speeds["throughput"].reason == NOT_CHECKED_SPEED
    assert not row.numeric.checked and row.numeric.reason


def test_a_measurement_that_names_no_candidate_is_kept_but_withheld():
    record = Record("measure", {"engine": "x"}, figures={"throughput": Figure(9.0, "samples/s")})
    (row,) = table_rows(Report("m", (record,)))
    assert row.speeds["throughput"].reason == NOT_CHECKED_SPEED


def test_a_size_whose_verification_was_skipped_has_no_speed_at_that_size():
    skipped = Record("verify", subject("torch"), status="skipped", reason="static batch", conditions={"batch": 8})
    done = Record("verify", subject("torch"), details={"class": "equal"}, conditions={"batch": 1})
    report = Report("m", (done, skipped, measured("torch", batch=1), measured("torch", batch=8)))
    assert row_of(report, "torch", 1).speeds["throughput"].value == 100.0
    assert row_of(report, "torch", 8).speeds["throughput"].reason == NOT_CHECKED_SPEED


def test_the_worst_class_of_all_batch_sizes_counts():
    records = [
        Record(
            "verify",
            subject("torch"),
            figures={"numeric.relative_rms": Figure(rms, "1")},
            details={"class": name},
            conditions={"batch": batch},
        )
        for batch, name, rms in ((1, "equal", 1e-7), (2, "suspicious", 1e-2), (8, "equal", 1e-7))
    ]
    row = row_of(Report("m", (*records, measured("torch"))), "torch")
    assert numeric_text(row.numeric) == "suspicious (0.01)"
    assert len(row.numeric.records) == 3


def test_a_class_nobody_knows_counts_as_worst():
    records = [
        Record("verify", subject("torch"), details={"class": name}, conditions={"batch": i})
        for i, name in enumerate(("wrong", "splendid"))
    ]
    assert row_of(Report("m", (*records, measured("torch"))), "torch").numeric.name == "splendid"


def test_accuracy_states(report):
    assert accuracy_text(row_of(report, "onnxruntime").accuracy) == "top1 98.67 % (97.10–99.40)"
    assert "-0.22 points (-0.70–0.40)" in text_of(row_of(report, "onnxruntime"))
    assert accuracy_text(row_of(report, "openvino").accuracy) == "not checked: synthetic data"
    without = tuple(r for r in report.records if r.kind != "evaluate")
    text = accuracy_text(row_of(replace(report, records=without), "onnxruntime").accuracy)
    assert text == "not checked: no evaluation was run"


def test_randomised_weights_never_show_a_number():
    skipped = Record("evaluate", subject("torch"), status="skipped", reason="weights are randomised")
    row = row_of(Report("m", (verified("torch"), skipped, measured("torch"))), "torch")
    assert accuracy_text(row.accuracy) == "not checked: weights are randomised"
    assert "not checked: weights are randomised" in text_of(row)


def test_the_latest_evaluation_counts():
    report = Report("m", (verified("torch"), evaluated("torch", value=0.1), evaluated("torch"), measured("torch")))
    assert row_of(report, "torch").accuracy.figure.value == 0.9867


def test_another_task_shows_its_own_figure():
    record = Record("evaluate", subject("torch"), figures={"psnr": Figure(31.2, "dB")}, details={"primary": "psnr"})
    row = row_of(Report("m", (verified("torch"), record, measured("torch"))), "torch")
    assert accuracy_text(row.accuracy) == "psnr 31.2 dB"


def test_what_was_skipped_is_a_row_with_its_reason(report):
    row = table_rows(report)[-1]
    assert "skipped because this processor has no fp16 arithmetic" in text_of(row)
    assert row.speeds["throughput"].value is None


def test_a_build_that_worked_after_all_is_not_listed_as_skipped(report):
    again = Record(
        "build", {"engine": "openvino", "precision": "fp16", "device": "cpu", "artifact": "artifact-openvino"}
    )
    rows = table_rows(replace(report, records=(*report.records, again)))
    assert "skipped" not in [r.status for r in rows]


def test_a_candidate_that_was_verified_but_never_measured_is_still_a_row():
    (row,) = table_rows(Report("m", (verified("torch"), evaluated("torch"))))
    assert row.status == "not measured"
    assert row.speeds["throughput"].reason == "not measured"


def test_a_build_that_nothing_followed_is_a_row():
    build = Record("build", {"engine": "openvino", "precision": "fp32", "artifact": "a"})
    (row,) = table_rows(Report("m", (build,)))
    assert row.status == "not measured" and not row.numeric.checked


def in_scenario(record, scenario, **more):
    return replace(record, conditions={**record.conditions, "scenario": scenario}, id=f"{scenario}-1", **more)


def test_one_row_joins_throughput_of_all_streams_with_latencies_of_one_caller():
    offline = in_scenario(measured("torch", throughput=80.0), "offline", label="drifting")
    (row,) = table_rows(Report("m", (verified("torch"), measured("torch"), offline)))
    assert row.speeds["throughput"].value == 80.0
    assert row.speeds["latency.p50"].value == 0.01
    assert row.sources["throughput"] == "offline" and row.sources["latency.p50"] == "latency"
    assert row.label == "stable, drifting"
    assert row.record_ids[:2] == ("measure-torch-fp32-1", "offline-1")


def test_a_scenario_that_failed_is_not_replaced_by_the_other():
    offline = in_scenario(Record("measure", subject("torch"), status="failed", reason="no memory"), "offline")
    offline = replace(offline, conditions={"batch": 1, "scenario": "offline"})
    (row,) = table_rows(Report("m", (verified("torch"), measured("torch"), offline)))
    assert row.speeds["throughput"].value is None
    assert row.speeds["latency.p50"].value == 0.01
    assert (row.status, row.reason) == ("failed", "offline: no memory")


def test_a_measurement_that_failed_shows_no_figure_it_may_have_left():
    failed = replace(measured("torch"), status="failed", reason="the clock jumped")
    (row,) = table_rows(Report("m", (verified("torch"), failed)))
    assert {f.value for f in row.speeds.values()} == {None}
    assert "10.0 ms" not in text_of(row) and "failed because the clock jumped" in text_of(row)


def test_a_fresh_run_is_not_mixed_with_earlier_scenarios():
    offline = in_scenario(measured("torch", throughput=80.0), "offline")
    fresh = measured("torch", throughput=70.0, kind="confirm")
    (row,) = table_rows(Report("m", (verified("torch"), offline, fresh)))
    assert row.confirmed and row.speeds["throughput"].value == 70.0


def test_other_scenarios_have_rows_of_their_own():
    clients = in_scenario(measured("torch", throughput=80.0), "clients")
    rows = table_rows(Report("m", (verified("torch"), measured("torch"), clients)))
    assert [r.scenario for r in rows] == [None, "clients"]
    assert "scenario" in table_text(rows).headers
    assert "scenario" not in table_text(rows[:1]).headers


def test_a_candidate_whose_measurement_was_skipped_is_a_row():
    skipped = Record("measure", subject("torch"), status="skipped", reason="the budget was spent")
    (row,) = table_rows(Report("m", (verified("torch"), skipped)))
    assert row.status == "skipped" and "skipped because the budget was spent" in text_of(row)
    assert row.speeds["throughput"].value is None


def test_the_speedup_is_shown_where_it_is_in_the_record():
    record = measured("torch")
    record = replace(record, figures={**record.figures, "speedup.eager": Figure(2.4, "ratio", 2.3, 2.5)})
    rows = table_rows(Report("m", (verified("torch"), record)))
    assert "2.40× (2.30–2.50)" in text_of(rows[0])
    hidden = table_rows(Report("m", (record,)))
    assert hidden[0].speeds["speedup.eager"].value is None


def test_every_row_names_its_evidence(report):
    row = row_of(report, "onnxruntime", 8)
    assert row.record_ids == (
        "confirm-onnxruntime-fp32-8",
        "verify-onnxruntime-fp32",
        "evaluate-onnxruntime-fp32",
    )
    assert all(r.record_ids for r in table_rows(report))


def test_a_withheld_percentile_keeps_its_own_reason(report):
    assert "368 are needed" in text_of(row_of(report, "onnxruntime"))


def test_footnotes_are_numbered_once_for_the_whole_table(report):
    table = table_text(table_rows(report))
    assert table.notes == (
        "40 calls cannot bound p99; 368 are needed",
        "skipped because this processor has no fp16 arithmetic",
    )
    p99 = table.headers.index("p99")
    assert [cells[p99] for cells in table.cells] == ["— [1]"] * 4 + ["—"]
    assert table.cells[-1][-1] == "skipped [2]"


def test_a_compact_table_keeps_accuracy_and_numerics(report):
    headers = compact_text(table_rows(report)).headers
    assert {"accuracy", "numerics", "samples/s"} <= set(headers)
    assert "memory" not in headers


def test_a_compact_table_keeps_the_accuracy_state_in_its_row_and_the_reason_below(report):
    table = compact_text(table_rows(report))
    accuracy = table.headers.index("accuracy")
    assert [cells[accuracy] for cells in table.cells] == ["98.67 %"] * 3 + ["not checked [2]"]
    assert table.notes[1] == "accuracy not checked: synthetic data"
    skipped = "openvino fp16: skipped because this processor has no fp16 arithmetic"
    assert table.left_out == ("accuracy is top1", skipped)


@pytest.mark.parametrize(
    ("reference", "header"),
    [("torch fp32", "vs torch eager fp32"), ("onnxruntime fp32", "vs onnxruntime fp32"), (None, "vs torch eager fp32")],
)
def test_a_speedup_says_over_what(reference, header):
    check = replace(verified("torch"), conditions={"reference": reference} if reference else {})
    record = measured("torch")
    record = replace(record, figures={**record.figures, "speedup.eager": Figure(2.4, "ratio")})
    assert header in table_text(table_rows(Report("m", (check, record)))).headers
