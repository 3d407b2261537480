"""Ascend ``benchmark -round=N``: pure inference on random data, one line (``=`` or ``:``, two spellings)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from assay.core import derive
from assay.core.record import Figure
from assay.importers.ascend_benchmark import card_records
from assay.importers.devices import dies_per_card
from assay.importers.imported import Hints, Imported
from assay.importers.reading import DEVICE_ONLY, Basis, Reading, Tool, record_of, rederived
from assay.importers.source import Source, positive
from assay.importers.trtexec_command import batch_in_name, model_name

_SPELLED = r"ave_th(?:o?ro)ughputRate"  # also the tool's own "thoroughputRate"
_MARK = re.compile(_SPELLED + r"\s*[=:]", re.I)
_LINE = re.compile(_SPELLED + r"\s*[=:]\s*([^\s,]+?)\s*samples/s\s*,\s*ave_latency\s*[=:]\s*([^\s,]+?)\s*ms", re.I)
_FILE = re.compile(r"PureInfer_perf_of_(.+?)_in_device_(\d{1,4})")
_ROUND = re.compile(r"Dataset number: (\d{1,9}) finished cost")


@dataclass(frozen=True)
class AscendPureInfer:
    """A Record per line; a console log may hold several."""

    def confidence(self, source: Source) -> float:
        return 1.0 if _MARK.search(source.text) else 0.0

    def read(self, source: Source, hints: Hints) -> Imported:
        found = Imported()
        for line, text in source.numbered():
            if not _MARK.search(text):
                continue
            match = _LINE.search(text)
            if match is None:
                raise source.bad(line, "ave_throughputRate without its rate in samples/s and ave_latency in ms")
            rate = positive(source, line, match[1], "ave_throughputRate")
            each_s = positive(source, line, match[2], "ave_latency") / 1000
            found += _records(source, line, hints, rate, each_s)
        if not found.records:
            raise source.bad(source.first_line, "no ave_throughputRate line")
        return found


def _records(source: Source, line: int, hints: Hints, rate: float, each_s: float) -> Imported:
    before = "\n".join(source.lines[: line - source.first_line])
    names = _FILE.findall(before) or _FILE.findall(source.name)
    om = names[-1][0] if names else ""
    rounds = _ROUND.findall(before)
    merged = replace(hints, batch=hints.batch or batch_in_name(om), model=hints.model or model_name(om))
    scope = "die" if dies_per_card(hints.device) > 1 else "device"
    reading = Reading(
        source,
        (line, line),
        Tool("benchmark", "ascend", None, "ascend-pure-inference"),
        merged,
        Basis(DEVICE_ONLY, scope=scope),
        conditions={
            "data": "random",
            "stated_batch": batch_in_name(om),
            "queries": int(rounds[-1]) + 1 if rounds else None,
            "die": int(names[-1][1]) if names else None,
        },
    )
    figures = {"throughput": Figure(rate, "samples/s"), "latency.per_sample": Figure(each_s, "s")}
    details = {"rederived": [rederived("throughput", derive.from_count(1, each_s), 0.01)]}
    return Imported((record_of(reading, figures, details), *card_records(reading, rate)))
