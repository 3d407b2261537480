"""What a report shows besides the table, from Records as the verbs write them, and from broken ones."""

import json

import numpy as np
import pytest

from assay.core.compare import compare
from assay.core.record import Record
from assay.job.report_evidence import MOST_OPERATORS, diagnoses_beside, evidence_of
from assay.pipeline.rates import Rates, StageRate

SUBJECT = {"engine": "openvino", "precision": "bf16", "batch": 32}


def evaluated(**details):
    return Record("evaluate", SUBJECT, details=details)


def test_the_pipeline_as_evaluate_records_it(tmp_path):
    stages = {
        "post": StageRate("post", 50.0, 0.0032, 0.01),
        "read": StageRate("read", 9000.0, 0.0001, 0.2),
        "infer": StageRate("infer", 1600.0, 0.0011, 0.8, 1800.0),
        "preprocess": StageRate("preprocess", 2000.0, 0.0009, 0.7),
    }
    told = json.loads(json.dumps(Rates(1500.0, 2.0, 3000, 0.02, stages).to_json()))
    record = evaluated(pipeline=told, bottleneck={"stage": "infer", "why": "it is slow"})
    (found,) = evidence_of(tmp_path, [record]).waterfalls
    assert [s.name for s in found.stages] == ["read", "preprocess", "infer", "post"]
    assert found.stages[2].start_s == pytest.approx(0.001)
    assert (found.stages[2].alone_rate, found.rate) == (1800.0, 1500.0)
    assert found.stages[3].busy_s == pytest.approx(0.0001), "a batch of 32 costs 3.2 ms"
    assert found.stages[3].rate == 1600.0
    assert found.bottleneck == "infer holds it back: it is slow"


@pytest.mark.parametrize(
    "told", [None, {}, [], {"stages": {}}, {"stages": []}, {"stages": {"infer": {}}}, {"stages": {"infer": "fast"}}]
)
def test_no_pipeline(tmp_path, told):
    assert evidence_of(tmp_path, [evaluated(pipeline=told)]).waterfalls == ()


def test_error_histograms_of_the_largest_batch(tmp_path):
    rng = np.random.default_rng(0)
    exact = {"y": rng.normal(size=(4, 25))}
    found = {b: compare(exact, {"y": exact["y"] + 2.0**-b}) for b in (2, 8)}
    outputs = {str(b): {name: m.to_json() for name, m in table.items()} for b, table in found.items()}
    record = Record("verify", SUBJECT, details=json.loads(json.dumps({"outputs": outputs})))
    failed = Record("verify", SUBJECT, status="failed", reason="it crashed", details={"outputs": outputs})
    (errors,) = evidence_of(tmp_path, [record, failed]).errors
    assert (errors.batch, errors.output, errors.n, errors.equal) == ("8", "y", 100, 0)
    assert sum(count for _, count in errors.counts) == 100
    assert {e for e, _ in errors.counts} <= {-9, -8}
    assert evidence_of(tmp_path, [Record("verify", SUBJECT, details={"outputs": {"1": {"y": {}}}})]).errors == ()


def diagnosed(pieces, guilty=()):
    row = {"name": "optimiser", "state": "beyond its due", "added": 0.1, "due": 1e-6, "total": 0.1, "text": ""}
    details = {"stages": [row], "guilty_stage": "optimiser", "guilty": list(guilty), "pieces": pieces, "notes": ["n"]}
    return Record("diagnose", SUBJECT, details=details)


def piece(i, **more):
    nodes = [{"name": f"conv{i}", "op": "Conv"}]
    return {"tensor": f"t{i}", "nodes": nodes, "local": None, "accumulated": 1e-3, "due": 1e-6, **more}


def test_operators_with_the_guilty_ones_marked(tmp_path):
    origin = {"module": "net.stem", "aten": None, "line": "model.py:12"}
    bad = piece(3, local=0.2, origins={"conv3": origin})
    (found,) = evidence_of(tmp_path, [diagnosed([piece(i) for i in range(3)] + [bad], [bad])]).divergences
    assert [o.guilty for o in found.operators] == [False, False, False, True]
    assert (found.operators[3].local, found.operators[3].origin) == (0.2, "net.stem, model.py:12")
    assert (found.stages[0].state, found.guilty, found.notes) == ("beyond its due", "optimiser", ("n",))
    many = evidence_of(tmp_path, [diagnosed([piece(i) for i in range(1000)])]).divergences[0]
    assert len(many.operators) == MOST_OPERATORS


def test_infinite_errors_come_back_as_text_and_are_left_out(tmp_path):
    (found,) = evidence_of(tmp_path, [diagnosed([piece(0, accumulated="inf", local="nan")])]).divergences
    assert (found.operators[0].accumulated, found.operators[0].local) == (None, None)


def test_diagnoses_written_beside_the_run(tmp_path):
    record = diagnosed([piece(0)])
    result = {"schema": "assay.result/1", "verb": "diagnose", "records": [record.to_json()]}
    (tmp_path / "diagnose.json").write_text(json.dumps(result))
    (tmp_path / "diagnose").mkdir()
    (tmp_path / "diagnose" / "bf16.json").write_text(json.dumps(result))
    for number, text in enumerate(("", "[]", "{}", '{"records": [{}]}', '{"records": 3}')):
        (tmp_path / f"diagnose-{number}.json").write_text(text)
    assert [r.id for r in diagnoses_beside(tmp_path)] == [record.id, record.id]


@pytest.mark.parametrize("odd", [5, "text", True, {"a": 1}, [3, None, [], {"tensor": [1]}]])
def test_a_diagnosis_of_other_kinds_gives_what_can_be_read(tmp_path, odd):
    """``diagnose.json`` may be anybody's."""
    names = ("guilty", "pieces", "notes", "guilty_stage", "stages")
    for name in names:
        details = {"stages": [{"name": "a", "added": 10**400}], **{name: odd}}
        record = Record("diagnose", {"engine": "e"}, details=details)
        for divergence in evidence_of(tmp_path, [record]).divergences:
            assert all(row.added is None for row in divergence.stages)
