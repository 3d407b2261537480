"""Classification: is the right class among the first k?

Ties are broken against the model: a target counts as ranked below every other class that scores
as high, so that a constant output is never right.  (An arbitrary order of equal scores would give
such a model whatever the sort happens to do.)  A row with NaN among its scores is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.core.dataset import Scored
from assay.core.errors import BadInput
from assay.core.record import Figure
from assay.core.stats import wilson
from assay.core.tensors import Array
from assay.tasks.options import TaskOptions

MOST = 5


class Classification:
    """Targets are class indices 0 … C−1, outputs scores (N, C) of any float dtype, higher for likelier."""

    name = "classification"
    primary = "accuracy.top1"
    higher_is_better = True

    def __init__(self, options: TaskOptions) -> None:
        self._output = options.output

    def score(self, ids: Sequence[str], outputs: Mapping[str, Array], targets: Sequence[Any]) -> list[Scored]:
        """One row per sample: ``id``, ``target``, ``rank`` (0 is best), ``top5`` (class indices, best first),
        ``score`` (of the best class), ``correct``; with NaN also ``reason``, and no rank or score.

        Raises BadInput for no samples, unequal counts, a missing label and one outside the classes.
        """
        scores = select_scores(outputs, self._output)
        if not ids:
            raise BadInput("no samples to score")
        if not len(ids) == len(targets) == len(scores):
            raise BadInput(f"{len(ids)} samples, {len(targets)} labels and {len(scores)} rows of scores do not fit")
        wide = scores.astype(np.float64)
        labels = [_label(id, target, wide.shape[1]) for id, target in zip(ids, targets, strict=True)]
        return _score_rows(ids, wide, labels)

    def figures(self, scored: Sequence[Scored]) -> dict[str, Figure]:
        """``accuracy.top1`` … ``accuracy.top5`` (no more than there are classes), ``error@1``, ``error@5``;
        fractions with Wilson's interval."""
        if not scored:
            raise BadInput("no samples were scored, so there is no accuracy")
        n = len(scored)
        ranks = [s.row["rank"] for s in scored]
        broken = sum(r is None for r in ranks)
        reason = _what_is_wrong(broken, sum(bool(s.row.get("lost")) for s in scored), n)
        deepest = max(len(s.row["top5"]) for s in scored)
        figures: dict[str, Figure] = {}
        for k in range(1, deepest + 1):
            right = sum(r is not None and r < k for r in ranks)
            figures[f"accuracy.top{k}"] = _proportion(right, n, reason)
        for k in (1, 5):
            if k <= deepest:
                right = sum(r is not None and r < k for r in ranks)
                figures[f"error@{k}"] = _proportion(n - right, n, reason)
        return figures


def classification(options: TaskOptions) -> Classification:
    return Classification(options)


@dataclass(frozen=True)
class ConfusionMatrix:
    """``counts[target, predicted]``, int64 (classes, classes).

    ``invalid`` counts rows with NaN, which have no prediction and stand nowhere in ``counts``.
    """

    counts: Array
    invalid: int


def confusion_matrix(scored: Sequence[Scored], classes: int) -> ConfusionMatrix:
    """Raises BadInput for no samples and for a class index outside ``classes``."""
    if not scored:
        raise BadInput("no samples were scored, so there is no confusion matrix")
    counts = np.zeros((classes, classes), dtype=np.int64)
    invalid = 0
    for sample in scored:
        if sample.row["rank"] is None:
            invalid += 1
            continue
        target, predicted = sample.row["target"], sample.row["top5"][0]
        if not (target < classes and predicted < classes):
            raise BadInput(f"{sample.id}: class {max(target, predicted)} in a matrix of {classes} classes")
        counts[target, predicted] += 1
    return ConfusionMatrix(counts, invalid)


def per_class_accuracy(scored: Sequence[Scored], labels: Sequence[str] | None = None) -> dict[str, Figure]:
    """Label (or the class index as text) -> top-1 accuracy over the samples of that class.

    Classes without samples are absent.  Raises BadInput for no samples and for too few labels.
    """
    if not scored:
        raise BadInput("no samples were scored, so there is no accuracy per class")
    total = Counter(s.row["target"] for s in scored)
    right = Counter(s.row["target"] for s in scored if s.correct)
    if labels is not None and max(total) >= len(labels):
        raise BadInput(f"there are {len(labels)} labels, but a sample of class {max(total)}")
    named = [(str(t) if labels is None else labels[t], t) for t in sorted(total)]
    if len({name for name, _ in named}) < len(named):  # ImageNet has two cranes and two maillots
        named = [(f"{name} ({target})", target) for name, target in named]
    return {name: _proportion(right[target], total[target], None) for name, target in named}


def select_scores(outputs: Mapping[str, Array], name: str | None) -> Array:
    """The output that holds the scores (N, C): the one named, else the only float one of two dims."""
    shown = ", ".join(f"{n}: {a.dtype} {a.shape}" for n, a in outputs.items()) or "none"
    if name is not None:
        if name not in outputs:
            raise BadInput(f"the model has no output {name!r}; it has {shown}")
        if not _has_scores(outputs[name]):
            raise BadInput(f"the output {name!r} is no table of scores (N, C); the outputs are {shown}")
        return outputs[name]
    fitting = [n for n, a in outputs.items() if _has_scores(a)]
    if not fitting:
        raise BadInput(f"classification needs a float output (N, C) with two classes or more; the outputs are {shown}")
    if len(fitting) > 1:
        raise BadInput(
            f"several outputs could be the scores: {', '.join(fitting)}", remedy=f"name one: output={fitting[0]!r}"
        )
    return outputs[fitting[0]]


def _has_scores(array: Array) -> bool:
    # ml_dtypes' bfloat16 is of kind "V" for numpy, so its name has to do.
    return array.ndim == 2 and array.shape[1] >= 2 and (array.dtype.kind == "f" or array.dtype.name == "bfloat16")


def _label(id: str, target: Any, classes: int) -> int:
    if isinstance(target, (np.ndarray, np.generic)) and np.ndim(target) == 0:
        target = target.item()
    if target is None:
        raise BadInput(f"{id} has no label, so accuracy cannot be checked", remedy="use labelled data")
    if isinstance(target, bool) or not isinstance(target, int):
        raise BadInput(f"{id}: a class label is a whole number, not {target!r} ({type(target).__name__})")
    if not 0 <= target < classes:
        raise BadInput(
            f"{id} has the label {target}, but the model has the {classes} classes 0 … {classes - 1}",
            remedy="check that the data and the model number the same classes",
        )
    return target


def _score_rows(ids: Sequence[str], scores: Array, labels: Sequence[int]) -> list[Scored]:
    """All rows at once where none holds NaN, an infinity or a tie among its best; those are looked at alone."""
    most = min(MOST, scores.shape[1])
    places = np.arange(len(scores))[:, None]
    with np.errstate(invalid="ignore"):
        best = np.argpartition(scores, -most, axis=1)[:, -most:]
        best = np.take_along_axis(best, np.argsort(-scores[places, best], axis=1), axis=1)
        top = scores[places, best]
        ranks = (scores >= scores[places, np.asarray(labels)[:, None]]).sum(axis=1) - 1
        among = (scores >= top[:, -1:]).sum(axis=1)
        plain = (among == most) & (np.diff(top, axis=1) < 0).all(axis=1) & np.isfinite(scores).all(axis=1)
    found: list[Scored] = []
    rows = zip(ids, labels, plain.tolist(), ranks.tolist(), best.tolist(), top[:, 0].tolist(), strict=True)
    for number, (id, target, is_plain, rank, classes, score) in enumerate(rows):
        if not is_plain:
            found.append(_score_row(id, scores[number], target))
            continue
        row = {"id": id, "target": target, "rank": rank, "top5": classes, "score": score, "correct": rank == 0}
        found.append(Scored(id, row, correct=rank == 0))
    return found


def _score_row(id: str, scores: Array, target: int) -> Scored:
    invalid = int(np.isnan(scores).sum())
    ordered = np.where(np.isnan(scores), -np.inf, scores)
    most = min(MOST, len(scores))
    near = np.flatnonzero(ordered >= np.partition(ordered, -most)[-most])  # the first few, and what equals the last
    # Best first; among equals the target last, the others by index.
    best = near[np.lexsort((near == target, -ordered[near]))]
    row: dict[str, Any] = {"id": id, "target": target, "rank": None, "top5": best[:MOST].tolist(), "score": None}
    if invalid:
        reason = f"{invalid} of {len(scores)} scores are NaN"
        return Scored(id, {**row, "correct": False, "reason": reason}, correct=False)
    rank = int((ordered >= ordered[target]).sum()) - 1
    top = float(ordered[best[0]])
    row |= {"rank": rank, "score": top if np.isfinite(top) else None, "correct": rank == 0}
    return Scored(id, row, correct=rank == 0)


def _what_is_wrong(broken: int, lost: int, n: int) -> str | None:
    """``broken`` rows have no rank, ``lost`` of them because there is no result at all."""
    said = [f"{broken - lost} of {n} rows hold NaN and count as wrong"] if broken > lost else []
    said += [f"{lost} of {n} samples have no result and count as wrong"] if lost else []
    return "; ".join(said) or None


def _proportion(successes: int, n: int, reason: str | None) -> Figure:
    interval = wilson(successes, n)
    return Figure(interval.value, "fraction", interval.low, interval.high, interval.confidence, n, reason)
