"""Accuracy: every sample through a session, scored by a task."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from assay.core.dataset import Scored, Task
from assay.core.engine import Session
from assay.core.errors import AssayError, BadInput
from assay.core.record import Figure
from assay.core.sample import Sample, stack
from assay.core.tensors import Array, Signature
from assay.measure.predictions import (
    Flip,
    PairedResult,
    compare_predictions,
    read_predictions,
    save_predictions,
)

__all__ = [
    "Evaluation",
    "Flip",
    "PairedResult",
    "compare_predictions",
    "evaluate_session",
    "read_predictions",
    "save_predictions",
]


@dataclass(frozen=True)
class Evaluation:
    """``read`` samples were read, each either in ``scored`` or, with the reason, in ``failures``.

    ``primary`` names the figure accuracy limits are about.
    """

    scored: tuple[Scored, ...]
    figures: Mapping[str, Figure]
    primary: str
    read: int
    failures: tuple[tuple[str, str], ...]

    @property
    def failed(self) -> int:
        return len(self.failures)

    def counts(self) -> dict[str, int]:
        return {"read": self.read, "scored": len(self.scored), "failed": self.failed}


def evaluate_session(session: Session, samples: Iterable[Sample], task: Task, batch: int) -> Evaluation:
    """Run and score every sample, ``batch`` at a time; a session with one fixed batch size uses that.

    The last batch of a fixed size is filled by repeating its last sample, and the extra rows are
    dropped.  The task sees outputs with the rows along the first axis.  A batch that fails (samples
    of unequal shape, say) is tried again sample by sample; what fails alone is counted with its
    reason.  When nothing of the first batch can be scored, its error is raised: it would be the same
    for all.

    Raises BadInput for no samples, for a sample id that occurs twice, or for more than one row at
    a time through a model whose outputs have no batch axis.
    """
    rows = _rows_at_a_time(session.signature, batch)
    scored: list[Scored] = []
    failures: list[tuple[str, str]] = []
    seen, read = set[str](), 0
    for chunk in _chunks(samples, rows):
        for sample in chunk:
            if sample.id in seen:
                raise BadInput(f"the sample id {sample.id!r} occurs more than once")
            seen.add(sample.id)
        found, failed, error = _score_or_retry(session, chunk, task, rows)
        scored += found
        failures += failed
        read += len(chunk)
        if error is not None and not scored:
            raise error
    if not read:
        raise BadInput("there are no samples to evaluate")
    assert read == len(scored) + len(failures)
    return Evaluation(tuple(scored), task.figures(scored), task.primary, read, tuple(failures))


def _rows_at_a_time(signature: Signature, batch: int) -> int:
    if batch < 1:
        raise BadInput(f"a batch holds at least one row, not {batch}")
    batched = signature.is_batched and any(s.batch_axis is not None for s in signature.inputs)
    rows = signature.static_batch or (batch if batched else 1)
    if rows > 1 and not batched:
        raise BadInput(
            f"the model takes {rows} rows at a time but has outputs without a batch axis, so that rows "
            "cannot be told apart",
            remedy="export it with --batch 1",
        )
    return rows


def _score_or_retry(
    session: Session, chunk: Sequence[Sample], task: Task, rows: int
) -> tuple[list[Scored], list[tuple[str, str]], AssayError | None]:
    """(scored, failed ids with reasons, the last error)."""
    try:
        return _score(session, chunk, task, rows), [], None
    except AssayError as error:
        if len(chunk) == 1:
            return [], [(chunk[0].id, error.message)], error
        last: AssayError | None = error
    found: list[Scored] = []
    failed: list[tuple[str, str]] = []
    for sample in chunk:
        one, refused, error_of_one = _score_or_retry(session, [sample], task, rows)
        found += one
        failed += refused
        last = error_of_one or last
    return found, failed, last


def _score(session: Session, chunk: Sequence[Sample], task: Task, rows: int) -> list[Scored]:
    static = session.signature.static_batch is not None
    filled = [*chunk, *([chunk[-1]] * (rows - len(chunk)))] if static else chunk
    outputs = session.run(stack(filled, session.signature))
    kept = {name: _rows_first(session.signature, name, array)[: len(chunk)] for name, array in outputs.items()}
    ids = [s.id for s in chunk]
    found = task.score(ids, kept, [s.target for s in chunk])
    if [s.id for s in found] != ids:
        raise BadInput(f"the task {task.name} gave {len(found)} results for {len(ids)} samples, or mixed up their ids")
    return found


def _rows_first(signature: Signature, name: str, array: Array) -> Array:
    axis = signature.output(name).batch_axis
    return array[None] if axis is None else np.moveaxis(array, axis, 0)


def _chunks(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    iterator = iter(samples)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
