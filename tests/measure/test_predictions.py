import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.dataset import Scored
from assay.core.errors import BadInput, StorageFailed
from assay.core.stats import mcnemar_exact, paired_score_interval
from assay.measure.predictions import compare_predictions, read_predictions, save_predictions


def rows(right):
    return [Scored(f"s{i}", {"predicted": int(r)}, r) for i, r in enumerate(right)]


def test_round_trip(tmp_path):
    scored = [*rows([True, False]), Scored("π", {"text": "ä", "psnr": 31.5}, None)]
    raw = save_predictions(tmp_path, "predictions-abc", scored)
    assert (raw.path, raw.unit) == ("samples/predictions-abc.jsonl.gz", "row")
    assert read_predictions(tmp_path / raw.path, raw.sha256) == scored
    assert save_predictions(tmp_path, "again", scored).sha256 == raw.sha256


def test_a_name_of_the_users_own(tmp_path):
    raw = save_predictions(tmp_path, "mine.jsonl", rows([True]), exact_name=True)
    assert raw.path == "mine.jsonl"
    assert read_predictions(tmp_path / "mine.jsonl") == rows([True])


def test_numpy_values_in_rows(tmp_path):
    import numpy as np

    raw = save_predictions(tmp_path, "n", [Scored("a", {"top5": np.arange(2), "p": np.float32(0.5)}, True)])
    assert read_predictions(tmp_path / raw.path)[0].row == {"top5": [0, 1], "p": 0.5}


def test_missing_changed_and_broken_files(tmp_path):
    path = tmp_path / save_predictions(tmp_path, "p", rows([True])).path
    with pytest.raises(BadInput, match="was changed"):
        read_predictions(path, "0" * 64)
    with pytest.raises(BadInput, match="no predictions at"):
        read_predictions(tmp_path / "none")
    for content in (path.read_bytes()[:-9], b"\x1f\x8bnonsense"):
        path.write_bytes(content)
        with pytest.raises(BadInput, match="does not hold predictions"):
            read_predictions(path)
    (tmp_path / "t.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(BadInput, match="does not hold predictions"):
        read_predictions(tmp_path / "t.jsonl")


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "samples").write_text("in the way")
    with pytest.raises(StorageFailed):
        save_predictions(tmp_path, "p", rows([True]))


def test_paired_counts_drop_and_flips():
    found = compare_predictions(rows([True] * 8 + [False] * 2), rows([False] * 3 + [True] * 6 + [False]))
    assert (found.n, found.only_reference, found.only_candidate) == (10, 3, 1)
    assert found.drop.value == pytest.approx(0.2)
    expected = paired_score_interval(3, 1, 10)
    assert (found.drop.low, found.drop.high, found.drop.n) == (expected.low, expected.high, 10)
    assert found.mcnemar_p == mcnemar_exact(3, 1)
    assert [(f.id, f.lost) for f in found.flips] == [("s0", True), ("s1", True), ("s2", True), ("s8", False)]
    assert found.flips[0].reference == {"predicted": 1}
    data = found.to_json()
    assert (data["flips"], data["lost"], data["won"]) == (4, 3, 1)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_the_drop_is_the_difference_of_the_two_accuracies(pairs):
    first, second = rows([a for a, _ in pairs]), rows([b for _, b in pairs])
    found = compare_predictions(first, second[::-1])  # matched by id, whatever the order
    assert found.drop.value == pytest.approx(
        sum(a for a, _ in pairs) / len(pairs) - sum(b for _, b in pairs) / len(pairs)
    )
    assert found.drop.low <= found.drop.value + 0.5
    back = compare_predictions(second, first)
    assert back.drop.value == pytest.approx(-found.drop.value)
    assert back.mcnemar_p == found.mcnemar_p


def test_the_same_samples_are_required():
    with pytest.raises(BadInput, match=r"1 samples were scored on one side only \(s2\)"):
        compare_predictions(rows([True] * 3), rows([True] * 2))
    with pytest.raises(BadInput, match="reference has no predictions"):
        compare_predictions([], rows([True]))
    with pytest.raises(BadInput, match="more than once in the candidate"):
        compare_predictions(rows([True]), rows([True]) * 2)


def test_a_task_without_right_and_wrong():
    scored = [Scored("a", {"psnr": 30.0})]
    found = compare_predictions(scored, scored)
    assert found.drop.value is None
    assert "right from wrong" in found.drop.reason
    assert found.mcnemar_p is None


@pytest.mark.parametrize(
    "line", ['{"id": 1, "row": 5, "correct": true}', '{"id": 1, "row": {}, "correct": "yes"}', "[1]"]
)
def test_lines_that_are_no_predictions(tmp_path, line):
    (tmp_path / "p.jsonl").write_text(line + "\n")
    with pytest.raises(BadInput, match="does not hold predictions"):
        read_predictions(tmp_path / "p.jsonl")


def test_only_a_new_line_ends_a_line(tmp_path):
    (tmp_path / "p.jsonl").write_bytes('{"id": "a\u2028b\x85c", "row": {}, "correct": null}\r\n\n'.encode())
    assert [s.id for s in read_predictions(tmp_path / "p.jsonl")] == ["a\u2028b\x85c"]
