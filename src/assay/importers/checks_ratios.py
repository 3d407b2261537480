"""Ratios between devices, and the rules built on them, worked out again from the logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from assay.core import derive
from assay.core.record import Record
from assay.importers.checks_evidence import (
    agree_values,
    at_batch,
    batch,
    best,
    device,
    is_cell,
    is_evidence,
    model,
    of_model,
    rate,
    where,
)
from assay.importers.imported import Finding

Pair = tuple[str, str]
Claim = tuple[Pair, list[Record], list[Record]]


def best_ratios(records: Sequence[Record]) -> Iterator[Finding]:
    """Claimed ratios of best batches against those of the logs (of the tables, where there is no log)."""
    for pair, claims, own in _claims(records):
        tops, basis = [best(own, name) for name in pair], "logs and text"
        if tops == [None, None]:
            tops, basis = [_best_cell(own, name) for name in pair], "tables"
        a, b = tops
        if a is None or b is None:
            continue
        found = derive.ratio(rate(a), rate(b))
        said = claims[0].value("ratio") or 0.0
        if not agree_values(said, found.value):
            text = (
                f"{pair[0]} against {pair[1]} at their best batches is claimed to be {said:.4g}; the {basis} "
                f"give {found.value:.4g} ({rate(a):.10g} at batch {batch(a)} / {rate(b):.10g} at batch {batch(b)})"
            )
            figures = {"claimed": said, "derived": found.value, pair[0]: rate(a), pair[1]: rate(b)}
            also = [where(c) for c in claims[1:]]
            text += f"; claimed again at {', '.join(also)}" if also else ""
            yield Finding("ratio-contradicted", text, figures, where(claims[0]), "contradiction")


def hidden_losses(records: Sequence[Record]) -> Iterator[Finding]:
    """Batch sizes at which the device that wins at its best batch is the slower one."""
    for pair, claims, own in _claims(records):
        slower: dict[int, float] = {}
        for size in sorted({size for r in own if is_evidence(r) and (size := batch(r)) is not None}):
            a, b = (at_batch(own, name, size) for name in pair)
            if a is not None and b is not None and rate(a) < rate(b):
                slower[size] = rate(a) / rate(b)
        if slower and (claims[0].value("ratio") or 0.0) > 1:
            listed = ", ".join(f"batch {size}: {value:.2f}" for size, value in slower.items())
            text = f"{pair[0]} beats {pair[1]} at the best batches only; it is slower at {listed}"
            figures = {f"batch {size}": value for size, value in slower.items()}
            yield Finding("best-batch-hides", text, figures, where(claims[0]), "note")


def rules(records: Sequence[Record]) -> Iterator[Finding]:
    """Acceptance rules in a text: what the figures at hand make of them."""
    for record in records:
        if record.kind != "rule":
            continue
        names = (str(record.conditions["numerator"]), str(record.conditions["denominator"]))
        limit = record.value("at_least") or 0.0
        rule = f"{names[0]} ≥ {limit:g} × {names[1]}"
        own = of_model(records, record)
        tops, basis = _alike([best(own, name) for name in names], [_best_cell(own, name) for name in names])
        missing = [name for name, top in zip(names, tops, strict=True) if top is None]
        a, b = tops
        if a is None or b is None:
            text = (
                f"not checked: {rule}, for want of figures of {' and '.join(missing)} (“{record.conditions['words']}”)"
            )
            yield Finding("verdict-not-checked", text, {"at_least": limit}, where(record))
            continue
        found = derive.ratio(rate(a), rate(b)).value
        met = "met" if found >= limit else "missed"
        figures = {"at_least": limit, "found": found}
        yield Finding(f"rule-{met}", f"{rule} is {met}: {found:.4g} at {basis}", figures, where(record), "note")


def _alike(logs: list[Record | None], cells: list[Record | None]) -> tuple[list[Record | None], str]:
    """The best of the logs where all have some, else of the tables, else of whatever there is, which is said: logs
    often cover one batch size alone."""
    if None not in logs:
        return logs, "the best batches"
    if None not in cells:
        return cells, "the tables' best batches"
    return [log or cell for log, cell in zip(logs, cells, strict=True)], "the best batches, of a log and of a table"


def _best_cell(records: Sequence[Record], name: str) -> Record | None:
    return max((r for r in records if is_cell(r) and device(r) == name), key=rate, default=None)


def _claims(records: Sequence[Record]) -> list[Claim]:
    """Per model and pair of devices: the claimed ratios at best batches, and the Records about that model."""
    found: dict[tuple[str, Pair], list[Record]] = {}
    for record in records:
        if record.kind == "ratio" and record.conditions.get("best"):
            pair = (str(record.conditions["numerator"]), str(record.conditions["denominator"]))
            found.setdefault((model(record), pair), []).append(record)
    return [(pair, claims, of_model(records, claims[0])) for (_, pair), claims in found.items()]
