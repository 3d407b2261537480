"""Operator by operator: where inside a stage the error comes from.

Reference and candidate are aligned by tensor name.  For every aligned tensor of the candidate, in
order, two errors are told apart: the *accumulated* one, of the candidate run from its inputs, and the *local*
one, of the piece between the aligned tensors before it and itself, fed with the reference's values.  A
piece is guilty when its local error is more than its arithmetic may cost; how much that is grows with
the piece's own sensitivity, measured by moving its inputs by a known small amount.  Where a piece shows
nothing alone (an engine that goes wrong only when it fuses), bisection finds where a graph cut off behind a
tensor begins to show the error, and how much of its front can go until the error vanishes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from assay.core.compare import compare
from assay.core.errors import AssayError
from assay.core.tensors import Array, Feed
from assay.diagnose.ranges import Range, range_of, saturation
from assay.diagnose.stages import relative_error
from assay.graph.extract import Parts

if TYPE_CHECKING:
    import onnx

Opener = Callable[["onnx.ModelProto"], AbstractContextManager[Callable[[Feed], Mapping[str, Array]]]]
"""Opens a model in the candidate's (or reference's) arithmetic for the block."""

CHUNK = 16
"""Tensors held of each side at a time: what keeps memory small while all are compared."""
MOST_OPENINGS = 64
"""Parts of the graph that the search for a fused one opens at most; two bisections of 10 000 tensors take 28."""
_NUDGE = 2.0**-12


class Recorder(Protocol):
    """The reference's inner tensors, by name."""

    @property
    def names(self) -> Collection[str]: ...

    def values(self, feed: Feed, names: Collection[str]) -> Mapping[str, Array]: ...


class GraphRecorder:
    """Inner tensors of an ONNX graph, in the arithmetic ``open`` gives it."""

    def __init__(self, parts: Parts, open: Opener) -> None:
        self._parts = parts
        self._open = open
        self.names: tuple[str, ...] = (*parts.inputs, *parts.tensors())

    def values(self, feed: Feed, names: Collection[str]) -> dict[str, Array]:
        found = {n: feed[n] for n in names if n in self._parts.inputs}
        wanted = [n for n in names if n in self._parts.maker]
        if wanted:
            with self._open(self._parts.exposed(wanted)) as run:
                found |= run({n: feed[n] for n in self._parts.inputs})
        return found


@dataclass(frozen=True)
class Piece:
    """``nodes`` are (name, operator); ``local`` and ``accumulated`` relative rms errors, None where not run."""

    tensor: str
    nodes: tuple[tuple[str, str], ...]
    inputs: tuple[str, ...]
    local: float | None
    accumulated: float | None
    due: float
    places: tuple[int, ...] = ()
    ranges: tuple[Range, ...] = ()

    @property
    def is_guilty(self) -> bool:
        return self.local is not None and not self.local <= self.due

    def to_json(self) -> dict[str, Any]:
        return {
            "tensor": self.tensor,
            "nodes": [{"name": n, "op": op} for n, op in self.nodes],
            "inputs": list(self.inputs),
            "local": _finite(self.local),
            "accumulated": _finite(self.accumulated),
            "due": self.due,
            "ranges": [r.to_json() for r in self.ranges],
        }


@dataclass(frozen=True)
class Blame:
    """``guilty`` are the pieces beyond their due, in topological order; ``found_by`` says how.

    ``aligned`` of ``tensors`` inner tensors go by the same name on both sides.
    """

    pieces: tuple[Piece, ...]
    guilty: tuple[Piece, ...]
    found_by: str
    aligned: int
    tensors: int
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Suspect:
    """The candidate's graph, how it is run, and what one piece of it may cost (relative rms)."""

    parts: Parts
    open: Opener
    due: float


def blame(recorder: Recorder, suspect: Suspect, feed: Feed) -> Blame:
    """Find the guilty pieces.  Raises nothing for a piece that fails to run: that is an infinite error."""
    tensors = suspect.parts.tensors()
    names = set(recorder.names)
    aligned = [t for t in tensors if t in names]
    pieces: list[Piece] = []
    for start in range(0, len(aligned), CHUNK):
        pieces += _chunk(recorder, suspect, feed, (aligned, aligned[start : start + CHUNK]))
    guilty = tuple(p for p in pieces if p.is_guilty)
    how = "each operator on the reference's inputs"
    notes: tuple[str, ...] = ()
    if not guilty and aligned:
        found, ended = grown(recorder, suspect, feed, aligned)
        notes = (ended,) if ended else ()
        if found is not None:
            size = "a" if ended else "the smallest"
            guilty, how = (found,), f"{size} part of the graph that shows it when run in one piece"
    if len(aligned) < len(tensors) // 2:
        notes += (f"only {len(aligned)} of {len(tensors)} inner tensors go by the same name on both sides",)
    guilty = tuple(_with_ranges(recorder, feed, p) for p in guilty[:10])
    return Blame(tuple(pieces), guilty, how, len(aligned), len(tensors), notes)


def _chunk(
    recorder: Recorder, suspect: Suspect, feed: Feed, which: tuple[Sequence[str], Sequence[str]]
) -> Iterator[Piece]:
    """A few tensors: the reference's values, the candidate's own, and every piece alone."""
    aligned, chunk = which
    borders = set(aligned)
    regions = {t: suspect.parts.region(t, borders) for t in chunk}
    wanted = dict.fromkeys(n for t in chunk for n in (t, *regions[t][1]))
    known = dict(recorder.values(feed, list(wanted))) | {n: feed[n] for n in wanted if n in feed}
    own = _own(suspect, feed, chunk)
    for tensor in chunk:
        places, inputs = regions[tensor]
        if tensor not in known or any(n not in known for n in inputs):
            continue
        nodes = tuple((suspect.parts.nodes[i].name, suspect.parts.nodes[i].op_type) for i in places)
        accumulated = relative_error(known[tensor], own[tensor]) if tensor in own else None
        piece = Piece(tensor, nodes, tuple(inputs), None, accumulated, suspect.due, tuple(places))
        yield _locally(piece, suspect, known)


def _own(suspect: Suspect, feed: Feed, names: Sequence[str]) -> Mapping[str, Array]:
    """The candidate's inner tensors; empty where its engine does not give them."""
    try:
        with suspect.open(suspect.parts.exposed(names)) as run:
            return run({n: feed[n] for n in suspect.parts.inputs})
    except AssayError:
        return {}


def _locally(piece: Piece, suspect: Suspect, known: Mapping[str, Array]) -> Piece:
    """Run the piece on the reference's inputs, and a second time nudged where it looks guilty."""
    inputs = {n: known[n] for n in piece.inputs}
    model = suspect.parts.cut(piece.places, inputs, [piece.tensor])
    try:
        with suspect.open(model) as run:
            found = run(_given(model, inputs))[piece.tensor]
            local = relative_error(known[piece.tensor], found)
            if not local > piece.due or math.isinf(local):
                return replace(piece, local=local)
            nudged = run(_given(model, {n: _nudge(a, i) for i, (n, a) in enumerate(inputs.items())}))[piece.tensor]
    except AssayError:
        # What the engine runs as part of the whole is not to blame for being refused alone: shape arithmetic, say.
        runs_inside = piece.accumulated is not None and math.isfinite(piece.accumulated)
        return piece if runs_inside else replace(piece, local=math.inf)
    return replace(piece, local=local, due=piece.due * _sensitivity(found, nudged))


def _sensitivity(found: Array, nudged: Array) -> float:
    """By how much a piece magnifies a small error, at least 1.  Values that the nudge made NaN or infinite (an arc
    cosine pushed beyond 1) say nothing of the others and are left out; where nothing is left it counts as 1."""
    if found.shape != nudged.shape or not found.size or found.dtype.kind in "iubO":
        error = relative_error(found, nudged)
    else:
        error = compare({"y": found}, {"y": nudged})["y"].relative_rms
    return max(1.0, error / _NUDGE) if math.isfinite(error) else 1.0


def _given(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    return {v.name: np.array(inputs[v.name]) for v in model.graph.input}


def _nudge(array: Array, seed: int) -> Array:
    """Every value moved by a random amount of about 2^-12 of itself; what are no floats stays as it is."""
    if array.dtype.kind != "f" or not array.size:
        return array
    noise = np.random.default_rng(seed).normal(size=array.shape) * _NUDGE
    return np.asarray(array * (1 + noise), array.dtype)


def grown(recorder: Recorder, suspect: Suspect, feed: Feed, aligned: Sequence[str]) -> tuple[Piece | None, str | None]:
    """A part of the graph that goes wrong when it is run in one piece, and a sentence where the search was cut short.

    It ends at a tensor whose whole past goes wrong while that of no tensor it is made from does, and none of its
    front can be left out.  Bisection finds one such part, where there are several not always the first.  At most
    ``MOST_OPENINGS`` parts are opened.
    """
    search = _Search(recorder, suspect, feed, aligned)
    try:
        return search.shortest(), None
    except _Spent:
        found = "there may be a smaller one" if search.best else "no part that shows the error was found"
        return search.best, f"the engine was opened on {search.opened} parts of the graph and no more: {found}"


class _Spent(Exception):
    """As many parts were opened as may be."""


class _Search:
    """``best`` is the shortest guilty part so far, ``opened`` how many parts were run."""

    def __init__(self, recorder: Recorder, suspect: Suspect, feed: Feed, aligned: Sequence[str]) -> None:
        self._given = recorder, suspect, feed
        self._parts = suspect.parts
        self._places = {tensor: place for place, tensor in enumerate(aligned)}
        self._wrong: dict[str, bool] = {}
        self.opened = 0
        self.best: Piece | None = None

    def shortest(self) -> Piece | None:
        """Ever longer pasts of the tensor, twice as long each time, then bisection between the last two."""
        tensor = self._first_wrong()
        if tensor is None:
            return None
        past = self._past(tensor)
        innocent, guilty = 0, 1  # tensors before it that are inside; alone it shows nothing
        while not self._is_guilty(tensor, past[: max(0, len(past) - guilty)]):
            if guilty >= len(past):
                return None
            innocent, guilty = guilty, 2 * guilty
        guilty = min(guilty, len(past))
        while guilty - innocent > 1:
            middle = (innocent + guilty) // 2
            if self._is_guilty(tensor, past[: len(past) - middle]):
                guilty = middle
            else:
                innocent = middle
        return self.best

    def _first_wrong(self) -> str | None:
        """From an output, or where all of them are right again from a tensor between, back to where it begins.

        Half of the openings may go into finding one that is wrong at all.
        """
        order = list(self._places)
        outputs = [t for t in order if t in self._parts.outputs]
        candidates = iter(dict.fromkeys((*outputs, *(order[i] for i in _spread(len(order))))))
        wrong = next((t for t in islice(candidates, MOST_OPENINGS // 2) if self._goes_wrong(t)), None)
        if wrong is None and next(candidates, None) is not None:
            raise _Spent
        while wrong is not None:
            nearest = self._transition([*self._past(wrong), wrong])
            made_from = [t for t in self._parts.region(nearest, self._places)[1] if t in self._places]
            wrong = next((t for t in made_from if self._goes_wrong(t)), None)
            if wrong is None:
                return nearest
        return None

    def _transition(self, order: Sequence[str]) -> str:
        """A tensor that goes wrong behind one that does not (or the very first); the last is known to go wrong."""
        right, wrong = -1, len(order) - 1
        while wrong - right > 1:
            middle = (right + wrong) // 2
            if self._goes_wrong(order[middle]):
                wrong = middle
            else:
                right = middle
        return order[wrong]

    def _past(self, tensor: str) -> list[str]:
        """The aligned tensors that it depends on, in topological order."""
        inside = set(self._parts.region(tensor, ())[0])
        return [t for t in self._places if t != tensor and self._parts.maker[t] in inside]

    def _goes_wrong(self, tensor: str) -> bool:
        if tensor not in self._wrong:
            whole = self._open(tensor, ())
            due = self._given[1].due * math.sqrt(self._places[tensor] + 1)
            self._wrong[tensor] = whole.local is not None and not whole.local <= due
        return self._wrong[tensor]

    def _is_guilty(self, tensor: str, borders: Sequence[str]) -> bool:
        part = self._open(tensor, borders)
        if part.is_guilty:
            self.best = part  # each guilty one is shorter than the one before
        return part.is_guilty

    def _open(self, tensor: str, borders: Sequence[str]) -> Piece:
        if self.opened == MOST_OPENINGS:
            raise _Spent
        self.opened += 1
        return _part(*self._given, (tensor, borders))


def _spread(count: int) -> Iterator[int]:
    """Every place of ``count`` once: one in the middle, then those between, ever closer."""
    step = 1 << count.bit_length()
    while step > 1:
        yield from range(step // 2 - 1, count, step)
        step //= 2


def _part(recorder: Recorder, suspect: Suspect, feed: Feed, cut: tuple[str, Sequence[str]]) -> Piece:
    tensor, borders = cut
    places, inputs = suspect.parts.region(tensor, set(borders))
    known = dict(recorder.values(feed, [tensor, *inputs])) | {n: feed[n] for n in inputs if n in feed}
    nodes = tuple((suspect.parts.nodes[i].name, suspect.parts.nodes[i].op_type) for i in places)
    piece = Piece(tensor, nodes, tuple(inputs), None, None, suspect.due, tuple(places))
    if tensor not in known or any(n not in known for n in inputs):
        return piece
    return _locally(piece, suspect, known)


def _with_ranges(recorder: Recorder, feed: Feed, piece: Piece) -> Piece:
    names = [*piece.inputs, piece.tensor]
    known = dict(recorder.values(feed, names)) | {n: feed[n] for n in names if n in feed}
    return replace(
        piece, ranges=tuple(range_of(n, known[n]) for n in names if n in known and known[n].dtype.kind == "f")
    )


def saturated(recorder: Recorder, parts: Parts, feed: Feed, piece: Piece) -> tuple[str, ...]:
    """What the piece's QuantizeLinear nodes cut off of the reference's values, in words; nothing below 0.1 %."""
    import onnx

    weights = {t.name: t for t in parts.model.graph.initializer}
    found = []
    for index in piece.places:
        node = parts.nodes[index]
        if node.op_type != "QuantizeLinear" or any(n not in weights for n in node.input[1:]):
            continue
        known = dict(recorder.values(feed, [node.input[0]])) | {n: feed[n] for n in node.input[:1] if n in feed}
        if node.input[0] not in known:
            continue
        scale, zero = (onnx.numpy_helper.to_array(weights[n]) for n in (*node.input[1:], node.input[1])[:2])
        zero = zero if len(node.input) > 2 else np.zeros_like(scale, np.uint8)
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        share = saturation(known[node.input[0]], scale, zero, axis)
        if share > 1e-3:
            found.append(f"{node.name} saturates: {share:.1%} of the values of {node.input[0]} are outside its range")
    return tuple(found)


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None
