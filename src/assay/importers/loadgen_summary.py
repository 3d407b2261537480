"""MLPerf LoadGen's mlperf_log_summary.txt.  Latencies are per query, in ns, from the scheduled time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from assay.core.record import Figure, Record, withheld
from assay.importers.imported import Hints, Imported
from assay.importers.reading import END_TO_END, Basis, Reading, Tool, record_of, with_n
from assay.importers.source import Source, not_negative, number, positive, whole

_PAIR = re.compile(r"^\s*([A-Za-z0-9][^:]*?)\s*:\s*(.*?)\s*$")
_PERCENTILE = re.compile(r"^([\d.]+) percentile latency \(ns\)$")
_PROCESSED = re.compile(r"\* (?:Only p|P)rocessed (?:at least \d+ queries \()?(\d+)\)?")
RATES = ("Completed samples per second", "Samples per second", "QPS w/ loadgen overhead")
_TIMES = {"Min latency (ns)": "min", "Max latency (ns)": "max", "Mean latency (ns)": "mean"}


@dataclass(frozen=True)
class LoadGenSummary:
    """One Record; an INVALID result says so in its conditions and warnings."""

    def confidence(self, source: Source) -> float:
        return 1.0 if "MLPerf Results Summary" in source.text else 0.0

    def read(self, source: Source, hints: Hints) -> Imported:
        pairs = _pairs(source)
        for needed in ("Scenario", "Mode", "Result is"):
            if needed not in pairs:
                raise source.bad(source.first_line, f"no line {needed!r} in this summary")
        processed = _PROCESSED.search(source.text)
        queries = _queries(source, processed) if processed else None
        figures = _figures(source, pairs, queries)
        facts = Facts(
            scenario=pairs["Scenario"][1],
            mode=pairs["Mode"][1],
            valid=pairs["Result is"][1],
            queries=queries,
            samples_per_query=_whole(source, pairs, "samples_per_query"),
        )
        version = None
        reading = loadgen_reading(source, hints, version, facts)
        failures = tuple(f"{k}: {v}" for k, (_, v) in pairs.items() if k.endswith("satisfied") and v == "NO")
        return Imported((finish(reading, figures, facts, failures),))


@dataclass(frozen=True)
class Facts:
    """What both logs of LoadGen say about a run."""

    scenario: str
    mode: str
    valid: str
    queries: int | None
    samples_per_query: int | None


def loadgen_reading(source: Source, hints: Hints, version: str | None, facts: Facts) -> Reading:
    clients = 1 if facts.scenario in ("SingleStream", "MultiStream") else None
    return Reading(
        source,
        (source.first_line, source.last_line),
        Tool("loadgen", "sut", version, "mlperf-" + facts.scenario.lower()),
        hints,
        Basis(END_TO_END),
        conditions={
            "scenario": facts.scenario,
            "mode": facts.mode,
            "result": facts.valid,
            "queries": facts.queries,
            "samples_per_query": facts.samples_per_query,
            "clients": clients,
            "data": "the system under test's",
        },
    )


def finish(reading: Reading, figures: dict[str, Figure], facts: Facts, failures: tuple[str, ...]) -> Record:
    """The Record, with what made the run invalid."""
    if "throughput" not in figures:
        figures["throughput"] = withheld("samples/s", f"LoadGen gives no rate in the {facts.scenario} scenario")
    made = record_of(reading, figures, {"not_satisfied": list(failures)})
    invalid = () if facts.valid == "VALID" else (f"LoadGen calls this run {facts.valid}", *failures)
    return Record(
        made.kind,
        made.subject,
        figures=made.figures,
        conditions=made.conditions,
        warnings=invalid,
        details=made.details,
    )


def _pairs(source: Source) -> dict[str, tuple[int, str]]:
    """key -> (line, value); the first mention counts."""
    found: dict[str, tuple[int, str]] = {}
    for line, text in source.numbered():
        if (match := _PAIR.match(text)) and match[2]:
            found.setdefault(match[1], (line, match[2]))
    return found


def _figures(source: Source, pairs: Mapping[str, tuple[int, str]], queries: int | None) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for key, (line, text) in pairs.items():
        if key in RATES and "throughput" not in figures:
            figures["throughput"] = Figure(positive(source, line, text, key), "samples/s")
        elif key == "Scheduled samples per second":
            figures["throughput.scheduled"] = Figure(positive(source, line, text, key), "samples/s")
        elif key in _TIMES:
            figures[f"latency.{_TIMES[key]}"] = Figure(not_negative(source, line, text, key) / 1e9, "s", n=queries)
        elif match := _PERCENTILE.match(key):
            name = percentile_name(source, line, match[1])
            figures[f"latency.{name}"] = with_n(not_negative(source, line, text, key) / 1e9, "s", queries, name)
    return figures


def percentile_name(source: Source, line: int, text: str) -> str:
    """``99.00`` -> ``p99``, ``99.90`` -> ``p99.9``."""
    return f"p{number(source, line, text, 'a percentile'):g}"


def _queries(source: Source, match: re.Match[str]) -> int:
    return whole(source, source.line_of(match.start()), match[1], "the number of queries")


def _whole(source: Source, pairs: Mapping[str, tuple[int, str]], key: str) -> int | None:
    return whole(source, pairs[key][0], pairs[key][1], key) if key in pairs else None
