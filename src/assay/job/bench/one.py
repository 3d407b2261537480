"""``assay bench``: one MODEL on one engine, pressed in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.core import child
from assay.core.engine import Candidate, OpenOptions
from assay.core.record import Figure, Record, withheld
from assay.core.units import format_seconds
from assay.core.workload import Arrivals, Clients, StopRule, Workload
from assay.export.options import ExportOptions
from assay.job.bench.load_trial import LoadMeasured, LoadTrial, NoRate, Through
from assay.job.bench.loadgen import LoadGenTrial, loadgen_record
from assay.job.bench.pair import DAY_S, Against, Side, against, noise_floor
from assay.job.context import Data
from assay.job.dataset import open_data
from assay.job.open_request import OpenRequest
from assay.job.packed import bundle_folder
from assay.job.progress import Progress
from assay.job.request import Objects, RunRequest
from assay.job.single import Prepared, Wanted, prepare
from assay.job.stages.measure import FEED_ROWS
from assay.job.trial import Measured, Opening, Trial
from assay.measure.environment import environment
from assay.measure.loadgen import LoadGenSettings
from assay.measure.measurement import Measurement
from assay.measure.odd_batch import curve_warnings, odd_batches
from assay.measure.raw import save_raw
from assay.measure.server import Limit
from assay.sources import SourceOptions


@dataclass(frozen=True)
class Press:
    """Many callers: closed loops (``Clients``) or open ones (``Arrivals``), all with the same request batch.

    ``through`` puts the dynamic batcher in between; ``find`` searches the highest rate that holds a limit;
    ``trace_s`` are the moments of ``trace`` arrivals.
    """

    loads: tuple[Clients | Arrivals, ...]
    through: Through | None = None
    find: Limit | None = None
    trace_s: tuple[float, ...] = ()

    @property
    def request_batch(self) -> int:
        return self.loads[0].request_batch


@dataclass(frozen=True)
class Bench:
    """What to measure; ``within`` is the relative half-width at which a measurement may stop early.

    ``press`` is given for the scenarios ``clients`` and ``server``; ``batches``, ``duration_s`` and
    ``within`` then mean nothing.  ``noise_floor`` measures the model against itself, ``against`` against another
    one; ``loadgen`` lets MLPerf LoadGen press it.  ``precision``, ``device`` and ``threads`` None: nobody asked.
    """

    model: str
    data: str | None = None
    scenario: str = "latency"
    engine: str | None = None
    precision: str | None = None
    device: str | None = None
    threads: int | None = None
    batches: tuple[int, ...] = (1, 8)
    duration_s: float = 3.0
    within: float = 0.02
    press: Press | None = None
    noise_floor: bool = False
    against: Against | None = None
    loadgen: LoadGenSettings | None = None

    @property
    def opened(self) -> OpenRequest:
        """One instance, unless a batcher was asked for more."""
        instances = self.press.through.instances if self.press and self.press.through else 1
        return OpenRequest(self.precision, self.device, self.threads, OpenOptions(instances=instances))


@dataclass(frozen=True)
class _Ready:
    """A prepared model with its data; ``about`` stands in every Record's details."""

    asked: Bench
    prepared: Prepared
    opening: Opening
    data: Data
    about: dict[str, Any]
    seed: int

    def side(self) -> Side:
        return _side(self.prepared, self.opening)

    @property
    def rebuild(self) -> Opening | None:
        return self.side().opening

    def portable(self) -> Candidate:
        return self.side().candidate

    def common(self) -> dict[str, object]:
        return self.data.conditions


def bench_one(asked: Bench, source: SourceOptions, progress: Progress, keep: Path | None = None) -> list[Record]:
    """One Record per batch size or load.  ``keep`` is a folder for the raw values."""
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as folder:
        here = replace(source, out_dir=Path(folder))
        progress.stage("open", asked.model)
        prepared = prepare(Wanted(asked.model, asked.engine, asked.opened), here)
        progress.done(prepared.candidate.label)
        drawn = ExportOptions(ranges=source.ranges)
        request = RunRequest(asked.model, Path(folder), data=asked.data, seed=source.seed, export=drawn)
        data = open_data(request, Objects(), prepared.model, prepared.signature)
        about = {"opset": _opset(prepared, Path(folder)), "inputs": [str(s) for s in data.signature.inputs]}
        ready = _Ready(asked, prepared, _opening(asked.model, prepared, here), data, about, source.seed)
        if asked.noise_floor:
            return [_noise_floor(ready, progress)]
        if asked.against:
            return _against(ready, asked.against, progress, keep)
        if asked.loadgen:
            return [_loadgen(ready, asked.loadgen, progress)]
        return _loads(ready, asked.press, progress, keep) if asked.press else _batches(ready, progress, keep)


def _batches(ready: _Ready, progress: Progress, keep: Path | None) -> list[Record]:
    """Scenarios ``latency`` and ``offline``; sizes that break the curve of an offline run are measured again."""
    asked = ready.asked
    progress.stage("measure", f"{asked.scenario}, batch {', '.join(map(str, asked.batches))}")
    records = _measured(ready, asked.batches, keep)
    if asked.scenario == "offline":
        odd = odd_batches(records)
        if odd:
            progress.done(f"odd: batch {', '.join(map(str, odd))}")
            progress.stage("measure", f"again, batch {', '.join(map(str, odd))}")
            records = curve_warnings(records, _measured(ready, odd, keep, "-again"))
    progress.done("done")
    return records


def _measured(ready: _Ready, batches: Sequence[int], keep: Path | None, suffix: str = "") -> list[Record]:
    asked = ready.asked
    stop = StopRule(max_s=asked.duration_s, within=asked.within)
    workloads = tuple(Workload(asked.scenario, b, stop, seed=ready.seed) for b in batches)
    trial = Trial(workloads, {b: ready.data.feeds(b, FEED_ROWS) for b in batches})
    found = child.run(
        "assay.job.trial:measure_candidate",
        {"candidate": ready.portable(), "opening": ready.rebuild, "trial": trial},
        child.Limits(timeout_s=DAY_S),
    ).value
    assert isinstance(found, Measured)
    return [_record(ready, w, found, keep, suffix) for w in workloads]


def _record(ready: _Ready, workload: Workload, measured: Measured, keep: Path | None, suffix: str) -> Record:
    case = (workload.scenario, workload.batch)
    conditions = {**workload.conditions(), **ready.common()}
    result = measured.refused.get(case) or measured.measurements[case]
    figures = {"memory.peak": measured.peak_rss}
    name = f"{workload.scenario}-b{workload.batch}{suffix}"
    return _made(ready, conditions, result, _Extra(figures, measured.environment, keep, name))


def _loads(ready: _Ready, press: Press, progress: Progress, keep: Path | None) -> list[Record]:
    """Scenarios ``clients`` and ``server``."""
    feeds = ready.data.feeds(press.request_batch, FEED_ROWS)
    trial = LoadTrial(press.loads, feeds, press.through, press.find, press.trace_s)
    progress.stage("measure", _described(press))
    measured = child.run(
        "assay.job.bench.load_trial:press_candidate",
        {"candidate": ready.portable(), "opening": ready.rebuild, "trial": trial},
        child.Limits(timeout_s=DAY_S),
    ).value
    assert isinstance(measured, LoadMeasured)
    progress.done("done")
    records = []
    for number, (load, result) in enumerate(zip(press.loads, measured.found, strict=True)):
        through = press.through.conditions() if press.through else {}
        conditions = {**load.conditions(), **through, "parallelism": measured.parallelism, **ready.common()}
        figures = {"memory.peak": measured.peak_rss, "harness.request": measured.overhead}
        name = f"{conditions['scenario']}-{number}"
        records.append(_made(ready, conditions, result, _Extra(figures, measured.environment, keep, name)))
    return records


@dataclass(frozen=True)
class _Extra:
    figures: dict[str, Figure]
    environment: Any
    keep: Path | None
    name: str


NO_RATE = "no rate held"
"""The label of a search for a rate that found none: an answer, and a limit that was missed."""


def _made(ready: _Ready, conditions: dict[str, Any], result: Measurement | NoRate | str, extra: _Extra) -> Record:
    subject = ready.prepared.candidate.subject(ready.prepared.model.name, conditions["batch"])
    if isinstance(result, NoRate):
        return Record(
            "measure",
            subject,
            figures={"rate.highest": withheld("requests/s", result.reason), **extra.figures},
            conditions={**conditions, **result.conditions},
            environment={**environment(), **extra.environment},
            label=NO_RATE,
            details={**result.details, **ready.about},
        )
    if isinstance(result, str):
        return Record(
            "measure", subject, status="failed", reason=result, conditions=conditions, details=dict(ready.about)
        )
    raw = None
    if extra.keep is not None:
        model = "".join(c if c.isalnum() or c in "-_." else "_" for c in ready.prepared.model.name)
        raw = save_raw(extra.keep, f"{model}-{ready.prepared.candidate.digest[:12]}-{extra.name}", result)
    return Record(
        "measure",
        subject,
        figures={**result.figures, **extra.figures},
        conditions={**conditions, **{k: v for k, v in result.conditions.items() if k not in ("data", "real_data")}},
        environment={**environment(), **extra.environment},
        label=result.label,
        warnings=result.warnings,
        raw=raw,
        details={
            "label_reason": result.label_reason,
            "warmup_calls": result.warmup_calls,
            **result.details,
            **ready.about,
        },
    )


def _noise_floor(ready: _Ready, progress: Progress) -> Record:
    batch = ready.asked.batches[0]
    progress.stage("measure", f"against itself, batch {batch}")
    found = noise_floor(ready.side(), ready.data.feeds(batch, FEED_ROWS), batch)
    progress.done(str(found.label))
    return _described_by(ready, found)


def _against(ready: _Ready, other: Against, progress: Progress, keep: Path | None) -> list[Record]:
    """One Record per batch size.  The other model gets the first one's feeds."""
    folder = ready.opening.options.out_dir / "against"
    here = replace(ready.opening.options, out_dir=folder)
    same = replace(ready.prepared.candidate.options, precision=ready.asked.opened.options.precision)
    name, opened = other.engine or ready.asked.engine, OpenRequest(other.precision, base=same)
    if bundle_folder(other.model):  # opened as it was proved, unless it is asked for otherwise
        name = other.engine
    progress.stage("open", other.model)
    wanted = Wanted(other.model, name, opened, precision_option="--against-precision {}")
    prepared = prepare(wanted, here)
    progress.done(prepared.candidate.label)
    second = _side(prepared, _opening(other.model, prepared, here))
    records = []
    for batch in ready.asked.batches:
        progress.stage("measure", f"{ready.asked.model} against {other.model}, batch {batch}")
        feeds = ready.data.feeds(batch, FEED_ROWS)
        records.append(_described_by(ready, against((ready.side(), second), feeds, batch, other.plan(), keep)))
        progress.done(records[-1].details["answer"])
    return records


def _described_by(ready: _Ready, record: Record) -> Record:
    """With what every Record of this bench says."""
    conditions = {**record.conditions, **ready.common()}
    return replace(record, conditions=conditions, details={**record.details, **ready.about})


def _opening(spec: str, prepared: Prepared, options: SourceOptions) -> Opening:
    """How another process gets a module again: as this one did, or from the file that a bundle holds."""
    if bundle_folder(spec) is None:
        return Opening(spec, options)
    own = replace(options, weights=None, arch=None, md5=None, sha256=None)  # those pin the bundle, which was checked
    return Opening(str(prepared.candidate.artifact.path), own)


def _side(prepared: Prepared, opening: Opening) -> Side:
    """What the measuring process needs; a module cannot travel and is made again there."""
    candidate, module = prepared.candidate, prepared.candidate.artifact.module
    portable = replace(candidate, artifact=replace(candidate.artifact, module=None))
    return Side(prepared.model.name, portable, opening if module else None, prepared.signature)


def _loadgen(ready: _Ready, settings: LoadGenSettings, progress: Progress) -> Record:
    progress.stage("measure", f"LoadGen {settings.scenario}, {format_seconds(settings.duration_s)}")
    arguments = {
        "candidate": ready.portable(),
        "opening": ready.rebuild,
        "trial": LoadGenTrial(settings, ready.data.feeds(1, FEED_ROWS)),
    }
    limits = child.Limits(timeout_s=DAY_S)
    found = loadgen_record(child.run("assay.job.bench.loadgen:press_with_loadgen", arguments, limits).value)
    progress.done("done")
    return replace(
        found,
        kind="measure",
        subject=ready.prepared.candidate.subject(ready.prepared.model.name, 1),
        conditions={
            **found.conditions,
            "scenario": f"loadgen-{settings.scenario}",
            "batch": 1,
            **ready.common(),
        },
        environment=environment(),
        details={**found.details, **ready.about},
    )


def _described(press: Press) -> str:
    first = press.loads[0]
    if isinstance(first, Clients):
        counts = ", ".join(str(load.clients) for load in press.loads if isinstance(load, Clients))
        text = f"{counts} clients, {first.requests * first.request_batch} samples"
    elif press.find is not None:
        text = f"the highest rate with {press.find.share:.0%} within {format_seconds(press.find.latency_s)}"
    else:
        text = f"{first.kind} arrivals, {first.rate:g}/s for {format_seconds(first.duration_s)}"
    return text + (f", batches up to {press.through.max_batch}" if press.through else "")


def _opset(prepared: Prepared, folder: Path) -> int | None:
    """The default domain's opset of the ONNX file the candidate is or was built from."""
    import onnx

    files = [a.path for a in (prepared.candidate.artifact, prepared.model.artifact) if a.format == "onnx"]
    path = files[0] if files else folder / "model.onnx"
    if not path.is_file():
        return None
    opsets = onnx.load(str(path), load_external_data=False).opset_import
    return next((int(o.version) for o in opsets if o.domain in ("", "ai.onnx")), None)
