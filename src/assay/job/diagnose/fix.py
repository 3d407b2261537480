"""``assay diagnose --fix``: what can be put right, put right, checked again and timed.

A guilty pass is left out; guilty layers of a quantised file go back to float; a guilty optimisation
level gives way to the one before it; of an engine that runs a file in bf16 or fp16, as few operators as are
needed stay in fp32, the guiltiest first.  Anything else is said to have no fix here.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput, EngineFailed
from assay.core.table import load
from assay.core.tensors import Feed
from assay.diagnose import KEEPERS
from assay.diagnose.operators import Piece
from assay.diagnose.stages import Outputs, worst
from assay.graph.external_data import onnx_artifact, save_model
from assay.graph.quantised import Spelling, quantisers_of, spell_out
from assay.graph.signature import load_model
from assay.graph.simplify import find_pass
from assay.job.diagnose.stages import LEVELS, PLAIN, Chain, How, Link, Plan, open_onnx
from assay.job.opening import precision_of
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
    """The guilty stage: its place in the chain, its guilty pieces, the feeds it was seen on, and where to write;
    ``ranked`` are all of its pieces, the guiltiest first."""

    plan: Plan
    chain: Chain
    place: int
    pieces: Sequence[Piece]
    feeds: Sequence[Feed]
    out: Path
    ranked: Sequence[Piece] = ()


def fix(broken: Broken) -> Fix:
    """Put the guilty stage right.  Raises BadInput, saying why, where there is nothing to put right here."""
    chain, place = broken.chain, broken.place
    link, stage = chain.links[place], chain.stages[place]
    if link.path is None or stage.parent is None:
        raise BadInput(f"{stage.name!r} has no graph to change")
    broken.out.mkdir(parents=True, exist_ok=True)
    expected = [chain.stages[stage.parent].run(feed) for feed in broken.feeds]
    guilty_how = link.how if link.changes == "arithmetic" else replace(link.how, level="all")
    if link.pass_name is not None:
        what, path, how = *_without_pass(broken, link.pass_name), guilty_how
    elif link.changes == "arithmetic" and link.how.level in LEVELS:
        what, path, how = _lower_level(link.path, link.how)
    elif link.changes == "arithmetic" and precision_of(link.path) == "fp32":
        what, path, how = _kept(broken, link, expected)
    elif link.changes == "arithmetic" and precision_of(link.path) == "int8":
        what, path, how = *_written_out(broken, link.path, expected), link.how
    else:
        what, path, how = *_restored(broken, guilty_how, expected), guilty_how
    after = _error(path, how, broken.feeds, expected)
    before = worst(expected, [stage.run(feed) for feed in broken.feeds])[0]
    slowdown = _slowdown((link.path, guilty_how), (path, how), broken.feeds[0])
    return Fix(what, path, how, before, after, stage.due, slowdown)


def _error(path: Path, how: How, feeds: Sequence[Feed], expected: Sequence[Outputs]) -> float:
    with open_onnx(path, how) as session:
        return worst(expected, [session.run(feed) for feed in feeds])[0]


def _lower_level(path: Path, how: How) -> tuple[str, Path, How]:
    assert how.level is not None
    lower = (PLAIN, *LEVELS)[LEVELS.index(how.level)]
    return f"optimisation level {lower} in place of {how.level}", path, replace(how, level=lower)


def _fewest(total: int, works: Callable[[int], bool]) -> int | None:
    """The smallest number from 1 to ``total`` that works, more being better: doubled, then halved back.  None where
    not even all do; the number given back is the one tried last."""
    few, count = 0, 1
    while not works(count):
        if count == total:
            return None
        few, count = count, min(2 * count, total)
    enough = count
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if works(middle) else (middle, enough)
    return enough if works(enough) else None


def _kept(broken: Broken, link: Link, expected: Sequence[Outputs]) -> tuple[str, Path, How]:
    """As few of the guiltiest pieces in fp32 as bring the error below its due; the whole model where nothing less
    helps."""
    assert link.path is not None
    if link.how.engine not in KEEPERS or link.how.precision == "fp32":
        raise BadInput(f"{link.how.engine} takes no precision node by node; open the file in a higher precision")
    keep = load(KEEPERS[link.how.engine])
    due, pieces, path = broken.chain.stages[broken.place].due, broken.ranked, broken.out / "fixed.xml"
    kept = 0

    def works(count: int) -> bool:
        nonlocal kept
        try:
            kept = keep(link.path, [(p.tensor, p.inputs) for p in pieces[:count]], path)
            return kept > 0 and _error(path, link.how, broken.feeds, expected) <= due
        except EngineFailed:  # a runtime may refuse a mixture; the next one is another
            return False

    count = _fewest(len(pieces), works) if pieces else None
    if count is None:
        return "the whole model in fp32: no part of it was enough", link.path, replace(link.how, precision="fp32")
    return f"{kept} operators in fp32, for {count} of {len(pieces)} tensors", path, link.how


def _written_out(broken: Broken, quantised: Path, expected: Sequence[Outputs]) -> tuple[str, Path]:
    """The same numbers by other means: as few quantisers as help in plain arithmetic, which the engine cannot take for
    int8.  The weights stay as they are stored, unless no quantiser is left."""
    model = load_model(quantised, external_data=True)
    every = quantisers_of(model)
    path, stage = broken.out / "fixed.onnx", broken.chain.stages[broken.place]

    def works(names: Sequence[str]) -> bool:
        only = frozenset(names) if len(names) < len(every) else None
        save_model(spell_out(model, Spelling(only=only))[0], path)
        return _error(path, broken.chain.links[broken.place].how, broken.feeds, expected) <= stage.due

    if not every or not works(every):
        raise BadInput("not even with every quantiser written out in plain arithmetic is the error within its due")
    kept = _needed(every, works)
    works(kept)  # the file left behind is the one that was asked for last
    makers = {n.output[0]: n.name or n.output[0] for n in model.graph.node}
    shown = ", ".join(makers[name] for name in kept[:4]) + (", …" if len(kept) > 4 else "")
    return f"{len(kept)} of {len(every)} quantisers written out in plain arithmetic: {shown}", path


def _needed(names: Sequence[str], works: Callable[[Sequence[str]], bool]) -> list[str]:
    """A part of ``names`` that works and of which none can be left out: ever smaller pieces are dropped (after
    Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input, IEEE TSE 28(2), 2002)."""
    kept, size = list(names), max(1, len(names) // 2)
    while True:
        start = 0
        while start < len(kept):
            rest = kept[:start] + kept[start + size :]
            if rest and works(rest):
                kept = rest
            else:
                start += size
        if size == 1:
            return kept
        size //= 2


def _without_pass(broken: Broken, name: str) -> tuple[str, Path]:
    assert broken.chain.raw is not None
    model = load_model(broken.chain.raw, external_data=True)
    for other in broken.plan.passes:
        if other != name:
            model = find_pass(other)(model)
    path = broken.out / "fixed.onnx"
    save_model(model, path)
    return f"without the pass {name}", path


def _restored(broken: Broken, how: How, expected: Sequence[Outputs]) -> tuple[str, Path]:
    """As few layers of a quantised file back in float as help, the guilty ones first."""
    source, quantised = _float_source(broken), broken.chain.links[broken.place].path
    assert quantised is not None
    model = load_model(quantised, external_data=True)
    if source is None or not any(n.op_type == "DequantizeLinear" for n in model.graph.node):
        raise BadInput("the file itself differs, and it is not quantised: export or convert it again")
    artifact = onnx_artifact(source)
    lowered = QdqModel(artifact, load_source(artifact), model, {"library": "as given"})
    known = {layer.name for layer in lowered.layers}
    ranked = [n for p in broken.ranked for n in (*(name for name, _ in p.nodes), p.tensor) if n in known]
    layers = list(dict.fromkeys([*ranked, *(layer.name for layer in lowered.layers)]))
    path, due = broken.out / "fixed.onnx", broken.chain.stages[broken.place].due

    def works(count: int) -> bool:
        lowered.write(path, layers[:count])
        return _error(path, how, broken.feeds, expected) <= due

    count = _fewest(len(layers), works)
    if count is None:
        raise BadInput("not even with every layer back in float is the error within its due")
    return f"{count} layers back in float: {', '.join(layers[: min(count, 5)])}", path


def _float_source(broken: Broken) -> Path | None:
    """The file the guilty one was made from: of the nearest stage before it that has another graph."""
    own, parent = broken.chain.links[broken.place].path, broken.chain.stages[broken.place].parent
    while parent is not None and broken.chain.links[parent].path in (own, None):
        parent = broken.chain.stages[parent].parent
    return None if parent is None else broken.chain.links[parent].path


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
