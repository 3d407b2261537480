"""Several static batch sizes behind one Session with a free batch.

A call with n rows runs in the smallest bucket that holds them; what is missing is filled by
repeating the last real row (a real row has real values: zeros could make NaN or slow numbers, and
a row's neighbours must not matter anyway) and cut off again.  More rows than the largest bucket
holds are run in several goes.  That within one bucket the padding changes no bit of the real rows
is not assumed: ``prove`` shows it for the model at hand.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from assay.core.compare import Accumulator, Measures
from assay.core.engine import Attestation, OpenOptions, Session
from assay.core.errors import BadInput, NotAvailable
from assay.core.tensors import Array, Feed, Signature, TensorSpec, is_float
from assay.engines.base import check_out, wrong_buffer


@dataclass(frozen=True)
class Padding:
    """Rows that were asked for, and rows that were added to fill buckets."""

    real: int
    added: int

    @property
    def share(self) -> float:
        """The part of all rows run that was padding; 0 before the first call."""
        return self.added / (self.real + self.added) if self.added else 0.0

    def since(self, earlier: Padding) -> Padding:
        """What was added to the counts after ``earlier``."""
        return Padding(self.real - earlier.real, self.added - earlier.added)


@dataclass(frozen=True)
class BucketProof:
    """``differing`` names (bucket, output) pairs in which the padding changed real rows;
    ``between`` compares each bucket with the smallest, per output."""

    differing: tuple[tuple[int, str], ...]
    between: Mapping[int, Mapping[str, Measures]]

    @property
    def padding_is_harmless(self) -> bool:
        return not self.differing

    def worst(self) -> tuple[int, str, float] | None:
        """(bucket, output, relative rms error) that lies furthest from the smallest bucket; None for one bucket."""
        rows = [(size, name, _error(m)) for size, outputs in self.between.items() for name, m in outputs.items()]
        return max(rows, key=lambda row: row[2], default=None)


def _error(m: Measures) -> float:
    """Relative rms; infinite where values could not be compared or are finite on one side only."""
    usable = m.n > 0 and m.bad_candidate == m.bad_reference and not math.isnan(m.relative_rms)
    return m.relative_rms if usable else math.inf


def padded_share(sizes: Sequence[int]) -> float:
    """The part of all rows that is padding when every number of rows up to the largest bucket is as likely."""
    rows = range(1, max(sizes) + 1)
    held = [min(size for size in sizes if size >= n) for n in rows]
    return 1 - sum(rows) / sum(held)


class BucketedSession:
    """See ``core.engine.Session``; ``sessions`` maps batch sizes to sessions in ``precision``, and is closed with this
    one."""

    def __init__(self, signature: Signature, sessions: Mapping[int, Session], precision: str) -> None:
        self._signature = signature
        self._sizes = sorted(sessions)
        self._sessions = dict(sessions)
        self._precision = precision
        self._closing = threading.Lock()
        self._parallelism = min(s.parallelism for s in sessions.values())
        self._turn = threading.BoundedSemaphore(self._parallelism)
        self._counting = threading.Lock()
        self._padding = Padding(0, 0)

    @property
    def signature(self) -> Signature:
        return self._signature

    @property
    def parallelism(self) -> int:
        return self._parallelism

    @property
    def buckets(self) -> tuple[int, ...]:
        return tuple(self._sizes)

    @property
    def padding(self) -> Padding:
        """What the calls so far have cost in rows nobody asked for."""
        return self._padding

    def run(
        self,
        feed: Feed,
        out: MutableMapping[str, Array] | None = None,
        spans: MutableMapping[str, float] | None = None,
    ) -> dict[str, Array]:
        """See ``core.engine.Session.run``."""
        self._signature.check_feed(feed)
        if out:
            check_out(self._signature, out)
        rows = self._rows_of(feed)
        with self._turn:
            if rows in self._sessions:
                self._count(rows, 0)
                return self._sessions[rows].run(feed, out, spans)
            largest = self._sizes[-1]
            parts = []
            for start in range(0, rows, largest):
                taken: dict[str, float] = {}
                part = self._cut(feed, start, min(start + largest, rows))
                parts.append(self._padded(part, min(largest, rows - start), None if spans is None else taken))
                if spans is not None:
                    spans.update({n: (spans.get(n, 0.0) if start else 0.0) + took_s for n, took_s in taken.items()})
        return self._joined(parts, out)

    def _rows_of(self, feed: Feed) -> int:
        rows = self._signature.batch_of(feed)
        if rows < 1:
            raise BadInput("a call without rows cannot be padded to a batch")
        return rows

    def _padded(self, feed: Feed, rows: int, spans: MutableMapping[str, float] | None) -> dict[str, Array]:
        """``rows`` real rows in the smallest bucket that holds them."""
        size = self._sizes[bisect_left(self._sizes, rows)]
        self._count(rows, size - rows)
        if size == rows:
            return self._sessions[size].run(feed, None, spans)
        filled = {s.name: _fill(s, feed[s.name], rows, size) for s in self._signature.inputs}
        made = self._sessions[size].run(filled, None, spans)
        return {s.name: _rows(s, made[s.name], 0, rows) for s in self._signature.outputs}

    def _cut(self, feed: Feed, start: int, stop: int) -> dict[str, Array]:
        return {s.name: _rows(s, feed[s.name], start, stop) for s in self._signature.inputs}

    def _joined(self, parts: list[dict[str, Array]], out: MutableMapping[str, Array] | None) -> dict[str, Array]:
        result = {}
        for spec in self._signature.outputs:
            assert spec.batch_axis is not None
            pieces = [part[spec.name] for part in parts]
            if out is not None and spec.name in out:
                try:
                    result[spec.name] = np.concatenate(pieces, axis=spec.batch_axis, out=out[spec.name])
                except ValueError:
                    raise wrong_buffer(spec.name, out[spec.name], [p.shape for p in pieces]) from None
            elif len(pieces) == 1:
                result[spec.name] = np.ascontiguousarray(pieces[0])
            else:
                result[spec.name] = np.concatenate(pieces, axis=spec.batch_axis)
        return result

    def _count(self, real: int, added: int) -> None:
        with self._counting:
            self._padding = Padding(self._padding.real + real, self._padding.added + added)

    def attest(self) -> Attestation:
        """The bucket that did least of its arithmetic as asked speaks for all."""
        found = [self._sessions[size].attest() for size in self._sizes]
        return min(found, key=lambda a: a.share(None, self._precision) if a.shares else 1.0)

    def prove(self, feed: Feed) -> BucketProof:
        """Run the real rows of ``feed`` in every bucket with different neighbours.

        Every bucket is filled with as many real rows as it holds, once padded by repeating the last
        and once by repeating the first, for every number of real rows from one to the bucket's size.  Raises BadInput
        for a feed without rows.
        """
        rows = self._rows_of(feed)
        differing: dict[tuple[int, str], None] = {}
        alone: dict[int, dict[str, Array]] = {}
        for size in self._sizes:
            whole = self._run_in(size, feed, [i % rows for i in range(size)])
            alone[size] = self._run_in(size, feed, [0] * size)
            for real in range(1, size):
                for filler in (0, (real - 1) % rows, rows - 1):
                    made = self._run_in(size, feed, [i % rows if i < real else filler for i in range(size)])
                    for spec in self._signature.outputs:
                        first, second = (_rows(spec, r[spec.name], 0, real) for r in (whole, made))
                        if not np.array_equal(first, second, equal_nan=is_float(spec.dtype)):
                            differing[size, spec.name] = None
        smallest = alone[self._sizes[0]]
        between = {size: self._compared(smallest, alone[size]) for size in self._sizes[1:]}
        return BucketProof(tuple(differing), between)

    def _run_in(self, size: int, feed: Feed, order: list[int]) -> dict[str, Array]:
        chosen = {
            s.name: feed[s.name] if s.batch_axis is None else np.take(feed[s.name], order, axis=s.batch_axis)
            for s in self._signature.inputs
        }
        return self._sessions[size].run(chosen)

    def _compared(self, first: Mapping[str, Array], second: Mapping[str, Array]) -> dict[str, Measures]:
        measures = {}
        for spec in self._signature.outputs:
            accumulator = Accumulator()
            accumulator.add(_rows(spec, first[spec.name], 0, 1), _rows(spec, second[spec.name], 0, 1))
            measures[spec.name] = accumulator.measures()
        return measures

    def close(self) -> None:
        """Wait for calls in flight, of which one may be several of a bucket's, then close every bucket."""
        with self._closing:
            for _ in range(self._parallelism):
                self._turn.acquire()
            try:
                for session in self._sessions.values():
                    session.close()
            finally:
                self._turn.release(self._parallelism)  # callers that wait are then told that it is closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def bucketed(signature: Signature, options: OpenOptions, make: Callable[[int], Session]) -> BucketedSession:
    """``make(size)`` for every one of ``options.buckets``.

    Raises BadInput for a model whose batch is fixed to another size, and NotAvailable for one whose outputs cannot be
    cut into rows.
    """
    sizes = options.buckets
    unbatched = [s.name for s in signature.outputs if s.batch_axis is None]
    if unbatched or not any(s.batch_axis is not None for s in signature.inputs):
        what = f"output {unbatched[0]!r}" if unbatched else "the input"
        raise NotAvailable(f"{what} has no batch axis: calls cannot be padded", remedy="open it without buckets")
    if signature.static_batch is not None and sizes != (signature.static_batch,):
        raise BadInput(
            f"the model has the batch size {signature.static_batch}; buckets {sizes} were asked for",
            remedy="export it with a free batch: assay export --batch dynamic",
        )
    made: dict[int, Session] = {}
    try:
        for size in sizes:
            made[size] = make(size)
    except BaseException:
        for session in made.values():
            session.close()
        raise
    return BucketedSession(signature, made, options.precision)


def refuse_buckets(engine: str, options: OpenOptions, why: str) -> None:
    if options.buckets:
        raise NotAvailable(f"{engine} has no buckets here: {why}", remedy="open it with a free batch")


def _rows(spec: TensorSpec, array: Array, start: int, stop: int) -> Array:
    """Rows ``start`` to ``stop``; an unbatched tensor as it is."""
    if spec.batch_axis is None:
        return array
    index: list[Any] = [slice(None)] * array.ndim
    index[spec.batch_axis] = slice(start, stop)
    cut: Array = array[tuple(index)]
    return cut


def _fill(spec: TensorSpec, array: Array, rows: int, size: int) -> Array:
    """``array`` with its last row repeated up to ``size`` rows."""
    if spec.batch_axis is None:
        return array
    last = _rows(spec, array, rows - 1, rows)
    return np.concatenate([array, np.repeat(last, size - rows, axis=spec.batch_axis)], axis=spec.batch_axis)
