"""What every stage is handed: the request, the folder, the model and the data, opened once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assay.core import clock
from assay.core.artifact import Artifact
from assay.core.dataset import Reader, Task
from assay.core.errors import BadInput
from assay.core.model import Model
from assay.core.sample import Sample, stack
from assay.core.tensors import Array, Feed, Signature
from assay.core.transform import Transform
from assay.graph.feeds import draw_feed
from assay.job.folder import RunFolder
from assay.job.pace import Pace
from assay.job.progress import Progress
from assay.job.request import Objects, RunRequest


@dataclass
class Context:
    """One run in progress.

    ``missing`` collects what was asked for by name and is not here (exit code 3); ``reference`` is the
    label of the run's reference, which speed-ups are over; ``pace`` keeps the budget of ``request.effort``; ``fatal``
    is what ``stages/under_way.py`` found of candidates that are compared, by their digest.
    """

    request: RunRequest
    objects: Objects
    folder: RunFolder
    progress: Progress
    model: Model
    environment: Mapping[str, Any]
    device_name: str
    started_s: float = field(default_factory=clock.now)
    missing: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    reference: str = ""
    pace: Pace = field(default_factory=Pace)
    fatal: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        budget_s = self.request.effort.budget_s
        if budget_s is not None and math.isinf(self.pace.ends_s):
            self.pace = Pace(self.started_s + budget_s)

    def batches(self, signature: Signature) -> tuple[int, ...]:
        """The batch sizes to measure: those asked for, or the one a static model accepts."""
        static = signature.static_batch
        if static is None or self.request.batches == (static,):
            return self.request.batches
        left = [b for b in self.request.batches if b != static]
        self.warn(f"the model's batch is fixed at {static}: batch {', '.join(map(str, left))} cannot be measured")
        return (static,)

    def out_of_time(self) -> bool:
        return self.pace.left() < 0

    def done(self, text: str, *, unchanged: bool = False) -> None:
        """The stage that began last has ended; ``unchanged`` where the last run's result still holds."""
        self.progress.done(f"{text} (unchanged since the last run)" if unchanged else text)

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)
            self.progress.note(text)


@dataclass(frozen=True)
class Exported:
    """The ONNX file (None where the model is a compiled file) and what goes in and out.

    ``precision`` is the one the graph is written in, ``depth`` its rounding depth.  ``lowered`` holds the
    same graph in other precisions, ``not_lowered`` why there is none in a precision that was considered.
    ``converted`` and ``not_converted`` are the same by engine and precision, for engines that take such a file.
    """

    onnx: Artifact | None
    signature: Signature
    depth: int
    precision: str = "fp32"
    lowered: Mapping[str, Artifact] = field(default_factory=dict)
    not_lowered: Mapping[str, str] = field(default_factory=dict)
    converted: Mapping[tuple[str, str], Artifact] = field(default_factory=dict)
    not_converted: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Data:
    """Samples for verification and evaluation.

    ``reader`` is None without data: then samples are drawn from the signature.  ``not_evaluated`` is
    the reason why accuracy is not checked, None when it is.  ``identity`` changes when the data do.
    ``better`` says whether more of the task's figure is good, None where nobody said.  ``sizes`` are those given to
    free dims of the file; ``signature`` has them in place.  ``drawn_from`` is of how many the samples were drawn, None
    where these are all.
    """

    name: str
    signature: Signature
    seed: int
    reader: Reader | None = None
    transform: Transform | None = None
    task: Task | None = None
    not_evaluated: str | None = None
    ranges: tuple[tuple[str, float, float], ...] = ()
    identity: str = ""
    better: bool | None = True
    sizes: tuple[tuple[str, int], ...] = ()
    drawn_from: int | None = None

    @property
    def conditions(self) -> dict[str, Any]:
        """What a Record of something measured on these data says about them."""
        told = {"data": self.name, "real_data": self.real}
        return {**told, "sizes": dict(self.sizes)} if self.sizes else told

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd about the data, in words."""
        return tuple(getattr(self.reader, "warnings", ()))

    @property
    def real(self) -> bool:
        return self.reader is not None and not self.reader.synthetic

    def samples(self, stop: int | None = None) -> Iterator[Sample]:
        """Samples in order: the reader's, or seeded ones drawn from the signature (then ``stop`` is needed)."""
        if self.reader is None:
            for index in range(stop or 1):
                yield drawn_sample(self.signature, self.seed + index, self.ranges)
            return
        from assay import data

        assert self.transform is not None
        yield from data.samples(self.reader, self.transform, self.signature.inputs, 0, stop)

    def feeds(self, batch: int, count: int) -> list[dict[str, Array]]:
        """``count`` samples in feeds of exactly ``batch`` rows; short data is repeated.  BadInput for no data."""
        rows = list(self.samples(count))
        if not rows:
            raise BadInput(f"{self.name} has no samples")
        return batched(rows, batch, self.signature)


def batched(rows: Sequence[Sample], batch: int, signature: Signature) -> list[dict[str, Array]]:
    """Feeds of exactly ``batch`` rows that together hold every row at least once."""
    calls = -(-len(rows) // batch)
    return [stack([rows[(i * batch + j) % len(rows)] for j in range(batch)], signature) for i in range(calls)]


def drawn_sample(signature: Signature, seed: int, ranges: tuple[tuple[str, float, float], ...]) -> Sample:
    """One seeded row drawn from the signature."""
    free = signature.with_batch("batch") if signature.static_batch else signature  # a sample is one row of any batch
    feed: Feed = draw_feed(free.inputs, 1, seed, {name: (low, high) for name, low, high in ranges})
    inputs = {}
    for spec in signature.inputs:
        array = feed[spec.name]
        inputs[spec.name] = array if spec.batch_axis is None else array.take(0, axis=spec.batch_axis)
    return Sample(f"drawn-{seed}", inputs)
