"""trtexec's console log, 7.x to 11.x.

Definitions (trtexec's own): Latency = H2D + GPU compute + D2H; GPU compute is timed by CUDA events;
Throughput = queries over the time from the first H2D to the last D2H, and one query is one whole batch.
From 11.0 on CUDA graphs and spin waiting are on and data transfers off by default, so its figures are
labelled as another protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from assay.core import derive
from assay.core.record import Figure, Record, withheld
from assay.importers import trtexec_text
from assay.importers.imported import Hints, Imported
from assay.importers.reading import (
    COMPUTED,
    DEVICE_ONLY,
    MEASURED,
    WITH_COPIES,
    Basis,
    Reading,
    Tool,
    failed_record,
    milliseconds,
    record_of,
    rederived,
)
from assay.importers.source import Source
from assay.importers.trtexec_text import Run

PARTS = ("enqueue", "h2d", "compute", "d2h", "end_to_end")


@dataclass(frozen=True)
class TrtexecText:
    """Every run of a console log becomes a Record with copies and one of the GPU's time alone."""

    def confidence(self, source: Source) -> float:
        return trtexec_text.confidence(source.text)

    def read(self, source: Source, hints: Hints) -> Imported:
        runs = trtexec_text.runs(source)
        if not runs:
            raise source.bad(source.first_line, "there is no performance summary of trtexec in this file")
        found = Imported()
        for run in runs:
            found += _import_run(run, hints)
        untimed = trtexec_text.framed(source) - len({run.frame_line for run in runs})
        if untimed > 0:
            note = f"{source.path}: {untimed} of the runs in this log have no performance summary"
            found += Imported(warnings=(note,))
        return found


def _import_run(run: Run, hints: Hints) -> Imported:
    reading = _reading(run, hints)
    if run.failed is not None:
        return Imported((failed_record(reading, run.failed),))
    batch = reading.hints.batch
    records: list[Record] = []
    warnings: list[str] = []
    if run.throughput is not None or set(run.stats) - {"compute"}:
        records.append(_whole(run, reading))
    if "compute" in run.stats:
        records.append(_device_only(run, reading))
    if batch is None:
        where = run.source.at(run.lines[0])
        warnings.append(f"{where}: the batch size is not in the log, so images/s are withheld (give --batch)")
    return Imported(tuple(records), warnings=tuple(warnings))


def _reading(run: Run, hints: Hints) -> Reading:
    command = run.command
    stated = command.batch
    merged = replace(
        hints,
        model=hints.model or command.model,
        batch=hints.batch or stated,
        precision=hints.precision or command.precision,
    )
    low, high = run.versions
    version = run.version or hints.engine_version
    tool = Tool("trtexec", "tensorrt", run.version, _protocol(version, run))
    conditions: dict[str, Any] = {
        "log_format": run.format,
        "format_versions": [low, high],
        "stated_batch": stated,
        "command": command.text,
        "queries": run.queries,
        "duration_s": run.walltime_s,
        "streams": command.streams,
        "implicit_batch": command.implicit_batch,
        "profiled": run.profiled,
    }
    return Reading(run.source, run.lines, tool, merged, conditions=conditions)


def _protocol(version: str | None, run: Run) -> str:
    """11.x measures something else; a log without its version is only known where copies were timed."""
    if version is not None and version.split(".")[0].isdecimal():
        return "trtexec-11" if int(version.split(".")[0]) >= 11 else "trtexec"
    if run.format in ("7", "8.0-8.2") or run.copies_timed:
        return "trtexec"
    return "trtexec-unversioned"


def _whole(run: Run, reading: Reading) -> Record:
    """The run as trtexec's throughput and latency tell it."""
    no_copies = reading.tool.protocol == "trtexec-11" and not run.copies_timed
    of = DEVICE_ONLY if no_copies or run.command.no_transfers else WITH_COPIES
    figures: dict[str, Figure] = {}
    details: dict[str, Any] = {"queries": run.queries, "tool_warnings": list(run.warnings)}
    _rates(run, reading, figures, details)
    figures.update(milliseconds(run.stats.get("latency", {}), "latency", run.queries))
    for part in PARTS:
        figures.update(milliseconds(run.stats.get(part, {}), f"latency.{part}", run.queries))
    made = record_of(replace(reading, basis=Basis(of, how=MEASURED)), figures, details)
    return replace(made, warnings=run.warnings)


def _rates(run: Run, reading: Reading, figures: dict[str, Figure], details: dict[str, Any]) -> None:
    """Queries/s and samples/s; with the check that they are queries over wall time."""
    batch, implicit = reading.hints.batch, run.command.implicit_batch is not None
    if run.throughput is None:
        return
    if run.throughput == 0:
        # 7.x multiplies by the implicit batch size, which is 0 for an explicit-batch model.
        why = "trtexec 7.x prints 0 qps for explicit-batch models"
        figures["throughput.queries"] = withheld("batches/s", why)
        if run.queries and run.walltime_s and batch:
            counted = derive.from_count(run.queries * batch, run.walltime_s)
            figures["throughput"] = Figure(counted.value, "samples/s", reason=why)
            details["derived"] = [{"figure": "throughput", **counted.to_json()}]
        else:
            figures["throughput"] = withheld("samples/s", why)
        return
    if run.format == "7" and implicit:
        # 7.x counts samples: queries × the implicit batch size.
        figures["throughput"] = Figure(run.throughput, "samples/s")
        return
    figures["throughput.queries"] = Figure(run.throughput, "batches/s")
    if batch is None:
        figures["throughput"] = withheld("samples/s", "the batch size is not known; a query is one whole batch")
    else:
        each = derive.from_queries(run.throughput, batch)
        figures["throughput"] = Figure(each.value, "samples/s")
        details["derived"] = [{"figure": "throughput", **each.to_json()}]
    if run.queries and run.walltime_s:
        counted = derive.from_count(run.queries, run.walltime_s)
        details["rederived"] = [rederived("throughput.queries", counted, 0.01)]


def _device_only(run: Run, reading: Reading) -> Record:
    """The GPU's time alone: what images/s would be if each batch started as the last one ended."""
    stats = run.stats["compute"]
    figures = milliseconds(stats, "latency", run.queries)
    details: dict[str, Any] = {}
    mean, batch = stats.get("mean"), reading.hints.batch
    if mean and batch:
        rate = derive.from_mean_time(mean / 1000, batch)
        figures["throughput"] = Figure(rate.value, "samples/s")
        details["derived"] = [{"figure": "throughput", **rate.to_json()}]
    else:
        figures["throughput"] = withheld("samples/s", "the mean GPU time or the batch size is not in the log")
    return record_of(replace(reading, basis=Basis(DEVICE_ONLY, how=COMPUTED)), figures, details)
