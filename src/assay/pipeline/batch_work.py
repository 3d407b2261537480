"""One worker's part: a batch of items through preprocess, infer and score."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from assay.core import clock
from assay.core.dataset import Item, Scored
from assay.core.errors import AssayError, BadInput
from assay.core.sample import Sample, stack
from assay.core.tensors import DTYPES, Array, Feed, Signature
from assay.pipeline.reading import Batch
from assay.pipeline.settings import Failure, Flow, Rows, Stages
from assay.pipeline.stopwatch import Stopwatch


@dataclass
class BatchResult:
    """Every item of the batch is in one of the two; ``error`` is the last one of inference or scoring."""

    scored: list[Scored] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    error: AssayError | None = None


class Worker:
    """Owns the memory of one batch.  ``permits`` bound how many workers preprocess at a time."""

    def __init__(self, stages: Stages, flow: Flow, watch: Stopwatch, permits: threading.Semaphore) -> None:
        self._stages = stages
        self._flow = flow
        self._watch = watch
        self._permits = permits
        self._slot = make_slot(stages.signature, flow.batch)

    def work(self, batch: Batch) -> BatchResult:
        result = BatchResult(failures=list(batch.failures))
        with self._permits:
            began = clock.now()
            samples = self._prepare(batch.items, result)
            self._watch.add("preprocess", began, len(batch.items))
        if not samples:
            return result
        try:
            result.scored += self._run(samples, in_slot=self._slot is not None)
        except AssayError as error:
            result.error = error
            if len(samples) == 1:
                result.failures.append((samples[0].id, error.message))
            else:
                self._one_by_one(samples, result)
        return result

    def _prepare(self, items: Sequence[Item], result: BatchResult) -> list[Sample]:
        samples: list[Sample] = []
        for item in items:
            rows = None if self._slot is None else {name: a[len(samples)] for name, a in self._slot.items()}
            try:
                made = self._stages.prepare(item, rows)
            except AssayError as error:
                text = error.message
                result.failures.append((item.id, text.removeprefix(f"{item.id}: ")))
                continue
            if rows is not None:
                _keep(rows, made)
            samples.append(Sample(item.id, made, item.target))
        return samples

    def _run(self, samples: Sequence[Sample], *, in_slot: bool) -> list[Scored]:
        signature = self._stages.signature
        feed = self._feed(samples) if in_slot else stack(self._filled(samples), signature)
        with self._watch.stage("infer", len(samples)):
            outputs = self._stages.infer(feed)
        with self._watch.stage("post", len(samples)):
            kept = {n: rows_first(signature, n, a)[: len(samples)] for n, a in outputs.items()}
            ids = [s.id for s in samples]
            found = self._stages.score(ids, kept, [s.target for s in samples])
        if [s.id for s in found] != ids:
            raise BadInput(f"the task gave {len(found)} results for {len(ids)} samples, or mixed up their ids")
        return found

    def _feed(self, samples: Sequence[Sample]) -> Feed:
        """The slot itself, or its first rows; a fixed batch is filled by repeating the last row."""
        assert self._slot is not None
        count = len(samples)
        if count == self._flow.batch:
            return self._slot
        if self._stages.signature.static_batch is None:
            return {name: array[:count] for name, array in self._slot.items()}
        for array in self._slot.values():
            array[count:] = array[count - 1]
        return self._slot

    def _filled(self, samples: Sequence[Sample]) -> Sequence[Sample]:
        size = self._stages.signature.static_batch
        return samples if size is None else [*samples, *[samples[-1]] * (size - len(samples))]

    def _one_by_one(self, samples: Sequence[Sample], result: BatchResult) -> None:
        """What fails together may pass alone (shapes that do not share a batch); what fails alone is counted.

        The rows lie in the slot, which a run with a fixed batch fills, so they are copied first.
        """
        alone = [Sample(s.id, {n: np.array(a) for n, a in s.inputs.items()}, s.target) for s in samples]
        for sample in alone:
            try:
                result.scored += self._run([sample], in_slot=False)
            except AssayError as error:
                result.error = error
                result.failures.append((sample.id, error.message))


def make_slot(signature: Signature, batch: int) -> dict[str, Array] | None:
    """Arrays for a whole batch where every input's shape is fixed and its rows lie along the first axis."""
    slot: dict[str, Array] = {}
    for spec in signature.inputs:
        row = spec.row_shape()
        if spec.batch_axis != 0 or spec.dtype == "string" or not row or not all(isinstance(d, int) for d in row):
            return None
        slot[spec.name] = np.zeros((batch, *(int(d) for d in row)), dtype=DTYPES[spec.dtype])
    return slot


def rows_first(signature: Signature, name: str, array: Array) -> Array:
    axis = signature.output(name).batch_axis
    return array[None] if axis is None else np.moveaxis(array, axis, 0)


def _keep(rows: Rows, made: Mapping[str, Array]) -> None:
    for name, place in rows.items():
        if made[name] is not place:
            place[...] = made[name]
