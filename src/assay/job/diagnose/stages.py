"""The stages between a reference and a candidate, each ready to be run, for ``assay diagnose``."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assay.core.artifact import Artifact
from assay.core.engine import BuildOptions, Engine, OpenOptions, Session
from assay.core.errors import AssayError, BadInput
from assay.core.tensors import Array, Feed, Signature
from assay.diagnose.operators import Opener
from assay.diagnose.stages import Stage
from assay.export.export import export_model
from assay.export.intermediates import ModuleTensors
from assay.export.options import ExportOptions
from assay.graph.external_data import save_model
from assay.graph.signature import load_model
from assay.graph.simplify import find_pass
from assay.job.opening import OnnxRunner, engine, open_candidate, precision_of
from assay.job.single import Prepared, file_model

if TYPE_CHECKING:
    import onnx

_BESIDE_BYTES = 1 << 20
"""Larger weights lie beside a part's file, where a runtime maps them instead of holding them two or three times."""
RUNNER = "onnxruntime"
"""What runs ONNX files operator by operator; with its optimiser off it computes what the file says."""
PLAIN = "disable"
LEVELS = ("basic", "extended", "all")


@dataclass(frozen=True)
class How:
    """An engine and how it is opened."""

    engine: str = RUNNER
    precision: str = "fp32"
    level: str | None = PLAIN
    device: str = "cpu"

    @property
    def options(self) -> OpenOptions:
        given = (("graph_optimization_level", self.level),) if self.level else ()
        return OpenOptions(precision=self.precision, device=self.device, provider_options=given)


@dataclass(frozen=True)
class Link:
    """What blame needs to know of a stage: its graph (None: it has none that can be read) and how it is run.

    ``changes`` is ``graph`` when the graph is another one than the parent's, ``arithmetic`` when only the
    way it is run is.  ``pass_name`` is the pass that made the graph.
    """

    path: Path | None
    how: How
    changes: str
    pass_name: str | None = None


@dataclass
class Chain:
    """Stages and, beside each, its link.  ``raw`` is our own export of the reference, where there is one."""

    stages: list[Stage] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: Path | None = None
    program: ModuleTensors | None = None

    def add(self, stage: Stage, link: Link) -> int:
        self.stages.append(stage)
        self.links.append(link)
        return len(self.stages) - 1


def opener(how: How) -> Opener:
    """Models opened on the engine of ``how``; the precision gives way where a part has none of its arithmetic."""

    @contextlib.contextmanager
    def opened(model: onnx.ModelProto) -> Iterator[Callable[[Feed], Mapping[str, Array]]]:
        with tempfile.TemporaryDirectory(prefix="assay-part-") as folder:
            path = Path(folder, "part.onnx")
            save_model(model, path, _BESIDE_BYTES)
            del model
            with open_onnx(path, how) as session:
                yield session.run

    return opened


def open_onnx(path: Path, how: How) -> Session:
    """An ONNX file, or one of the engine's own, on an engine.  Raises what the engine raises."""
    found = engine(how.engine)
    if path.suffix.lower() != ".onnx":
        return found.open(file_model(path), how.options)
    native = precision_of(path)
    precision = how.precision if native == "fp32" and how.engine != RUNNER else native
    try:
        return _opened(found, path, replace(how, precision=precision))
    except BadInput:
        if precision != "int8":
            raise
        return _opened(found, path, replace(how, precision="fp32"))  # a part with nothing quantised in it


def _opened(found: Engine, path: Path, how: How) -> Session:
    artifact = Artifact(path, "onnx", sha256="unchecked")
    if "onnx" not in found.opens:
        artifact = found.build(artifact, BuildOptions(precision=how.precision, device=how.device), path.parent)
    return found.open(artifact, how.options)


@dataclass(frozen=True)
class Dues:
    """What a stage may add at a precision, as relative rms error; ``fp32`` is always there.

    ``running`` is what an engine may add that runs a quantised file, where the file's own scales could be read."""

    by_precision: Mapping[str, float]
    running: float | None = None

    def of_running(self, precision: str, native: str) -> float:
        """For an engine that runs, at ``precision``, a file written in ``native``."""
        if native == "int8" and self.running is not None and precision in ("int8", "fp32"):
            return self.running
        return self.of(precision if native == "fp32" else native)

    def of(self, precision: str) -> float:
        return self.by_precision.get(precision, self.by_precision["fp32"])


@dataclass(frozen=True)
class Plan:
    """``passes`` are applied to our own export, one stage each; ``ranges`` bound inputs drawn for the export."""

    reference: Prepared
    candidate: Prepared
    passes: tuple[str, ...]
    export: ExportOptions = field(default_factory=ExportOptions)

    @property
    def engine(self) -> str:
        """The candidate's, as are ``precision`` and ``device``."""
        return self.candidate.candidate.engine

    @property
    def precision(self) -> str:
        return self.candidate.candidate.options.precision

    @property
    def device(self) -> str:
        return self.candidate.candidate.options.device


@contextlib.contextmanager
def chain_of(plan: Plan, dues: Dues, feed: Feed, folder: Path) -> Iterator[Chain]:
    """The stages in order; sessions and files live as long as the block."""
    with contextlib.ExitStack() as stack:
        chain = Chain()
        session = stack.enter_context(open_candidate(plan.reference.candidate))
        artifact = plan.reference.candidate.artifact
        label = f"reference: {plan.reference.candidate.label}"
        path = artifact.path if artifact.format == "onnx" else None
        last = chain.add(Stage(label, session.run, None, 0.0), Link(path, How(), "graph"))
        if artifact.module is not None:
            last = _from_module(plan, dues, feed, (chain, stack, folder))
        file = _candidate_file(plan)
        if file is not None and file != chain.links[last].path:
            due = dues.of(precision_of(file))
            source = next((i for i, link in enumerate(chain.links) if chain.raw and link.path == chain.raw), 0)
            stage = _plain_stage("candidate's ONNX file", file, source, due, stack)
            last = chain.add(stage, Link(file, How(), "graph"))
        last = _arithmetic(plan, dues, last, (chain, stack))
        if file is None:
            _engine_file(plan, dues, last, (chain, stack))
        yield chain


def _candidate_file(plan: Plan) -> Path | None:
    artifact = plan.candidate.candidate.artifact
    if artifact.format == "onnx":
        return artifact.path
    near = artifact.path.parent.parent / "model.onnx"  # what it was built from, when built here
    if near.is_file() and plan.candidate.model.artifact.module is not None:
        return near
    source = plan.candidate.model.artifact
    return source.path if source.format == "onnx" else None


def _from_module(plan: Plan, dues: Dues, feed: Feed, where: tuple[Chain, contextlib.ExitStack, Path]) -> int:
    """Exported program, ONNX as exported, after each pass."""
    chain, stack, folder = where
    module = plan.reference.candidate.artifact.module
    assert module is not None
    last = 0
    try:
        chain.program = ModuleTensors(module(), plan.reference.signature, feed)
        stage = Stage("exported program (torch.export)", chain.program.run, 0, dues.of("fp32"))
        last = chain.add(stage, Link(None, How(), "graph"))
    except AssayError as error:
        chain.notes.append(error.message)
    try:
        chain.raw = _raw_export(plan, folder)
    except AssayError as error:
        chain.notes.append(f"the reference could not be exported to ONNX here: {error.message}")
        return last
    last = chain.add(
        _plain_stage("ONNX as exported", chain.raw, last, dues.of("fp32"), stack), Link(chain.raw, How(), "graph")
    )
    path = chain.raw
    for number, name in enumerate(plan.passes):
        made = find_pass(name)(load_model(path, external_data=True))
        path = folder / f"pass-{number}.onnx"
        save_model(made, path)
        stage = _plain_stage(f"after the pass {name}", path, last, dues.of("fp32"), stack)
        last = chain.add(stage, Link(path, How(), "graph", name))
    return last


def _raw_export(plan: Plan, folder: Path) -> Path:
    """Our own export without any pass, under the candidate's names."""
    signature: Signature = plan.candidate.signature
    options = ExportOptions(
        exporter=plan.export.exporter,
        opset=plan.export.opset,
        shapes=plan.export.shapes,
        ranges=plan.export.ranges,
        passes=(),
        input_names=signature.input_names,
        output_names=signature.output_names,
        custom_ops=plan.export.custom_ops,
    )
    runner = OnnxRunner()
    try:
        return export_model(plan.reference.model, options, folder / "raw.onnx", runner).artifact.path
    finally:
        runner.close()


def _plain_stage(name: str, path: Path, parent: int, due: float, stack: contextlib.ExitStack) -> Stage:
    """The file run as it is written, by the runner with its optimiser off."""
    return Stage(f"{name} ({RUNNER}, optimiser off)", _later(path, How(), stack), parent, due)


def _later(path: Path, how: How, stack: contextlib.ExitStack) -> Callable[[Feed], Mapping[str, Array]]:
    """Opened when first run, so that a file that cannot be opened fails its own stage."""
    opened: list[Session] = []

    def run(feed: Feed) -> Mapping[str, Array]:
        if not opened:
            opened.append(stack.enter_context(open_onnx(path, how)))
        return opened[0].run(feed)

    return run


def _arithmetic(plan: Plan, dues: Dues, last: int, where: tuple[Chain, contextlib.ExitStack]) -> int:
    """The runner's optimisation levels, then the engine in fp32, then in the precision asked for; the last stage."""
    chain, stack = where
    path, file = chain.links[last].path, last
    if path is None:
        return last
    native = precision_of(path)
    for level in LEVELS:
        how = How(level=level)
        stage = Stage(f"{RUNNER}, optimiser {level}", _later(path, how, stack), last, dues.of_running(native, native))
        last = chain.add(stage, Link(path, how, "arithmetic"))
    if plan.engine == RUNNER or plan.engine not in _onnx_engines(plan.engine):
        return last
    names = ["fp32", plan.precision] if plan.precision != "fp32" and native == "fp32" else [plan.precision]
    parent = file
    for precision in names:
        if precision != plan.precision and engine(plan.engine).unavailable(plan.device, precision) is not None:
            continue
        how = How(plan.engine, precision, None, plan.device)
        due = dues.of_running(precision, native)
        stage = Stage(f"{plan.engine} {precision}", _later(path, how, stack), parent, due)
        parent = chain.add(stage, Link(path, how, "arithmetic"))
    return parent


def _onnx_engines(name: str) -> tuple[str, ...]:
    """The engine, where it takes ONNX files at all: PyTorch's do not, and a remote server does not."""
    found = engine(name)
    return (name,) if "onnx" in (*found.opens, *found.reads) else ()


def _engine_file(plan: Plan, dues: Dues, last: int, where: tuple[Chain, contextlib.ExitStack]) -> None:
    """A compiled file: it can be run, but there is no graph to look into."""
    chain, stack = where
    session = stack.enter_context(open_candidate(plan.candidate.candidate))
    stage = Stage(f"candidate: {plan.candidate.candidate.label}", session.run, last, dues.of(plan.precision))
    chain.add(stage, Link(None, How(plan.engine, plan.precision, None, plan.device), "arithmetic"))
    chain.notes.append("the candidate has no ONNX graph, so no operator can be named")


def check_passes(names: Sequence[str]) -> None:
    """Raises what ``find_pass`` raises (UnknownName, BadInput), before anything runs."""
    for name in names:
        find_pass(name)
