"""Dice and IoU in two and three dims, against scikit-learn's, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score

from assay.core.dataset import Scored
from assay.core.errors import BadInput
from assay.core.tensors import Signature, TensorSpec
from assay.tasks import TaskOptions, fitting, open_task

RNG = np.random.default_rng(1)


def one_hot(mask: Any, classes: int) -> Any:
    return np.moveaxis(np.eye(classes, dtype=np.float32)[mask], -1, 0)


@pytest.mark.parametrize("sizes", [(9, 11), (4, 5, 6)])
def test_scores_are_scikit_learns(sizes: tuple[int, ...]) -> None:
    labels = [RNG.integers(0, 4, sizes) for _ in range(5)]
    masks = [np.where(RNG.random(sizes) < 0.7, label, RNG.integers(0, 4, sizes)) for label in labels]
    task = open_task("segmentation")
    scored = task.score(list("abcde"), {"y": np.stack([one_hot(m, 4) for m in masks])}, labels)
    for sample, mask, label in zip(scored, masks, labels, strict=True):
        kind: dict[str, Any] = {"labels": [1, 2, 3], "average": "macro"}
        assert sample.row["dice"] == pytest.approx(f1_score(label.ravel(), mask.ravel(), **kind))
        assert sample.row["iou"] == pytest.approx(jaccard_score(label.ravel(), mask.ravel(), **kind))
    found = task.figures([Scored(s.id, json.loads(json.dumps(dict(s.row)))) for s in scored])
    everything = [np.concatenate([a.ravel() for a in part]) for part in (labels, masks)]
    assert found["miou"].value == pytest.approx(jaccard_score(*everything, average="macro"))
    assert found["pixel_accuracy"].value == pytest.approx(np.mean(everything[0] == everything[1]))
    assert found["dice"].value == pytest.approx(np.mean([s.row["dice"] for s in scored]))
    assert list(found) == ["dice", "iou", "dice.1", "dice.2", "dice.3", "miou", "pixel_accuracy"]


def test_one_channel_is_foreground_above_its_middle() -> None:
    task = open_task("segmentation")
    label = np.array([[0, 1], [1, 1]], np.uint8)
    for scores in ([[0.2, 0.9], [0.6, 0.4]], [[-3, 0.4], [2, -1]]):
        (sample,) = task.score(["a"], {"y": np.array([[scores]], np.float32)}, [label])
        assert sample.row["dice"] == pytest.approx(2 * 2 / 5)


def test_empty_and_ignored_pixels() -> None:
    task = open_task("segmentation")
    nothing = np.zeros((2, 2), np.int64)
    (agreed,) = task.score(["a"], {"y": one_hot(nothing, 3)[None]}, [nothing])
    assert (agreed.row["dice"], agreed.row["iou"]) == (1, 1)
    label = np.array([[1, 255], [0, 255]])
    (ignored,) = task.score(["a"], {"y": one_hot(np.array([[1, 2], [0, 2]]), 3)[None]}, [label])
    assert ignored.row["dice"] == 1
    assert ignored.row["counts"]["2"] == [0, 0, 0]
    (unlabelled,) = task.score(["a"], {"y": one_hot(nothing, 3)[None]}, [nothing + 255])
    assert task.figures([unlabelled])["miou"].value is None


def test_nan_counts_as_wrong() -> None:
    task = open_task("segmentation")
    label = np.array([[1, 0], [0, 1]])
    scores = one_hot(label, 2)
    scores[0, 0, 0] = np.nan
    (sample,) = task.score(["a"], {"y": scores[None]}, [label])
    assert (sample.row["dice"], sample.row["reason"]) == (0, "the output holds NaN")
    assert "1 of 1 outputs hold NaN" in (task.figures([sample])["dice"].reason or "")


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (np.zeros((3, 2), np.int64), "mask has shape"),
        (np.full((2, 2), 3), "holds class 3, the model has 3 classes"),
        (np.full((2, 2), -1), "holds class"),
        (np.zeros((2, 2)), "array of class numbers"),
        (None, "array of class numbers"),
    ],
)
def test_labels_that_cannot_be_right(target: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        open_task("segmentation").score(["a"], {"y": np.zeros((1, 3, 2, 2), np.float32)}, [target])


def test_nothing_passes_vacuously() -> None:
    task = open_task("segmentation")
    mask = np.zeros((1, 3, 2, 2), np.float32)
    with pytest.raises(BadInput, match="no samples"):
        task.score([], {"y": mask}, [])
    with pytest.raises(BadInput, match="no samples"):
        task.figures([])
    with pytest.raises(BadInput, match="there is none"):
        task.score(["a"], {"y": np.zeros((1, 3), np.float32)}, [1])
    with pytest.raises(BadInput, match="several fit"):
        task.score(["a"], {"y": mask, "z": mask}, [mask])
    with pytest.raises(BadInput, match="no output 'q'"):
        open_task("segmentation", TaskOptions(output="q")).score(["a"], {"y": mask}, [mask])


def signature(*shape: Any, dtype: str = "float32") -> Signature:
    return Signature((TensorSpec("x", "float32", ("n", 3)),), (TensorSpec("y", dtype, shape),))


@pytest.mark.parametrize(
    ("model", "target", "expected"),
    [
        (signature("n", 10), 3, "classification"),
        (signature("n", 10), np.int64(3), "classification"),
        (signature("n", 10, dtype="int64"), 3, None),
        (signature("n", 3, 8, 8), np.zeros((8, 8, 3), np.uint8), "super_resolution"),
        (signature("n", 3, 8, 8), {"original": np.zeros((8, 8, 3), np.uint8)}, "super_resolution"),
        (signature("n", 4, 8, 8), np.zeros((8, 8), np.uint8), "segmentation"),
        (signature("n", 4, 8, 8, 8), np.zeros((8, 8, 8), np.int64), "segmentation"),
        (signature("n", 4, 8, 8), np.zeros((8, 8)), None),
        (signature("n", 4), "a text", None),
    ],
)
def test_which_task_fits(model: Signature, target: Any, expected: str | None) -> None:
    assert fitting(model, target) == expected


def test_what_is_wrong_with_a_label_is_named() -> None:
    task = open_task("segmentation")
    outputs = {"y": one_hot(np.zeros((1, 3, 3), np.int64), 3).transpose(1, 0, 2, 3)}
    label = np.zeros((3, 3), np.int64)
    label[1, 1] = -100
    with pytest.raises(BadInput, match=r"holds class -100, the model has 3 classes"):
        task.score(["a"], outputs, [label])
    with pytest.raises(BadInput, match="not one of float32"):
        task.score(["a"], outputs, [label.astype(np.float32)])


def test_pooled_figures_are_withheld_together() -> None:
    task = open_task("segmentation")
    outputs = {"y": one_hot(np.zeros((1, 3, 3), np.int64), 2).transpose(1, 0, 2, 3)}
    figures = task.figures(task.score(["a"], outputs, [np.full((3, 3), 255)]))
    assert figures["miou"].value is figures["pixel_accuracy"].value is None
    assert figures["pixel_accuracy"].reason == "no pixel has a class"
