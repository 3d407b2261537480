"""``assay bench A B C …``: many models under the same load, each in a fresh process, one table.

With a folder every model's Records are saved the moment it ends; the next call with the same settings
goes on where the last one stopped.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from assay._version import __version__
from assay.bundle.contents import Bundle, read_bundle
from assay.bundle.manifest import NAME
from assay.core import child
from assay.core.artifact import digest_json
from assay.core.errors import AssayError, BadInput
from assay.core.record import Record
from assay.core.units import Seconds, parse_seconds
from assay.core.workload import Clients
from assay.job.bench.load_trial import Through
from assay.job.bench.one import Bench, Press, bench_one
from assay.job.bench.pair import DAY_S
from assay.job.folder import RunFolder
from assay.job.keys import identity
from assay.job.open_request import plain_device
from assay.job.packed import bundle_folder, refuse_other
from assay.job.progress import Progress, Silent
from assay.measure.environment import environment
from assay.present.torchpipe import torchpipe_markdown
from assay.sources import SourceOptions
from assay.sources.registry import list_models

_GLOB = frozenset("*?[")


@dataclass(frozen=True)
class ThroughputTable:
    """torchpipe's table: ``rows`` per model; ``records`` hold the figures with their intervals."""

    records: tuple[Record, ...]
    version: str = __version__

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Model name -> the table's figures; models that failed are not in it.  Of several loads the last."""
        return {str(r.subject["model"]): dict(r.details["torchpipe"]) for r in self.records if "torchpipe" in r.details}

    def to_markdown(self) -> str:
        return torchpipe_markdown(self.records, self.version)

    def __str__(self) -> str:
        return self.to_markdown()


def throughput(
    model: str | Sequence[str],
    clients: int = 10,
    total: int = 10_000,
    *,
    max_batch: int | None = None,
    out: str | Path | None = None,
    **settings: Any,
) -> ThroughputTable:
    """torchpipe's test: ``clients`` callers ask for ``total`` samples, each again as soon as it was answered.

    ``model``: a MODEL, a pattern (``timm:convnextv2_*``) or several.  ``max_batch``: merge requests in the
    dynamic batcher.  ``out``: a folder in which finished models are kept, so that a killed call resumes.

    ``settings``: engine, precision, device, threads, data (as for ``assay bench``), request_batch,
    threads_per_client (bool), delay (seconds, or text like "5ms"), instances, policy, source (a SourceOptions).

    Raises BadInput for what cannot be right, before any load; a model that fails is a failed Record.
    """
    load = Clients(
        clients,
        total,
        request_batch=settings.pop("request_batch", 1),
        threads=settings.pop("threads_per_client", False),
    )
    through = _through(max_batch, settings)
    source = settings.pop("source", None) or SourceOptions(out_dir=Path())
    unknown = set(settings) - {"engine", "precision", "device", "threads", "data"}
    if unknown:
        raise BadInput(f"throughput has no setting {', '.join(sorted(unknown))}")
    specs = [model] if isinstance(model, str) else list(model)
    asked = Bench(specs[0] if specs else "", scenario="clients", press=Press((load,), through), **settings)
    records = bench_many(specs, asked, source, Silent(), Path(out) if out else None)
    if all(r.status != "ok" for r in records):
        raise BadInput(f"no model could be measured: {records[0].subject['model']}: {records[0].reason}")
    return ThroughputTable(tuple(records))


def _through(max_batch: int | None, settings: dict[str, Any]) -> Through | None:
    delay = settings.pop("delay", 0.0)
    delay_s: Seconds = parse_seconds(delay) if isinstance(delay, str) else float(delay)
    instances, policy = settings.pop("instances", 1), settings.pop("policy", None)
    return through_of(max_batch, delay_s, instances, policy)


def through_of(max_batch: int | None, delay_s: Seconds, instances: int, policy: str | None = None) -> Through | None:
    """The batcher that was asked for.  Raises BadInput for settings of a batcher without one, or wrong ones."""
    if max_batch is None:
        if delay_s or policy or instances != 1:
            raise BadInput("a delay, instances and a policy belong to the batcher", remedy="add --max-batch 4")
        return None
    through = Through(max_batch, delay_s, instances, policy)
    through.settings(1)
    return through


def expand(specs: Sequence[str]) -> list[str]:
    """MODELs, patterns replaced by the names they match.  Raises BadInput for one that matches nothing."""
    found: list[str] = []
    for spec in specs:
        if not _GLOB & set(spec) or Path(spec).exists() or ("?" in spec and "=" in spec):
            found.append(spec)
            continue
        names = list_models(spec)
        if not names:
            raise BadInput(f"no model name matches {spec!r}", remedy=f"assay models '{spec.partition(':')[0]}:*'")
        found += names
    if not found:
        raise BadInput("there is no model to measure", remedy="assay bench timm:resnet18")
    return list(dict.fromkeys(found))


def bench_many(
    specs: Sequence[str], asked: Bench, source: SourceOptions, progress: Progress, out: Path | None = None
) -> list[Record]:
    """The Records of all models, in their order; a model that fails is a failed Record, and the next one follows.

    Raises BadInput, before anything is measured or looked up, for a bundle that was proved otherwise than is asked for.
    """
    names = expand(specs)
    for name in names:
        bundle = _bundle(name)
        if bundle is not None:
            refuse_other(bundle, asked.engine, asked.opened)
    records: list[Record] = []
    with _saving(out) as folder:
        for number, name in enumerate(names, 1):
            one = replace(asked, model=name)
            progress.stage("bench", f"{name} ({number} of {len(names)})")
            stage, key = f"bench-{_safe(name)}-{digest_json(name)[:8]}", _key(one, source)
            saved = folder.finished(stage, key) if folder else None
            if saved is not None and folder is not None:
                records += folder.records_of(saved)
                progress.done("measured before")
                continue
            made = _in_child(one, source, out)
            if folder is not None and any(r.status == "ok" for r in made):
                folder.save(stage, key, {}, made)
            elif folder is not None:
                made = [folder.append(r) for r in made]
            records += made
            progress.done(_summary(made))
    return records


@contextmanager
def _saving(out: Path | None) -> Iterator[RunFolder | None]:
    if out is None:
        yield None
        return
    with RunFolder(out) as folder:
        yield folder


def _in_child(asked: Bench, source: SourceOptions, out: Path | None) -> list[Record]:
    """Resolving and exporting happen in a process of their own too: a crash ends one model, not the table."""
    arguments = {"asked": asked, "source": source, "keep": out}
    try:
        found = child.run("assay.job.bench.many:bench_here", arguments, child.Limits(timeout_s=DAY_S)).value
    except AssayError as error:
        reason = error.message + (f" ({error.remedy})" if error.remedy else "")
        opened = _as_opened(asked)
        subject = {
            "model": asked.model,
            "engine": opened.engine,
            "precision": opened.precision,
            "device": opened.device,
        }
        conditions = {"scenario": asked.scenario, "batch": asked.press.request_batch if asked.press else None}
        return [Record("measure", subject, status="failed", reason=reason, conditions=conditions)]
    assert isinstance(found, list)
    return found


def bench_here(asked: Bench, source: SourceOptions, keep: Path | None) -> list[Record]:
    """``bench_one`` in this process; being ended, it ends its own child too."""
    leave: Callable[..., Any] = lambda *_: sys.exit(143)  # noqa: E731
    signal.signal(signal.SIGTERM, leave)
    return bench_one(asked, source, Silent(), keep)


def _bundle(model: str) -> Bundle | None:
    """None for any other MODEL, and for one that cannot be read: the process that opens it says why."""
    folder = bundle_folder(model)
    try:
        return None if folder is None else read_bundle(folder)
    except (AssayError, OSError):
        return None


def _as_opened(asked: Bench) -> Bench:
    """With what it is opened with where nobody asked: in a bundle, what that was proved with."""
    bundle = _bundle(asked.model)
    if bundle is None and bundle_folder(asked.model) is not None:
        return asked
    options = asked.opened.options if bundle is None else bundle.candidate.options
    return replace(
        asked,
        engine=asked.engine if bundle is None else bundle.candidate.engine,
        precision=options.precision,
        device=options.device,
        threads=options.threads,
    )


def _key(asked: Bench, source: SourceOptions) -> str:
    """Changes with anything the figures depend on; a local file (of a bundle its manifest) counts with its time and
    size, and that of the model it is measured against too."""
    stamps = [_stamp(_file(asked.model)), _stamp(Path(source.weights)) if source.weights else None]
    if asked.against is not None:
        stamps.append(_stamp(_file(asked.against.model)))
    settings = {k: v for k, v in asdict(source).items() if k != "out_dir"}
    asked = _as_opened(asked)  # asked for or not is the same figure
    asked = replace(asked, device=None if asked.device is None else plain_device(asked.device))
    return digest_json(["bench", __version__, repr(asked), repr(settings), stamps, identity(environment())])


def _file(model: str) -> Path:
    bundle = bundle_folder(model)
    return bundle / NAME if bundle is not None else Path(model.partition(":")[0].partition("?")[0])


def _stamp(file: Path) -> list[int] | None:
    stat = file.stat() if file.is_file() else None
    return [stat.st_mtime_ns, stat.st_size] if stat else None


def _summary(records: Sequence[Record]) -> str:
    failed = next((r for r in records if r.status != "ok"), None)
    if failed is not None:
        return f"failed: {failed.reason}"
    rates = [r.value("throughput") for r in records]
    return ", ".join(f"{rate:.4g} samples/s" for rate in rates if rate is not None) or "done"


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name).strip("._")[:60]
