"""``--dry-run``: what a run would do and about how long it takes, without doing it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core.units import Seconds, format_seconds
from assay.job.opening import default_engines, engine, known_engines
from assay.job.request import BASELINE, CANDIDATE_PRECISIONS, RunRequest
from assay.job.stages.build import not_done, nothing_to_read
from assay.job.stages.convert import plan_conversions
from assay.job.stages.quantize import int8_not_planned

EXPORT_S = 20.0
BUILD_S = 8.0
VERIFY_S = 8.0
OPEN_S = 4.0
QUANTIZE_S = 30.0
COMPILE_S = 60.0
CONVERT_S = 5.0
_USED_AS_IT_IS = {".onnx": "onnx", ".xml": "openvino", ".plan": "tensorrt", ".om": "ascend"}


@dataclass(frozen=True)
class Step:
    """``seconds`` is an estimate; None where it depends on the model and the data."""

    name: str
    what: str
    seconds: Seconds | None = None


@dataclass(frozen=True)
class Plan:
    steps: tuple[Step, ...]

    @property
    def seconds(self) -> Seconds:
        return sum(s.seconds or 0.0 for s in self.steps)

    def lines(self) -> list[str]:
        rows = [
            f"{s.name:<9} {s.what}" + (f"  (~{format_seconds(s.seconds)})" if s.seconds else "") for s in self.steps
        ]
        total = f"about {self.seconds / 60:.0f} min" if self.seconds >= 90 else f"about {format_seconds(self.seconds)}"
        more = ", and the evaluation on top, which depends on the model and the data"
        return [*rows, f"{total} in all{more if any(s.name == 'evaluate' for s in self.steps) else ''}"]

    def to_json(self) -> dict[str, Any]:
        steps = [{"name": s.name, "what": s.what, "seconds": s.seconds} for s in self.steps]
        return {"steps": steps, "seconds": self.seconds}


def plan(request: RunRequest) -> Plan:
    """Checks engine names, opens nothing.  Raises UnknownName."""
    runnable, skipped = _slots(request)
    batches = ", ".join(map(str, request.batches))
    per_measure = 2 * len(request.batches) * request.effort.measure_s + OPEN_S
    steps = [Step("export", f"{request.model} to ONNX, free dims proved, compared with PyTorch", EXPORT_S)]
    if _given(request) is not None:
        steps = [Step("open", f"{request.model}, used as it is", OPEN_S)]
    if any(name.endswith(" int8") for name in runnable):
        samples = request.int8.calibration or request.data
        steps.append(Step("quantize", f"the graph in int8, from samples of {samples}", QUANTIZE_S))
    for precision in dict.fromkeys(p.precision for p in plan_conversions(request, "fp32") if p.reason is None):
        steps.append(Step("convert", f"the graph in {precision}", CONVERT_S))
    steps += [Step("build", name, BUILD_S) for name in runnable]
    steps += [Step("build", f"{name}: skipped, {why}") for name, why in skipped]
    if request.tune_s is not None and runnable:
        steps.append(Step("search", "settings of each candidate", request.tune_s))
    steps += [Step("verify", name, VERIFY_S) for name in runnable]
    steps += [Step("evaluate", f"{name} on {request.data}") for name in runnable if request.data]
    steps += [Step("measure", f"{name}, batch {batches}", per_measure) for name in runnable]
    if request.engines is None and request.compiled and "torch fp32" in runnable:
        why = engine(BASELINE).unavailable(request.device, "fp32")
        said = f"skipped, {why}" if why else f"the baseline, compiled for batch {batches}"
        steps.append(Step("measure", f"{BASELINE} fp32: {said}", None if why else per_measure + COMPILE_S))
    steps += [
        Step("choose", "the fastest that passes the policy"),
        Step("confirm", "a fresh run of the chosen one", 2 * request.effort.confirm_s + OPEN_S),
        Step("judge", "the policy's limits"),
        Step("report", "report.html, report.md, report.csv"),
        Step("pack", "the bundle"),
    ]
    return Plan(tuple(steps))


def _given(request: RunRequest) -> str | None:
    """The format of a file that is used as it is; None for what is exported first."""
    return _USED_AS_IT_IS.get(Path(request.model).suffix.lower())


def _slots(request: RunRequest) -> tuple[list[str], list[tuple[str, str]]]:
    names = known_engines(request.engines) if request.engines else default_engines(request.device)
    given = _given(request)
    converted = {(p.engine, p.precision): p.reason for p in plan_conversions(request, "fp32")}
    runnable, skipped = [], []
    for name in names:
        found = engine(name)
        for precision in request.precisions or tuple(p for p in CANDIDATE_PRECISIONS if p in found.precisions):
            why = _no_int8(request) if precision == "int8" else None
            in_file = precision == "int8" or (name, precision) in converted
            why = why or converted.get((name, precision))
            why = why or found.unavailable(request.device, "fp32" if in_file else precision)
            why = why or not_done(found, precision)
            if given is not None and given not in found.reads:
                why = nothing_to_read(found)
            if why:
                skipped.append((f"{name} {precision}", why))
            else:
                runnable.append(f"{name} {precision}")
    return runnable, skipped


def _no_int8(request: RunRequest) -> str | None:
    if request.data is None and request.int8.calibration is None:
        return "no samples to calibrate with"
    return int8_not_planned(request)
