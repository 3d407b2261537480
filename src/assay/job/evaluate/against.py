"""``--against``: an evaluation paired with an earlier one of the same samples, all of them or until it is clear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core.dataset import Scored
from assay.core.errors import BadInput
from assay.core.record import Figure
from assay.core.sequential import SequentialAnswer, sequential_drop
from assay.measure.predictions import PairedResult, compare_predictions, read_predictions
from assay.pipeline import ShardStore

LOOK_EVERY = 128
"""Samples between two looks at a sequential evaluation."""
FILE = "predictions.jsonl.gz"


@dataclass(frozen=True)
class Against:
    """``reference`` is a folder or file of predictions.  ``margin`` is how much worse, as a fraction, is not worse;
    ``sequential`` stops once that is clear."""

    reference: Path
    margin: float | None = None
    sequential: bool = False

    def __post_init__(self) -> None:
        if self.sequential and self.margin is None:
            raise BadInput("--sequential asks whether the drop is below a margin", remedy="--margin 1%")
        if self.margin is not None and not 0 < self.margin < 1:
            raise BadInput(f"a margin lies between 0 and 100 %, not at {self.margin:.1%}", remedy="--margin 1%")

    def read(self) -> list[Scored]:
        """Raises BadInput where there are none, and for a task without right and wrong."""
        path = self.reference / FILE if self.reference.is_dir() else self.reference
        found = read_predictions(path)
        if any(s.correct is None for s in found):
            raise BadInput(f"{path} does not tell right from wrong, so no drop can be had from it")
        return found


@dataclass(frozen=True)
class Comparison:
    """``text`` says in words what came of it."""

    paired: PairedResult
    margin: float | None
    sequential: SequentialAnswer | None = None

    @property
    def drop(self) -> Figure:
        """With a confidence sequence where it was looked at again and again."""
        if self.sequential is None:
            return self.paired.drop
        found = self.sequential.drop
        return Figure(found.value, "fraction", found.low, found.high, found.confidence, found.n)

    @property
    def text(self) -> str:
        p = self.paired
        flips = f"{p.only_reference} lost, {p.only_candidate} won of {p.n} samples"
        if self.sequential is not None:
            return f"{self.sequential.text}; {flips}"
        chance = "" if p.mcnemar_p is None else f"; McNemar p = {p.mcnemar_p:.3g}"
        if self.margin is None or p.drop.high is None or p.drop.low is None:
            return f"{flips}{chance}"
        if p.drop.high < self.margin:
            said = f"not worse by {self.margin:.2%}"
        elif p.drop.low > self.margin:
            said = f"worse by more than {self.margin:.2%}"
        else:
            said = f"not shown to be within {self.margin:.2%}"
        return f"{said}; {flips}{chance}"

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = self.paired.to_json() | {"margin": self.margin, "said": self.text}
        if self.sequential is not None:
            found["sequential"] = {"answer": self.sequential.answer, "taken": self.sequential.taken}
        return found


def compared(against: Against, reference: Sequence[Scored], scored: Sequence[Scored]) -> Comparison:
    """Raises BadInput for samples that one side alone has; of a sequential one, for those the reference lacks."""
    if not against.sequential:
        return Comparison(compare_predictions(reference, scored), against.margin)
    rows = list(scored)
    wanted = {s.id for s in rows}
    paired = compare_predictions([s for s in reference if s.id in wanted], rows)
    return Comparison(paired, against.margin, _answer(against, _by_id(reference), rows))


class Watch:
    """Asked after each shard whether the answer is clear.  Shards count in their order, so that chance and not the
    order in which they happen to be finished decides."""

    def __init__(self, against: Against, reference: Sequence[Scored]) -> None:
        self._against = against
        self._reference = _by_id(reference)
        self._rows: list[Scored] = []
        self._next = 0

    def __call__(self, store: ShardStore) -> bool:
        before = self._next
        while self._next in store.finished:
            self._rows += store.shard_rows(self._next)
            self._next += 1
        return self._next > before and _answer(self._against, self._reference, self._rows).answer is not None


def _answer(against: Against, reference: Mapping[str, Scored], rows: Sequence[Scored]) -> SequentialAnswer:
    assert against.margin is not None
    missing = [s.id for s in rows if s.id not in reference]
    if missing:
        raise BadInput(
            f"the reference has no prediction of {missing[0]}" + (f" and {len(missing) - 1} more" * (len(missing) > 1)),
            remedy="evaluate both on the same data",
        )
    if any(s.correct is None for s in rows):
        raise BadInput("the task does not tell right from wrong, so no drop can be tested")
    differences = [int(bool(reference[s.id].correct)) - int(bool(s.correct)) for s in rows]
    return sequential_drop(differences, against.margin)


def _by_id(scored: Sequence[Scored]) -> dict[str, Scored]:
    return {s.id: s for s in scored}
