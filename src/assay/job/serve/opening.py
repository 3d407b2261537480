"""From a bundle or a MODEL to a version that is ready to be served: opened, warmed up, proved, profiled."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from assay.batching.batcher import DynamicBatcher
from assay.batching.intake import mergeable, open_batch
from assay.batching.settings import BatcherSettings
from assay.bundle.contents import Bundle
from assay.bundle.goldens import Goldens, compare_goldens, read_goldens
from assay.core.artifact import Artifact
from assay.core.engine import OpenOptions, Session
from assay.core.errors import BadInput
from assay.core.tensors import DTYPES, Array, Signature
from assay.core.units import Bytes, Seconds
from assay.job.open_request import OpenRequest
from assay.job.opening import engine, open_candidate, open_packed
from assay.job.packed import refuse_other, whole_bundle
from assay.job.serve.options import Batching, Serving
from assay.job.serve.pictures import picture_decoder
from assay.job.serve.regimes import Openable, regimes
from assay.job.single import Wanted, prepare
from assay.measure.environment import cores_granted
from assay.serve.models import ModelParts
from assay.sources import SourceOptions

BRIEF_S: Seconds = 100e-6
"""About what handing a batch to another thread and its answer back takes: shorter ones stay where they came in."""
BACKENDS = {"onnxruntime": "onnxruntime_onnx", "openvino": "openvino", "tensorrt": "tensorrt_plan"}
"""Engines that Triton knows too, with the platform it calls them."""


@dataclass(frozen=True)
class Identity:
    """Under which name and version something is served; ``key`` changes when its files do."""

    name: str
    version: str
    key: str


@dataclass(frozen=True)
class Guards:
    """What is looked at before and after opening."""

    most_pixels: int
    check_goldens: bool = True


def nothing() -> None:
    """There is nothing to clean up."""


@dataclass(frozen=True)
class _Opened:
    """What bundles and MODELs have in common once they are open."""

    session: Session
    engine: str
    options: OpenOptions
    again: Callable[[OpenOptions], Session]
    size_bytes: Bytes
    labels: tuple[str, ...] | None
    preprocess: Mapping[str, Any] | None
    goldens: Goldens | None
    parameters: Mapping[str, Any]
    clean: Callable[[], None] = nothing


def open_served(asked: Serving, folder: Path | None, identity: Identity, guards: Guards) -> ModelParts:
    """``folder`` is the bundle, None for a MODEL.  Raises AssayError for what cannot be served as asked."""
    opened = _open_bundle(asked, folder) if folder is not None else _open_model(asked)
    try:
        if guards.check_goldens and opened.goldens is not None:
            prove(opened.session, opened.goldens)
        return _parts(asked, opened, identity, guards)
    except BaseException:
        opened.session.close()
        opened.clean()
        raise


def bundle_asked(asked: Serving, folder: Path) -> Bundle:
    """The bundle, which is whole, trusted, and proved with what is asked for.  Raises as ``whole_bundle`` and
    ``refuse_other``."""
    bundle = whole_bundle(folder, trust=asked.trust, digest=asked.digest)
    refuse_other(bundle, asked.engine, OpenRequest(asked.precision, asked.device))
    return bundle


def refuse_pin(asked: Serving) -> None:
    """Raises BadInput for a ``digest`` with a MODEL that is no bundle."""
    if asked.digest is not None and Path(asked.source).exists():
        raise BadInput(f"--digest pins a bundle, and {asked.source} is none")


def _open_bundle(asked: Serving, folder: Path) -> _Opened:
    bundle = bundle_asked(asked, folder)
    assert bundle.artifact is not None
    candidate = bundle.candidate
    options = shared(candidate.options, candidate.engine, asked.batching)
    artifact = bundle.artifact
    goldens = read_goldens(folder, bundle.signature)  # before the session, which would be left open if they are broken

    def again(wanted: OpenOptions) -> Session:
        return open_packed(artifact, wanted, candidate.engine)

    return _Opened(
        again(options),
        candidate.engine,
        options,
        again,
        _size(artifact),
        bundle.labels,
        bundle.preprocess,
        goldens,
        {"bundle_model": bundle.model, "candidate": candidate.label, "digest": candidate.digest},
    )


def _size(artifact: Artifact) -> Bytes:
    return sum(p.stat().st_size for p in (artifact.path, *artifact.companions) if p.is_file())


def _open_model(asked: Serving) -> _Opened:
    refuse_pin(asked)
    temporary = tempfile.TemporaryDirectory(prefix="assay-serve-")
    try:
        opened = OpenRequest(asked.precision, asked.device)
        source = SourceOptions(out_dir=Path(temporary.name), trust=asked.trust)
        ready = prepare(Wanted(asked.source, asked.engine, opened), source)
        options = shared(opened.options, ready.candidate.engine, asked.batching)
        session = open_candidate(replace(ready.candidate, options=options))
    except BaseException:
        temporary.cleanup()
        raise

    def again(wanted: OpenOptions) -> Session:
        return open_candidate(replace(ready.candidate, options=wanted))

    artifact = ready.candidate.artifact
    model = ready.model
    about = {"model": asked.told or model.spec, "candidate": ready.candidate.label, "weights": model.weights}
    return _Opened(
        session,
        ready.candidate.engine,
        options,
        again,
        _size(artifact) if artifact.module is None else 0,
        model.labels,
        model.preprocess,
        None,
        about,
        temporary.cleanup,
    )


def shared(options: OpenOptions, engine_name: str, batching: Batching) -> OpenOptions:
    """``options`` for a process whose event loop and decoders need the cores too.

    With ``instances`` or ``threads`` asked for, the cores are divided among the instances; several models each
    may use them all, and the system's scheduler shares them out: an idle model costs nothing.
    """
    if options.device.partition(":")[0] != "cpu":
        return replace(options, instances=batching.instances or options.instances)
    found = engine(engine_name)
    provider = {**dict(getattr(found, "shared_cores", ())), **dict(options.provider_options)}
    options = replace(options, provider_options=tuple(sorted(provider.items())))
    if batching.instances is None and batching.threads is None:
        return options
    instances = batching.instances or options.instances
    threads = batching.threads
    if threads is None:
        cores = max(1, int(cores_granted()))
        threads = cores if getattr(found, "threads_shared", False) else max(1, cores // instances)
    return replace(options, instances=instances, threads=threads, streams=None)


def prove(session: Session, goldens: Goldens) -> None:
    """Raises BadInput where the golden inputs do not give here what they gave when the bundle was packed."""
    found = [dict(session.run(feed)) for feed, _ in goldens.pairs]
    wrong = [check for check in compare_goldens(goldens, found) if not check.passed]
    if wrong:
        raise BadInput(f"the golden outputs are not reproduced here: {wrong[0].output} {wrong[0].text}")


def _parts(asked: Serving, opened: _Opened, identity: Identity, guards: Guards) -> ModelParts:
    session, batching = opened.session, asked.batching
    signature = open_batch(session.signature)
    merges = mergeable(session.signature)
    settings = batcher_settings(batching, session, merges)
    if getattr(engine(opened.engine), "any_thread", True):
        settings = replace(settings, brief_s=BRIEF_S)
    feed = opened.goldens.pairs[0][0] if opened.goldens is not None else ones(session.signature)
    decode = picture_decoder(opened.preprocess, session.signature, asked.preprocess, guards.most_pixels)
    openable = Openable(session, opened.engine, opened.options, opened.again, opened.size_bytes)
    chosen = regimes(openable, batching, feed, settings)
    try:
        settings = replace(settings, instances=batching.instances or chosen.session.parallelism)
        batcher = DynamicBatcher(chosen.session, settings, chosen.times, chosen.alone, chosen.alone_times)
        batcher.start()
    except BaseException:
        chosen.close()
        raise

    def release() -> None:
        chosen.close()
        opened.clean()

    settings = batcher.settings
    return ModelParts(
        name=identity.name,
        version=identity.version,
        key=identity.key,
        signature=signature,
        queue=batcher,
        release=release,
        max_batch=settings.max_batch if merges else 1,
        priority_levels=settings.priority_levels,
        instances=settings.instances,
        instance_kind="KIND_CPU" if opened.options.device.startswith("cpu") else "KIND_GPU",
        platform=BACKENDS.get(opened.engine, opened.engine),
        backend=opened.engine,
        labels=opened.labels,
        decode=decode,
        batching=described(settings),
        parameters={
            **opened.parameters,
            "policy": settings.policy,
            "precision": opened.options.precision,
            "cores": chosen.plan,
        },
    )


def batcher_settings(batching: Batching, session: Session, merges: bool) -> BatcherSettings:
    """The batcher's settings.  Raises BadInput for what contradicts itself or the model."""
    static = session.signature.static_batch
    most = batching.max_batch if static is None else static
    preferred = tuple(p for p in batching.preferred if p <= most) if merges else ()
    fitted = replace(batching, max_batch=most if merges else 1, preferred=preferred)
    return settings_of(fitted, batching.instances or session.parallelism)


def settings_of(batching: Batching, instances: int) -> BatcherSettings:
    """``batching`` as a batcher has it.  Raises BadInput for what contradicts itself."""
    return BatcherSettings(
        max_batch=batching.max_batch,
        policy=batching.policy,
        max_delay_s=batching.max_delay_s,
        preferred=batching.preferred,
        instances=instances,
        max_queue=batching.max_queue,
        slo_s=batching.slo_s,
        priority_levels=1 if batching.preserve_ordering else batching.priority_levels,
        default_priority=1 if batching.preserve_ordering else batching.default_priority,
        on_timeout=batching.on_timeout,
        preserve_ordering=batching.preserve_ordering,
    )


def described(settings: BatcherSettings) -> dict[str, Any]:
    """As Triton's ``dynamic_batching`` has it."""
    found: dict[str, Any] = {
        "preferred_batch_size": list(settings.preferred),
        "max_queue_delay_microseconds": round(1e6 * settings.max_delay_s),
        "preserve_ordering": settings.preserve_ordering,
        "priority_levels": settings.priority_levels,
        "default_priority_level": settings.default_priority,
    }
    action = "REJECT" if settings.on_timeout == "reject" else "DELAY"
    found["default_queue_policy"] = {
        "timeout_action": action,
        "default_timeout_microseconds": round(1e6 * (settings.slo_s or 0)),
        "allow_timeout_override": True,
        "max_queue_size": settings.max_queue,
    }
    return found


def ones(signature: Signature) -> dict[str, Array]:
    """A feed of one row for a model nobody gave an example of; free dims other than the batch are 1."""
    feed: dict[str, Array] = {}
    for spec in signature.inputs:
        shape = tuple(d if isinstance(d, int) else 1 for d in spec.shape)
        filler: Any = b"" if spec.dtype == "string" else 0 if "int" in spec.dtype or spec.dtype == "bool" else 1
        feed[spec.name] = np.full(shape, filler, DTYPES[spec.dtype])
    return feed
