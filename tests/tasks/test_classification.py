"""Top-k accuracy: values by hand, ties and NaN against the model, and refusals."""

from __future__ import annotations

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score

from assay.core.dataset import Scored, Task
from assay.core.errors import BadInput, UnknownName
from assay.core.stats import wilson
from assay.tasks import TASKS, TaskOptions, open_task
from assay.tasks.classification import confusion_matrix, per_class_accuracy


def score(scores: Any, targets: Any, **options: Any) -> list[Scored]:
    array = np.asarray(scores, dtype=np.float32)
    task = open_task("classification", TaskOptions(**options))
    return task.score([f"s{i}" for i in range(len(array))], {"output": array}, targets)


def figures(scored: list[Scored]) -> Any:
    return open_task("classification").figures(scored)


def test_values_by_hand() -> None:
    scored = score([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.4, 0.5, 0.1]], [1, 1, 0, 0])
    assert [s.row for s in scored][:2] == [
        {"id": "s0", "target": 1, "rank": 0, "top5": [1, 2, 0], "score": pytest.approx(0.7), "correct": True},
        {"id": "s1", "target": 1, "rank": 1, "top5": [0, 1, 2], "score": pytest.approx(0.5), "correct": False},
    ]
    assert [s.correct for s in scored] == [True, False, False, False]
    found = figures(scored)
    assert {k: f.value for k, f in found.items()} == {
        "accuracy.top1": 0.25,
        "accuracy.top2": 0.75,
        "accuracy.top3": 1.0,
        "error@1": 0.75,
    }
    assert open_task("classification").primary in found
    assert all(f.unit == "fraction" and f.n == 4 and f.reason is None for f in found.values())
    expected = wilson(1, 4)
    assert (found["accuracy.top1"].low, found["accuracy.top1"].high) == (expected.low, expected.high)
    assert found["error@1"].low == pytest.approx(1 - expected.high)
    json.dumps([s.row for s in scored], allow_nan=False)


def test_five_figures_and_both_errors_from_five_classes_on() -> None:
    found = figures(score(np.eye(12), range(12)))
    assert list(found) == [f"accuracy.top{k}" for k in range(1, 6)] + ["error@1", "error@5"]
    assert found["error@5"].value == 0


@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.integers(1, 30))
def test_without_ties_it_is_what_scikit_learn_says(seed: int, classes: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    scores = np.stack([rng.permutation(classes) for _ in range(rows)])
    targets = rng.integers(0, classes, rows)
    found = figures(score(scores, targets))
    for k in range(1, min(5, classes) + 1):
        if k < classes and classes > 2:  # scikit-learn warns or refuses elsewhere
            expected = top_k_accuracy_score(targets, scores, k=k, labels=range(classes))
            assert found[f"accuracy.top{k}"].value == pytest.approx(expected)
    assert found[f"accuracy.top{min(5, classes)}"].value == 1 or classes > 5


@given(st.lists(st.integers(0, 3), min_size=3, max_size=8), st.integers(0, 2))
def test_ties_go_against_the_model(scores: list[int], target: int) -> None:
    row = score([scores], [target])[0].row
    rivals = sum(s >= scores[target] for i, s in enumerate(scores) if i != target)
    assert row["rank"] == rivals
    assert sorted(row["top5"], key=lambda c: -scores[c]) == row["top5"]
    assert (target in row["top5"]) == (rivals < 5)
    if target in row["top5"]:
        assert row["top5"].index(target) == rivals


def test_a_constant_output_is_never_right() -> None:
    found = figures(score(np.zeros((20, 10)), [i % 10 for i in range(20)]))
    assert found["accuracy.top1"].value == found["accuracy.top5"].value == 0


def test_nan_is_wrong_and_said() -> None:
    nan, inf = float("nan"), float("inf")
    scored = score([[nan, 5, 1], [5, 1, nan], [inf, 1, -inf], [nan] * 3], [1, 0, 0, 2])
    assert [s.correct for s in scored] == [False, False, True, False]
    assert scored[0].row["reason"] == "1 of 3 scores are NaN"
    assert scored[3].row["reason"] == "3 of 3 scores are NaN"
    assert scored[2].row["score"] is None  # infinity is no JSON
    found = figures(scored)
    assert found["accuracy.top1"].value == 0.25
    assert found["accuracy.top3"].value == 0.25
    assert found["accuracy.top1"].reason == "3 of 4 rows hold NaN and count as wrong"
    json.dumps([s.row for s in scored], allow_nan=False)


def test_rows_that_were_written_and_read_again_give_the_same() -> None:
    scored = score(np.random.default_rng(0).random((9, 7)), [i % 7 for i in range(9)])
    rows = json.loads(json.dumps([dict(s.row) for s in scored]))
    assert figures([Scored(r["id"], r, r["correct"]) for r in rows]) == figures(scored)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_every_float_dtype(dtype: str) -> None:
    array = np.eye(4).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    scored = open_task("classification").score(list("abcd"), {"p": array}, [0, 1, 2, 3])
    assert all(s.correct for s in scored)


@pytest.mark.parametrize("target", [2, np.int64(2), np.array(2), np.uint8(2)])
def test_kinds_of_labels(target: Any) -> None:
    row = score([[0, 0, 1]], [target])[0].row
    assert row["correct"] is True
    assert type(row["target"]) is int


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (3, "s0 has the label 3, but the model has the 3 classes 0 … 2"),
        (-1, "s0 has the label -1"),
        (None, "s0 has no label"),
        (1.0, "whole number, not 1.0"),
        (True, "whole number, not True"),
        ("cat", "whole number, not 'cat'"),
        (np.array([1, 0]), "whole number"),
    ],
)
def test_labels_that_cannot_be_right(target: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        score([[0, 0, 1]], [target])


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ({}, "the outputs are none"),
        ({"a": np.zeros((1, 3), np.int64)}, r"a: int64 \(1, 3\)"),
        ({"a": np.zeros((1, 3, 1), np.float32)}, "needs a float output"),
        ({"a": np.zeros((1, 1), np.float32)}, "two classes or more"),
        ({"a": np.zeros((1, 3), np.float32), "b": np.zeros((1, 4), np.float32)}, "several outputs .*: a, b"),
    ],
)
def test_outputs_that_are_no_scores(outputs: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        open_task("classification").score(["s"], outputs, [0])


def test_one_of_several_outputs_can_be_named() -> None:
    outputs = {
        "a": np.eye(3, dtype=np.float32)[:1],
        "b": np.eye(3, dtype=np.float32)[2:],
        "n": np.zeros((1, 3), np.int32),
    }
    for name, right in (("a", True), ("b", False)):
        task = open_task("classification", TaskOptions(output=name))
        assert task.score(["s"], outputs, [0])[0].correct is right
    with pytest.raises(BadInput, match="no output 'c'"):
        open_task("classification", TaskOptions(output="c")).score(["s"], outputs, [0])
    with pytest.raises(BadInput, match="'n' is no table of scores"):
        open_task("classification", TaskOptions(output="n")).score(["s"], outputs, [0])


def test_nothing_passes_vacuously() -> None:
    task = open_task("classification")
    with pytest.raises(BadInput, match="no samples"):
        task.score([], {"a": np.zeros((0, 3), np.float32)}, [])
    with pytest.raises(BadInput, match="no samples"):
        task.figures([])
    with pytest.raises(BadInput, match="2 samples, 1 labels and 2 rows"):
        task.score(["a", "b"], {"a": np.zeros((2, 3), np.float32)}, [1])
    with pytest.raises(BadInput, match="no samples"):
        confusion_matrix([], 3)
    with pytest.raises(BadInput, match="no samples"):
        per_class_accuracy([])


def test_confusion_matrix_and_accuracy_per_class() -> None:
    nan = float("nan")
    scored = score([[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [nan, 0, 0]], [0, 0, 1, 2, 1])
    matrix = confusion_matrix(scored, 3)
    assert matrix.counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert matrix.invalid == 1
    found = per_class_accuracy(scored, ["cat", "dog", "cow", "unused"])
    assert {k: (f.value, f.n) for k, f in found.items()} == {"cat": (0.5, 2), "dog": (0.5, 2), "cow": (1.0, 1)}
    assert list(per_class_accuracy(scored)) == ["0", "1", "2"]
    assert list(per_class_accuracy(scored, ["crane", "dog", "crane"])) == ["crane (0)", "dog (1)", "crane (2)"]
    with pytest.raises(BadInput, match="matrix of 2 classes"):
        confusion_matrix(scored, 2)
    with pytest.raises(BadInput, match="2 labels, but a sample of class 2"):
        per_class_accuracy(scored, ["cat", "dog"])


def test_every_task_of_the_table_is_one() -> None:
    for name in TASKS:
        task = open_task(name, TaskOptions(metric=lambda outputs, targets: 0.0))
        assert isinstance(task, Task)
        assert task.name == name
    with pytest.raises(UnknownName, match="no task named 'clasification'") as caught:
        open_task("clasification")
    assert "classification" in (caught.value.remedy or "")
