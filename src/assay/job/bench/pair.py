"""Two candidates timed in turns, A B B A: a model against another one, or against itself (the noise floor)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core import child
from assay.core.engine import Candidate
from assay.core.errors import BadInput
from assay.core.record import Record
from assay.core.tensors import Feed, Signature
from assay.core.units import Seconds
from assay.job.trial import Opening
from assay.measure.environment import environment
from assay.measure.paired import Paired, PairPlan
from assay.measure.raw import save_series

DAY_S: Seconds = 86_400.0
"""How long a measurement in a process of its own may take: as long as was asked for, which nobody here knows better."""
ORDER = "A B B A"
DIFFERENT, SAME = "different", "same"


@dataclass(frozen=True)
class Against:
    """The other model; what is None is as for the first one.  ``max_s`` bounds the rounds (None: 20 rounds)."""

    model: str
    engine: str | None = None
    precision: str | None = None
    max_s: Seconds | None = None

    def plan(self) -> PairPlan:
        return PairPlan() if self.max_s is None else PairPlan(quads=100_000, max_s=self.max_s)


@dataclass(frozen=True)
class Side:
    """One of the two: what another process needs to open it, and what it is called."""

    model: str
    candidate: Candidate
    opening: Opening | None
    signature: Signature

    def subject(self, batch: int) -> dict[str, Any]:
        return self.candidate.subject(self.model, batch)

    def named(self, other: Side) -> str:
        """As short as tells it from ``other``."""
        if self.model != other.model:
            return self.model
        return self.candidate.label


def noise_floor(side: Side, feeds: Sequence[Feed], batch: int) -> Record:
    """A against A: how far apart two measurements of the same thing lie here and now."""
    found = _run(side, side, feeds, PairPlan())
    return Record(
        "measure",
        side.subject(batch),
        figures={"paired.ratio": found.ratio},
        conditions={"scenario": "noise-floor", "batch": batch, "order": ORDER},
        environment=environment(),
        label=DIFFERENT if found.different else SAME,
        details=_details(found),
    )


def against(
    sides: tuple[Side, Side], feeds: Sequence[Feed], batch: int, plan: PairPlan, keep: Path | None = None
) -> Record:
    """A against B on the same feeds.  ``paired.ratio`` is A's time over B's: above 1, B is faster.

    ``keep`` is a folder for every timing.  Raises BadInput where the two do not take the same inputs.
    """
    first, second = sides
    _same_inputs(first, second)
    found = _run(first, second, feeds, plan)
    raw = None
    if keep is not None:
        name = f"pair-{first.candidate.digest[:12]}-{second.candidate.digest[:12]}-b{batch}"
        raw = save_series(keep, name, {"values": found.first_s, "against": found.second_s, "quads": found.quads})
    return Record(
        "measure",
        first.subject(batch),
        figures={"paired.ratio": found.ratio, "latency.mean": found.mean(0), "against.latency.mean": found.mean(1)},
        conditions={"scenario": "against", "batch": batch, "order": ORDER},
        environment=environment(),
        label=DIFFERENT if found.different else SAME,
        raw=raw,
        details={**_details(found), "against": second.subject(batch), "answer": _answer(first, second, found)},
    )


def _run(first: Side, second: Side, feeds: Sequence[Feed], plan: PairPlan) -> Paired:
    arguments = {
        "candidates": (first.candidate, second.candidate),
        "openings": (first.opening, second.opening),
        "feeds": feeds,
        "plan": plan,
    }
    limits = child.Limits(timeout_s=DAY_S)
    found = child.run("assay.job.bench.load_trial:compare_candidates", arguments, limits).value
    assert isinstance(found, Paired)
    return found


def _same_inputs(first: Side, second: Side) -> None:
    a, b = ({s.name: (s.dtype, len(s.shape)) for s in side.signature.inputs} for side in (first, second))
    if a != b:
        shown = [", ".join(map(str, side.signature.inputs)) for side in (first, second)]
        raise BadInput(
            f"the two do not take the same inputs: {first.model} takes {shown[0]}; {second.model} takes {shown[1]}",
            remedy="assay export --input-names gives both the same names",
        )


def _details(found: Paired) -> dict[str, Any]:
    return {
        "rounds": len(found.quads),
        "calls": len(found.first_s) + len(found.second_s),
        "calls_per_block": len(found.first_s) // (2 * len(found.quads)) if len(found.quads) else None,
        "log_ratios": [float(q) for q in found.quads],
    }


def _answer(first: Side, second: Side, found: Paired) -> str:
    """In words, for people; nothing reads it back."""
    a, b, ratio = first.named(second), second.named(first), found.ratio
    if ratio.value is None:
        return f"{a} against {b}: {ratio.reason}"
    if ratio.low is None or ratio.high is None or not found.different:
        return f"no difference between {a} and {b} was found: the interval holds 1"
    if ratio.value > 1:
        return f"{b} is {ratio.low:.3g} to {ratio.high:.3g} times as fast as {a}"
    return f"{a} is {1 / ratio.high:.3g} to {1 / ratio.low:.3g} times as fast as {b}"
