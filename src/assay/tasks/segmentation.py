"""segmentation: how well masks agree, in two and three dims.

A pixel's class is its largest channel; with one channel it is foreground above ½ where all values are
probabilities (0 … 1), else above 0.  Per sample, Dice is 2·|A ∩ B| / (|A| + |B|) and IoU |A ∩ B| / |A ∪ B|, each
the mean over the foreground classes that occur in the mask or in its label; where none occurs in either,
both are 1.  ``miou`` and ``pixel_accuracy`` pool all pixels of all samples, background included.  Pixels
labelled 255 are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.core.dataset import Scored
from assay.core.errors import BadInput
from assay.core.record import Figure, withheld
from assay.core.tensors import Array
from assay.tasks.means import mean_figure
from assay.tasks.options import TaskOptions

IGNORED = 255


class Segmentation:
    """Targets are class numbers ([depth,] H, W); outputs scores (N, classes, [depth,] H, W)."""

    name = "segmentation"
    primary = "dice"
    higher_is_better = True

    def __init__(self, options: TaskOptions) -> None:
        self._output = options.output

    def score(self, ids: Sequence[str], outputs: Mapping[str, Array], targets: Sequence[Any]) -> list[Scored]:
        """One row per sample: ``dice``, ``iou``, and ``counts`` per class: [common, in the mask, in the label].

        Raises BadInput for no samples, masks of another size than their labels, and labels that are no class.
        """
        scores = select_masks(outputs, self._output)
        if not ids:
            raise BadInput("no samples to score")
        if not len(ids) == len(targets) == len(scores):
            raise BadInput(f"{len(ids)} samples, {len(targets)} labels and {len(scores)} masks do not fit")
        return [_row(*row) for row in zip(ids, scores, targets, strict=True)]

    def figures(self, scored: Sequence[Scored]) -> dict[str, Figure]:
        """``dice``, ``iou`` (means over samples), ``dice.CLASS`` where a class occurs, ``miou``, ``pixel_accuracy``."""
        if not scored:
            raise BadInput("no samples were scored, so there is no Dice")
        dice: list[float] = []
        iou: list[float] = []
        per_class: dict[int, list[float]] = {}
        pooled: dict[int, Array] = {}
        broken = 0
        for sample in scored:
            dice.append(sample.row["dice"])
            iou.append(sample.row["iou"])
            broken += "reason" in sample.row
            for name, counts in sample.row["counts"].items():
                number, values = int(name), np.asarray(counts, dtype=np.int64)
                pooled[number] = pooled.get(number, np.zeros(3, np.int64)) + values
                if number and values[1] + values[2]:
                    per_class.setdefault(number, []).append(_dice(values))
        reason = f"{broken} of {len(dice)} outputs hold NaN and count as wrong" if broken else None
        figures = {"dice": mean_figure(dice, "fraction", reason), "iou": mean_figure(iou, "fraction", reason)}
        figures |= {f"dice.{c}": mean_figure(per_class[c], "fraction") for c in sorted(per_class)}
        return figures | _pooled(pooled, len(dice), reason)


def segmentation(options: TaskOptions) -> Segmentation:
    return Segmentation(options)


def select_masks(outputs: Mapping[str, Array], name: str | None) -> Array:
    """The output that is scores per pixel (N, classes, [D,] H, W): the one named, else the only one."""
    shown = ", ".join(f"{n}: {a.dtype} {a.shape}" for n, a in outputs.items()) or "none"
    if name is not None and name not in outputs:
        raise BadInput(f"the model has no output {name!r}; it has {shown}")
    fitting = [n for n, a in outputs.items() if a.ndim in (4, 5) and name in (None, n)]
    if len(fitting) != 1:
        what = "there is none" if not fitting else f"several fit ({', '.join(fitting)})"
        raise BadInput(f"segmentation needs an output (N, classes, [depth,] H, W); {what}: {shown}")
    return outputs[fitting[0]]


def classes_of(scores: Array) -> Array:
    """(classes, …) -> the class of every pixel, int64 (…)."""
    if scores.shape[0] > 1:
        return np.asarray(np.argmax(scores, axis=0), dtype=np.int64)
    values = scores[0].astype(np.float64)
    probable = values.size > 0 and values.min() >= 0 and values.max() <= 1
    return np.asarray(values > (0.5 if probable else 0.0), dtype=np.int64)


def _row(id: str, scores: Array, target: Any) -> Scored:
    if not isinstance(target, np.ndarray) or target.dtype.kind not in "iub":
        found = f"one of {target.dtype}" if isinstance(target, np.ndarray) else type(target).__name__
        raise BadInput(f"{id}: a label is an array of class numbers, not {found}")
    if target.shape != scores.shape[1:]:
        raise BadInput(f"{id}: the model's mask has shape {scores.shape[1:]}, its label {target.shape}")
    number = max(2, scores.shape[0])
    label = target.astype(np.int64)
    kept = label != IGNORED
    outside = label[kept & ((label < 0) | (label >= number))]
    if outside.size:
        raise BadInput(f"{id}: the label holds class {outside[0]}, the model has {number} classes")
    row: dict[str, Any] = {"id": id}
    if bool(np.isnan(scores.astype(np.float32)).any()):
        sizes = np.bincount(label[kept], minlength=number)
        row |= {"dice": 0.0, "iou": 0.0, "counts": {str(c): [0, 0, int(sizes[c])] for c in range(number)}}
        return Scored(id, {**row, "reason": "the output holds NaN"})
    mask, label = classes_of(scores)[kept], label[kept]
    counts = np.stack(
        [np.bincount(part, minlength=number) for part in (mask[mask == label], mask, label)], axis=1
    )  # (classes, 3)
    present = [c for c in counts[1:] if c[1] + c[2]]
    row["dice"] = float(np.mean([_dice(c) for c in present])) if present else 1.0
    row["iou"] = float(np.mean([_iou(c) for c in present])) if present else 1.0
    row["counts"] = {str(c): counts[c].tolist() for c in range(number)}
    return Scored(id, row)


def _dice(counts: Array) -> float:
    return float(2 * counts[0] / (counts[1] + counts[2]))


def _iou(counts: Array) -> float:
    return float(counts[0] / (counts[1] + counts[2] - counts[0]))


def _pooled(counts: Mapping[int, Array], n: int, reason: str | None) -> dict[str, Figure]:
    present = [c for c in counts.values() if c[1] + c[2]]
    pixels = sum(int(c[2]) for c in counts.values())
    if not present or not pixels:
        return {name: withheld("fraction", "no pixel has a class", n) for name in ("miou", "pixel_accuracy")}
    accuracy = sum(int(c[0]) for c in counts.values()) / pixels
    return {
        "miou": Figure(float(np.mean([_iou(c) for c in present])), "fraction", n=n, reason=reason),
        "pixel_accuracy": Figure(accuracy, "fraction", n=n, reason=reason),
    }
