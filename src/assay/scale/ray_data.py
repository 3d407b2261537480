"""``--ray``: evaluate and predict on the machines of a Ray cluster, through Ray Data.

Encoded bytes travel, and decoding happens where the model is: an actor takes a batch through preprocess, infer and
score as a worker of the pipeline does, on its own core.  A row of the dataset is a whole batch, so that a batch is
made of the same samples as in this process, whatever Ray does to its blocks, and predictions are the same.  Shards and
their manifest are written here as they become whole, so a node that is lost costs the batches it was at.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from assay.core.errors import BadInput
from assay.core.transform import FunctionTransform, Transform
from assay.job.evaluate.through import Advance, Ran, Runner, StoreFor, Work, flow_for, stages_for
from assay.job.opening import open_candidate
from assay.job.predict_one import Answer, Input, Predicting, predictor
from assay.job.predict_one import Runner as PredictRunner
from assay.pipeline import Batch, BatchResult, Flow, Reading, Stopwatch, Worker, gather
from assay.scale.ray_data_pool import Cluster, Shipped, by_value, connected, on_actors, place_of

INPUTS_A_TASK = 16


def evaluate_on(cluster: Cluster) -> Runner:
    """A runner for ``job.evaluating``.  Raises NotAvailable without ray, a cluster, or a file that can be sent."""
    return partial(_evaluate, cluster)


def predict_on(cluster: Cluster) -> PredictRunner:
    """A runner for ``job.predict_one``.  Raises as ``evaluate_on`` does."""
    return partial(_predict, cluster)


def _evaluate(cluster: Cluster, work: Work, store_for: StoreFor, on_progress: Advance) -> Ran:
    if work.enough is not None:
        raise BadInput("a sequential evaluation looks at samples one after the other", remedy="leave --ray out")
    with connected(cluster):
        import ray

        shipped = Shipped(work.candidate, cluster)
        _send_users_function(work.data.transform)
        flow = replace(flow_for(work, work.signature, 1), workers=1, cores=1)
        store = store_for(flow)
        missing = [shard for shard in range(flow.shards) if shard not in store.finished]
        results: Iterator[tuple[Batch, BatchResult]] = iter(())
        if missing:
            reader = ray.put(work.data.reader)
            shards = ray.data.from_items(missing, override_num_blocks=len(missing))
            rows = shards.flat_map(partial(_read, reader, flow), num_cpus=0)
            # The reader stays behind: an actor is sent what it works on.
            local = replace(work, enough=None, data=replace(work.data, reader=_NoReader()))
            results = on_actors(rows, partial(_evaluator, shipped, local, flow), cluster)
        return Ran(gather(results, flow, store, on_progress), flow, store, shipped.candidate, place_of())


def _read(reader: Any, flow: Flow, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """In a task of its own on some node: a shard's batches, in order."""
    import ray

    shard = int(row["item"])
    reading = Reading(ray.get(reader).items, flow.total)
    start, stop = flow.shard_range(shard)
    for number, begin in enumerate(range(start, stop, flow.batch)):
        batch = reading.fill(Batch(shard, number), begin, min(stop, begin + flow.batch))
        yield {"task": pickle.dumps(batch)}


def _evaluator(shipped: Shipped, work: Work, flow: Flow) -> Callable[[Batch], tuple[Batch, BatchResult]]:
    with shipped.unpacked() as candidate:
        session = open_candidate(candidate)
    worker = Worker(stages_for(session, work), flow, Stopwatch(), threading.Semaphore(1))

    def done(batch: Batch) -> tuple[Batch, BatchResult]:
        return Batch(batch.shard, batch.number), worker.work(batch)

    return done


class _NoReader:
    """Stands where a reader is: an actor reads nothing."""

    name = "none"
    synthetic = False
    labels: tuple[str, ...] | None = None
    preprocess: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return 0

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Any]:
        return iter(())


def _predict(cluster: Cluster, work: Predicting, inputs: Iterator[Input]) -> Iterator[Answer]:
    with connected(cluster):
        import ray

        shipped = Shipped(work.candidate, cluster)
        _send_users_function(work.transform)
        paths = [str(path) for path in work.asked.inputs]
        groups = [paths[i : i + INPUTS_A_TASK] for i in range(0, len(paths), INPUTS_A_TASK)]
        rows = ray.data.from_items(groups, override_num_blocks=len(groups)).flat_map(_read_inputs, num_cpus=0)
        yield from on_actors(rows, partial(_predictor, shipped, work), cluster)


def _read_inputs(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    from pathlib import Path

    from assay.job.predict_one import contents

    for given in contents([Path(str(path)) for path in row["item"]]):
        yield {"task": pickle.dumps(given)}


def _predictor(shipped: Shipped, work: Predicting) -> Callable[[Input], Answer]:
    with shipped.unpacked() as candidate:
        return predictor(work, open_candidate(candidate))


def _send_users_function(transform: Transform | None) -> None:
    if isinstance(transform, FunctionTransform):
        by_value(transform.function)
