"""What gains are over: PyTorch run eagerly, and torch.compile, each at the winner's batch size."""

from __future__ import annotations

from dataclasses import dataclass

from assay.core import clock
from assay.core.engine import Candidate, OpenOptions
from assay.core.errors import AssayError
from assay.core.record import Record
from assay.core.units import Seconds, format_seconds
from assay.job.opening import engine, make_candidate, with_signature
from assay.job.request import BASELINE
from assay.job.stages.measure import BASELINE_ROLE, Baselines
from assay.job.tune.press import Order
from assay.job.tune.tail import Tail
from assay.job.tune.trials import PRESS, Trials
from assay.search.halving import Effort

LEAST_COMPILE_S = 15.0
_HOLD = f"{PRESS}hold"


@dataclass
class Compiling:
    """torch.compile at work in a process of its own, while things go on that are not timed."""

    candidate: Candidate | None
    order: Order | None = None
    why_not: str | None = None


def begin_compile(trials: Trials, batch: int, until_s: Seconds) -> Compiling:
    """Compile the module at ``batch`` in the background, where there is a module, a compiler and time."""
    ctx, reference = trials.ctx, trials.scene.reference
    why = _why_not(trials, until_s)
    if why is not None:
        return Compiling(None, why_not=why)
    artifact = with_signature(ctx.model.artifact, trials.scene.exported.signature)
    buckets = (batch,) if trials.scene.exported.signature.static_batch is None else ()
    options = OpenOptions("fp32", ctx.request.device, buckets=buckets, threads=reference.options.threads)
    candidate = make_candidate(artifact, BASELINE, options, ctx.device_name)
    order = trials.order(candidate, batch, 1.0)
    try:
        trials.fed(BASELINE).send(_HOLD, {"order": order})
    except AssayError as error:
        return Compiling(None, why_not=error.message)
    return Compiling(candidate, order)


def _why_not(trials: Trials, until_s: Seconds) -> str | None:
    found = engine(BASELINE)
    if not trials.ctx.request.compiled:
        return "it was left out (--no-compile)"
    if trials.scene.reference.artifact.format not in found.reads or trials.ctx.objects.module is not None:
        return f"{BASELINE} reads {', '.join(found.reads)} from a name, not {trials.scene.reference.artifact.format}"
    left = until_s - clock.now()
    if left < LEAST_COMPILE_S:
        return f"compiling takes minutes, and {format_seconds(max(0.0, left))} of the budget were left; --budget 10m"
    return found.unavailable(trials.ctx.request.device, "fp32")


def baselines(tail: Tail, compiling: Compiling, batch: int, until_s: Seconds) -> Baselines:
    """Measure PyTorch run eagerly, once the compiler is done, for which ``until_s`` is waited at most, then what it
    compiled; what is missing is a Record with its reason.  Neither begins where it would not end in time."""
    trials, pace, effort = tail.trials, tail.pace, Effort("baseline", tail.tuning.rules.full_s)
    after_s = tail.after_s() - tail.eager_s()
    eager_fits = pace.fits("PyTorch run eagerly, which the gain is over", tail.eager_s(), pace.ends_s - after_s)
    ready = _ready(trials, compiling, min(until_s, pace.ends_s - tail.after_s()))
    eager = _role(trials, trials.measured(trials.scene.reference, batch, effort, {})) if eager_fits else []
    if ready and not pace.fits(f"{BASELINE} as a baseline", effort.seconds, pace.ends_s - after_s):
        ready, compiling.why_not = False, pace.cut[-1]
    if not ready or compiling.candidate is None:
        _skip(trials, compiling.why_not or "it gave no baseline")
        return Baselines(eager)
    compiled = _role(trials, trials.measured(compiling.candidate, batch, effort, {"role": BASELINE_ROLE}, BASELINE))
    return Baselines(eager, compiled)


def _ready(trials: Trials, compiling: Compiling, until_s: Seconds) -> bool:
    if compiling.order is None:
        return False
    try:
        left = max(0.1, until_s - clock.now())
        trials.worker(BASELINE).answer(_HOLD, left)
    except AssayError as error:
        late = "longer than" in error.message
        more = "it did not compile within the budget; --budget 10m gives it more" if late else error.message
        compiling.why_not = more
        trials.worker(BASELINE).end()
        return False
    return True


def _role(trials: Trials, records: list[Record]) -> list[Record]:
    bad = next((r for r in records if r.status != "ok"), None)
    if bad is not None:
        trials.ctx.warn(f"{bad.subject['engine']} gave no baseline: {bad.reason}")
    return [r for r in records if r.kind == "measure" and r.status == "ok"]


def _skip(trials: Trials, reason: str) -> None:
    """The missing baseline as a row of the report."""
    ctx = trials.ctx
    subject = {"model": ctx.model.name, "engine": BASELINE, "precision": "fp32", "device": ctx.request.device}
    record = Record(
        "build", subject, "skipped", reason=reason, environment=ctx.environment, details={"role": BASELINE_ROLE}
    )
    ctx.folder.save(f"tune-baseline-{BASELINE}", reason, {}, [record])
    ctx.warn(f"no gain over {BASELINE}: {reason}")
