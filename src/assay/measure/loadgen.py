"""MLPerf LoadGen in front of a dispatcher: its queries, its schedule and its own statistics.

A thin adapter: LoadGen decides when a query is issued and what is reported; here queries become requests
and answers become completions.  Needs ``mlcommons-loadgen``.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core.errors import AssayError, BadInput, EngineFailed, NotAvailable, UnknownName
from assay.core.tensors import Feed
from assay.core.units import PerSecond, Seconds
from assay.measure.dispatch import Dispatcher, short_switches

SCENARIOS = ("SingleStream", "Offline", "Server")
LIBRARY_SAMPLES = 64
SUMMARY = "mlperf_log_summary.txt"


@dataclass(frozen=True)
class LoadGenSettings:
    """``rate`` is the Server scenario's, and what Offline expects; ``limit_s`` is Server's latency limit."""

    scenario: str
    duration_s: Seconds = 5.0
    queries: int = 100
    rate: PerSecond = 100.0
    limit_s: Seconds = 0.1

    def __post_init__(self) -> None:
        if self.scenario not in SCENARIOS:
            raise UnknownName("LoadGen scenario", self.scenario, SCENARIOS)
        if not (self.duration_s > 0 and self.queries >= 1 and self.rate > 0 and self.limit_s > 0):
            raise BadInput(f"a LoadGen run that cannot be: {self}")


def run_loadgen(dispatcher: Dispatcher, feeds: Sequence[Feed], settings: LoadGenSettings, folder: Path) -> Path:
    """Run one test; returns LoadGen's summary file, written into ``folder`` together with its detailed log.

    One process runs one test at a time.  Raises NotAvailable without the library, the model's own error
    when a request failed, EngineFailed when LoadGen wrote no summary.
    """
    lg = _library()
    if not feeds:
        raise BadInput("there is nothing to feed: a measurement needs at least one feed")
    folder.mkdir(parents=True, exist_ok=True)
    library = list(itertools.islice(itertools.cycle(feeds), LIBRARY_SAMPLES))
    failures: list[AssayError] = []
    completing = threading.Lock()

    def on_done(answers: Sequence[Any]) -> None:
        queries = []
        for answer in answers:
            with completing:  # of one that failed before ``submit_many`` was back, both threads come to tell
                query, answer.context = answer.context, None
            if query is None:
                continue
            queries.append(query)
            answer.outputs = None
            if answer.error is not None:
                failures.append(answer.error)
        if queries:
            lg.QuerySamplesComplete([lg.QuerySampleResponse(query, 0, 0) for query in queries])

    def issue(queries: Sequence[Any]) -> None:
        sent = dispatcher.submit_many([library[q.index] for q in queries], on_done, [q.id for q in queries])
        refused = [answer for answer in sent if answer.error is not None and answer.done]
        if refused:
            on_done(refused)

    sut = lg.ConstructSUT(issue, lambda: None)
    qsl = lg.ConstructQSL(len(library), len(library), lambda indices: None, lambda indices: None)
    try:
        with short_switches():
            lg.StartTestWithLogSettings(sut, qsl, _settings(lg, settings), _logging(lg, folder))
    finally:
        lg.DestroyQSL(qsl)
        lg.DestroySUT(sut)
    if failures:
        raise failures[0]
    summary = folder / SUMMARY
    if not summary.is_file():
        raise EngineFailed(f"LoadGen wrote no {SUMMARY} to {folder}")
    return summary


def _library() -> Any:
    try:
        import mlperf_loadgen  # type: ignore[import-not-found]
    except ImportError:
        raise NotAvailable("MLPerf LoadGen is not installed", remedy="pip install mlcommons-loadgen") from None
    return mlperf_loadgen


def _settings(lg: Any, asked: LoadGenSettings) -> Any:
    found = lg.TestSettings()
    found.scenario = getattr(lg.TestScenario, asked.scenario)
    found.mode = lg.TestMode.PerformanceOnly
    found.min_duration_ms = int(1e3 * asked.duration_s)
    found.max_duration_ms = int(20e3 * asked.duration_s)
    found.min_query_count = asked.queries
    if asked.scenario == "Server":
        found.server_target_qps = asked.rate
        found.server_target_latency_ns = int(1e9 * asked.limit_s)
    elif asked.scenario == "Offline":
        found.offline_expected_qps = asked.rate
    return found


def _logging(lg: Any, folder: Path) -> Any:
    output = lg.LogOutputSettings()
    output.outdir = str(folder)
    output.copy_summary_to_stdout = False
    found = lg.LogSettings()
    found.log_output = output
    found.enable_trace = False
    return found
