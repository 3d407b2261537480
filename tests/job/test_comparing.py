"""Runs loaded from their folders and compared: speeds as cases, accuracies paired by stored predictions."""

import json
from pathlib import Path

import pytest

from assay.core.dataset import Scored
from assay.core.errors import BadInput
from assay.core.record import Figure, Record
from assay.job.comparing import cases_of, joint_report, load_runs, names_of, paired_accuracies
from assay.judge.compare_runs import Asked, compare
from assay.measure.predictions import save_predictions

SUBJECT = {"model": "net", "candidate": "c", "engine": "openvino", "precision": "fp32", "device_name": "cpu"}


def rate(value: float) -> dict[str, Figure]:
    return {
        "throughput": Figure(value, "samples/s", 0.99 * value, 1.01 * value, 0.95, 500),
        "latency.p50": Figure(1 / value, "s", 0.99 / value, 1.01 / value, 0.95, 500),
    }


def write(folder: Path, records: list[Record]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "records.jsonl").write_text("".join(json.dumps(r.to_json()) + "\n" for r in records))
    return folder


def run(
    folder: Path, speed: float = 100.0, wrong: tuple[int, ...] = (), identity: str = "d", verified: bool = True
) -> Path:
    """A run with one candidate: verified, evaluated on 200 samples, measured in both scenarios and confirmed."""
    folder.mkdir(parents=True)
    scored = [
        Scored(str(i), {"top": i, **({"target": i} if identity != "other" else {})}, i not in wrong) for i in range(200)
    ]
    raw = save_predictions(folder, "p", scored)
    conditions = {"data": "digits", "identity": identity, "samples": 200}
    top1 = {"accuracy.top1": Figure(1 - len(wrong) / 200, "fraction")}
    records = [Record("verify", SUBJECT, details={"class": "equal"})] if verified else []
    records.append(Record("evaluate", SUBJECT, figures=top1, conditions=conditions, raw=raw))
    for scenario, value in (("latency", speed / 2), ("offline", speed)):
        case = {"scenario": scenario, "batch": 8}
        records.append(Record("measure", SUBJECT, figures=rate(9 * value), conditions=case))
        records.append(Record("confirm", SUBJECT, figures=rate(value), conditions=case))
    return write(folder, records)


def test_a_rate_is_read_with_every_stream_busy_and_a_latency_from_one_caller(tmp_path: Path) -> None:
    runs = load_runs([run(tmp_path / "a")])
    (case,) = cases_of(runs, "throughput")
    assert (case.value, case.scenario, case.record.kind) == (100.0, "offline", "confirm")
    assert case.state == "top1 100.00 %"
    (case,) = cases_of(runs, "latency.p50")
    assert (case.value, case.scenario) == (1 / 50.0, "latency")


def test_a_speed_that_was_never_compared_with_the_reference_is_withheld(tmp_path: Path) -> None:
    (case,) = cases_of(load_runs([run(tmp_path / "a", verified=False)]), "throughput")
    assert case.value is None and "numerics not checked" in (case.figure.reason or "")


def test_two_runs_are_compared_and_their_accuracy_is_paired(tmp_path: Path) -> None:
    runs = load_runs([run(tmp_path / "a", wrong=(1,)), run(tmp_path / "b", 200.0, wrong=tuple(range(1, 21)))])
    found = compare(cases_of(runs, "throughput"), Asked())
    assert found.columns == ("a", "b")
    cell = found.lines[0].cells[1]
    assert cell is not None and cell.ratio is not None and cell.ratio.value == pytest.approx(2.0)
    (pair,) = paired_accuracies(runs)
    assert pair.drop.value == pytest.approx(19 / 200)
    assert pair.drop.low is not None and pair.drop.low > 0.04
    assert pair.mcnemar_p is not None and pair.mcnemar_p < 1e-4


def test_accuracies_on_other_samples_or_changed_files_are_not_paired(tmp_path: Path) -> None:
    runs = load_runs([run(tmp_path / "a"), run(tmp_path / "b", identity="other")])
    (pair,) = paired_accuracies(runs)
    assert pair.drop.value is None and "identity" in (pair.drop.reason or "")
    runs = load_runs([tmp_path / "a", run(tmp_path / "c")])
    (tmp_path / "c" / "samples" / "p.jsonl.gz").write_bytes(b"changed")
    (pair,) = paired_accuracies(runs)
    assert pair.drop.value is None and "changed" in (pair.drop.reason or "")
    assert paired_accuracies(runs[:1]) == []


def test_a_copy_of_the_data_is_paired_when_ids_and_targets_agree(tmp_path: Path) -> None:
    runs = load_runs([run(tmp_path / "a"), run(tmp_path / "b", wrong=(3,), identity="a copy")])
    (pair,) = paired_accuracies(runs)
    assert pair.drop.value == pytest.approx(1 / 200)
    assert pair.note and "same id and target" in pair.note


def test_imported_accuracies_count_at_their_own_batch_size(tmp_path: Path) -> None:
    imported = {"imported": True, "batch": 1, "basis": "device-only"}
    top1 = {"accuracy.top1": Figure(0.7785, "fraction")}
    records = [
        Record("measure", SUBJECT, figures=rate(10.0), conditions=imported),
        Record("measure", SUBJECT, figures=rate(20.0), conditions={**imported, "batch": 8}),
        Record("evaluate", SUBJECT, figures=top1, conditions={"imported": True, "batch": 1}),
    ]
    states = {c.batch: c.state for c in cases_of(load_runs([write(tmp_path / "logs", records)]), "throughput")}
    assert states == {1: "top1 77.85 %", 8: "not checked"}


def test_a_folder_of_runs_stands_for_all_of_them(tmp_path: Path) -> None:
    run(tmp_path / "x" / "a")
    run(tmp_path / "x" / "b")
    assert names_of(load_runs([tmp_path / "x"])) == ["a", "b"]
    run(tmp_path / "y" / "a")
    assert names_of(load_runs([tmp_path / "x" / "a", tmp_path / "y" / "a"])) == ["x/a", "y/a"]


def test_no_run_and_the_same_run_twice_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="no run"):
        load_runs([tmp_path / "empty"])
    with pytest.raises(BadInput, match="no folder"):
        load_runs([tmp_path / "none"])
    path = run(tmp_path / "a")
    with pytest.raises(BadInput, match="named twice"):
        load_runs([path, path])


def test_runs_of_one_name_in_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    places = [tmp_path / machine / "runs" / "net" for machine in ("one", "two")]
    runs = load_runs([run(place) for place in places])
    assert names_of(runs) == ["one/runs/net", "two/runs/net"]
    assert names_of(runs[:1]) == ["net"]
    report = joint_report(runs, None)
    assert {r.subject["run"] for r in report.records} == {"one/runs/net", "two/runs/net"}
