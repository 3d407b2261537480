"""``assay evaluate``: one MODEL on one engine over a dataset, through the overlapped pipeline."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.core.dataset import Scored
from assay.core.errors import BadInput
from assay.core.record import RawSamples, Record
from assay.data.fast_image import FastImageTransform
from assay.data.image import ImageTransform
from assay.job.context import Data
from assay.job.dataset import open_data
from assay.job.drawing import in_random_order, some_of
from assay.job.evaluate.against import LOOK_EVERY, Against, Comparison, Watch, compared
from assay.job.evaluate.fusing import exported, fuse
from assay.job.evaluate.through import Passed, Runner, Work, evaluate_through
from assay.job.folder import check_folder
from assay.job.open_request import OpenRequest, plain_device
from assay.job.opening import engine
from assay.job.progress import Progress
from assay.job.request import Objects, RunRequest
from assay.job.single import Prepared, Wanted, prepare
from assay.job.user_code import user_transform
from assay.measure.environment import cores_granted, environment
from assay.measure.predictions import PairedResult, compare_predictions, save_predictions
from assay.pipeline import Bottleneck, Flow, Rates, ShardStore, Windows, sliding, vendor_lines
from assay.sources import SourceOptions

FAST = "fast"
"""``--preprocess fast``: torch's antialiased resize."""
MOST_INSTANCES = 8
"""Some engines hold the weights once per instance, so a machine of many cores gets instances of several threads."""


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate.

    ``out`` is a folder that receives shards, predictions and rates, and is resumed; a name that ends in
    ``.gz`` or ``.jsonl`` is the predictions' file, and the shards then lie beside it until it is whole.
    ``dumps`` is a folder that receives every output as vendor tools dump them.  ``preprocess`` is a user's
    ``FILE.py:fn``, or ``fast``.  ``fuse`` makes the normalising part of the graph.  ``against`` pairs the result
    with an earlier one; ``seed`` draws the order of a sequential one, and the ``limit`` samples of another.
    """

    model: str
    data: str
    labels: Path | None = None
    engine: str | None = None
    precision: str | None = None
    device: str | None = None
    batch: int = 32
    limit: int | None = None
    preprocess: str | None = None
    out: Path | None = None
    max_failures: int = 0
    dumps: Path | None = None
    fuse: bool = False
    against: Against | None = None
    seed: int = 0

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.model, self.engine, OpenRequest(self.precision, self.device))


@dataclass(frozen=True)
class Evaluated:
    """``rates`` and ``bottleneck`` are None where all shards were finished before."""

    record: Record
    rates: Rates | None
    bottleneck: Bottleneck | None
    notes: tuple[str, ...]
    comparison: Comparison | None = None
    """With what ``against`` named."""


def evaluate_one(
    asked: Evaluation, source: SourceOptions, progress: Progress, runner: Runner | None = None
) -> Evaluated:
    """``runner`` None does it in this process.

    Raises BadInput where the data cannot give an accuracy (synthetic, no targets, randomised weights) and for
    more failed samples than allowed.
    """
    reference = asked.against.read() if asked.against is not None else []
    for out in (asked.out, asked.dumps):
        if out is not None:
            check_folder(out.parent if _is_file(out) else out)
    with tempfile.TemporaryDirectory(prefix="assay-evaluate-") as folder:
        progress.stage("open", asked.model)
        opened = _open(asked, replace(source, out_dir=Path(folder)))
        ready = opened.ready
        progress.done(f"{ready.candidate.label}; {ready.model.weights}")
        work = _work(asked, opened, reference)

        def store_for(flow: Flow) -> ShardStore:
            store = _store(asked, ready, work.data, flow, Path(folder))
            done = sum(s.scored + len(s.failures) for s in store.finished.values())
            again = f", {done} of them done before" if done else ""
            progress.stage("evaluate", f"{work.total} samples{again}")
            return store

        passed = evaluate_through(work, store_for, lambda n: progress.advance(n, work.total), runner)
        comparison = compared(asked.against, reference, passed.scored) if asked.against is not None else None
        fast = _cost_of_fast(opened, work, passed, Path(folder), progress) if asked.preprocess == FAST else None
        progress.done(f"{passed.outcome.scored} scored, {len(passed.outcome.failures)} failed")
        notes = (*opened.notes, *([fast.note] if fast else []))
        return _evaluated(asked, (opened, work), passed, (comparison, fast), notes)


@dataclass(frozen=True)
class _Opened:
    """``exact`` are the data with the preprocessing that a fast one stands in for."""

    ready: Prepared
    data: Data
    exact: Data
    notes: tuple[str, ...] = ()


def _open(asked: Evaluation, source: SourceOptions) -> _Opened:
    request = RunRequest(asked.model, source.out_dir, data=asked.data, labels=asked.labels)
    users = asked.preprocess if asked.preprocess != FAST else None
    objects = Objects(preprocess=user_transform(users) if users else None)
    if asked.fuse:
        wanted = asked.wanted
        plain = exported(wanted, source)
        fused = fuse(plain, _open_data(request, objects, plain), wanted, source)
        ready = for_throughput(fused.ready)
        data = _open_data(request, objects, ready)
        return _Opened(ready, data, data, (fused.note, *data.warnings))
    ready = open_for_throughput(asked, source)
    data = exact = _open_data(request, objects, ready)
    if asked.preprocess == FAST:
        if not isinstance(data.transform, ImageTransform):
            raise BadInput(
                f"--preprocess {FAST} is about resizing pictures; the preprocessing here does not",
                remedy="leave it out",
            )
        data = replace(data, transform=FastImageTransform(data.transform))
    return _Opened(ready, data, exact, data.warnings)


@dataclass(frozen=True)
class _Fast:
    """What the fast preprocessing costs: the drop in accuracy against the exact one, on the same samples."""

    paired: PairedResult
    primary: tuple[float | None, float | None]

    @property
    def note(self) -> str:
        fast, exact = self.primary
        drop = self.paired.drop
        shown = f"{fast:.4f} against {exact:.4f} exactly" if fast is not None and exact is not None else "not known"
        if drop.value is None:
            return f"fast preprocessing: {shown}"
        interval = (
            "" if drop.low is None or drop.high is None else f" ({100 * drop.low:+.2f} to {100 * drop.high:+.2f})"
        )
        return (
            f"fast preprocessing: {shown}, a drop of {100 * drop.value:+.2f} points{interval}; "
            f"{len(self.paired.flips)} of {self.paired.n} samples changed sides"
        )


def _cost_of_fast(opened: _Opened, work: Work, passed: Passed, folder: Path, progress: Progress) -> _Fast:
    """The same samples once more, prepared exactly."""
    progress.stage("evaluate", f"{work.total} samples, prepared exactly")
    exact = replace(work, data=replace(work.data, transform=opened.exact.transform), dumps=None, enough=None)
    found = evaluate_through(
        exact, lambda flow: ShardStore(folder / "exact", {}), lambda n: progress.advance(n, work.total)
    )
    both = {s.id for s in passed.scored} & {s.id for s in found.scored}
    first, second = ([s for s in rows if s.id in both] for rows in (found.scored, passed.scored))
    primary = work.task.primary
    return _Fast(compare_predictions(first, second), (passed.figures[primary].value, found.figures[primary].value))


def _work(asked: Evaluation, opened: _Opened, reference: Sequence[Scored]) -> Work:
    ready, data = opened.ready, opened.data
    if data.reader is None or data.task is None:
        raise BadInput(f"accuracy cannot be evaluated: {data.not_evaluated}")
    sequential = asked.against is not None and asked.against.sequential
    total = min(len(data.reader), asked.limit or len(data.reader))
    drawn = in_random_order(data, asked.seed) if sequential else some_of(data, asked.limit, asked.seed)
    work = Work(ready.candidate, ready.signature, drawn, data.task, total, asked.batch, asked.max_failures, asked.dumps)
    if asked.against is None or not sequential:
        return work
    return replace(work, shard_size=LOOK_EVERY, enough=Watch(asked.against, reference))


def open_for_throughput(asked: Evaluation, source: SourceOptions) -> Prepared:
    """On the CPU, as many instances as cores with one thread each: then every core runs whatever is ready, and
    preprocessing takes cores from inference only while it runs itself."""
    return for_throughput(prepare(asked.wanted, source))


def for_throughput(ready: Prepared) -> Prepared:
    options = ready.candidate.options
    if options.device.partition(":")[0] != "cpu":
        return ready
    cores = max(1, int(cores_granted()))
    instances = min(cores, MOST_INSTANCES)
    together = getattr(engine(ready.candidate.engine), "threads_shared", False)
    options = replace(options, instances=instances, threads=cores if together else max(1, cores // instances))
    return replace(ready, candidate=replace(ready.candidate, options=options))


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


def _store(asked: Evaluation, ready: Prepared, data: Data, flow: Flow, temporary: Path) -> ShardStore:
    folder = temporary / "shards"
    if asked.out is not None:
        folder = asked.out.with_name(f"{asked.out.name}.parts") if _is_file(asked.out) else asked.out / "shards"
    options = ready.candidate.options
    about = {
        "model": asked.model,
        "candidate": replace(ready.candidate, options=replace(options, device=plain_device(options.device))).digest,
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


def _save(asked: Evaluation, passed: Passed) -> RawSamples | None:
    """The predictions in one file, and for a folder the rates in the vendor tool's form."""
    if asked.out is None:
        return None
    if _is_file(asked.out):
        raw = save_predictions(asked.out.parent, asked.out.name, passed.scored, exact_name=True)
        passed.store.remove()
        return raw
    if passed.rates is not None:
        name = f"perf_vision_batchsize_{passed.flow.batch}_device_0.txt"
        (asked.out / name).write_text("\n".join(vendor_lines(passed.rates)) + "\n", encoding="utf-8")
    return save_predictions(asked.out, "predictions.jsonl.gz", passed.scored, exact_name=True)


def _evaluated(
    asked: Evaluation,
    what: tuple[_Opened, Work],
    passed: Passed,
    compared_with: tuple[Comparison | None, _Fast | None],
    notes: tuple[str, ...],
) -> Evaluated:
    (opened, work), (comparison, fast) = what, compared_with
    data, outcome = work.data, passed.outcome
    assert data.reader is not None
    conditions: dict[str, Any] = {
        "data": asked.data,
        "samples": outcome.read,
        "available": data.drawn_from or len(data.reader),
        "identity": data.identity,
        "synthetic": False,
        "task": work.task.name,
        "transform": None if data.transform is None else dict(data.transform.to_json()),
        **passed.place,
    }
    details = passed.details(work)
    figures = dict(passed.figures)
    if comparison is not None:
        figures["accuracy.drop"] = comparison.drop
        details["against"] = comparison.to_json()
    if fast is not None:
        details["fast_preprocessing"] = fast.paired.to_json() | {"drop": fast.paired.drop.to_json()}
    record = Record(
        "evaluate",
        passed.candidate.subject(opened.ready.model.name, passed.flow.batch),
        figures=figures,
        conditions=conditions,
        environment=environment(),
        raw=_save(asked, passed),
        details=details,
    )
    more = tuple(details["preprocessing"]["notes"]) if details["preprocessing"] else ()
    return Evaluated(record, passed.rates, passed.bottleneck, (*notes, *more), comparison)
