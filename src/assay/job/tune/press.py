"""What a search runs in the warm process of an engine: open a candidate, compare one call, press it, close it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from assay.core import clock
from assay.core.artifact import Artifact
from assay.core.compare import Accumulator
from assay.core.engine import Attestation, BuildOptions, Candidate, Session
from assay.core.errors import AssayError, EngineFailed
from assay.core.record import Figure
from assay.core.tensors import Array, Feed, Signature
from assay.core.units import Seconds, format_rate, format_seconds
from assay.core.workload import Workload
from assay.job.arithmetic import INTEGER, arithmetic_of, quantised_file
from assay.job.opening import open_candidate
from assay.job.trial import Opening, build_file, with_module
from assay.job.tune.given import FileKnown, Given, Known, cost_feeds, of_rows
from assay.measure.blocks import timed_block
from assay.measure.environment import moment
from assay.measure.footprint import peak_rss
from assay.measure.latency import measure_latency
from assay.measure.measurement import Measurement
from assay.measure.numerics import NumericResult, compare_sessions
from assay.measure.quantised import Quantised, costs_of
from assay.measure.throughput import measure_throughput
from assay.measure.truth import Split, Tally, Truth

SURE_S = 0.08
"""Calls must have taken this long before their fastest one says anything: others may have had the cores."""

_CLEAR = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Order:
    """``floor`` is the rate (offline), or the longest latency, at which the candidate is given up."""

    candidate: Candidate
    opening: Opening | None
    workloads: tuple[Workload, ...]
    floor: float | None = None


@dataclass(frozen=True)
class Pressed:
    """One of ``measurements``, ``refused`` and ``given_up`` a workload; ``given_up`` is the reason and the best that
    was still possible (samples/s, or seconds a call); ``compared`` is the comparison of one call with the
    reference, None where there was nothing to compare with.  ``peak`` is the process's peak since it was opened."""

    measurements: Mapping[str, Measurement]
    refused: Mapping[str, str]
    given_up: Mapping[str, tuple[str, float]]
    compared: NumericResult | None
    split: Split | None
    peak: Figure
    parallelism: int
    open_s: Seconds
    environment: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Held:
    session: Session
    candidate: str
    feeds: list[dict[str, Array]]
    scenario: str


@dataclass
class _Process:
    """What this process keeps between calls."""

    given: Given | None = None
    modules: dict[str, Artifact] = field(default_factory=dict)
    held: _Held | None = None


_HERE = _Process()


def ready(engine: str) -> str:
    """Import the engine's library; its version."""
    from assay.job.opening import engine as named

    return named(engine).version()


def give(given: Given) -> None:
    _HERE.given = given


def make(engine: str, artifact: Artifact, options: BuildOptions, out_dir: Path) -> Artifact:
    """Build an engine file here, where the library is imported already."""
    return build_file(engine, artifact, options, out_dir)


def reference_known(order: Order, given: Given, precisions: tuple[str, ...], files: tuple[Artifact, ...] = ()) -> Known:
    """What the reference makes of the rows, exactly too where it can, what each precision must cost on them, and
    what each quantised file among ``files`` says and costs."""
    candidate = _with_module(order)
    started = clock.now()
    with (
        arithmetic_of(candidate.artifact, given.signature) as (arithmetic, why),
        open_candidate(candidate) as session,
    ):
        outputs = of_rows(given, session.run)
        truth = Truth(arithmetic.exact, given.signature) if arithmetic else None
        tally = Tally(truth, why)
        feeds = cost_feeds(given)
        for feed in feeds:
            tally.reference(session).run(feed)
        splits = {p: tally.split(arithmetic, p, feeds) for p in precisions}
        exact = None
        if truth is not None and any(split.costs for split in splits.values()):
            exact = of_rows(given, truth)
        read = {file.sha256: _file_known(file, given, exact) for file in files}
        said = {digest: known for digest, known in read.items() if known is not None}
        return Known(outputs, exact, splits, said, clock.now() - started)


def _file_known(file: Artifact, given: Given, exact: Mapping[str, Array] | None) -> FileKnown | None:
    """None for what is not quantised, or in a way that cannot be read or run: it is then held to the reference's
    own emulated int8 (see ``assay verify``, which does the same)."""
    try:
        with quantised_file(file) as runs:
            if runs is None:
                return None
            says = Truth(runs.exact, given.signature)
            outputs = of_rows(given, says)
            engine, costs, narrow = costs_of(runs, given.signature, cost_feeds(given), says)
    except AssayError:
        return None
    measures = {}
    for name, array in (exact or {}).items():
        if name in outputs and array.dtype != object and array.shape == outputs[name].shape:
            own = Accumulator()
            own.add(array, outputs[name])
            measures[name] = own.measures()
    return FileKnown(outputs, Quantised({}, engine, measures, costs, narrow))


def press(order: Order) -> Pressed:
    """Open, compare one call with the reference's, measure under every workload, close."""
    given = _given()
    _fresh_peak()
    started = clock.now()
    with _opened(order) as session:
        open_s = clock.now() - started
        compared, split = _compare(session, given, order)
        found: dict[str, Measurement] = {}
        refused: dict[str, str] = {}
        given_up: dict[str, tuple[str, float]] = {}
        for workload in order.workloads:
            try:
                found[workload.scenario] = _measure(session, given, workload, order.floor)
            except _GivenUp as error:
                given_up[workload.scenario] = (error.message, error.bound)
            except AssayError as error:
                refused[workload.scenario] = error.message
        parallelism = session.parallelism
        return Pressed(found, refused, given_up, compared, split, peak_rss(), parallelism, open_s, moment())


def _compare(session: Session, given: Given, order: Order) -> tuple[NumericResult | None, Split | None]:
    """One call against the reference's outputs and, where they are known, against the truth and what a quantised
    file says."""
    if given.known is None:
        return None, None
    batch, precision = order.workloads[0].batch, order.candidate.options.precision
    truth: Any = lambda feed: given.truth(batch)  # noqa: E731
    tally = Tally(truth if given.known.exact is not None else None)
    reference: Any = _Answers(given.signature, given.answers(batch))
    own, file = order.candidate.artifact, None
    if precision in INTEGER:
        file = given.file_of((own.sha256, *own.parents))
    says: Any = lambda feed: given.said(file, batch) if file is not None else {}  # noqa: E731
    engine = Tally(says if file is not None else None)
    watched = engine.candidate(tally.candidate(session))
    compared = compare_sessions(reference, watched, {batch: given.feeds(batch)[:1]})
    if file is not None and not compared.failures:
        against_file = engine.errors(precision, (), None).candidate
        return compared, tally.errors(precision, cost_feeds(given), replace(file.quantised, engine=against_file))
    known = given.known.splits.get(precision)
    if known is None or not known.costs:
        return compared, known
    seen = tally.split(_Drawn(), precision, ())
    return compared, replace(seen, costs=known.costs, rows=known.rows, draws=known.draws)


@contextlib.contextmanager
def _opened(order: Order) -> Iterator[Session]:
    """The session held, where it is this candidate's (compiling it again would take minutes), else a new one."""
    if _HERE.held is not None and _HERE.held.candidate == order.candidate.digest:
        yield _HERE.held.session
        return
    with open_candidate(_with_module(order)) as session:
        yield session


def _measure(session: Session, given: Given, workload: Workload, floor: float | None) -> Measurement:
    feeds = given.feeds(workload.batch)
    pressed: Any = session if floor is None else _Guarded(session, workload, floor)
    if workload.scenario == "latency":
        return measure_latency(pressed, feeds, workload)
    return measure_throughput(pressed, feeds, workload)


def hold(order: Order) -> int:
    """Open a candidate and keep it open for ``block``; how many calls it serves at a time."""
    release()
    workload = order.workloads[0]
    session = open_candidate(_with_module(order))
    _HERE.held = _Held(session, order.candidate.digest, _given().feeds(workload.batch), workload.scenario)
    block(2)
    return session.parallelism


def block(calls: int) -> Seconds:
    """Seconds per call of a block of the session held (see measure/blocks.py)."""
    held = _HERE.held
    if held is None:
        raise EngineFailed("no session is held here")
    callers = held.session.parallelism if held.scenario == "offline" else 1
    return timed_block(held.session, held.feeds, calls, callers)


def release() -> None:
    if _HERE.held is not None:
        _HERE.held.session.close()
        _HERE.held = None


def _given() -> Given:
    if _HERE.given is None:
        raise EngineFailed("this process was not given anything to feed")
    return _HERE.given


def _with_module(order: Order) -> Candidate:
    """A candidate that is a module gets it made once a process."""
    candidate = order.candidate
    if order.opening is None:
        return candidate
    digest = candidate.artifact.sha256
    if digest not in _HERE.modules:
        _HERE.modules[digest] = with_module(candidate, order.opening).artifact
    made = _HERE.modules[digest]
    return replace(candidate, artifact=replace(candidate.artifact, module=made.module))


class _GivenUp(EngineFailed):
    """It would not have come near enough to the leader; ``bound`` is the best that was still possible."""

    def __init__(self, message: str, bound: float) -> None:
        super().__init__(message)
        self.bound = bound


class _Guarded:
    """Gives up when even the fastest call so far would not reach the floor.

    The first call of each caller is not counted: libraries do their last preparations in it.
    """

    def __init__(self, session: Session, workload: Workload, floor: float) -> None:
        self._session = session
        self._workload = workload
        self._floor = floor
        self._calls = 0
        self._spent_s = 0.0
        self._fastest = math.inf
        self.signature = session.signature
        self.parallelism = session.parallelism
        self._callers = session.parallelism if workload.scenario == "offline" else 1

    def run(
        self,
        feed: Feed,
        out: MutableMapping[str, Array] | None = None,
        spans: MutableMapping[str, float] | None = None,
    ) -> dict[str, Array]:
        now = clock.current().now
        begin = now()
        result = self._session.run(feed, out, spans)
        took = now() - begin
        self._calls += 1
        if self._calls > self._callers:
            self._fastest = min(self._fastest, took)
            self._spent_s += took / self._callers
            if self._calls >= 2 * self._callers + 1 and self._spent_s >= SURE_S:
                self._check()
        return result

    def _check(self) -> None:
        if self._workload.scenario == "offline":
            rate = self._callers * self._workload.batch / self._fastest
            if rate < self._floor:
                raise _GivenUp(
                    f"given up after {self._calls} calls: at most {format_rate(rate)} samples/s, "
                    f"{format_rate(self._floor)} were needed",
                    rate,
                )
        elif self._fastest > self._floor:
            raise _GivenUp(
                f"given up after {self._calls} calls: at least {format_seconds(self._fastest)} a call, "
                f"{format_seconds(self._floor)} were needed",
                self._fastest,
            )


class _Answers:
    """The reference as its outputs on one feed, for the comparison."""

    def __init__(self, signature: Signature, outputs: dict[str, Array]) -> None:
        self.signature = signature
        self.parallelism = 1
        self._outputs = outputs

    def run(self, feed: Feed, out: Any = None, spans: Any = None) -> dict[str, Array]:
        return self._outputs

    def attest(self) -> Attestation:
        return Attestation()

    def close(self) -> None: ...

    def __enter__(self) -> _Answers:
        return self

    def __exit__(self, *_: object) -> None: ...


class _Drawn:
    """Stands where the cost was drawn already, in the process of the reference."""

    def exact(self, feed: Feed) -> dict[str, Array]:
        raise EngineFailed("the truth is known already")

    def rounded(self, feed: Feed, precision: str, seed: int) -> dict[str, Array]:
        raise EngineFailed("the cost is known already")


def _fresh_peak() -> None:
    """Give freed memory back and let the kernel count the peak from here: it is then this candidate's, on top of
    the libraries."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")


def lengths(blocks: Sequence[Seconds], calls: int, wanted_s: Seconds) -> int:
    """How many calls make a block of about ``wanted_s``, from blocks of ``calls`` calls."""
    each = min(blocks)
    return max(1, min(1000, round(wanted_s / each))) if each > 0 else calls
