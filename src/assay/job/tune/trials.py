"""Trials: a point measured in its engine's warm process and compared with the reference, as Records that are kept."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from assay.core import clock
from assay.core.artifact import Artifact
from assay.core.engine import Candidate
from assay.core.errors import AssayError, ChildFailed
from assay.core.record import Figure, Record, withheld
from assay.core.units import Seconds
from assay.core.workload import StopRule, Workload
from assay.job.compare_two import verify_details
from assay.job.context import Context, Data, Exported
from assay.job.keys import stage_key
from assay.job.opening import default_engines, engine
from assay.job.pace import Pace
from assay.job.request import CANDIDATE_PRECISIONS
from assay.job.trial import Opening
from assay.job.tune.given import CHECK_ROWS, Given
from assay.job.tune.press import Order, Pressed
from assay.job.tune.space import Mapped
from assay.job.tune.worker import Worker
from assay.judge.classes import classify
from assay.judge.tolerance import tolerance
from assay.measure.measurement import Measurement
from assay.measure.raw import save_raw
from assay.search.halving import Effort
from assay.search.objective import Objective
from assay.search.space import Point, Space

WARMUP_S = 0.05
PRESS = "assay.job.tune.press:"
LEAST_PATIENCE_S = 5.0
_KNOWN = f"{PRESS}reference_known"
SECOND = "-2"
"""Marks one more process of the same engine."""


_NOTHING = Mapped(Space(()), {})


@dataclass(frozen=True)
class Scene:
    """What is searched over, and what everything is compared with."""

    exported: Exported
    data: Data
    reference: Candidate


def family_of(candidate: Candidate) -> str:
    """Engine and precision: what the points of a space are grouped by."""
    return f"{candidate.engine} {candidate.options.precision}"


@dataclass
class Trials:
    """Callable as ``search.halving.Trial``.  Use as a context manager: it ends its processes.

    ``until_s`` is the moment (of core's clock) at which a call that still runs is ended; ``mapped`` is the space
    whose points are tried; ``pace`` learns what opening and a row take (by default the run's).
    """

    ctx: Context
    scene: Scene
    objective: Objective
    until_s: Seconds
    mapped: Mapped = _NOTHING
    workers: dict[str, Worker] = field(default_factory=dict)
    given: Given | None = None
    reused: int = 0
    pace: Pace = field(default_factory=Pace)
    _asked: Given | None = None
    _told: set[tuple[str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        if math.isinf(self.pace.ends_s):
            self.pace = self.ctx.pace

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.end()

    # processes

    def worker(self, name: str) -> Worker:
        """The process of that name (an engine's, or one more of it), begun if need be."""
        if name not in self.workers:
            log = self.ctx.folder.artifacts / "logs" / f"tune-{name}.log"
            self.workers[name] = Worker(log, (f"{PRESS}ready", name.removesuffix(SECOND)))
        self.workers[name].start()
        return self.workers[name]

    def start(self, engines: Sequence[str]) -> None:
        """Have the libraries imported while something else goes on."""
        for name in dict.fromkeys(engines):
            self.worker(name)

    def call(self, name: str, function: str, arguments: Mapping[str, Any]) -> Any:
        """Call ``press.FUNCTION`` in the process ``name``, which is told the samples first."""
        worker = self.fed(name)
        return worker.call(f"{PRESS}{function}", arguments, self.patience())

    def fed(self, name: str) -> Worker:
        rows = self.rows()
        worker = self.worker(name)
        if (name, worker.starts) not in self._told:
            worker.call(f"{PRESS}give", {"given": rows}, self.patience())
            self._told.add((name, worker.starts))
        return worker

    def patience(self) -> Seconds:
        return max(LEAST_PATIENCE_S, self.until_s - clock.now())

    def prepare(self) -> None:
        """Have libraries imported and the reference make its outputs while something else goes on."""
        names = self.ctx.request.engines or default_engines(self.ctx.request.device)
        files = {self.ctx.model.artifact.format, "onnx" if self.scene.exported.onnx else ""}
        here = [n for n in names if engine(n).unavailable(self.ctx.request.device) is None]
        self.start([n for n in here if files & set(engine(n).reads)])
        data = self.scene.data
        self._asked = Given(tuple(data.samples(CHECK_ROWS)), data.signature)
        if data.reader is not None:  # once more, since the first time what reads them was imported
            with self.pace.timed("read"):
                list(data.samples(CHECK_ROWS))
        order = self.order(self.scene.reference, 1, 1.0)
        arguments = {
            "order": order,
            "given": self._asked,
            "precisions": self.precisions(names),
            "files": self.files(),
        }
        self.worker(self.scene.reference.engine).send(_KNOWN, arguments)

    def precisions(self, engines: Sequence[str]) -> tuple[str, ...]:
        """Those that some engine has here: what each must cost is drawn."""
        request, exported = self.ctx.request, self.scene.exported
        asked = request.precisions or CANDIDATE_PRECISIONS
        here = [p for p in asked if any(engine(n).unavailable(request.device, p) is None for n in engines)]
        return tuple(dict.fromkeys([*here, *(p for p in exported.lowered if p in asked)]))

    def files(self) -> tuple[Artifact, ...]:
        """The ONNX files that candidates run, or are built from: of those that are quantised, what they say is known
        before any is opened."""
        exported = self.scene.exported
        found = [a for a in (*exported.lowered.values(), exported.onnx, self.ctx.model.artifact) if a is not None]
        return tuple({a.sha256: replace(a, module=None) for a in found if a.format == "onnx"}.values())

    def rows(self) -> Given:
        """The samples, with the reference's outputs, which are made once."""
        if self.given is None:
            if self._asked is None:
                self.prepare()
            assert self._asked is not None
            worker = self.worker(self.scene.reference.engine)
            self.given = replace(self._asked, known=worker.answer(_KNOWN, self.patience()))
        return self.given

    def order(self, candidate: Candidate, batch: int, seconds: Seconds, floor: float | None = None) -> Order:
        rebuild = candidate.artifact.module is not None
        opening = Opening(self.ctx.request.model, self.ctx.request.source_options(self.ctx.folder.artifacts))
        portable = replace(candidate, artifact=replace(candidate.artifact, module=None))
        stop = StopRule(min_calls=5, max_s=seconds, min_s=min(0.5, seconds / 2))
        workload = Workload(self.objective.scenario, batch, stop, WARMUP_S, self.ctx.request.seed)
        return Order(portable, opening if rebuild else None, (workload,), floor)

    # trials

    def __call__(self, point: Point, effort: Effort) -> list[Record]:
        candidate = self.mapped.candidate(point)
        return self.measured(candidate, point.batch, effort, {"layout": str(point.layout), "form": str(point.form)})

    def measured(
        self,
        candidate: Candidate,
        batch: int,
        effort: Effort,
        conditions: Mapping[str, Any],
        process: str | None = None,
    ) -> list[Record]:
        """Measure and compare ``candidate`` at ``batch``, or read what an earlier run measured."""
        order = self.order(candidate, batch, effort.seconds, effort.floor)
        settings = [w.conditions() for w in order.workloads]
        stage = f"tune-{candidate.digest[:12]}-b{batch}-{self.objective.scenario}-{effort.rung.replace(' ', '')}"
        key = stage_key(
            "tune",
            self.ctx.environment,
            candidate.digest,
            self.scene.data.name,
            self.scene.data.identity,
            settings,
            conditions,
            "file and engine",
        )
        saved = self.ctx.folder.finished(stage, key)
        if saved is not None:
            self.reused += 1
            return self.ctx.folder.records_of(saved)
        with_effort = {**conditions, "effort": effort.rung, "process": "warm"}
        try:
            name = process or candidate.engine
            pressed: Pressed = self.call(name, "press", {"order": order})
            records = self.records(candidate, order, pressed, with_effort)
            self._learn(candidate, pressed, records)
        except AssayError as error:
            records = [self._failed(candidate, order, error, with_effort)]
        return self.ctx.folder.records_of(self.ctx.folder.save(stage, key, {}, records))

    def _learn(self, candidate: Candidate, pressed: Pressed, records: Sequence[Record]) -> None:
        """What opening it and what a row takes, the shortest seen: for what is planned from it later."""
        name = family_of(candidate)
        self.pace.learn(f"open {name}", pressed.open_s)
        rate = next((r.value("throughput") for r in records if r.kind == "measure"), None)
        if rate:
            self.pace.learn(f"row {name}", min(1 / rate, self.pace.known(f"row {name}", math.inf)))

    # Records

    def records(
        self, candidate: Candidate, order: Order, pressed: Pressed, conditions: Mapping[str, Any]
    ) -> list[Record]:
        found = [self._measured(candidate, w, pressed, conditions) for w in order.workloads]
        return [*found, *self._compared(candidate, order.workloads[0].batch, pressed)]

    def _measured(
        self, candidate: Candidate, workload: Workload, pressed: Pressed, conditions: Mapping[str, Any]
    ) -> Record:
        subject = candidate.subject(self.ctx.model.name, workload.batch)
        common = {
            **workload.conditions(),
            **self.scene.data.conditions,
            **conditions,
        }
        scenario = workload.scenario
        given_up, bound = pressed.given_up.get(scenario, (None, None))
        reason = given_up or pressed.refused.get(scenario)
        if reason is not None:
            status, details = ("skipped", {"bound": bound}) if given_up else ("failed", {})
            record = Record("measure", subject, status, conditions=common, reason=reason, details=details)
            return replace(record, environment=self.ctx.environment)
        measured = pressed.measurements[scenario]
        name = f"tune-{candidate.digest[:12]}-{scenario}-b{workload.batch}-{conditions['effort'].replace(' ', '')}"
        return Record(
            "measure",
            subject,
            figures={**_rated(measured, pressed.parallelism, workload), "memory.peak": pressed.peak},
            conditions={**common, "parallelism": pressed.parallelism},
            environment={**self.ctx.environment, **pressed.environment},
            label=measured.label,
            warnings=measured.warnings,
            raw=save_raw(self.ctx.folder.path, name, measured),
            details={"label_reason": measured.label_reason, "open_s": pressed.open_s},
        )

    def _compared(self, candidate: Candidate, batch: int, pressed: Pressed) -> list[Record]:
        if pressed.compared is None:
            return []
        allowed = tolerance(candidate.options.precision, self.scene.exported.depth)
        judged = classify(pressed.compared, allowed, pressed.split)
        details = verify_details(pressed.compared, judged, allowed, pressed.split)
        if not judged.accepted:
            details["refused"] = f"its outputs are {judged.name}: {judged.reason.text}"
        return [
            Record(
                "verify",
                candidate.subject(self.ctx.model.name),
                figures=pressed.compared.figures(),
                conditions={
                    "reference": f"{self.scene.reference.engine} {self.scene.reference.options.precision}",
                    "reference_candidate": self.scene.reference.digest,
                    "run_reference": self.ctx.reference,
                    "batches": [batch],
                    "samples": min(batch, CHECK_ROWS),
                    **self.scene.data.conditions,
                    "scope": "one call, compared as it was opened to be measured",
                },
                environment=self.ctx.environment,
                warnings=pressed.compared.warnings if batch > 1 else (),
                details=details,
            )
        ]

    def _failed(self, candidate: Candidate, order: Order, error: AssayError, conditions: Mapping[str, Any]) -> Record:
        workload = order.workloads[0]
        log = f" (log: {error.log})" if isinstance(error, ChildFailed) and error.log else ""
        return Record(
            "measure",
            candidate.subject(self.ctx.model.name, workload.batch),
            status="failed",
            reason=f"{error.message}{log}",
            conditions={
                **workload.conditions(),
                **self.scene.data.conditions,
                **conditions,
            },
            environment=self.ctx.environment,
        )

    # side by side

    @contextlib.contextmanager
    def holding(self, names: Sequence[str]) -> Any:
        """Release what the processes hold when the block ends, however it ends."""
        try:
            yield
        finally:
            for name in names:
                worker = self.workers.get(name)
                if worker is not None and worker.alive:  # one that is gone holds nothing
                    with contextlib.suppress(AssayError):
                        self.call(name, "release", {})


def _rated(measured: Measurement, parallelism: int, workload: Workload) -> dict[str, Figure]:
    """The figures; a rate that too few calls of several callers cannot count is estimated from their times."""
    figures = dict(measured.figures)
    rate = figures.get("throughput", withheld("samples/s", "it was not counted"))
    counted = measured.counted
    if rate.value is None and len(counted):
        callers = parallelism if workload.scenario == "offline" else 1
        value = callers * workload.batch / float(np.median(counted))
        reason = f"estimated from the median call of {callers} callers: {rate.reason}"
        figures["throughput"] = Figure(value, "samples/s", n=len(counted), reason=reason)
    return figures
