"""Figures that a text states: ``184.037 * 4 = 736.148 qps``, ``1000/(0.55/1) = 1805 fps``, ``bs4: 2228.9 fps``,
and sentences about ratios: ``A reaches 1.339 times B``, ``A >= 1.2 x B``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from assay.core.derive import Derived
from assay.core.record import Figure, Record
from assay.importers.context import BATCH, Document, Facts, facts_of
from assay.importers.devices import dies_per_card, mentions
from assay.importers.imported import Hints
from assay.importers.reading import (
    COMPUTED,
    DEVICE_ONLY,
    EXTRAPOLATED,
    NOT_STATED,
    Basis,
    Reading,
    Tool,
    record_of,
    rederived,
)
from assay.importers.source import Source, number

_N = r"(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,12}(?:\.\d+)?)"
_UNIT = r"(fps|qps|samples?/s(?:ec)?|images?/s(?:ec)?|imgs?/s(?:ec)?|infer/sec|帧/秒|张/秒)"
_TIMES = re.compile(rf"(?<![\d.]){_N}\s*[x×X*]\s*{_N}\s*[=＝]\s*{_N}\s*(?:{_UNIT})?", re.I)
_RECIPROCAL = re.compile(rf"1000\s*/\s*[(（]\s*{_N}\s*/\s*{_N}\s*[)）]\s*[=＝]\s*{_N}\s*(?:{_UNIT})?", re.I)
_PLAIN = re.compile(rf"(?:吞吐率?|throughput(?:\s*rate)?|性能)\s*(?:[:：=＝]|为|是|is)\s*{_N}\s*{_UNIT}", re.I)
_RATE_WORD = re.compile(r"吞吐|throughput|fps|qps|samples?/s|images?/s|img/s", re.I)
_CLAUSES = re.compile(r"[，,;；。]|\band\b|且|并")
_RULE = re.compile(r"(?:>=|≥|＞=|不低于|大于等于|至少|at least)\s*(\d{1,6}(?:\.\d{1,9})?)\s*(?:倍|x|×|\*|times)", re.I)
_CLAIM = re.compile(r"(?<!\d)(\d{1,6}\.\d{1,9})\s*(?:倍|x\b|×|times)", re.I)
_BEST = re.compile(r"最优|最佳|best", re.I)


@dataclass(frozen=True)
class Place:
    """Where a line stands and what is known there."""

    source: Source
    line: int
    document: Document
    hints: Hints


def statements(place: Place, text: str) -> Iterator[Record]:
    """The Records that a line of text states; none where it states nothing."""
    if _RATE_WORD.search(text):
        found = [*_products(place, text), *_reciprocals(place, text)]
        yield from found or _plain(place, text)
    yield from _ratios(place, text)


def _products(place: Place, text: str) -> Iterator[Record]:
    for match in _TIMES.finditer(text):
        a, b, c = (number(place.source, place.line, match[i], "a factor") for i in (1, 2, 3))
        if min(a, b, c) <= 0:
            continue
        facts = _facts_near(place, text, match)
        basis = _basis_of_product(b, facts)
        product = Derived(a * b, "samples/s", f"{match[1]} × {match[2]}", {"a": a, "b": b}, basis.how == "measured")
        yield _stated(place, facts, basis, (c, match[0], product))


def _reciprocals(place: Place, text: str) -> Iterator[Record]:
    for match in _RECIPROCAL.finditer(text):
        mean_ms, batch, c = (number(place.source, place.line, match[i], "a figure") for i in (1, 2, 3))
        if min(mean_ms, batch, c) <= 0:
            continue
        facts = replace(_facts_near(place, text, match), batch=int(batch) if batch == int(batch) else None)
        rate = Derived(1000 * batch / mean_ms, "samples/s", "1000 · batch / mean", {"mean_ms": mean_ms, "batch": batch})
        yield _stated(place, facts, Basis(DEVICE_ONLY, how=COMPUTED), (c, match[0], rate))


def _plain(place: Place, text: str) -> Iterator[Record]:
    for match in _PLAIN.finditer(text):
        value = number(place.source, place.line, match[1], "a rate")
        if value > 0:
            facts = _facts_near(place, text, match)
            yield _stated(place, facts, Basis(NOT_STATED), (value, match[0], None))


def _facts_near(place: Place, text: str, match: re.Match[str]) -> Facts:
    """Device and batch named nearest to the figure in its own line, else what holds there."""
    spots = [(abs(m.start() - match.start()), int(m[1])) for m in BATCH.finditer(text) if int(m[1]) > 0]
    batch = min(spots)[1] if spots else None
    found = [m for m in mentions(text, place.document.numeric_devices) if not _inside(m.start, match)]
    own = facts_of(text, place.document)
    device = own.device or (min(found, key=lambda m: abs(m.start - match.start())).name if found else None)
    return Facts(device or place.hints.device, batch or place.hints.batch, own.precision or place.hints.precision)


def _inside(position: int, match: re.Match[str]) -> bool:
    return match.start() <= position < match.end()


def _basis_of_product(factor: float, facts: Facts) -> Basis:
    dies = dies_per_card(facts.device)
    if dies > 1 and factor == dies:
        return Basis(DEVICE_ONLY, how=EXTRAPOLATED, scope="card")
    return Basis(NOT_STATED)


def _stated(place: Place, facts: Facts, basis: Basis, said: tuple[float, str, Derived | None]) -> Record:
    value, words, derived = said
    hints = replace(place.hints, device=facts.device, batch=facts.batch, precision=facts.precision)
    reading = Reading(
        place.source,
        (place.line, place.line),
        Tool("text", "not stated"),
        hints,
        basis,
        "statement",
        {"words": words.strip()},
    )
    details = {} if derived is None else {"rederived": [rederived("throughput", derived, _rounding(words, value))]}
    return record_of(reading, {"throughput": Figure(value, "samples/s")}, details)


def _rounding(words: str, value: float) -> float:
    """The relative error that the printed digits of the last number in ``words`` allow."""
    digits = re.findall(r"\d[\d,]*(?:\.(\d+))?", words)
    decimals = len(digits[-1]) if digits else 0
    return max(1e-4, 1.01 * 10.0**-decimals / value)


def _ratios(place: Place, text: str) -> Iterator[Record]:
    """Claims and rules about two devices.  A clause without its own subject takes the one before."""
    subject: str | None = None
    for clause in _CLAUSES.split(text):
        found = mentions(clause, place.document.numeric_devices)
        rule, claim = _RULE.search(clause), _CLAIM.search(clause)
        match = rule or claim
        names = [m.name for m in found if match is None or not _inside(m.start, match)]
        if not names:
            continue
        if match is None or (len(names) == 1 and subject is None):
            subject = names[0]
            continue
        pair = (names[0], names[1]) if len(names) >= 2 else (subject or names[0], names[0])
        subject = pair[0]
        if pair[0] != pair[1]:
            yield _ratio(place, (clause.strip(), pair), float(match[1]), rule is not None)


def _ratio(place: Place, said: tuple[str, tuple[str, str]], value: float, is_rule: bool) -> Record:
    words, (numerator, denominator) = said
    reading = Reading(
        place.source,
        (place.line, place.line),
        Tool("text", "not stated"),
        replace(place.hints, device=numerator, batch=None),
        None,
        "statement",
        {
            "words": words,
            "numerator": numerator,
            "denominator": denominator,
            "best": bool(_BEST.search(words)) or is_rule,
        },
    )
    kind = "rule" if is_rule else "ratio"
    return record_of(reading, {"at_least" if is_rule else "ratio": Figure(value, "ratio")}, kind=kind)
