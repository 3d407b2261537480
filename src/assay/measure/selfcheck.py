"""Does a session agree with itself?  No reference is needed, and accuracy cannot hide what is found here.

Every check runs the same rows in two ways that must not matter: twice, side by side with themselves, in
another order, alone or in company, padded, from several threads at once, from a second build.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from assay.core.compare import compare
from assay.core.engine import Session
from assay.core.errors import AssayError
from assay.core.tensors import Array, Feed

REPEAT = "repeated runs"
SECOND_BUILD = "second build"
CHECKS = (
    REPEAT,
    "identical rows",
    "batch order",
    "batch 1 against batch N",
    "padded against exact",
    "concurrent against serial",
    SECOND_BUILD,
)
_TIMES = 3
_THREADS = 4
Outputs = Mapping[str, Array]


@dataclass(frozen=True)
class Finding:
    """``state`` is ``passed``, ``failed`` or ``not_shown``; ``error`` the worst row's, relative to the output's rms."""

    name: str
    state: str
    text: str
    error: float | None = None

    def to_json(self) -> dict[str, object]:
        error = self.error if self.error is not None and np.isfinite(self.error) else None
        return {"name": self.name, "state": self.state, "text": self.text, "error": error}


@dataclass(frozen=True)
class SelfCheck:
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.state == "failed")

    def without(self, name: str) -> SelfCheck:
        """Leaves out a check that means nothing for this candidate."""
        return SelfCheck(tuple(f for f in self.findings if f.name != name))

    def to_json(self) -> list[dict[str, object]]:
        return [f.to_json() for f in self.findings]


def self_check(session: Session, feed: Feed, limit: float, second: Session | None = None) -> SelfCheck:
    """Run every check on ``feed`` (several different rows).

    ``limit`` is the relative error that rounding may make: of two answers that each lie so far from the truth one may
    lie twice as far from the other.  Equality bit for bit is said.  ``second`` is the same candidate built and
    opened again.  A session that fails is a finding, nothing is raised.
    """
    checks = _Checks(session, feed, 2 * limit)
    repeat = checks.attempt(REPEAT, checks.repeat)
    if repeat.state != "passed":
        told = repeat.error is not None
        why = "the model is not deterministic, so nothing else can be told" if told else "it could not be run"
        return SelfCheck((repeat, *(Finding(name, "not_shown", why) for name in CHECKS[1:])))
    found = [repeat]
    for name, check in checks.by_row():
        found.append(checks.attempt(name, check))
    found.append(checks.attempt("concurrent against serial", checks.concurrent))
    if second is None:
        found.append(Finding(SECOND_BUILD, "not_shown", "it was not built a second time"))
    else:
        found.append(checks.attempt(SECOND_BUILD, lambda: [(checks.first, second.run(feed))]))
    return SelfCheck(tuple(found))


Pairs = Sequence[tuple[Outputs, Outputs]]


class _Skip(Exception):
    """The check does not apply, for this reason."""


class _Checks:
    def __init__(self, session: Session, feed: Feed, limit: float) -> None:
        self._session = session
        self._signature = session.signature
        self._feed = feed
        self._limit = limit
        self._rows = session.signature.batch_of(feed)
        self.first: Outputs = {}

    def attempt(self, name: str, check: Callable[[], Pairs]) -> Finding:
        try:
            pairs = check()
        except _Skip as reason:
            return Finding(name, "not_shown", str(reason))
        except AssayError as error:
            return Finding(name, "failed", f"it failed: {error.message}")
        return self._judge(name, pairs)

    def _judge(self, name: str, pairs: Pairs) -> Finding:
        worst, where = 0.0, ""
        for expected, found in pairs:
            if set(expected) != set(found) or any(expected[n].shape != found[n].shape for n in expected):
                return Finding(name, "failed", "the outputs have other names or shapes", np.inf)
            for output, error in _errors(expected, found):
                if not error <= worst:
                    worst, where = error, output
        if worst == 0.0:
            return Finding(name, "passed", "equal bit for bit", 0.0)
        text = f"output {where!r} differs by {worst:.2g} (relative; rounding may make {self._limit:.2g})"
        if worst <= self._limit:
            return Finding(name, "passed", text, worst)
        if name == REPEAT:
            text += ": the same input gives different outputs; is dropout or another random operator left on?"
        return Finding(name, "failed", text, worst)

    def repeat(self) -> Pairs:
        self.first = self._session.run(self._feed)
        return [(self.first, self._session.run(self._feed)) for _ in range(_TIMES - 1)]

    def by_row(self) -> Iterator[tuple[str, Callable[[], Pairs]]]:
        yield "identical rows", self._needs_rows(self._identical)
        yield "batch order", self._needs_rows(self._order)
        yield "batch 1 against batch N", self._needs_rows(self._alone, free=True)
        yield "padded against exact", self._needs_rows(self._padded, free=True)

    def _needs_rows(self, check: Callable[[], Pairs], free: bool = False) -> Callable[[], Pairs]:
        def checked() -> Pairs:
            if not self._signature.is_batched:
                raise _Skip("the model has outputs that are not batched")
            if self._rows < 2:
                raise _Skip(f"there is {self._rows} row to work with")
            if free and self._signature.static_batch is not None:
                raise _Skip(f"the batch is fixed at {self._signature.static_batch}")
            return check()

        return checked

    def _identical(self) -> Pairs:
        found = self._session.run(self._taken([0] * self._rows))
        one = self._picked(found, [0])
        return [(one, self._picked(found, [i])) for i in range(1, self._rows)]

    def _order(self) -> Pairs:
        order = [int(i) for i in np.random.default_rng(0).permutation(self._rows)]
        if order == sorted(order):
            order.reverse()
        found = self._session.run(self._taken(order))
        return [(self._picked(self.first, order), found)]

    def _alone(self) -> Pairs:
        return [(self._picked(self.first, [i]), self._session.run(self._taken([i]))) for i in range(self._rows)]

    def _padded(self) -> Pairs:
        """The first row alone, and with rows of zeros after it up to the batch (a size that has been run anyway:
        engines that compile for every new size are not made to)."""
        exact = self._taken([0])
        padded = {s.name: _pad(exact[s.name], s.batch_axis, self._rows - 1) for s in self._signature.inputs}
        return [(self._session.run(exact), self._picked(self._session.run(padded), [0]))]

    def concurrent(self) -> Pairs:
        with ThreadPoolExecutor(_THREADS) as pool:
            jobs = [pool.submit(self._session.run, self._feed) for _ in range(2 * _THREADS)]
            return [(self.first, job.result()) for job in jobs]

    def _taken(self, places: Sequence[int]) -> dict[str, Array]:
        return {s.name: _take(self._feed[s.name], places, s.batch_axis) for s in self._signature.inputs}

    def _picked(self, outputs: Outputs, places: Sequence[int]) -> dict[str, Array]:
        axes = {s.name: s.batch_axis for s in self._signature.outputs}
        return {name: _take(array, places, axes.get(name)) for name, array in outputs.items()}


def _take(array: Array, places: Sequence[int], axis: int | None) -> Array:
    return array if axis is None else np.ascontiguousarray(array.take(places, axis))


def _pad(array: Array, axis: int | None, rows: int) -> Array:
    if axis is None:
        return array
    shape = list(array.shape)
    shape[axis] = rows
    blank = np.full(shape, b"", object) if array.dtype == object else np.zeros(shape, array.dtype)
    return np.ascontiguousarray(np.concatenate([array, blank], axis))


def _errors(expected: Outputs, found: Outputs) -> Iterator[tuple[str, float]]:
    """The worst row of every output; infinite where one side alone has NaN or infinity."""
    for name, array in expected.items():
        other = found[name]
        if array.dtype == object:
            yield name, 0.0 if bool((array == other).all()) else np.inf
            continue
        if array.tobytes() == other.tobytes():
            yield name, 0.0
            continue
        m = compare({name: array}, {name: other})[name]
        yield name, float("inf") if m.bad_reference or m.bad_candidate else m.worst_row
