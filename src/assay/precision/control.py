"""Accuracy control: put the worst layers back until the drop holds.  Knows no engine and no metric.

1. The lowered model is scored.  If its drop against the source holds, nothing is put back.
2. Layers are ranked by the noise each adds when it alone is lowered: the signal-to-noise ratio of
   the model's outputs against the source's, worst first.  Noise of independent small errors adds
   up, so the worst single layers carry most of the sum.
3. The k worst layers are put back, k doubling from 1 until the drop holds, then bisected between
   the last k that failed and the first that held.

Before ranking, a file with every layer put back must give the source's outputs; a graph that does
not come back to where it started is an error, since nothing that follows would mean anything.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core.artifact import Artifact
from assay.core.compare import compare
from assay.core.errors import BadInput, EngineFailed
from assay.core.tensors import Array
from assay.precision.job import Layer, Lowered

RETURNED_DB = 60.0
"""What a file with every layer put back must reach against its source; fp32 in another order is above 100 dB."""


@dataclass(frozen=True)
class Judging:
    """What the caller brings: ``score(artifact)``, higher is better; ``outputs(artifact)`` on a few fixed rows.

    ``relative`` says whether a drop is counted as a share of the source's score.
    """

    score: Callable[[Artifact], float]
    outputs: Callable[[Artifact], Mapping[str, Array]]
    relative: bool = False
    progress: Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class Ranked:
    """``snr_db`` of the outputs with this layer alone lowered; infinite when it changes nothing."""

    layer: Layer
    snr_db: float


@dataclass(frozen=True)
class Trial:
    """``reverted`` layers were put back, and this came of it."""

    reverted: int
    score: float
    drop: float


@dataclass(frozen=True)
class Controlled:
    """``chosen`` is the trial ``artifact`` is from, ``plain`` the one without control; both on the samples
    ``score`` used.  ``ranking`` is empty where nothing had to be put back."""

    artifact: Artifact
    source_score: float
    plain: Trial
    chosen: Trial
    reverted: tuple[Ranked, ...]
    ranking: tuple[Ranked, ...]
    trials: tuple[Trial, ...]
    layers: int

    def to_json(self) -> dict[str, Any]:
        return {
            "source_score": self.source_score,
            "plain": self.plain.__dict__,
            "chosen": self.chosen.__dict__,
            "layers": self.layers,
            "reverted": [_row(r) for r in self.reverted],
            "ranking": [_row(r) for r in self.ranking],
            "trials": [t.__dict__ for t in self.trials],
        }


def _row(ranked: Ranked) -> dict[str, Any]:
    snr = ranked.snr_db if math.isfinite(ranked.snr_db) else None
    return {"layer": ranked.layer.name, "op": ranked.layer.op, "snr_db": snr}


def control(source: Artifact, lowered: Lowered, path: Path, max_drop: float, judging: Judging) -> Controlled:
    """Write the lowered model to ``path`` with as few layers put back as ``max_drop`` needs.

    ``max_drop`` is a fraction.  Raises BadInput for one below zero or a score that is no number,
    EngineFailed when the drop holds only with every layer put back: nothing would be left lowered.
    """
    if not 0 <= max_drop < 1:
        raise BadInput(f"a drop of {max_drop} cannot be asked for", remedy="--max-drop 0.5%")
    base = _number(judging.score(source), source)
    trials: dict[int, Trial] = {}
    ranking: tuple[Ranked, ...] = ()

    def trial(count: int) -> Trial:
        if count not in trials:
            made = lowered.write(path, [r.layer.name for r in ranking[:count]])
            score = _number(judging.score(made), made)
            drop = base - score
            trials[count] = Trial(count, score, drop / abs(base) if judging.relative and base else drop)
            judging.progress(f"{count} of {len(lowered.layers)} layers put back: score {score:.4f}")
        return trials[count]

    plain = trial(0)
    count = 0
    if plain.drop > max_drop:
        ranking = rank(source, lowered, path, judging)
        count = _fewest(trial, len(ranking), max_drop)
    if count >= len(lowered.layers):
        back = trial(count).drop
        held = f"a drop of {max_drop:.2%} holds only with all {count} layers put back: nothing would be left lowered"
        lost = f"a drop of {max_drop:.2%} does not hold even with all {count} layers put back: it is {back:.2%} then"
        raise EngineFailed(
            held if back <= max_drop else lost,
            remedy="allow a larger --max-drop, another method, or a higher precision",
        )
    made = lowered.write(path, [r.layer.name for r in ranking[:count]])
    done = tuple(trials[k] for k in sorted(trials))
    return Controlled(made, base, plain, trials[count], ranking[:count], ranking, done, len(lowered.layers))


def _fewest(trial: Callable[[int], Trial], most: int, max_drop: float) -> int:
    """The smallest count found whose drop holds: doubling, then bisection.  ``most`` always holds or nothing does."""
    failed, count = 0, 1
    while count < most and trial(count).drop > max_drop:
        failed, count = count, min(2 * count, most)
    if count == most and trial(most).drop > max_drop:
        return most
    while count - failed > 1:
        middle = (failed + count) // 2
        if trial(middle).drop > max_drop:
            failed = middle
        else:
            count = middle
    return count


def rank(source: Artifact, lowered: Lowered, path: Path, judging: Judging) -> tuple[Ranked, ...]:
    """Every layer with the noise it adds when it alone is lowered, worst first.

    The files for it are written into a temporary folder beside ``path`` under its name.  Raises EngineFailed when
    putting every layer back does not give the source.
    """
    expected = judging.outputs(source)
    names = [layer.name for layer in lowered.layers]
    with tempfile.TemporaryDirectory(prefix=".ranking-", dir=path.parent) as folder:
        scratch = Path(folder, path.name)
        back = _snr(expected, judging.outputs(lowered.write(scratch, names)))
        if back < RETURNED_DB:
            raise EngineFailed(
                f"with every layer put back the model still differs from {source.path} ({back:.1f} dB): "
                "its layers cannot be told apart"
            )
        found = []
        for index, layer in enumerate(lowered.layers):
            made = lowered.write(scratch, [n for n in names if n != layer.name])
            found.append(Ranked(layer, _snr(expected, judging.outputs(made))))
            judging.progress(f"ranked {index + 1} of {len(names)} layers")
    return tuple(sorted(found, key=lambda r: (r.snr_db, r.layer.name)))


def _snr(expected: Mapping[str, Array], found: Mapping[str, Array]) -> float:
    """The worst output's; one with NaN where the source has none, or of another shape, is as bad as can be."""
    if any(found[name].shape != array.shape for name, array in expected.items()):
        return -math.inf
    measures = compare(expected, found).values()
    return min(-math.inf if m.bad_candidate > m.bad_reference else m.snr_db for m in measures)


def _number(score: float, artifact: Artifact) -> float:
    if not math.isfinite(score):
        raise BadInput(f"the score of {artifact.path} is {score}: there is nothing to control the accuracy by")
    return score


def describe(reverted: Sequence[Ranked]) -> list[str]:
    """One line per layer that was put back, for people."""
    return [f"{r.layer.name} ({r.layer.op}), {r.snr_db:.1f} dB alone" for r in reverted]
