"""Speeds side by side: what may stand on one line, what is ranked, and what is refused by name."""

from dataclasses import replace

import pytest

from assay.core.errors import BadInput, UnknownName
from assay.core.record import Figure, Record
from assay.judge.cases import case_of, differences
from assay.judge.compare_runs import Asked, compare

HOST = {"cpu": "x", "cpu_flags": ["avx2"], "cores_granted": 2.0, "governor": None, "thread_env": {}}


def own(rate=100.0, width=0.01, run="a", **changes):
    """A speed as a run of assay records it."""
    subject = {"model": "net", "engine": "openvino", "precision": "fp32", "device": "cpu", "device_name": "x"}
    subject |= {n: changes.pop(n) for n in list(changes) if n in subject or n in ("threads", "streams")}
    conditions = {"scenario": "offline", "batch": 8, "data": "digits", "real_data": True}
    conditions |= {n: changes.pop(n) for n in list(changes) if n in conditions}
    environment = {**HOST, **changes.pop("environment", {})}
    figure = Figure(rate, "samples/s", rate * (1 - width), rate * (1 + width), 0.95, 500)
    record = Record("measure", subject, figures={"throughput": figure}, conditions=conditions, environment=environment)
    assert not changes, changes
    return case_of(run, record, "throughput", "top1 99 %")


def imported(device, batch, rate, **changes):
    """A speed as an importer records it."""
    subject = {"model": "net", "engine": changes.pop("engine", "ascend"), "precision": None, "device_name": device}
    subject |= {n: changes.pop(n) for n in list(changes) if n in subject}
    conditions = {"imported": True, "batch": batch, "basis": "device-only", "how": "measured", "scope": "device"}
    conditions |= {"evidence": "log", "tool": "benchmark", "protocol": "benchmark", **changes}
    record = Record("measure", subject, figures={"throughput": Figure(rate, "samples/s")}, conditions=conditions)
    return case_of("logs", record, "throughput", "not checked")


def values(line):
    return [None if c is None else c.case.value for c in line.cells]


def ratios(line):
    return [
        None if c is None or c.ratio is None or c.ratio.value is None else round(c.ratio.value, 3) for c in line.cells
    ]


def test_one_run_is_laid_out_by_engine_with_intervals_of_the_ratio():
    found = compare([own(engine="torch"), own(200.0), own(300.0, precision="bf16")], Asked())
    assert found.columns == ("torch", "openvino") and found.base == 0
    fp32, bf16 = found.lines[0], found.lines[1]
    assert (fp32.title, bf16.title) == ("fp32", "bf16")
    assert values(fp32) == [100.0, 200.0] and ratios(fp32) == [None, 2.0]
    ratio = fp32.cells[1].ratio
    assert 1.9 < ratio.low < 2.0 < ratio.high < 2.1
    assert fp32.fastest == 1 and bf16.fastest is None
    assert found.ranked == 1 and found.refused == ()
    assert fp32.cells[1].case.state == "top1 99 %"


def test_several_runs_are_columns_and_the_engine_goes_into_the_line():
    cases = [own(run=r, engine=e, rate=v) for r, e, v in [("a", "torch", 1), ("a", "ort", 2), ("b", "torch", 3)]]
    found = compare(cases, Asked())
    assert found.columns == ("a", "b")
    assert [(line.title, ratios(line)) for line in found.lines] == [("torch", [None, 3.0]), ("ort", [None, None])]


def test_runs_with_one_engine_each_are_compared_across_their_engines():
    found = compare([own(run="a"), own(run="b", engine="tensorrt", device_name="T4", rate=300.0)], Asked())
    assert found.columns == ("a openvino", "b tensorrt")
    assert ratios(found.lines[0]) == [None, 3.0]


def test_overlapping_intervals_have_no_fastest():
    assert compare([own(run="a", width=0.1), own(105.0, 0.1, run="b")], Asked()).lines[0].fastest is None
    assert compare([own(run="a"), own(105.0, run="b")], Asked()).lines[0].fastest == 1


def test_a_smaller_latency_is_the_better_one():
    def latency(run, seconds):
        figures = {"latency.p50": Figure(seconds, "s", 0.99 * seconds, 1.01 * seconds, 0.95, 500)}
        record = Record("measure", {"model": "net", "engine": "e"}, figures=figures, conditions={"batch": 1})
        return case_of(run, record, "latency.p50", "")

    line = compare([latency("a", 0.02), latency("b", 0.01)], Asked("latency.p50")).lines[0]
    assert ratios(line) == [None, 2.0] and line.fastest == 1


UNLIKE = {
    "data": {"data": "imagenet"},
    "environment": {"environment": {"cores_granted": 64.0}},
}


@pytest.mark.parametrize("category", UNLIKE)
def test_unlike_conditions_are_not_ranked_unless_allowed_and_then_named(category):
    cases = [own(run="a"), own(200.0, run="b", **UNLIKE[category])]
    found = compare(cases, Asked())
    assert found.ranked == 0 and found.lines[0].fastest is None
    assert "not measured alike" in found.lines[0].cells[1].ratio.reason
    assert any(category in text or "cores_granted" in text for text in found.refused)
    allowed = compare(cases, Asked(allow=frozenset({category})))
    assert ratios(allowed.lines[0]) == [None, 2.0] and allowed.refused == ()
    assert any(note.startswith("allowed: ") for note in allowed.lines[0].cells[1].notes)


@pytest.mark.parametrize(("category", "change"), [("precision", {"precision": "bf16"}), ("batch", {"batch": 1})])
def test_unlike_precision_and_batch_share_no_line_unless_allowed(category, change):
    cases = [own(run="a"), own(200.0, run="b", **change)]
    found = compare(cases, Asked())
    assert len(found.lines) == 2 and found.ranked == 0
    assert category in found.refused[0]
    allowed = compare(cases, Asked(allow=frozenset({category})))
    assert len(allowed.lines) == 1 and ratios(allowed.lines[0]) == [None, 2.0]


def test_two_protocols_of_one_tool_are_not_ranked_but_two_tools_are():
    old = imported("T4", 1, 100.0, tool="trtexec", protocol="trtexec", engine="tensorrt")
    new = imported("A10", 1, 300.0, tool="trtexec", protocol="trtexec-11", engine="tensorrt")
    found = compare([old, new], Asked())
    assert found.ranked == 0 and "protocol trtexec-11 against trtexec" in found.refused[0]
    other = imported("A10", 1, 300.0)
    assert compare([old, other], Asked()).ranked == 1


def test_what_a_device_delivers_end_to_end_stands_on_another_line_than_its_call_alone():
    cases = [imported("310", 1, 100.0), imported("310P", 1, 200.0, basis="end to end")]
    found = compare(cases, Asked())
    assert found.ranked == 0 and "basis" in found.refused[0]
    allowed = compare(cases, Asked(allow=frozenset({"basis"})))
    assert ratios(allowed.lines[0]) == [None, 2.0]
    assert any("basis" in note for note in allowed.lines[0].cells[1].notes)


def test_the_best_batch_of_each_column_is_a_line_of_its_own():
    cases = [imported("310", b, v) for b, v in [(1, 100.0), (4, 250.0), (8, 200.0)]]
    cases += [imported("310P", b, v) for b, v in [(1, 50.0), (4, 200.0), (8, 300.0)]]
    found = compare(cases, Asked())
    assert [line.batch for line in found.lines] == [1, 4, 8, None]
    assert [ratios(line)[1] for line in found.lines] == [0.5, 0.8, 1.5, 1.2]
    assert [c.case.batch for c in found.lines[-1].cells] == [4, 8]


def test_logs_come_before_a_table_and_the_contradiction_is_named():
    cases = [
        imported("310", 1, 1132.6, evidence="table", basis=None),
        imported("310", 1, 1055.5, how="extrapolated", scope="card"),
        imported("310", 1, 263.9, scope="die"),
        imported("310P", 1, 624.5),
        imported("310P", 64, 3108.8, evidence="table", basis=None),
        imported("310", 64, 2487.8, evidence="table", basis=None),
    ]
    found = compare(cases, Asked())
    assert found.columns == ("310", "310P", "310 (one die)")
    first, second, best = found.lines
    assert values(first) == [1055.5, 624.5, 263.9]
    assert "the table says 1,132.6" in first.cells[0].notes and "extrapolated" in first.cells[0].notes
    assert "from a table" in second.cells[0].notes and "precision and basis not stated" in second.cells[0].notes
    assert values(best)[:2] == [1055.5, 624.5], "a claim without a log is nobody's best batch"
    assert "the table says 3,108.8 (batch 64)" in best.cells[1].notes


def test_a_column_of_tables_alone_is_not_set_against_the_logs_of_another():
    """The 310's log covers batch 1, its table batch 16 too; of the 310P there is a table alone."""
    cases = [
        imported("310", 1, 3239.0),
        imported("310", 16, 7797.0, evidence="table", basis=None),
        imported("T4", 1, 1805.0),
        imported("T4", 16, 5922.0, evidence="table", basis=None),
        imported("310P", 1, 2652.0, evidence="table", basis=None),
        imported("310P", 16, 9981.0, evidence="table", basis=None),
    ]
    found = compare(cases, Asked())
    assert found.columns == ("310", "T4", "310P")
    logs, tables = [line for line in found.lines if line.best]
    assert not logs.claimed and values(logs) == [3239.0, 1805.0, None]
    assert tables.claimed and values(tables) == [7797.0, 5922.0, 9981.0]
    assert ratios(tables)[2] == pytest.approx(9981 / 7797, abs=1e-3)

    without = [c for c in cases if (c.device, c.batch) != ("310", 16)] + [imported("310", 4, 3000.0)]
    (line,) = [line for line in compare(without, Asked()).lines if line.claimed]
    assert values(line) == [3239.0, 5922.0, 9981.0], "nothing but logs of the 310: they are what there is"


def test_a_setting_is_part_of_the_configuration():
    found = compare([own(run="a"), own(run="b", threads=4)], Asked())
    assert len(found.lines) == 2 and found.ranked == 0


def test_a_figure_that_was_withheld_divides_nothing():
    failed = Record("measure", {"model": "net", "engine": "openvino"}, status="failed", reason="it hung")
    broken = case_of("b", failed, "throughput", "")
    found = compare(
        [case_of("a", Record("measure", {"model": "net", "engine": "openvino"}), "throughput", ""), broken], Asked()
    )
    assert found.ranked == 0
    assert "it hung" in found.lines[0].cells[1].case.figure.reason


def test_bad_questions_are_errors():
    with pytest.raises(BadInput, match="nothing to compare"):
        compare([], Asked())
    with pytest.raises(UnknownName, match="basiss"):
        compare([own()], Asked(allow=frozenset({"basiss"})))
    with pytest.raises(UnknownName, match="column"):
        compare([own()], Asked(base="T4"))
    with pytest.raises(UnknownName, match="colour"):
        compare([own()], Asked(columns=("colour",)))


def test_another_processor_is_the_device_but_other_cores_are_not():
    a, b = own(), own(device_name="y", environment={"cpu": "y", "cpu_flags": []})
    assert differences(a, b) == {}
    assert "environment" in differences(a, own(device_name="y", environment={"cpu": "y", "cores_granted": 8.0}))
    assert "cpu" in differences(a, own(environment={"cpu": "z"}))["environment"]


def test_other_sizes_of_a_free_dim_are_other_data():
    one, two = (imported("T4", 1, 100.0, sizes={"words": words, "rows": 8}) for words in (22, 44))
    assert differences(one, two) == {"data": "sizes words=22, rows=8 against words=44, rows=8"}
    assert differences(one, imported("T4", 1, 100.0)) == {}


def test_a_tuple_read_back_as_a_list_is_no_difference():
    assert differences(own(), own(environment={"cpu_flags": ("avx2",)})) == {}


def test_of_times_a_table_that_claims_less_is_noted():
    def timed(batch, seconds, evidence):
        case = imported("T4", batch, 1.0, evidence=evidence)
        figure = Figure(seconds, "s")
        return replace(case, figure=figure, record=replace(case.record, figures={"latency.p50": figure}))

    cases = [timed(1, 0.010, "log"), timed(2, 0.020, "log"), timed(4, 0.005, "table"), timed(8, 0.05, "table")]
    (best,) = [line for line in compare(cases, Asked(figure="latency.p50")).lines if line.best]
    assert best.cells[0].case.value == 0.010
    assert [note for note in best.cells[0].notes if "says" in note] == ["the table says 0.005 (batch 4)"]
