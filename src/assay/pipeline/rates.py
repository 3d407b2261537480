"""Stage rates, utilisation, and which stage holds the pipeline back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay.core.units import PerSecond, Seconds
from assay.pipeline.flow import Outcome
from assay.pipeline.settings import Flow

_VENDOR_NAMES = {"read": "data read", "preprocess": "preprocess", "infer": "infer", "post": "post"}
STARVED = 0.15
"""Above this share of the workers' time spent waiting for data, reading holds the rest back."""
FULL = 0.85
"""At this utilisation an accelerator counts as saturated."""


@dataclass(frozen=True)
class StageRate:
    """``rate`` is samples per second (batches for ``post``) over the time from the stage's first call to its last;
    ``module_s`` is how long one sample (batch) kept a thread busy; ``interface_rate`` (of ``infer``) is what the
    calls alone would allow; ``utilisation`` is the share of the stage's threads that was busy."""

    name: str
    rate: PerSecond
    module_s: Seconds
    utilisation: float
    interface_rate: PerSecond | None = None


@dataclass(frozen=True)
class Rates:
    """``e2e`` is samples per second over ``seconds``; ``starved`` the share of the workers' time without data."""

    e2e: PerSecond
    seconds: Seconds
    samples: int
    starved: float
    stages: Mapping[str, StageRate]

    def to_json(self) -> dict[str, Any]:
        stages = {
            name: {
                "rate": s.rate,
                "module_s": s.module_s,
                "utilisation": s.utilisation,
                **({} if s.interface_rate is None else {"interface_rate": s.interface_rate}),
            }
            for name, s in self.stages.items()
        }
        return {"e2e": self.e2e, "seconds": self.seconds, "starved": self.starved, "stages": stages}


@dataclass(frozen=True)
class Bottleneck:
    """``stage`` holds the pipeline back, ``why`` says so in numbers; were it twice as fast, ``if_halved`` samples
    a second could be expected, and never more than ``at_most`` however fast it becomes (None: cannot be told)."""

    stage: str
    why: str
    if_halved: PerSecond | None
    at_most: PerSecond | None


def rates(outcome: Outcome, flow: Flow) -> Rates | None:
    """None when nothing was done in this run (all shards were finished before)."""
    if not outcome.done_now or outcome.seconds <= 0:
        return None
    threads = {"read": 1, "preprocess": flow.cores, "infer": flow.parallelism, "post": flow.workers}
    stages: dict[str, StageRate] = {}
    for name, time in outcome.watch.stages.items():
        count = time.calls if name == "post" else time.samples
        span = time.last_s - (time.first_s or 0.0)
        if not count or span <= 0:
            continue
        interface = threads[name] * time.samples / time.busy_s if name == "infer" and time.busy_s > 0 else None
        used = min(1.0, time.busy_s / (outcome.seconds * threads[name]))
        stages[name] = StageRate(name, count / span, time.busy_s / count, used, interface)
    starved = min(1.0, outcome.watch.starved_s / (outcome.seconds * flow.workers))
    return Rates(outcome.done_now / outcome.seconds, outcome.seconds, outcome.done_now, starved, stages)


def bottleneck(found: Rates, flow: Flow) -> Bottleneck | None:
    """None when too little ran to tell."""
    if not {"preprocess", "infer"} <= set(found.stages):
        return None
    if found.starved > STARVED:
        ahead = found.e2e / max(1e-9, 1 - found.starved)
        why = f"the workers waited for data {found.starved:.0%} of the time"
        return Bottleneck("read", why, None, ahead)
    if flow.shared:
        return _shared(found, flow)
    infer, preprocess = found.stages["infer"], found.stages["preprocess"]
    other = flow.cores / preprocess.module_s
    if infer.utilisation >= FULL or (infer.interface_rate or 0) <= other:
        why = f"inference was busy {infer.utilisation:.0%} of the time; the cores preprocess up to {other:.0f} a second"
        return Bottleneck("infer", why, min(other, 2 * found.e2e), other)
    limit = infer.interface_rate or 0.0
    why = f"inference was busy only {infer.utilisation:.0%} of the time and could do {limit:.0f} a second"
    return Bottleneck("preprocess", why, min(limit, 2 * found.e2e), limit)


def _shared(found: Rates, flow: Flow) -> Bottleneck:
    """Preprocessing and inference share the cores, so their costs per sample add up."""
    cost = {"preprocess": found.stages["preprocess"].module_s, "infer": found.stages["infer"].module_s}
    total = sum(cost.values())
    stage = max(cost, key=lambda name: cost[name])
    share = cost[stage] / total
    why = f"of the cores' time on a sample, {share:.0%} is {stage}"
    rest = total - cost[stage]
    scale = found.e2e * total  # what the cores gave, whatever else ran on them
    return Bottleneck(stage, why, scale / (rest + cost[stage] / 2), scale / rest if rest > 0 else None)


def vendor_lines(found: Rates) -> list[str]:
    """In the form of the vendor tool's ``perf_vision_batchsize_B_device_D.txt``: samples per second (``post``:
    batches) and milliseconds."""
    lines = [f"[e2e] throughputRate: {found.e2e:.6g}, latency: {found.seconds * 1000:.6g}"]
    for name, stage in found.stages.items():
        interface = "" if stage.interface_rate is None else f" Interface throughputRate: {stage.interface_rate:.6g},"
        lines.append(
            f"[{_VENDOR_NAMES[name]}] throughputRate: {stage.rate:.6g},{interface}"
            f" moduleLatency: {stage.module_s * 1000:.6g}"
        )
    return lines
