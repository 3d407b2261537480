"""One candidate over a dataset through the overlapped pipeline: what ``assay run`` and ``assay evaluate`` share."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from assay import data as readers
from assay.core.dataset import Scored, Task
from assay.core.engine import Candidate, Session
from assay.core.errors import BadInput
from assay.core.record import Figure, withheld
from assay.core.tensors import Array, Feed, Signature
from assay.data.dumps import write_dumps
from assay.data.flat import key_of
from assay.job.context import Data
from assay.job.evaluate.identity import SetDigest
from assay.job.opening import open_candidate
from assay.measure.environment import cores_granted
from assay.measure.footprint import largest_rss
from assay.pipeline import (
    Bottleneck,
    Enough,
    Flow,
    Outcome,
    Rates,
    ShardStore,
    Stages,
    Windows,
    bottleneck,
    rates,
    run,
    sliding,
)

SWITCH_INTERVAL_S = 0.0001
"""How long a Python thread may keep others waiting; at the default of 5 ms a decoded batch would wait that long."""
MOST_FAILURES_KEPT = 100


@dataclass(frozen=True)
class Work:
    """What is to be done: ``total`` samples of ``data`` through ``candidate``, ``batch`` at a time.

    ``signature`` is the candidate's where it is known before it is opened.  ``max_failures`` None never stops.
    ``dumps`` is a folder that receives every output as vendor tools dump them.  ``enough`` may end it early.
    ``watched`` puts itself around the stages, where they run in this process.
    """

    candidate: Candidate
    signature: Signature
    data: Data
    task: Task
    total: int
    batch: int = 32
    max_failures: int | None = 0
    dumps: Path | None = None
    shard_size: int = 1024
    enough: Enough | None = None
    watched: Callable[[Stages], Stages] | None = None

    @property
    def shared(self) -> bool:
        """Whether inference runs on the cores that preprocess."""
        return self.candidate.options.device.partition(":")[0] == "cpu"


@dataclass(frozen=True)
class Passed:
    """What came of it; ``scored`` reads from disk as it is gone through.  ``rates`` and ``bottleneck`` are None where
    all shards were finished before."""

    store: ShardStore
    outcome: Outcome
    flow: Flow
    figures: Mapping[str, Figure]
    rates: Rates | None
    bottleneck: Bottleneck | None
    candidate: Candidate
    place: Mapping[str, Any]
    samples_sha256: str | None = None

    @property
    def scored(self) -> Sequence[Scored]:
        return self.store.rows()

    def details(self, work: Work) -> dict[str, Any]:
        """The details of an evaluate Record."""
        ways = getattr(work.data.transform, "ways", None)
        failures = self.outcome.failures
        return {
            "counts": {"read": self.outcome.read, "scored": self.outcome.scored, "failed": len(failures)},
            "samples_sha256": self.samples_sha256,
            "primary": work.task.primary,
            "higher_is_better": work.task.higher_is_better,
            "failures": [{"id": id, "reason": reason} for id, reason in failures[:MOST_FAILURES_KEPT]],
            "pipeline": None if self.rates is None else self.rates.to_json(),
            "bottleneck": None if self.bottleneck is None else vars(self.bottleneck),
            "preprocessing": ways().to_json() if ways else None,
            "shards": {
                "count": self.flow.shards,
                "samples_per_shard": self.flow.samples_per_shard,
                "bytes": sum((self.store.folder / s.file).stat().st_size for s in self.store.finished.values()),
                "resident_bytes": largest_rss(),
            },
        }


Score = Callable[[Sequence[str], Mapping[str, Array], Sequence[Any]], list[Scored]]


@dataclass(frozen=True)
class Ran:
    """``candidate`` as it was opened; ``place`` says where, in words of a Record's conditions, where not here.
    ``samples_sha256`` is the digest of what was read (see SetDigest), None where it was read elsewhere."""

    outcome: Outcome
    flow: Flow
    store: ShardStore
    candidate: Candidate
    place: Mapping[str, Any] = field(default_factory=dict)
    samples_sha256: str | None = None


StoreFor = Callable[[Flow], ShardStore]
Advance = Callable[[int], Any]
Runner = Callable[[Work, StoreFor, Advance], Ran]
"""Takes every sample that no finished shard of the store holds through the pipeline, here or on other machines."""


def evaluate_through(work: Work, store_for: StoreFor, on_progress: Advance, runner: Runner | None = None) -> Passed:
    """Raises BadInput for more failures than allowed, and the first error where nothing could be scored."""
    ran = (runner or run_here)(work, store_for, on_progress)
    outcome, flow, store = ran.outcome, ran.flow, ran.store
    speed = rates(outcome, flow)
    held = bottleneck(speed, flow) if speed else None
    if outcome.scored:
        figures = work.task.figures(store.rows())
    else:
        why = f"none of the {outcome.read} samples could be scored"
        figures = {work.task.primary: withheld("value", why, 0)}
    return Passed(store, outcome, flow, figures, speed, held, ran.candidate, ran.place, ran.samples_sha256)


def run_here(work: Work, store_for: StoreFor, on_progress: Advance) -> Ran:
    """In this process, with as many threads as cores are granted."""
    with open_candidate(work.candidate) as session, _short_switches():
        flow = flow_for(work, session.signature, session.parallelism)
        store = store_for(flow)
        before = [flow.shard_range(number) for number in sorted(store.finished)]
        stages, seen = stages_for(session, work), SetDigest()
        stages = replace(stages, prepare=seen.seen_by(stages.prepare))
        watched = work.watched(stages) if work.watched is not None else stages
        outcome = run(watched, flow, store, on_progress, work.enough)
        for start, stop in before:  # what a killed run had done already is read again, and no more than that
            seen.add_all(stages.read(start, stop))
        return Ran(outcome, flow, store, work.candidate, samples_sha256=seen.hexdigest(outcome.read))


def flow_for(work: Work, signature: Signature, parallelism: int) -> Flow:
    """A model of one fixed batch size is fed that; rows that cannot be told apart go one at a time, and so does
    what windows slide over, each sample in as many windows as it needs."""
    batched = signature.is_batched and any(s.batch_axis is not None for s in signature.inputs)
    rows = 1 if slides(work.task, signature) else signature.static_batch or (work.batch if batched else 1)
    if rows > 1 and not batched:
        raise BadInput(
            f"the model takes {rows} rows at a time but has outputs without a batch axis", remedy="export it --batch 1"
        )
    cores = max(1, int(cores_granted()))
    workers = (max(cores, parallelism) if work.shared else cores + parallelism) + 1
    sizes = (work.total, rows, workers, cores, parallelism)
    return Flow(*sizes, work.shared, work.shard_size, work.max_failures)


def slides(task: Task, signature: Signature) -> bool:
    return task.name == "segmentation" and all(isinstance(d, int) for d in signature.inputs[0].shape[2:])


def stages_for(session: Session, work: Work) -> Stages:
    reader, transform, task = work.data.reader, work.data.transform, work.task
    assert reader is not None
    assert transform is not None

    def run_session(feed: Feed) -> Mapping[str, Array]:
        return session.run(feed)

    infer: Callable[[Feed], Mapping[str, Array]] = run_session
    signature = session.signature
    if slides(task, signature):
        infer, signature = sliding(infer, signature, Windows())
    score: Score = task.score
    if task.name == "tensor":
        score = _one_at_a_time(score)  # a user's function need not be safe in several threads
    if work.dumps is not None:
        score = _dumping(score, work.dumps)
    return Stages(reader.items, readers.preparer(transform, signature.inputs), infer, score, signature)


def _one_at_a_time(score: Score) -> Score:
    lock = threading.Lock()

    def locked(ids: Sequence[str], outputs: Mapping[str, Array], targets: Sequence[Any]) -> list[Scored]:
        with lock:
            return score(ids, outputs, targets)

    return locked


def _dumping(score: Score, folder: Path) -> Score:
    """Also writes every output, ``<stem>_<k>.bin``, where the stem is the file's name up to its first dot: files of
    one name in two folders cannot both be dumped."""
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, str] = {}

    def dump(ids: Sequence[str], outputs: Mapping[str, Array], targets: Sequence[Any]) -> list[Scored]:
        stems = [key_of(id) for id in ids]
        for stem, id in zip(stems, ids, strict=True):
            if (first := written.setdefault(stem, id)) != id:
                raise BadInput(f"{first} and {id} would both be dumped as {stem}", remedy="leave --dumps out")
        write_dumps(folder, stems, outputs)
        return score(ids, outputs, targets)

    return dump


@contextlib.contextmanager
def _short_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
