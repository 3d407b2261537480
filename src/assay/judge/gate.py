"""The gate: one candidate's Records against a policy.  Pure; it reads nothing but what it is given."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from assay.core.compare import excess
from assay.core.record import Figure, Record
from assay.core.units import format_bytes, format_rate, format_seconds
from assay.core.verdict import UNCOMPARED, Reason, Verdict, combine
from assay.judge.accuracy import judge_accuracy
from assay.judge.classes import ACCEPTED, WITHIN_COST
from assay.judge.evidence import latest, of_candidate, speeds, throughputs, why_missing
from assay.judge.limits import Limit, check
from assay.judge.policy import Policy
from assay.judge.tolerance import LIMIT as NUMERIC

PERCENTILES = ("p50", "p90", "p99")


@dataclass(frozen=True)
class _Found:
    """Reasons for the limits that were asked for, and what was not checked."""

    reasons: tuple[Reason, ...] = ()
    not_checked: tuple[str, ...] = ()


def judge(candidate_digest: str, records: Sequence[Record], policy: Policy) -> Verdict:
    """Hold the candidate's own Records (``subject["candidate"]``) to every limit of the policy.

    Without a verify Record the verdict never passes.  A limit whose figure is absent or withheld, or
    which the interval straddles where the policy judges by interval, is ``not_shown``.  What
    nobody asked for and was not checked is listed.
    """
    own = of_candidate(records, candidate_digest)
    parts = [
        _numeric(own, policy),
        _self_consistency(own),
        _Found(*judge_accuracy(own, records, policy.accuracy)),
        _latency(own, policy),
        _throughput(own, policy),
        _memory(own, policy),
        _Found(not_checked=_unmeasured(own, policy)),
    ]
    reasons = [r for part in parts for r in part.reasons]
    not_checked = list(dict.fromkeys(text for part in parts for text in part.not_checked))
    if policy.unchecked.fail and not_checked:
        text = f"{len(not_checked)} things were not checked, and the policy wants none: {'; '.join(not_checked)}"
        reasons.append(Reason("unchecked", "not_shown", text))
    return combine(reasons, not_checked, candidate_digest)


def _numeric(own: Sequence[Record], policy: Policy) -> _Found:
    record = latest(own, "verify")
    if record is None:
        return _Found((Reason(NUMERIC, "not_shown", "the outputs were never compared with the reference's"),))
    if record.status != "ok":
        state = "failed" if record.status == "failed" else "not_shown"
        return _Found((Reason(NUMERIC, state, f"comparison {record.status}: {record.reason}", record.id),))
    if record.details.get("class") == "reference":
        text = "it is the reference itself, and there was no other engine to compare it with"
        if not policy.numeric.accept_reference:
            return _Found((Reason(NUMERIC, "not_shown", text, record.id),), _not_compared(record))
        text = f"{UNCOMPARED}: {text}; the policy accepts that ([numeric] accept_reference)"
        return _Found((Reason(NUMERIC, "passed", text, record.id),), (f"{NUMERIC}: {text}", *_not_compared(record)))
    state, text = _numeric_state(record, policy)
    return _Found((Reason(NUMERIC, state, text, record.id),), _not_compared(record))


def _self_consistency(own: Sequence[Record]) -> _Found:
    """A candidate that disagrees with itself fails, however good its accuracy: what a caller gets would depend on
    who else is in the batch, or on chance.  What could not be told is listed as not checked."""
    record = latest(own, "verify")
    findings = (record.details.get("self_check") or ()) if record is not None else ()
    failed = [f for f in findings if f["state"] == "failed"]
    reasons = tuple(Reason(f"self: {f['name']}", "failed", str(f["text"]), record.id) for f in failed if record)
    missing = tuple(f"self-consistency, {f['name']}: {f['text']}" for f in findings if f["state"] == "not_shown")
    return _Found(reasons, missing)


def _numeric_state(record: Record, policy: Policy) -> tuple[str, str]:
    failures = record.details.get("failures") or []
    if failures:
        return "failed", str(failures[0])
    if not record.details.get("outputs"):
        return "failed", "nothing was compared"
    limits = policy.numeric
    if limits.atol is not None or limits.rtol is not None:
        state, text = _elementwise(record, limits.atol, limits.rtol)
        if state != "passed" or limits.max_relative_rms is None:
            return state, text
    limit = limits.max_relative_rms
    source = "the policy"
    if limit is None:
        allowed = record.details.get("tolerance") or {}
        limit, source = allowed.get("max_relative_rms"), str(allowed.get("source", "no source"))
    figure = record.figures.get("numeric.relative_rms")
    if limit is None or figure is None or figure.value is None:
        why = "no tolerance was recorded" if limit is None else why_missing(record, "numeric.relative_rms")
        return "failed", f"relative rms error: {why}"
    text = f"relative rms error {figure.value:.2g}, limit {limit:.2g} ({source})"
    if limits.max_relative_rms is None:
        judged = str((record.details.get("judged") or {}).get("text") or text)
        name = record.details.get("class", WITHIN_COST)
        if name not in ACCEPTED:
            return "failed", f"{name}: {judged}"
        if record.details.get("split"):
            return "passed", f"{name}: {judged}"
    return ("passed" if figure.value <= limit else "failed"), text


def _elementwise(record: Record, atol: float | None, rtol: float | None) -> tuple[str, str]:
    """``|c − r| <= atol + rtol·|r|`` for every value, read off the hulls the record keeps (core/compare.py)."""
    a, r = atol or 0.0, rtol or 0.0
    for batch, outputs in record.details["outputs"].items():
        for name, found in outputs.items():
            where = f"output {name!r} at batch {batch}"
            if found.get("bad_reference") or found.get("bad_candidate"):
                return "failed", f"{where}: NaN or infinity"
            over = excess(found["hull"], a, r) if "hull" in found else _excess_of_old(found, a, r)
            if not over <= 0:
                shown = (
                    f"largest error {_short(found.get('max_abs'))} absolute, {_short(found.get('max_rel'))} relative"
                )
                return "failed", f"{where}: |c - r| exceeds {a:g} + {r:g}·|r| by up to {over:.2g}; {shown}"
    return "passed", f"|c - r| <= {a:g} + {r:g}·|r| for every value"


def _excess_of_old(found: Mapping[str, float | None], atol: float, rtol: float) -> float:
    """Records without a hull: meeting either limit everywhere is enough for both together."""
    pairs = ((found.get("max_abs"), atol), (found.get("max_rel"), rtol))
    return min(math.inf if value is None else value - limit for value, limit in pairs)


def _short(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.2g}"


def _not_compared(record: Record) -> tuple[str, ...]:
    found = [f"verify: {text}" for text in record.details.get("not_checked") or ()]
    if record.conditions.get("real_data") is False:
        found.append("real data: outputs were compared on drawn inputs only")
    attested = record.details.get("attestation")
    if attested is not None and not attested.get("shares"):
        found.append("precision: there was nothing to attest what ran by")
    return tuple(found)


def _latency(own: Sequence[Record], policy: Policy) -> _Found:
    wanted = policy.latency
    record = speeds(own).get(("latency", wanted.batch))
    reasons = []
    for name in PERCENTILES:
        value = getattr(wanted, name)
        if value is not None:
            limit = Limit(f"latency.{name}", value, format_seconds, judge_by=wanted.judge_by)
            reasons.append(_reason(limit, record, f"{name} at batch {wanted.batch}"))
    return _Found(tuple(reasons))


def _throughput(own: Sequence[Record], policy: Policy) -> _Found:
    wanted = policy.throughput
    if wanted.min is None:
        return _Found()
    limit = Limit("throughput", wanted.min, _per_second, upper=False, judge_by=wanted.judge_by)
    candidates = throughputs(own)
    if wanted.batch is not None:
        found = speeds(own)
        record = found.get(("offline", wanted.batch)) or found.get(("latency", wanted.batch))
        return _Found((_reason(limit, record, f"throughput at batch {wanted.batch}"),))
    record = _highest(candidates.values(), "throughput")
    where = f" at batch {record.conditions.get('batch')}" if record else ""
    return _Found((_reason(limit, record, f"throughput{where}"),))


def _memory(own: Sequence[Record], policy: Policy) -> _Found:
    """The largest peak of any run that counts."""
    if policy.memory.max is None:
        return _Found()
    limit = Limit("memory.peak", float(policy.memory.max), format_bytes)
    record = _highest(speeds(own).values(), "memory.peak")
    return _Found((_reason(limit, record, "peak memory"),))


def _highest(records: Collection[Record], name: str) -> Record | None:
    """The Record with the largest value; one without a value, which says why, when none has it."""
    measured = [(value, index) for index, r in enumerate(records) if (value := r.value(name)) is not None]
    index = max(measured)[1] if measured else 0
    return list(records)[index] if records else None


def _reason(limit: Limit, record: Record | None, what: str) -> Reason:
    figure: Figure | None = None if record is None or record.status != "ok" else record.figures.get(limit.name)
    if figure is None or figure.value is None or not math.isfinite(figure.value):
        text = f"{what}: {why_missing(record, limit.name)}; the limit is {limit.show(limit.value)}"
        return Reason(limit.name, "not_shown", text, None if record is None else record.id)
    state, text = check(limit, figure)
    assert record is not None
    shaky = f" (the series is {record.label})" if record.label not in (None, "stable") else ""
    return Reason(limit.name, state, f"{what}: {text}{shaky}", record.id)


def _unmeasured(own: Sequence[Record], policy: Policy) -> tuple[str, ...]:
    """Speed figures that are missing or withheld and that no limit asks for."""
    counted = speeds(own)
    if not counted:
        return ("speed: it was not measured",)
    missing: dict[str, tuple[str, list[int]]] = {}
    for (scenario, batch), record in counted.items():
        if record.status != "ok":
            missing[f"speed ({scenario}, batch {batch})"] = (f"{record.status}: {record.reason}", [])
            continue
        for name, figure in record.figures.items():
            if figure.value is None and not _asked(name, scenario, batch, policy):
                missing.setdefault(f"{name} ({scenario})", (figure.reason or "withheld", []))[1].append(batch)
    return tuple(f"{n}{_at(batches)}: {reason}" for n, (reason, batches) in missing.items())


def _asked(name: str, scenario: str, batch: int, policy: Policy) -> bool:
    if name.startswith("latency.") and scenario == "latency" and batch == policy.latency.batch:
        return getattr(policy.latency, name.removeprefix("latency."), None) is not None
    return name == "memory.peak" and policy.memory.max is not None


def _at(batches: Sequence[int]) -> str:
    return f" at batch {', '.join(map(str, sorted(batches)))}" if batches else ""


def _per_second(value: float) -> str:
    return f"{format_rate(value)} samples/s"
