"""Shadow: a canary.  A share of one model's requests is repeated on another, and the answers are compared.

The caller is answered by the old model alone and waits for nothing: its request is copied when it comes, and
only while fewer than ``most_waiting`` copies exist; the new model is asked, one request at a time, from a
thread of low priority after the old one has answered.  What is compared, and how, is ``core.compare``: the
measures of ``assay verify``.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from assay.core import clock
from assay.core.compare import Accumulator, Measures
from assay.core.errors import BadInput
from assay.core.record import Figure, Record, withheld
from assay.core.tensors import Array
from assay.core.units import Seconds
from assay.serve.errors import ServeError
from assay.serve.inference import InferRequest, OnDone, RequestedOutput
from assay.serve.metrics import escaped, head

DEFAULT_SHARE = 0.1
ANSWER_WITHIN_S: Seconds = 60.0
CLOSE_WITHIN_S: Seconds = 5.0
"""For the copies that wait when the server goes down; what the new model has not answered then is not compared."""
LOOK_AGAIN_S: Seconds = 0.1
LOW_PRIORITY = 10
SKIPS = ("busy", "failed", "refused")
"""Why a request was not compared: too many copies waited; the old model failed; the new model did."""


@dataclass(frozen=True)
class ShadowRule:
    """``share`` of the requests for ``old`` (a number over 0 up to 1) are repeated on ``new``."""

    old: str
    new: str
    share: float = DEFAULT_SHARE

    def __post_init__(self) -> None:
        if not self.old or not self.new or self.old == self.new:
            raise BadInput(f"a shadow needs two models, not {self.old!r} and {self.new!r}", remedy=_EXAMPLE)
        if not 0 < self.share <= 1:
            raise BadInput(f"a shadow's share is over 0 and up to 1, not {self.share}", remedy=_EXAMPLE)


_EXAMPLE = "--shadow OLD=NEW:0.1 repeats a tenth of OLD's requests on NEW"


def parse_shadow(text: str) -> ShadowRule:
    """``OLD=NEW`` or ``OLD=NEW:SHARE`` (``0.1`` or ``10%``).  Raises BadInput."""
    old, found, rest = text.partition("=")
    if not found:
        raise BadInput(f"{text!r} is no shadow", remedy=_EXAMPLE)
    new, colon, share = rest.rpartition(":")
    if not colon:
        return ShadowRule(old.strip(), rest.strip())
    try:
        value = float(share[:-1]) / 100 if share.endswith("%") else float(share)
    except ValueError:
        return ShadowRule(old.strip(), rest.strip())  # a colon of NEW's own, such as a path's or a URL's
    return ShadowRule(old.strip(), new.strip(), value)


class Models(Protocol):
    def submit(self, request: InferRequest, on_done: OnDone) -> None: ...


@dataclass(frozen=True)
class ShadowSettings:
    """A Record is told for every ``window`` comparisons, and for what is left at the end."""

    window: int = 100
    most_waiting: int = 16
    seed: int = 0


@dataclass
class _Tally:
    """One rule's counts since the start, and the comparison of the current window."""

    rule: ShadowRule
    compared: int = 0
    rows: int = 0
    disagreed: int = 0
    skipped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SKIPS, 0))
    worst: float = 0.0
    versions: tuple[str, str] = ("", "")
    window: int = 0
    failures: list[str] = field(default_factory=list)
    outputs: dict[str, Accumulator] = field(default_factory=dict)
    unequal: dict[str, int] = field(default_factory=dict)


@dataclass
class _Copy:
    tally: _Tally
    request: InferRequest
    outputs: Mapping[str, Array] = field(default_factory=dict)
    version: str = ""


class Shadow:
    """Stands between the front ends and ``models``.  ``told`` gets Records, on the shadow's own thread."""

    def __init__(
        self,
        models: Models,
        rules: Iterable[ShadowRule],
        told: Callable[[Record], object],
        settings: ShadowSettings | None = None,
    ) -> None:
        """Raises BadInput for two rules about the same model."""
        self._models = models
        self._told = told
        self._settings = settings or ShadowSettings()
        self._tallies: dict[str, _Tally] = {}
        for rule in rules:
            if rule.old in self._tallies:
                raise BadInput(f"model {rule.old!r} has two shadows", remedy=_EXAMPLE)
            self._tallies[rule.old] = _Tally(rule)
        self._draw = random.Random(self._settings.seed).random  # noqa: S311 - which requests to look at
        self._copies: dict[int, _Copy] = {}
        self._wrapped: dict[OnDone, OnDone] = {}
        self._waiting: deque[_Copy] = deque()
        self._held = 0
        self._lock = threading.Lock()
        self._wake = threading.Semaphore(0)
        self._closing = False
        self._until_s = math.inf
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
        self._thread.start()

    def submit(self, request: InferRequest, on_done: OnDone) -> None:
        """``Repository.submit``, and now and then a copy on the side."""
        tally = self._tallies.get(request.model)
        if tally is None or self._closing or self._draw() >= tally.rule.share or not self._take(tally, request):
            self._models.submit(request, on_done)
            return
        try:
            self._models.submit(request, self._wrap(on_done))
        except BaseException:
            self._copies.pop(id(request), None)
            self._give(tally, "failed")
            raise

    def close(self, within_s: Seconds = CLOSE_WITHIN_S) -> None:
        """Compare what waits, as far as it is answered in time; tell the last Records, end the thread."""
        self._until_s = clock.now() + within_s
        self._closing = True
        self._wake.release()
        self._thread.join()

    def metrics(self) -> list[str]:
        """Lines in Prometheus' text format."""
        tallies = list(self._tallies.values())
        lines: list[str] = []
        compared, skipped = "assay_shadow_compared_total", "assay_shadow_skipped_total"
        disagreed, worst = "assay_shadow_top1_disagreements_total", "assay_shadow_relative_rms_worst"
        head(lines, compared, "counter", "Requests whose answers of both models were compared")
        lines += [f"{compared}{{{_labels(t)}}} {t.compared}" for t in tallies]
        head(lines, skipped, "counter", "Requests that were drawn but not compared, by reason")
        lines += [f'{skipped}{{{_labels(t)},reason="{r}"}} {n}' for t in tallies for r, n in t.skipped.items()]
        head(lines, disagreed, "counter", "Rows of which the models name another largest element")
        lines += [f"{disagreed}{{{_labels(t)}}} {t.disagreed}" for t in tallies]
        head(lines, worst, "gauge", "Largest relative rms difference of an output in one window")
        lines += [f"{worst}{{{_labels(t)}}} {t.worst:.9g}" for t in tallies]
        return lines

    # On the front ends' and the instances' threads

    def _take(self, tally: _Tally, request: InferRequest) -> bool:
        """Copy the request, if there is room for a copy and its answer can be compared."""
        if any("classification" in output.parameters for output in request.outputs):
            return False
        with self._lock:
            if self._held >= self._settings.most_waiting:
                tally.skipped["busy"] += 1
                return False
            self._held += 1
        copy = InferRequest(tally.rule.new, {n: a.copy() for n, a in request.inputs.items()}, request.arrived_s)
        copy.outputs = [RequestedOutput(output.name) for output in request.outputs]
        self._copies[id(request)] = _Copy(tally, copy)
        return True

    def _give(self, tally: _Tally, skipped: str = "") -> None:
        with self._lock:
            self._held -= 1
            if skipped:
                tally.skipped[skipped] += 1

    def _wrap(self, on_done: OnDone) -> OnDone:
        """The same callable for the same ``on_done``, so that a batch is told with one call."""
        found = self._wrapped.get(on_done)
        if found is None:

            def found(requests: Sequence[InferRequest]) -> None:
                ended = [(self._copies.pop(id(request), None), request) for request in requests]
                on_done(requests)
                for copy, request in ended:
                    if copy is not None:
                        self._answered(copy, request)

            self._wrapped[on_done] = found
        return found

    def _answered(self, copy: _Copy, request: InferRequest) -> None:
        response = request.response
        if response is None:
            self._give(copy.tally, "failed")
            return
        copy.outputs = response.outputs
        copy.version = response.version
        self._waiting.append(copy)
        self._wake.release()

    # On the shadow's thread

    def _work(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # the thread's own priority, where the system has one
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY)
        while True:
            self._wake.acquire()
            if self._waiting:
                copy = self._waiting.popleft()
                reason = self._compare(copy)
                self._give(copy.tally, reason)
                if copy.tally.window >= self._settings.window:
                    self._tell(copy.tally)
            elif self._closing:
                break
        for tally in self._tallies.values():
            if tally.window:
                self._tell(tally)

    def _compare(self, copy: _Copy) -> str:
        """Ask the new model and compare.  Why that was not possible, or nothing."""
        done = threading.Event()
        began_s = copy.request.arrived_s = clock.now()
        copy.request.deadline_s = began_s + ANSWER_WITHIN_S
        try:
            self._models.submit(copy.request, lambda _: done.set())
        except ServeError as error:
            return self._failed(copy.tally, error.message)
        while not done.wait(LOOK_AGAIN_S):
            if clock.now() > min(began_s + ANSWER_WITHIN_S, self._until_s):
                copy.request.cancel()
                return self._failed(copy.tally, f"no answer within {clock.now() - began_s:.2g} s")
        response, refusal = copy.request.response, copy.request.error
        if response is None:
            return self._failed(copy.tally, "no answer" if refusal is None else refusal.message)
        copy.tally.versions = copy.version, response.version
        try:
            self._add(copy.tally, copy.outputs, response.outputs)
        except Exception as error:  # this thread must go on
            return self._failed(copy.tally, f"{type(error).__name__}: {error}")
        return ""

    def _failed(self, tally: _Tally, why: str) -> str:
        if why not in tally.failures and len(tally.failures) < 5:
            tally.failures.append(why)
        return "refused"

    def _add(self, tally: _Tally, old: Mapping[str, Array], new: Mapping[str, Array]) -> None:
        if set(old) != set(new):
            self._failed(tally, f"outputs differ: {sorted(old)} and {sorted(new)}")
        for name in sorted(set(old) & set(new)):
            a, b = old[name], new[name]
            if a.shape != b.shape or (a.dtype == object) != (b.dtype == object):
                self._failed(tally, f"output {name!r}: {a.dtype} {a.shape} and {b.dtype} {b.shape}")
            elif a.dtype == object:
                tally.unequal[name] = tally.unequal.get(name, 0) + int((a != b).sum())
            else:
                tally.outputs.setdefault(name, Accumulator()).add(a, b)
                if a.ndim == 2 and a.shape[1] > 1:
                    tally.rows += len(a)
                    tally.disagreed += int((np.argmax(a, 1) != np.argmax(b, 1)).sum())
        tally.compared += 1
        tally.window += 1

    def _tell(self, tally: _Tally) -> None:
        found = {name: accumulator.measures() for name, accumulator in tally.outputs.items()}
        tally.worst = max([tally.worst, *(m.relative_rms for m in found.values() if m.n)])
        record = _record(tally, found, self._settings.window)
        tally.window = 0
        tally.outputs, tally.unequal, tally.failures = {}, {}, []
        try:
            self._told(record)
        except Exception as error:  # a full disk: said with the next Record, since this thread must go on
            self._failed(tally, f"a Record of {record.value('shadow.requests'):g} comparisons was lost: {error}")


def _record(tally: _Tally, found: Mapping[str, Measures], window: int) -> Record:
    """One window as evidence: figures are the worst over the outputs, ``details`` has them all."""
    rule, (old, new) = tally.rule, tally.versions
    warnings = list(tally.failures)
    for name, m in found.items():
        if m.bad_reference or m.bad_candidate:
            warnings.append(f"{name}: NaN or infinity in {m.bad_reference} values of old, {m.bad_candidate} of new")
    return Record(
        kind="shadow",
        subject={"model": rule.new, "version": new, "reference": rule.old, "reference_version": old},
        figures=_figures([m for m in found.values() if m.n], tally.window),
        conditions={"share": rule.share, "window": window, "skipped": dict(tally.skipped)},
        warnings=tuple(warnings),
        details={
            "outputs": {name: m.to_json() for name, m in found.items()},
            "unequal_strings": dict(tally.unequal),
        },
    )


def _figures(found: Sequence[Measures], requests: int) -> dict[str, Figure]:
    figures = {"shadow.requests": Figure(requests, "requests", n=requests)}
    if not found:
        return {**figures, "numeric.relative_rms": withheld("ratio", "no numbers were compared", 0)}
    n = sum(m.n for m in found)
    figures |= {
        "numeric.relative_rms": Figure(max(m.relative_rms for m in found), "ratio", n=n),
        "numeric.max_abs": Figure(max(m.max_abs for m in found), "1", n=n),
        "numeric.cosine": Figure(min(m.cosine for m in found), "1", n=n),
    }
    rows = [(m.top1_agreement, m.rows or 0) for m in found if m.top1_agreement is not None]
    if rows:
        figures["numeric.top1_agreement"] = Figure(min(a for a, _ in rows), "fraction", n=sum(r for _, r in rows))
    return figures


def _labels(tally: _Tally) -> str:
    return f'model="{escaped(tally.rule.old)}",shadow="{escaped(tally.rule.new)}"'
