"""What ``bench`` runs in a child process of its own: one candidate under the load of many callers."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from assay.batching.arrivals import constant, poisson, trace
from assay.batching.batcher import DynamicBatcher
from assay.batching.direct import Direct
from assay.batching.settings import BatcherSettings
from assay.core.engine import Candidate, OpenOptions, Session
from assay.core.errors import AssayError
from assay.core.record import Figure, withheld
from assay.core.stats import Vector
from assay.core.tensors import Feed, Signature
from assay.core.units import PerSecond, Seconds
from assay.core.workload import Arrivals, Clients
from assay.engines.null import NullEngine, null_artifact
from assay.job.opening import open_candidate
from assay.job.trial import Opening, with_module
from assay.measure.accelerator import Watch
from assay.measure.clients import measure_clients
from assay.measure.environment import moment
from assay.measure.find_rate import SearchPlan, find_rate
from assay.measure.footprint import peak_rss
from assay.measure.measurement import Measurement, check_rows
from assay.measure.paired import Paired, PairPlan, measure_paired
from assay.measure.server import Limit, measure_server, press_schedule

OVERHEAD_REQUESTS = 3000
OVERHEAD_CLIENTS = 10


@dataclass(frozen=True)
class Through:
    """The dynamic batcher in front of the session; ``delay_s`` above 0 waits for company."""

    max_batch: int
    delay_s: Seconds = 0.0
    instances: int = 1
    policy: str | None = None

    def settings(self, clients: int) -> BatcherSettings:
        """With room in the queue for every client."""
        policy = self.policy or ("delay" if self.delay_s > 0 else "adaptive")
        return BatcherSettings(
            max_batch=self.max_batch,
            policy=policy,
            max_delay_s=self.delay_s,
            instances=self.instances,
            max_queue=max(1000, 2 * clients),
        )

    def conditions(self) -> dict[str, Any]:
        settings = self.settings(1)
        return {
            "max_batch": settings.max_batch,
            "max_delay_s": settings.max_delay_s,
            "policy": settings.policy,
            "batcher_instances": settings.instances,
        }


@dataclass(frozen=True)
class LoadTrial:
    """``loads`` one after another.  ``find`` searches for the highest rate instead of using an Arrivals' own.

    ``trace_s`` are recorded arrival times for ``trace`` arrivals.
    """

    loads: tuple[Clients | Arrivals, ...]
    feeds: Sequence[Feed]
    through: Through | None = None
    find: Limit | None = None
    trace_s: tuple[float, ...] = ()


@dataclass(frozen=True)
class NoRate:
    """What a search for a rate found where none holds the limit: an answer, not a failure."""

    reason: str
    conditions: dict[str, Any]
    details: dict[str, Any]


@dataclass(frozen=True)
class LoadMeasured:
    """Per load a Measurement, that no rate holds, or the reason why there is neither."""

    found: tuple[Measurement | NoRate | str, ...]
    peak_rss: Figure
    overhead: Figure
    parallelism: int
    environment: dict[str, Any] = field(default_factory=dict)


def press_candidate(candidate: Candidate, opening: Opening | None, trial: LoadTrial) -> LoadMeasured:
    """Open the candidate, send it every load, say what it took."""
    candidate = with_module(candidate, opening) if opening else candidate
    with open_candidate(candidate) as session:
        seen = batch_free(session.signature) if trial.through else session.signature
        check_rows(seen, trial.feeds, trial.loads[0].request_batch)
        found: list[Measurement | NoRate | str] = []
        for load in trial.loads:
            try:
                with Watch(candidate.options.device) as watch:
                    pressed = _press(session, trial, load)
                found.append(_watched(pressed, watch))
            except AssayError as error:
                found.append(error.message)
        rss = peak_rss()
        overhead = harness_overhead(session.signature, trial)
        return LoadMeasured(tuple(found), rss, overhead, session.parallelism, moment())


def _watched(found: Measurement | NoRate, watch: Watch) -> Measurement | NoRate:
    """With what the accelerator did meanwhile; where none can be read, with the reason in the figure."""
    if isinstance(found, NoRate):
        return found
    found, usage = watch.beside(found), watch.usage
    details = dict(found.details)
    if "torchpipe" in details and usage.value is not None:
        details["torchpipe"] = {**details["torchpipe"], "gpu_usage": 100 * usage.value}
    return replace(found, figures={**found.figures, "gpu.usage": usage}, details=details)


def batch_free(signature: Signature) -> Signature:
    """Callers of a batcher see a free batch even where the engine's is static."""
    return signature if signature.static_batch is None else signature.with_batch("batch")


def compare_candidates(
    candidates: tuple[Candidate, Candidate],
    openings: tuple[Opening | None, Opening | None],
    feeds: Sequence[Feed],
    plan: PairPlan,
) -> Paired:
    """Both open in one process, timed in turns; the same candidate twice is opened once (the noise floor)."""
    first, second = (with_module(c, opening) if opening else c for c, opening in zip(candidates, openings, strict=True))
    with open_candidate(first) as a:
        if candidates[0].digest == candidates[1].digest:
            return measure_paired(a, a, feeds, plan)
        with open_candidate(second) as b:
            return measure_paired(a, b, feeds, plan)


def _press(session: Session, trial: LoadTrial, load: Clients | Arrivals) -> Measurement | NoRate:
    if isinstance(load, Clients) and load.threads:
        with _batched(session, trial.through, load.clients) as target:
            run = session.run if target is None else target.run
            return _conditioned(measure_clients(run, trial.feeds, load), trial)
    clients = load.clients if isinstance(load, Clients) else 5000
    with dispatcher_of(session, trial.through, clients) as dispatcher:
        if isinstance(load, Clients):
            return _conditioned(measure_clients(dispatcher, trial.feeds, load), trial)
        if trial.find is not None:
            best = _highest(session, dispatcher, trial, load)
            return best if isinstance(best, NoRate) else _conditioned(best, trial)
        measure_clients(dispatcher, trial.feeds, _burst(session, dispatcher, load))  # warms up
        found = measure_server(dispatcher, trial.feeds, load, schedule(load, trial.trace_s))
        return _conditioned(found, trial)


def _conditioned(found: Measurement, trial: LoadTrial) -> Measurement:
    through = trial.through.conditions() if trial.through else {}
    return replace(found, conditions={**found.conditions, **through})


@contextlib.contextmanager
def _batched(session: Session, through: Through | None, clients: int) -> Iterator[DynamicBatcher | None]:
    if through is None:
        yield None
        return
    with DynamicBatcher(session, through.settings(clients)) as batcher:
        yield batcher


@contextlib.contextmanager
def dispatcher_of(session: Session, through: Through | None, clients: int) -> Iterator[Direct | DynamicBatcher]:
    """What requests are sent to: the batcher, or the session's own instances without merging."""
    with _batched(session, through, clients) as batcher:
        if batcher is not None:
            yield batcher
            return
        with Direct(session) as direct:
            yield direct


def schedule(load: Arrivals, trace_s: Sequence[float] = ()) -> Vector:
    """Arrival times in seconds, warm-up in front.  Raises BadInput for a trace without arrivals."""
    if load.kind == "trace":
        return trace(trace_s)
    count = max(1, math.ceil(load.rate * (load.warmup_s + load.duration_s)))
    return constant(load.rate, count) if load.kind == "constant" else poisson(load.rate, count, load.seed)


def _highest(
    session: Session, dispatcher: Direct | DynamicBatcher, trial: LoadTrial, load: Arrivals
) -> Measurement | NoRate:
    """Search, then run once more at the rate found, lower if need be: that run's figures are the answer."""
    limit, plan = trial.find, SearchPlan(trial_s=min(2.0, load.duration_s))
    assert limit is not None
    seeds = iter(range(load.seed + 1, load.seed + 1000))

    def press(rate: PerSecond, duration_s: Seconds) -> tuple[float, int]:
        asked = replace(load, rate=rate, duration_s=duration_s, warmup_s=0.0, seed=next(seeds))
        served = press_schedule(dispatcher, trial.feeds, schedule(asked), limit, load.drain_s)
        return served.within(limit.latency_s), len(served.scheduled)

    burst = _burst(session, dispatcher, load)
    row = measure_clients(dispatcher, trial.feeds, burst).details["torchpipe"]
    top = row["throughput::qps"] / load.request_batch
    found = find_rate(press, limit, top, plan)
    said = {"limit_s": limit.latency_s, "limit_share": limit.share}
    search = [t.to_json() for t in found.trials]
    if found.rate is None:
        return NoRate(f"no rate holds the limit: {found.reason}", said, {"search": search})
    rate, tried = found.rate, []
    for _ in range(10):
        asked = replace(load, rate=rate, duration_s=max(load.duration_s, plan.duration_s(rate, limit)))
        confirmed = measure_server(dispatcher, trial.feeds, asked, schedule(asked), limit)
        share = confirmed.details["within_limit"]
        tried.append({"rate": rate, "share": share})
        if share >= limit.share:
            break
        rate *= 1 - plan.back_off
    else:
        why = "no rate was confirmed: what the search found did not hold again, the machine is too unsteady to tell"
        return NoRate(why, said, {"search": search, "confirmed": tried})
    reason = f"{limit.share:.0%} of the requests within {limit.latency_s:g} s, confirmed by a run of its own"
    return replace(
        confirmed,
        figures={**confirmed.figures, "rate.highest": Figure(rate, "requests/s", reason=reason)},
        conditions={**confirmed.conditions, **said},
        details={**confirmed.details, "search": search, "confirmed": tried},
    )


def _burst(session: Session, dispatcher: Direct | DynamicBatcher, load: Arrivals) -> Clients:
    """As many clients as keep everything busy, for a moment."""
    callers = dispatcher.parallelism if isinstance(dispatcher, DynamicBatcher) else 2 * session.parallelism
    return Clients(callers, 10 * callers * load.request_batch, load.request_batch, warmup_s=load.warmup_s)


def harness_overhead(signature: Signature, trial: LoadTrial) -> Figure:
    """Seconds per request of the very same path with an engine that computes nothing."""
    try:
        with tempfile.TemporaryDirectory(prefix="assay-null-") as folder:
            artifact = null_artifact(batch_free(signature), Path(folder) / "null.json")
            with NullEngine().open(artifact, OpenOptions()) as session:
                rows = trial.loads[0].request_batch
                with dispatcher_of(session, trial.through, OVERHEAD_CLIENTS) as dispatcher:
                    load = Clients(OVERHEAD_CLIENTS, OVERHEAD_REQUESTS * rows, rows, warmup_s=0.05)
                    row = measure_clients(dispatcher, trial.feeds, load).details["torchpipe"]
    except AssayError as error:
        return withheld("s", f"the null engine cannot stand in for this model: {error.message}")
    return Figure(rows / row["throughput::qps"], "s", n=OVERHEAD_REQUESTS)
