"""Ascend ``benchmark``: perf_vision_batchsize_B_device_D.txt, both label variants.

All stages are counted per sample but the last, which is counted per batch.  ``e2e`` is the whole
pipeline; ``Interface throughputRate`` is the inference call alone on one die.  A card of several dies
(310: four) is an extrapolation that these files do not contain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from assay.core import derive
from assay.core.derive import Derived
from assay.core.record import Figure, Record
from assay.importers.devices import dies_per_card
from assay.importers.imported import Hints, Imported
from assay.importers.reading import (
    DEVICE_ONLY,
    END_TO_END,
    EXTRAPOLATED,
    Basis,
    Reading,
    Tool,
    record_of,
    rederived,
)
from assay.importers.source import Source, positive

_LINE = re.compile(r"^\s*\[(e2e|data read|preprocess|infer|inference|post|postprocess)\]\s*(.*)$")
_VALUE = re.compile(r"(Interface throughputRate|throughputRate|moduleLatency|latency)\s*:\s*([^,]*)")
_STAGES = {"infer": "infer", "inference": "infer", "post": "post", "postprocess": "post"}
_NEEDED = ("e2e", "data read", "preprocess", "infer", "post")
_FILE = re.compile(r"perf_vision_batchsize_(\d{1,5})_device_(\d{1,4})")


@dataclass(frozen=True)
class AscendBenchmark:
    """Records: the interface rate of a die, the same extrapolated to a card, and the pipeline end to end."""

    def confidence(self, source: Source) -> float:
        labels = {m[1] for line in source.lines if (m := _LINE.match(line))}
        return 1.0 if "e2e" in labels and "throughputRate" in source.text else 0.0

    def read(self, source: Source, hints: Hints) -> Imported:
        stages, lines, labels = _stages(source)
        name = _FILE.search(source.name)
        batch = derive.ratio(stages["infer"]["throughputRate"], stages["post"]["throughputRate"]).value
        counted = round(batch) if batch >= 0.5 and abs(batch - round(batch)) <= 0.02 * batch else None
        merged = replace(hints, batch=hints.batch or (int(name[1]) or None if name else None) or counted)
        reading = Reading(
            source,
            lines,
            Tool("benchmark", "ascend", None, "ascend-benchmark"),
            merged,
            conditions={
                "labels": labels,
                "stated_batch": counted,
                "die": int(name[2]) if name else None,
                "data": "a whole data set",
            },
        )
        details = {"stages": {k: dict(v) for k, v in stages.items()}}
        records = [_interface(reading, stages, details), *_card(reading, stages), _whole(reading, stages, details)]
        return Imported(tuple(records))


def _stages(source: Source) -> tuple[dict[str, dict[str, float]], tuple[int, int], str]:
    found: dict[str, dict[str, float]] = {}
    first, last, labels = 0, 0, set()
    for line, text in source.numbered():
        match = _LINE.match(text)
        if match is None:
            continue
        labels.add(match[1])
        stage = _STAGES.get(match[1], match[1])
        if stage in found:
            raise source.bad(line, f"a second [{match[1]}] line; one file holds one run")
        values = {name: positive(source, line, v, f"[{match[1]}] {name}") for name, v in _VALUE.findall(match[2])}
        needed = {"throughputRate", "latency" if stage == "e2e" else "moduleLatency"}
        needed |= {"Interface throughputRate"} if stage == "infer" else set()
        if missing := sorted(needed - set(values)):
            raise source.bad(line, f"[{match[1]}] has no {' and no '.join(missing)}")
        found[stage], first, last = values, first or line, line
    if missing := [stage for stage in _NEEDED if stage not in found]:
        raise source.bad(last or source.first_line, f"there is no [{missing[0]}] line")
    return found, (first, last), "inference/postprocess" if "inference" in labels else "infer/post"


def _interface(reading: Reading, stages: Mapping[str, Mapping[str, float]], details: Mapping[str, Any]) -> Record:
    rate = stages["infer"]["Interface throughputRate"]
    scope = "die" if dies_per_card(reading.hints.device) > 1 else "device"
    figures = {"throughput": Figure(rate, "samples/s")}
    excess = derive.interface_excess(rate, stages["e2e"]["throughputRate"])
    more = {**details, "interface_excess": excess.to_json()}
    return record_of(replace(reading, basis=Basis(DEVICE_ONLY, scope=scope)), figures, more)


def _card(reading: Reading, stages: Mapping[str, Mapping[str, float]]) -> list[Record]:
    return card_records(reading, stages["infer"]["Interface throughputRate"])


def card_records(reading: Reading, rate: float) -> list[Record]:
    """The rate of the whole card, where the device is known to carry several dies: an extrapolation."""
    dies = dies_per_card(reading.hints.device)
    if dies == 1:
        return []
    card: Derived = derive.per_card(rate, dies)
    basis = Basis(DEVICE_ONLY, how=EXTRAPOLATED, scope="card")
    figures = {"throughput": Figure(card.value, "samples/s", reason="extrapolated from one die, not measured")}
    made = record_of(replace(reading, basis=basis), figures, {"derived": [{"figure": "throughput", **card.to_json()}]})
    return [replace(made, warnings=(f"not measured: {card.shown()}",))]


def _whole(reading: Reading, stages: Mapping[str, Mapping[str, float]], details: Mapping[str, Any]) -> Record:
    rate, duration_s = stages["e2e"]["throughputRate"], stages["e2e"]["latency"] / 1000
    done = derive.samples_done(rate, duration_s)
    figures = {"throughput": Figure(rate, "samples/s")}
    for stage, rates in stages.items():
        if stage != "e2e":
            name = stage.replace(" ", "_")
            figures[f"throughput.{name}"] = Figure(
                rates["throughputRate"], "batches/s" if stage == "post" else "samples/s"
            )
            figures[f"latency.{name}"] = Figure(rates["moduleLatency"] / 1000, "s")
    checks = [
        rederived(f"throughput.{stage.replace(' ', '_')}", derive.from_count(1, value["moduleLatency"] / 1000), 0.01)
        for stage, value in stages.items()
        if stage in ("data read", "preprocess", "post")
    ]
    conditions = {**reading.conditions, "duration_s": duration_s, "samples_done": done.value}
    scope = "die" if dies_per_card(reading.hints.device) > 1 else "device"
    more = {**details, "derived": [{"figure": "samples", **done.to_json()}], "rederived": checks}
    return record_of(replace(reading, basis=Basis(END_TO_END, scope=scope), conditions=conditions), figures, more)
