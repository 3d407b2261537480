"""``assay evaluate``: one MODEL on one engine over a dataset, through the overlapped pipeline."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay import data as readers
from assay.core.dataset import Scored, Task
from assay.core.engine import OpenOptions, Session
from assay.core.errors import BadInput
from assay.core.record import Figure, RawSamples, Record, withheld
from assay.core.tensors import Array, Feed
from assay.data.dumps import write_dumps
from assay.data.flat import key_of
from assay.job.context import Data
from assay.job.dataset import open_data
from assay.job.opening import engine, open_candidate
from assay.job.progress import Progress
from assay.job.request import Objects, RunRequest
from assay.job.single import Prepared, Wanted, prepare
from assay.job.user_code import user_transform
from assay.measure.environment import cores_granted, environment
from assay.measure.predictions import save_predictions
from assay.pipeline import (
    Bottleneck,
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
    vendor_lines,
)
from assay.sources import SourceOptions

MOST_INSTANCES = 8
"""Some engines hold the weights once per instance, so a machine of many cores gets instances of several threads."""
SWITCH_INTERVAL_S = 0.0001
"""How long a Python thread may keep others waiting; at the default of 5 ms a decoded batch would wait that long."""


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate.

    ``out`` is a folder that receives shards, predictions and rates, and is resumed; a name that ends in
    ``.gz`` or ``.jsonl`` is the predictions' file, and the shards then lie beside it until it is whole.
    ``dumps`` is a folder that receives every output as vendor tools dump them.
    """

    model: str
    data: str
    labels: Path | None = None
    engine: str | None = None
    precision: str = "fp32"
    device: str = "cpu"
    batch: int = 32
    limit: int | None = None
    preprocess: str | None = None
    out: Path | None = None
    max_failures: int = 0
    dumps: Path | None = None


@dataclass(frozen=True)
class Evaluated:
    """``rates`` and ``bottleneck`` are None where all shards were finished before."""

    record: Record
    rates: Rates | None
    bottleneck: Bottleneck | None
    notes: tuple[str, ...]


def evaluate_one(asked: Evaluation, source: SourceOptions, progress: Progress) -> Evaluated:
    """Raises BadInput where the data cannot give an accuracy (synthetic, no targets, randomised weights) and for
    more failed samples than allowed."""
    with tempfile.TemporaryDirectory(prefix="assay-evaluate-") as folder:
        progress.stage("open", asked.model)
        ready = open_for_throughput(asked, replace(source, out_dir=Path(folder)))
        progress.done(f"{ready.candidate.label}; {ready.model.weights}")
        request = RunRequest(asked.model, Path(folder), data=asked.data, labels=asked.labels)
        objects = Objects(preprocess=user_transform(asked.preprocess) if asked.preprocess else None)
        data = _open_data(request, objects, ready)
        task = _task(asked, data)
        assert data.reader is not None
        total = min(len(data.reader), asked.limit or len(data.reader))
        with open_candidate(ready.candidate) as session, _short_switches():
            flow = flow_for(session, asked.device, total, asked.batch)
            flow = replace(flow, max_failures=asked.max_failures)
            store = _store(asked, ready, data, flow, Path(folder))
            done = sum(s.scored + len(s.failures) for s in store.finished.values())
            again = f", {done} of them done before" if done else ""
            progress.stage("evaluate", f"{total} samples{again}")
            stages = stages_for(session, data, task if asked.dumps is None else _Dumping(task, asked.dumps))
            if stages.signature is not session.signature:  # windows: one sample at a time, in as many as it needs
                flow = replace(flow, batch=1)
            outcome = run(stages, flow, store, lambda n: progress.advance(n, total))
        figures = _figures(task, store, outcome)
        found = rates(outcome, flow)
        raw = _save(asked, store, found, flow)
        progress.done(f"{outcome.scored} scored, {len(outcome.failures)} failed")
        return _evaluated(asked, ready, (data, task), (outcome, flow, found), (figures, raw))


def open_for_throughput(asked: Evaluation, source: SourceOptions) -> Prepared:
    """On the CPU, as many instances as cores with one thread each: then every core runs whatever is ready, and
    preprocessing takes cores from inference only while it runs itself."""
    options = OpenOptions(precision=asked.precision, device=asked.device)
    ready = prepare(Wanted(asked.model, asked.engine, options), source)
    if not _on_cpu(asked.device):
        return ready
    cores = max(1, int(cores_granted()))
    instances = min(cores, MOST_INSTANCES)
    together = getattr(engine(ready.candidate.engine), "threads_shared", False)
    options = replace(options, instances=instances, threads=cores if together else max(1, cores // instances))
    return replace(ready, candidate=replace(ready.candidate, options=options))


def flow_for(session: Session, device: str, total: int, batch: int) -> Flow:
    """A model of one fixed batch size is fed that; rows that cannot be told apart go one at a time."""
    signature = session.signature
    batched = signature.is_batched and any(s.batch_axis is not None for s in signature.inputs)
    rows = signature.static_batch or (batch if batched else 1)
    if rows > 1 and not batched:
        raise BadInput(
            f"the model takes {rows} rows at a time but has outputs without a batch axis", remedy="export it --batch 1"
        )
    cores = max(1, int(cores_granted()))
    shared = _on_cpu(device)
    workers = max(cores, session.parallelism) if shared else cores + session.parallelism
    return Flow(total, rows, workers, cores, session.parallelism, shared)


def stages_for(session: Session, data: Data, task: Task) -> Stages:
    reader, transform = data.reader, data.transform
    assert reader is not None
    assert transform is not None

    def run_session(feed: Feed) -> Mapping[str, Array]:
        return session.run(feed)

    infer: Callable[[Feed], Mapping[str, Array]] = run_session
    signature = session.signature
    if task.name == "segmentation" and all(isinstance(d, int) for d in signature.inputs[0].shape[2:]):
        infer, signature = sliding(infer, signature, Windows())
    return Stages(reader.items, readers.preparer(transform, signature.inputs), infer, task.score, signature)


class _Dumping:
    """A task that also writes every output, ``<stem>_<k>.bin``, where the stem is the id up to its first dot."""

    def __init__(self, task: Task, folder: Path) -> None:
        self.name, self.primary, self.higher_is_better = task.name, task.primary, task.higher_is_better
        self.figures = task.figures
        self._task = task
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def score(self, ids: Sequence[str], outputs: Mapping[str, Array], targets: Sequence[Any]) -> list[Scored]:
        write_dumps(self._folder, [key_of(id) for id in ids], outputs)
        return self._task.score(ids, outputs, targets)


def _on_cpu(device: str) -> bool:
    return device.partition(":")[0] == "cpu"


def _open_data(request: RunRequest, objects: Objects, ready: Prepared) -> Data:
    """Data that are larger than a fixed input are welcome where windows can slide over them."""
    try:
        return open_data(request, objects, ready.model, ready.signature)
    except BadInput as error:
        try:
            _, free = sliding(lambda feed: feed, ready.signature, Windows())
            data = open_data(request, objects, ready.model, free)
        except BadInput:
            raise error from None
        if data.task is None or data.task.name != "segmentation":
            raise
        return data


def _task(asked: Evaluation, data: Data) -> Task:
    if data.reader is None or data.task is None:
        raise BadInput(f"accuracy cannot be evaluated: {data.not_evaluated}")
    return data.task


def _store(asked: Evaluation, ready: Prepared, data: Data, flow: Flow, temporary: Path) -> ShardStore:
    folder = temporary / "shards"
    if asked.out is not None:
        folder = asked.out.with_name(f"{asked.out.name}.parts") if _is_file(asked.out) else asked.out / "shards"
    about = {
        "model": asked.model,
        "candidate": ready.candidate.digest,
        "data": asked.data,
        "identity": data.identity,
        "transform": None if data.transform is None else dict(data.transform.to_json()),
        "total": flow.total,
        "batch": flow.batch,
        "samples_per_shard": flow.samples_per_shard,
    }
    return ShardStore(folder, about)


def _is_file(path: Path) -> bool:
    return path.suffix in (".gz", ".jsonl")


def _figures(task: Task, store: ShardStore, outcome: Outcome) -> dict[str, Figure]:
    if not outcome.scored:
        return {task.primary: withheld("value", f"none of the {outcome.read} samples could be scored", 0)}
    return task.figures(store.rows())


def _save(asked: Evaluation, store: ShardStore, found: Rates | None, flow: Flow) -> RawSamples | None:
    """The predictions in one file, and for a folder the rates in the vendor tool's form."""
    if asked.out is None:
        return None
    if _is_file(asked.out):
        raw = save_predictions(asked.out.parent, asked.out.name, store.rows(), exact_name=True)
        for path in store.folder.iterdir():
            path.unlink()
        store.folder.rmdir()
        return raw
    if found is not None:
        name = f"perf_vision_batchsize_{flow.batch}_device_0.txt"
        (asked.out / name).write_text("\n".join(vendor_lines(found)) + "\n", encoding="utf-8")
    return save_predictions(asked.out, "predictions.jsonl.gz", store.rows(), exact_name=True)


def _evaluated(
    asked: Evaluation,
    ready: Prepared,
    what: tuple[Data, Task],
    how: tuple[Outcome, Flow, Rates | None],
    found: tuple[dict[str, Figure], RawSamples | None],
) -> Evaluated:
    (data, task), (outcome, flow, speed) = what, how
    held = bottleneck(speed, flow) if speed else None
    ways = getattr(data.transform, "ways", None)
    preprocessing = ways().to_json() if ways else None
    assert data.reader is not None
    conditions: dict[str, Any] = {
        "data": asked.data,
        "samples": flow.total,
        "available": len(data.reader),
        "synthetic": False,
        "task": task.name,
        "transform": None if data.transform is None else dict(data.transform.to_json()),
    }
    details = {
        "counts": {"read": outcome.read, "scored": outcome.scored, "failed": len(outcome.failures)},
        "primary": task.primary,
        "higher_is_better": task.higher_is_better,
        "failures": [{"id": id, "reason": reason} for id, reason in outcome.failures[:100]],
        "pipeline": None if speed is None else speed.to_json(),
        "bottleneck": None if held is None else vars(held),
        "preprocessing": preprocessing,
    }
    record = Record(
        "evaluate",
        ready.candidate.subject(ready.model.name, flow.batch),
        figures=found[0],
        conditions=conditions,
        environment=environment(),
        raw=found[1],
        details=details,
    )
    notes = tuple(preprocessing["notes"]) if preprocessing else ()
    return Evaluated(record, speed, held, notes)


@contextlib.contextmanager
def _short_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
