"""The Python face of assay (INTERFACE.md, "Python"): what ``import assay`` offers."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.core.artifact import Artifact
from assay.core.engine import Session
from assay.core.errors import BadInput
from assay.core.record import Figure, Record
from assay.core.transform import Transform
from assay.core.verdict import Verdict
from assay.export.export import Exported, export_model
from assay.export.options import ExportOptions
from assay.job.bench.many import ThroughputTable
from assay.job.bench.many import throughput as measured_throughput
from assay.job.folder import default_folder
from assay.job.open_request import OpenRequest
from assay.job.opening import OnnxRunner, engine, engine_for
from assay.job.packed import bundle_folder, open_bundle
from assay.job.pipeline import run as run_pipeline
from assay.job.request import QUICK, Effort, Objects, RunRequest
from assay.job.single import Wanted, check_written
from assay.judge.policy import DEFAULT_POLICY, Policy
from assay.sources import SourceOptions, from_module, resolve_model


@dataclass(frozen=True)
class Best:
    """The chosen configuration with its published figures (measured afresh after the choice).

    ``throughput`` is in samples/s with every stream busy, the latencies are in seconds for one caller and
    batch ``batch``; each is None where it was not measured, and its ``value`` None where it is withheld.
    """

    candidate: str
    label: str
    engine: str
    precision: str
    batch: int
    throughput: Figure | None
    latency_p50: Figure | None
    latency_p99: Figure | None


@dataclass(frozen=True)
class Run:
    """What ``assay.run`` gives back; ``best`` is None when no candidate passed.

    ``missing`` names what was asked for and is not available here, ``bundle`` is a folder for ``assay.open``,
    ``assay check`` and ``assay serve``, None when nothing was chosen.
    """

    folder: Path
    verdict: Verdict
    best: Best | None
    records: tuple[Record, ...]
    missing: tuple[str, ...]
    warnings: tuple[str, ...]
    bundle: Path | None


def run(
    model: Any,
    *,
    data: Any = None,
    example: Any = None,
    metric: Callable[..., Any] | None = None,
    out: str | Path | None = None,
    **settings: Any,
) -> Run:
    """The main job on a MODEL string or any ``nn.Module``.

    ``model``: a MODEL as on the command line, or a module together with ``example`` (a tensor or
    array, a tuple of them in the order of ``forward``, or a dict by name), whose first axis is the
    batch.  ``data``: a ``--data`` string, or any iterable of (input, target).  ``metric``: a function
    of (outputs, targets) giving a number, where outputs are the array of the only output, or a dict of arrays by name
    of several; ``higher_is_better`` (a setting, or an attribute of the
    function) says which way it is good: without it, any change counts against a candidate.
    ``out``: the run folder; an existing run there is resumed.

    ``settings``: engines, precisions, batches (sequences), device, seed, threads, policy (a Policy or
    the path of a TOML file), quick (bool), preprocess (a function of one item), labels (the label
    file of a flat folder), name, export (an ExportOptions), source (a SourceOptions), int8 (an Int8: calibration,
    control, max_drop), buckets (batch sizes), compiled (bool: whether torch.compile is measured as a baseline; not
    with quick).

    Raises BadInput for what cannot be right, NotAvailable, ExportFailed, EngineFailed, StorageFailed.
    """
    name = settings.pop("name", None) or _name_of(model)
    objects = Objects(
        module=None if isinstance(model, str) else model,
        example=example,
        data=None if isinstance(data, str | Path) else data,
        metric=metric,
        higher_is_better=settings.pop("higher_is_better", getattr(metric, "higher_is_better", None)),
        preprocess=settings.pop("preprocess", None),
    )
    if objects.module is not None and example is None:
        raise BadInput(
            "a module needs an example input", remedy="assay.run(module, example=torch.randn(1, 3, 224, 224))"
        )
    request = _request(model if isinstance(model, str) else name, name, out, settings)
    if isinstance(data, str | Path):
        request = replace(request, data=str(data))
    found = run_pipeline(request, objects)
    return Run(
        found.folder, found.verdict, _best(found.best), found.records, found.missing, found.warnings, found.bundle
    )


def _request(spec: str, name: str, out: str | Path | None, settings: dict[str, Any]) -> RunRequest:
    policy = settings.pop("policy", None) or DEFAULT_POLICY
    quick = settings.pop("quick", False)
    request = RunRequest(
        model=spec,
        out=Path(out) if out else default_folder(name),
        policy=policy if isinstance(policy, Policy) else Policy.load(Path(policy)),
        effort=QUICK if quick else Effort(),
        command=f"assay.run({spec!r}, …)",
        compiled=not quick,
    )
    for field in ("engines", "precisions", "batches", "buckets"):
        if settings.get(field) is not None:
            settings[field] = tuple(settings[field])
    unknown = set(settings) - {
        "engines",
        "precisions",
        "batches",
        "device",
        "seed",
        "threads",
        "export",
        "source",
        "labels",
        "int8",
        "buckets",
        "compiled",
    }
    if unknown:
        raise BadInput(f"assay.run has no setting {', '.join(sorted(unknown))}")
    return replace(request, **settings)


def _name_of(model: Any) -> str:
    return model.rpartition(":")[2].partition("?")[0] if isinstance(model, str) else type(model).__name__


def _best(data: dict[str, Any] | None) -> Best | None:
    if data is None:
        return None
    figures = {name: Figure.from_json(f) for name, f in data["figures"].items()}
    return Best(
        data["candidate"],
        data["label"],
        data["engine"],
        data["precision"],
        data["batch"],
        figures.get("offline.throughput"),
        figures.get("latency.latency.p50"),
        figures.get("latency.latency.p99"),
    )


def transform(model: str, **source: Any) -> Transform:
    """The preprocessing that belongs to a MODEL: encoded image bytes in, float32 (C, H, W) out.

    Raises BadInput when the model says nothing about its preprocessing.
    """
    from assay.data import transform_from_json

    with _scratch() as folder:
        found = resolve_model(model, SourceOptions(out_dir=folder, **source))
    if found.preprocess is None:
        raise BadInput(f"{model} says nothing about its preprocessing")
    return transform_from_json(found.preprocess)


def open(
    target: str | Path, *, precision: str | None = None, device: str | None = None, trust: bool = False
) -> Session:
    """Open a bundle, an ONNX file or an engine file as a Session: dict of arrays in, dict of arrays out.

    A bundle, or the one in the folder of a run, is opened as it was packed (its own engine and precision), and
    refuses another ``precision`` or ``device``; a file is opened in fp32 on the cpu unless they say otherwise.
    Raises BadInput, UntrustedCode, NotAvailable or EngineFailed.
    """
    path, asked = Path(target), OpenRequest(precision, device)
    if path.is_dir():
        return open_bundle(bundle_folder(str(path)) or path, asked, trust=trust)
    artifact: Artifact = resolve_model(str(path), SourceOptions(out_dir=path.parent, trust=trust)).artifact
    found = engine_for(artifact)
    check_written(found, artifact, Wanted(str(target), opened=asked, precision_option='precision="{}"'))
    return found.open(artifact, asked.options)


def export_onnx(module: Any, path: str | Path, *, example: Any, **options: Any) -> Exported:
    """Export a module to ONNX; checked, simplified and compared with PyTorch.

    ``example`` is an array or tensor whose first axis is the batch, a tuple of them in the order of
    ``forward``, or a dict by name.  ``options`` are the fields of ExportOptions (exporter, opset, batch,
    input_names, …).  Raises BadInput, and ExportFailed when the exporter or a check after it fails.
    """
    with _scratch() as folder:
        model = from_module(module, type(module).__name__, example, SourceOptions(out_dir=folder))
        runner = OnnxRunner()
        try:
            return export_model(model, ExportOptions(**options), Path(path), runner)
        finally:
            runner.close()


def throughput(
    models: str | Sequence[str], *, clients: int = 10, total: int = 10_000, **settings: Any
) -> ThroughputTable:
    """Closed-loop clients on one or several MODELs, as torchpipe's users know it; ``.to_markdown()`` is the table.

    ``clients`` requests are outstanding at any time until ``total`` samples are done.  ``settings``:
    see ``job/bench/many.py`` (engine, precision, device, threads, data, request_batch, max_batch, delay …).
    Rates are samples/s, latencies seconds.  Raises BadInput, NotAvailable or EngineFailed.
    """
    return measured_throughput(models, clients=clients, total=total, **settings)


def list_engines() -> dict[str, Sequence[str]]:
    """The engines, and the precisions each can run on this machine's CPU."""
    from assay.engines import ENGINES

    return {n: [p for p in engine(n).precisions if engine(n).unavailable("cpu", p) is None] for n in ENGINES}


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="assay-") as name:
        yield Path(name)
