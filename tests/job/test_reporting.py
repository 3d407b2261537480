"""The drop beside an accuracy is the one that the verdict judges."""

import pytest

from assay.core.record import Figure, Record
from assay.job.reporting import report_content, write_reports
from assay.judge.accuracy import judge_accuracy
from assay.judge.policy import AccuracyPolicy
from assay.measure.predictions import Scored, compare_predictions
from assay.present.columns import table_text
from assay.present.rows import table_rows


def metric_run(value, reference=2.0, better=True, data="mine"):
    """The reference's evaluation and another one, by a metric that calls no sample right or wrong."""
    rows = [Scored(str(i), {}) for i in range(4)]
    withheld = compare_predictions(rows, rows).drop
    assert withheld.value is None
    found = []
    for engine, score, where in (("torch", reference, "mine"), ("onnxruntime", value, data)):
        figures = {"metric.mine": Figure(score, "dB", n=4)}
        details = {"primary": "metric.mine", "higher_is_better": better}
        if engine == "torch":
            details["reference"] = True
        else:
            figures["accuracy.drop"] = withheld
        subject = {"candidate": f"digest-{engine}", "engine": engine, "precision": "fp32"}
        conditions = {"data": where, "samples": 4}
        found.append(Record("evaluate", subject, figures=figures, conditions=conditions, details=details, id=engine))
    return found


def cell_of(records, header="drop"):
    table = table_text(table_rows(report_content(records, None, {})))
    return table.cells[1][table.headers.index(header)]


@pytest.mark.parametrize(
    ("value", "better", "cell"),
    [
        (1.5, True, "0.500 dB"),
        (2.5, True, "-0.500 dB"),
        (2.5, False, "0.500 dB"),
        (2.5, None, "change 0.500 dB"),
        (1.5, None, "change 0.500 dB"),
    ],
)
def test_the_cell_says_what_the_verdict_judges(value, better, cell):
    records = metric_run(value, better=better)
    assert cell_of(records) == cell
    (reason,), _ = judge_accuracy(records[1:], records, AccuracyPolicy(max_drop=0.3))
    sign = "-" if cell.startswith("-") else ""
    assert f"relative to the reference {sign}25.00 %" in reason.text
    assert reason.text.startswith("change of the metric" if better is None else "accuracy drop")


def test_without_a_reference_on_the_same_data_neither_says_a_number():
    records = metric_run(1.5, data="others")
    assert cell_of(records) == "— (the task does not tell right from wrong)"
    reasons, missing = judge_accuracy(records[1:], records, AccuracyPolicy(max_drop=0.3))
    assert (reasons, missing) == ((), ("accuracy: the task does not tell right from wrong",))


def test_every_format_has_it(tmp_path):
    records = metric_run(1.5, better=None)
    about = {"model": "m", "best": {"candidate": "digest-onnxruntime"}}
    written = {path.suffix: path.read_text() for path in write_reports(tmp_path, records, None, about)}
    assert "change 0.500 dB" in written[".md"]
    assert '<span class="sub">change 0.500 dB</span>' in written[".html"]
    assert "change against the reference" in written[".html"]
    header, *lines = (line.split(",") for line in written[".csv"].splitlines())
    assert [line[header.index("accuracy_drop")] for line in lines] == ["", "0.5"]
    # The Record in it is the one that was written, whose paired drop stays withheld.
    assert records[1].figures["accuracy.drop"].value is None
