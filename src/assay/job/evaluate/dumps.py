"""``assay evaluate --from-dumps``: score what a vendor tool dumped, as its metric script would, with nothing lost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core.artifact import digest_json
from assay.core.dataset import Scored
from assay.core.errors import BadInput
from assay.core.record import Figure, Record
from assay.data.dumps import find_dumps, read_dump
from assay.data.flat import read_label_file
from assay.job.folder import write_text
from assay.measure.environment import environment
from assay.tasks import open_task

TITLE = "Overall statistical evaluation"


@dataclass(frozen=True)
class Dumps:
    """``output`` is which of several outputs holds the scores; ``result`` receives the seeds' result.json."""

    folder: str
    labels: Path
    output: int | None = None
    result: Path | None = None


def evaluate_dumps(asked: Dumps) -> Record:
    """Every label counts: one without a dump is lost and wrong, and is named.

    With one score more than there are classes (1001, the first for background) labels are shifted by
    one, which a warning says.  Raises BadInput for dumps without a label and of unequal sizes.
    """
    labels = read_label_file(asked.labels)
    found = find_dumps(asked.folder, asked.output)
    unlabelled = sorted(found.keys() - labels.keys())
    if unlabelled:
        raise BadInput(f"{len(unlabelled)} dumps in {asked.folder} have no label: {', '.join(unlabelled[:5])}")
    if not found:
        raise BadInput(f"no label in {asked.labels} has a dump in {asked.folder}")
    scored, classes, shifted = _scored(labels, found)
    lost = [s.id for s in scored if s.row.get("lost")]
    figures = open_task("classification").figures(scored)
    warnings = []
    if lost:
        warnings.append(f"{len(lost)} of {len(scored)} samples have no dump and count as wrong: {', '.join(lost[:5])}")
    if shifted:
        warnings.append(
            f"{classes} scores and labels below {classes - 1}: labels were shifted by one (background first)"
        )
    if asked.result is not None:
        write_text(asked.result, json.dumps(result_json(figures, len(scored), classes)))
    return Record(
        "evaluate",
        {"model": None, "candidate": digest_json(sorted(str(p) for p in found.values()))},
        figures=figures,
        conditions={"data": str(asked.labels), "dumps": asked.folder, "samples": len(scored), "synthetic": False},
        environment=environment(),
        warnings=tuple(warnings),
        details={
            "counts": {"read": len(scored), "scored": len(found), "failed": len(lost)},
            "primary": "accuracy.top1",
        },
    )


def result_json(figures: Mapping[str, Figure], images: int, classes: int) -> dict[str, Any]:
    """The metric script's file: cumulative top-k as texts with at most two decimals."""
    rows = [("Number of images", str(images)), ("Number of classes", str(classes))]
    for k in range(1, 6):
        figure = figures.get(f"accuracy.top{k}")
        if figure is not None and figure.value is not None:
            rows.append((f"Top{k} accuracy", f"{round(100 * figure.value, 2)}%"))
    return {"title": TITLE, "value": [{"key": key, "value": value} for key, value in rows]}


def _scored(labels: Mapping[str, int], found: Mapping[str, Path]) -> tuple[Sequence[Scored], int, bool]:
    task = open_task("classification")
    classes = 0
    shifted = False
    scored: list[Scored] = []
    for name, label in labels.items():
        if name not in found:
            row = {"id": name, "target": label, "rank": None, "top5": [], "score": None, "correct": False}
            scored.append(Scored(name, {**row, "lost": True, "reason": "there is no dump"}, correct=False))
            continue
        scores = read_dump(found[name])
        if not classes:
            classes = scores.size
            shifted = classes == 1001 and max(labels.values()) < 1000
        if scores.size != classes:
            raise BadInput(f"{found[name]} holds {scores.size} scores, others {classes}")
        scored += task.score([name], {"scores": scores[None]}, [label + shifted])
    return scored, classes, shifted
