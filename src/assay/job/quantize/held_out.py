"""Samples of a run's data that int8 is made with, set aside so that nothing is evaluated on them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from assay.core.artifact import digest_json
from assay.core.errors import BadInput
from assay.core.sample import Sample
from assay.core.tensors import Signature
from assay.job.context import Context, Data
from assay.job.dataset import open_data
from assay.job.quantize.parts import at_most, check_apart, drawn, own_splits, shuffled, subset

LEAST = 8
"""Fewer calibration samples than these give ranges of nothing."""
CONTROL_SAMPLES = 1000


@dataclass(frozen=True)
class Part:
    """One set of samples; the name of ``data`` says which of whose.  ``own``: of the run's data, set aside."""

    data: Data
    own: bool = False

    @property
    def source(self) -> str:
        return self.data.name

    def samples(self) -> tuple[Sample, ...]:
        return tuple(self.data.samples())


@dataclass(frozen=True)
class HeldOut:
    """Three sets that share no sample.  ``control`` is None without accuracy control; ``note`` says what the
    evaluation lost to the other two."""

    evaluation: Data
    calibration: Part
    control: Part | None = None
    note: str | None = None

    @property
    def identity(self) -> str:
        """Changes when any of the samples that make the file do."""
        parts = [p and [p.source, p.data.identity] for p in (self.calibration, self.control)]
        return digest_json(parts)


def hold_out(ctx: Context, data: Data, signature: Signature) -> HeldOut:
    """Divide by the run's seed.  Raises BadInput where sets share a sample or one would be too small."""
    asked = own_splits(ctx.request.int8, ctx.request.data)
    rest = shuffled(data, ctx.request.seed) if data.real else []
    whole = len(rest)
    third = min(asked.calibration_count, whole // 3)
    calibration, rest = _part(ctx, data, asked.calibration, (asked.calibration_count, third), rest)
    control = None
    if asked.max_drop is not None:
        wanted = asked.control_count or max(CONTROL_SAMPLES, int(2 / max(asked.max_drop, 1e-3)))
        control, rest = _part(ctx, data, asked.control, (wanted, min(wanted, len(rest) // 2)), rest)
    for part in (calibration, *([control] if control else [])):
        if not part.own:
            check_apart(part.data, data)
    if control is not None and not (calibration.own and control.own):
        check_apart(calibration.data, control.data)
    if len(rest) == whole:
        return HeldOut(data, calibration, control)
    note = (
        f"{whole - len(rest)} of {whole} samples of {data.name} went into making int8; accuracy is on the other "
        f"{len(rest)} (--calibration DATA{' and --control DATA' if control else ''} leaves all of them)"
    )
    return HeldOut(subset(data, rest, f"{data.name} without what made int8"), calibration, control, note)


def _part(
    ctx: Context, data: Data, spec: str | None, counts: tuple[int, int], rest: list[int]
) -> tuple[Part, list[int]]:
    """At most ``counts[0]`` samples of ``spec``, or ``counts[1]`` of ``rest``; and what remains of ``rest``."""
    most, own = counts
    if spec is None:
        _enough(len(rest[:own]), data.name)
        return Part(drawn(data, rest[:own], ctx.request.seed), own=True), rest[own:]
    found = open_data(replace(ctx.request, data=spec), replace(ctx.objects, data=None), ctx.model, data.signature)
    assert found.reader is not None
    _enough(min(len(found.reader), most), found.name)
    return Part(at_most(found, most, ctx.request.seed)), rest


def _enough(count: int, name: str) -> None:
    if count < LEAST:
        raise BadInput(f"{name} can spare {count} samples; int8 needs {LEAST}", remedy="--calibration DATA")
