"""Accuracies that are suspiciously, or impossibly, alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from assay.core.record import Record
from assay.importers.checks_evidence import batch, device, same_model, where
from assay.importers.imported import Finding


def identical(records: Sequence[Record]) -> Iterator[Finding]:
    """Two batch sizes with equal figures: from one folder of dumps one of them was probably not scored."""
    scored = [r for r in records if r.kind == "evaluate" and r.figures and batch(r)]
    for a, b in combinations(scored, 2):
        if batch(a) == batch(b) or device(a) != device(b) or not same_model(a, b) or not _equal(a, b):
            continue
        folders = {r.conditions.get("scored_from") for r in (a, b)}
        folder = folders.pop() if len(folders) == 1 else None
        sizes = f"batch {batch(a)} and batch {batch(b)}"
        shown = ", ".join(f"{name} {figure.value:.4g}" for name, figure in a.figures.items())
        if folder:
            text = (
                f"{sizes} have identical accuracies ({shown}), and the command shown scores {folder} "
                f"for both: the second may be the first's outputs scored again"
            )
            severity = "suspect"
        else:
            text = f"{sizes} have identical accuracies ({shown}); the logs do not show which outputs were scored"
            severity = "note"
        figures = {name: figure.value for name, figure in a.figures.items() if figure.value is not None}
        yield Finding("identical-accuracy", text, figures, where(b), severity)


def _equal(a: Record, b: Record) -> bool:
    return set(a.figures) == set(b.figures) and all(a.value(n) == b.value(n) is not None for n in a.figures)
