"""``assay diagnose --fix``: what can be put right, put right, checked again and timed.

A guilty pass is left out; guilty layers of a quantised file go back to float; a guilty optimisation
level gives way to the one before it.  Anything else is said to have no fix here.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput
from assay.core.tensors import Feed
from assay.diagnose.operators import Piece
from assay.diagnose.stages import worst
from assay.graph.external_data import onnx_artifact, save_model
from assay.graph.signature import load_model
from assay.graph.simplify import find_pass
from assay.job.diagnose_stages import LEVELS, PLAIN, Chain, How, Plan, open_onnx
from assay.measure.observe import Observed
from assay.precision.onnx_graph import load_source
from assay.precision.qdq import QdqModel

_REPEATS = 15


@dataclass(frozen=True)
class Fix:
    """``before`` and ``after`` are the error added to the stage's parent, ``due`` what may be; ``slowdown`` is the
    fixed one's median call over the guilty one's, timed in turn in this run."""

    what: str
    path: Path
    how: How
    before: float
    after: float
    due: float
    slowdown: float

    @property
    def works(self) -> bool:
        return self.after <= self.due

    def to_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "path": str(self.path),
            "level": self.how.level,
            "before": self.before,
            "after": self.after,
            "due": self.due,
            "works": self.works,
            "slowdown": self.slowdown,
        }


@dataclass(frozen=True)
class Broken:
    """The guilty stage: its place in the chain, its guilty pieces, the feeds it was seen on, and where to write."""

    plan: Plan
    chain: Chain
    place: int
    pieces: Sequence[Piece]
    feeds: Sequence[Feed]
    out: Path


def fix(broken: Broken) -> Fix:
    """Put the guilty stage right.  Raises BadInput, saying why, where there is nothing to put right here."""
    chain, place = broken.chain, broken.place
    link, stage = chain.links[place], chain.stages[place]
    if link.path is None or stage.parent is None:
        raise BadInput(f"{stage.name!r} has no graph to change")
    broken.out.mkdir(parents=True, exist_ok=True)
    if link.changes == "arithmetic":
        what, path, how = _lower_level(link.path, link.how)
    elif link.pass_name is not None:
        what, path, how = _without_pass(broken, link.pass_name)
    else:
        what, path, how = _restored(broken, stage.parent)
    guilty_how = link.how if link.changes == "arithmetic" else replace(link.how, level="all")
    fixed_how = how if link.changes == "arithmetic" else guilty_how
    expected = [chain.stages[stage.parent].run(feed) for feed in broken.feeds]
    with open_onnx(path, how) as session:
        after = worst(expected, [session.run(feed) for feed in broken.feeds])[0]
    before = worst(expected, [stage.run(feed) for feed in broken.feeds])[0]
    slowdown = _slowdown((link.path, guilty_how), (path, fixed_how), broken.feeds[0])
    return Fix(what, path, how, before, after, stage.due, slowdown)


def _lower_level(path: Path, how: How) -> tuple[str, Path, How]:
    if how.level not in LEVELS:
        raise BadInput(f"{how.engine} takes no precision node by node here; open the file in a higher precision")
    lower = (PLAIN, *LEVELS)[LEVELS.index(how.level)]
    return f"optimisation level {lower} in place of {how.level}", path, replace(how, level=lower)


def _without_pass(broken: Broken, name: str) -> tuple[str, Path, How]:
    assert broken.chain.raw is not None
    model = load_model(broken.chain.raw, external_data=True)
    for other in broken.plan.passes:
        if other != name:
            model = find_pass(other)(model)
    path = broken.out / "fixed.onnx"
    save_model(model, path)
    return f"without the pass {name}", path, How()


def _restored(broken: Broken, parent: int) -> tuple[str, Path, How]:
    """Guilty layers of a quantised file back in float."""
    source, quantised = broken.chain.links[parent].path, broken.chain.links[broken.place].path
    assert quantised is not None
    model = load_model(quantised, external_data=True)
    if source is None or not any(n.op_type == "DequantizeLinear" for n in model.graph.node):
        raise BadInput("the file itself differs, and it is not quantised: export or convert it again")
    artifact = onnx_artifact(source)
    lowered = QdqModel(artifact, load_source(artifact), model, {"library": "as given"})
    names = {name for piece in broken.pieces for name, _ in piece.nodes} | {p.tensor for p in broken.pieces}
    keep = [layer.name for layer in lowered.layers if layer.name in names]
    if not keep:
        raise BadInput("none of the guilty nodes is a quantised layer that could go back to float")
    path = broken.out / "fixed.onnx"
    lowered.write(path, keep)
    return f"{len(keep)} layers back in float: {', '.join(keep[:5])}", path, How()


def _slowdown(guilty: tuple[Path, How], fixed: tuple[Path, How], feed: Feed) -> float:
    """Both in turn, so that a busy moment of the machine meets both."""
    with open_onnx(*guilty) as first, open_onnx(*fixed) as second:
        watched = [Observed(s, lambda feed, outputs: None) for s in (first, second)]
        times: list[list[float]] = [[], []]
        for round_number in range(_REPEATS + 2):
            for session, taken in zip(watched, times, strict=True):
                session.seconds = 0.0
                session.run(feed)
                if round_number >= 2:
                    taken.append(session.seconds)
    return statistics.median(times[1]) / statistics.median(times[0])
