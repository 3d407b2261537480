"""What a run is asked to do: frozen settings, grouped; nothing here does any work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput
from assay.core.units import Seconds
from assay.export.options import ExportOptions
from assay.judge.policy import DEFAULT_POLICY, Policy
from assay.sources import SourceOptions

CANDIDATE_PRECISIONS = ("fp32", "bf16", "fp16", "int8")
NOT_CANDIDATES = frozenset({"null", "remote", "torch_compile"})
"""Never tried unasked: they ship nothing.  torch_compile is measured as a baseline (``RunRequest.compiled``)."""
BASELINE = "torch_compile"
ALWAYS_TRIED = ("torch", "onnxruntime", "openvino")
"""Tried unasked even where they are not installed: their absence is a row with the command that mends it."""
VERIFY_BATCHES = (1, 2, 8)


@dataclass(frozen=True)
class Effort:
    """How much work goes into each part.

    ``measure_s`` bounds one measurement (one candidate at one batch size), ``verify_samples`` are
    compared per batch size, ``max_samples`` bounds the evaluation (None: all).  ``budget_s`` is
    when nothing further is started; what was left out becomes a Record that says so.
    """

    measure_s: Seconds = 3.0
    confirm_s: Seconds = 5.0
    verify_samples: int = 32
    max_samples: int | None = None
    budget_s: Seconds | None = None
    build_timeout_s: Seconds = 900.0


QUICK = Effort(measure_s=0.7, confirm_s=1.0, verify_samples=8, max_samples=256, budget_s=100.0)


@dataclass(frozen=True)
class Int8:
    """How a run makes int8 files.

    ``calibration`` and ``control`` are DATA arguments, None for samples set aside from the run's own data;
    ``calibration`` may be ``synthetic``, which has to be typed.  ``max_drop`` is a fraction, None without
    accuracy control.  ``insist`` says whether samples too few for ``max_drop`` are an error; else int8 is then
    not tried, and that is said.
    """

    calibration: str | None = None
    control: str | None = None
    calibration_count: int = 300
    control_count: int | None = None
    max_drop: float | None = None
    method: str | None = None
    insist: bool = True


@dataclass(frozen=True)
class Objects:
    """Python objects a caller brings instead of names; each is None when a name is used.

    ``higher_is_better`` None: nobody said which way the metric is good, so any change counts against a candidate.
    """

    module: Any = None
    example: Any = None
    data: Any = None
    metric: Callable[..., Any] | None = None
    higher_is_better: bool | None = None
    preprocess: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class RunRequest:
    """``engines`` and ``precisions`` None mean "all that are available here"; what is named is asked for
    by name, and its absence is exit code 3.

    ``buckets`` are static batch sizes for the engines that have them.  ``compiled`` False leaves the
    baseline torch.compile out.  ``tune_s`` is how long settings are searched for each candidate, None: not at all.
    """

    model: str
    out: Path
    data: str | None = None
    engines: tuple[str, ...] | None = None
    precisions: tuple[str, ...] | None = None
    batches: tuple[int, ...] = (1, 8)
    device: str = "cpu"
    seed: int = 0
    threads: int | None = None
    source: SourceOptions | None = None
    export: ExportOptions = field(default_factory=ExportOptions)
    policy: Policy = DEFAULT_POLICY
    effort: Effort = Effort()
    labels: Path | None = None
    command: str = ""
    int8: Int8 = Int8()
    buckets: tuple[int, ...] = ()
    compiled: bool = True
    tune_s: Seconds | None = None

    def __post_init__(self) -> None:
        if not self.batches or any(b < 1 for b in self.batches):
            raise BadInput(f"batch sizes are positive whole numbers, not {self.batches}", remedy="--batch 1,4,8")
        if list(self.buckets) != sorted(set(self.buckets)) or any(b < 1 for b in self.buckets):
            raise BadInput(f"{self.buckets} are no batch sizes in rising order", remedy="--buckets 1,2,4,8")

    def source_options(self, out_dir: Path) -> SourceOptions:
        base = self.source or SourceOptions(out_dir=out_dir)
        return replace(base, out_dir=out_dir, seed=self.seed)
