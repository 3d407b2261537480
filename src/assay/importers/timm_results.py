"""timm's results-*.csv, both header generations: ``cropt_pct`` (2021, misspelt) and ``crop_pct``.

The same columns as a pipe table are read, too.  Thousands may be quoted: ``"1,013.01"``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from assay.core import derive
from assay.core.record import Figure, Record
from assay.importers.imported import Hints, Imported
from assay.importers.reading import Reading, Tool, record_of, rederived
from assay.importers.source import Source, csv_dicts, number, positive, read_csv
from assay.importers.tables import Table, tables

_NEEDED = {"model", "top1", "top5", "param_count"}


@dataclass(frozen=True)
class TimmResults:
    """A Record of kind ``evaluate`` per model."""

    def confidence(self, source: Source) -> float:
        first = source.text.lstrip().split("\n", 1)[0]
        if is_timm_results([c.strip() for c in first.split(",")]):
            return 1.0
        return 1.0 if any(is_timm_results(t.header[1]) for t in tables(source)) else 0.0

    def read(self, source: Source, hints: Hints) -> Imported:
        found = [t for t in tables(source) if is_timm_results(t.header[1])]
        if found:
            return Imported(tuple(r for t in found for r in read_table(t, hints).records))
        rows = read_csv(source)
        if not rows or not is_timm_results(rows[0][1]):
            raise source.bad(source.first_line, "no columns model, top1, top5 and param_count")
        return Imported(tuple(_record(source, line, row, hints) for line, row in csv_dicts(source, rows)))


def is_timm_results(header: Sequence[str]) -> bool:
    return set(header) >= _NEEDED


def read_table(table: Table, hints: Hints) -> Imported:
    """The same from a pipe table."""
    rows = [(line, dict(zip(table.header[1], row, strict=True))) for line, row in table.rows]
    return Imported(tuple(_record(table.source, line, row, hints) for line, row in rows))


def _record(source: Source, line: int, row: Mapping[str, str], hints: Hints) -> Record:
    if not row["model"]:
        raise source.bad(line, "a row without a model")
    figures: dict[str, Figure] = {}
    checks = []
    for name in ("top1", "top5"):
        value = _percent(source, line, row[name], name)
        figures[f"accuracy.{name}"] = Figure(value, "fraction")
        if row.get(f"{name}_err"):
            error = _percent(source, line, row[f"{name}_err"], f"{name}_err")
            figures[f"error@{name[3:]}"] = Figure(error, "fraction")
            rest = derive.Derived(1 - error, "fraction", f"1 - {name}_err", {f"{name}_err": error}, False)
            checks.append(rederived(f"accuracy.{name}", rest, 0.0005))
    figures["parameters"] = Figure(positive(source, line, row["param_count"], "param_count") * 1e6, "parameters")
    misspelt = "cropt_pct" in row
    crop = row.get("crop_pct") or row.get("cropt_pct")
    conditions = {
        "data": "ImageNet-1k validation, as published by timm",
        "published": True,
        "generation": "2021 (cropt_pct)" if misspelt else "current",
        "image_size": number(source, line, row["img_size"], "img_size") if row.get("img_size") else None,
        "crop_pct": number(source, line, crop, "crop_pct") if crop else None,
        "interpolation": row.get("interpolation") or None,
        **{
            f"shift.{k}": number(source, line, row[k], k) for k in ("top1_diff", "top5_diff", "rank_diff") if row.get(k)
        },
    }
    reading = Reading(
        source,
        (line, line),
        Tool("timm", "torch", None, "timm-results"),
        replace(hints, model=row["model"], batch=None, device=None),
        conditions=conditions,
    )
    return record_of(reading, figures, {"primary": "accuracy.top1", "rederived": checks}, "evaluate")


def _percent(source: Source, line: int, text: str, name: str) -> float:
    value = number(source, line, text, name)
    if not 0 <= value <= 100:
        raise source.bad(line, f"{name} is {text}; it lies between 0 and 100")
    return value / 100
