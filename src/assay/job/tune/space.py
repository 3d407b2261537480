"""From candidates to the space of their settings, and from a point back to the candidate it means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from assay.core.engine import Candidate, Engine
from assay.core.errors import BadInput
from assay.core.tensors import Signature
from assay.job.opening import engine
from assay.search.objective import Objective
from assay.search.space import Family, Form, Layout, Point, Space

THROUGHPUT_BATCHES = (1, 2, 4, 8, 16, 32)
LATENCY_BATCHES = (1,)
MOST_CALLS = 64


@dataclass(frozen=True)
class Axes:
    """What a person may narrow: empty means "as the objective and the machine suggest".

    ``threads`` are those of one call, ``streams`` the calls side by side (streams, or instances where an engine
    has no streams).  ``forms`` False keeps to the usual form of the graph.
    """

    batches: tuple[int, ...] = ()
    threads: tuple[int, ...] = ()
    streams: tuple[int, ...] = ()
    forms: bool = True

    def __post_init__(self) -> None:
        for name in ("batches", "threads", "streams"):
            if any(value < 1 for value in getattr(self, name)):
                raise BadInput(f"{name} are positive whole numbers, not {getattr(self, name)}")


@dataclass(frozen=True)
class Mapped:
    """The space, and the candidate each family's points are settings of."""

    space: Space
    bases: dict[str, Candidate]
    notes: tuple[str, ...] = ()

    def candidate(self, point: Point) -> Candidate:
        """The point as something that can be opened."""
        base = self.bases[point.family]
        found = engine(base.engine)
        layout = point.layout
        shared = getattr(found, "threads_shared", False)
        options = replace(
            base.options,
            buckets=(point.batch,) if point.form.static else (),
            threads=layout.calls * layout.threads if shared else layout.threads,
            streams=layout.calls if shared else None,
            instances=1 if shared else layout.calls,
            provider_options=tuple(sorted((dict(base.options.provider_options) | dict(point.form.options)).items())),
        )
        return replace(base, options=options)


def map_space(
    candidates: Sequence[Candidate], signature: Signature, objective: Objective, axes: Axes, cores: int
) -> Mapped:
    """All settings of ``candidates`` on ``cores`` cores.

    The reference's engine comes last: compiled engines set the bar that slow points are given up at.
    Raises BadInput for batch sizes that the model cannot take.
    """
    batches, notes = _batches(signature, objective, axes)
    layouts = _layouts(objective, axes, cores)
    families, bases = [], {}
    for candidate in sorted(candidates, key=lambda c: c.artifact.module is not None):
        name = f"{candidate.engine} {candidate.options.precision}"
        bases[name] = candidate
        families.append(Family(name, batches, layouts, _forms(engine(candidate.engine), signature, axes)))
    return Mapped(Space(tuple(families)), bases, notes)


def _batches(signature: Signature, objective: Objective, axes: Axes) -> tuple[tuple[int, ...], tuple[str, ...]]:
    static = signature.static_batch
    wanted = tuple(sorted(set(axes.batches)))
    if static is not None:
        if wanted and wanted != (static,):
            raise BadInput(f"the model's batch is fixed at {static}", remedy=f"--batch {static}")
        return (static,), (f"the model's batch is fixed at {static}: no other batch size was searched",)
    if not any(spec.batch_axis is not None for spec in signature.inputs):
        return (1,), ("the model's inputs have no batch axis: no batch size was searched",)
    return wanted or (THROUGHPUT_BATCHES if objective.scenario == "offline" else LATENCY_BATCHES), ()


def _layouts(objective: Objective, axes: Axes, cores: int) -> tuple[Layout, ...]:
    """One call on all cores first.  A latency is one caller's, so nothing runs beside it."""
    powers = [2**i for i in range(cores.bit_length()) if 2**i <= min(cores, MOST_CALLS)]
    if objective.scenario == "latency":
        calls: Sequence[int] = axes.streams or (1,)
        threads: Sequence[int] = axes.threads or sorted({cores, *powers}, reverse=True)
        return tuple(Layout(c, t) for c in calls for t in threads)
    if axes.threads or axes.streams:
        return tuple(
            Layout(c, t)
            for c in axes.streams or sorted({*powers, cores})
            for t in axes.threads or (max(1, cores // c),)
        )
    usual = [Layout(c, max(1, cores // c)) for c in sorted({*powers, cores})]
    return tuple(dict.fromkeys([*usual, Layout(1, max(1, cores // 2))]))


def _forms(found: Engine, signature: Signature, axes: Axes) -> tuple[Form, ...]:
    """Fixed shapes first where the engine can fix them: it knows most about the work then."""
    can_fix = getattr(found, "has_buckets", False) and signature.static_batch is None and signature.is_batched
    usual = Form(static=can_fix)
    if not axes.forms:
        return (usual,)
    others = [Form(can_fix, options) for options in getattr(found, "tuned_options", ())]
    return (usual, *([Form()] if can_fix else []), *others)
