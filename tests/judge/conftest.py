"""Records as the pipeline writes them."""

from pathlib import Path

import pytest

from assay.core.artifact import Artifact
from assay.core.engine import Candidate, OpenOptions
from assay.core.record import Figure, Record, withheld


def make_candidate(engine="onnxruntime", precision="fp32", **options):
    artifact = Artifact(Path("m.onnx"), "onnx", "ab" * 32)
    return Candidate(artifact, engine, "1.0", OpenOptions(precision=precision, **options), "a cpu")


class Evidence:
    """Builds a candidate's Records; by default everything is in order."""

    def __init__(self, candidate):
        self.candidate = candidate

    def verify(self, rms=1e-7, limit=1e-5, batches=(1, 2, 8), failures=(), real=True, **changes):
        outputs = {str(b): {"y": {"max_abs": rms, "max_rel": 10 * rms}} for b in batches}
        fields = {
            "figures": {"numeric.relative_rms": Figure(rms, "ratio")},
            "conditions": {"reference": "torch fp32", "batches": list(batches), "real_data": real},
            "details": {
                "outputs": outputs,
                "tolerance": {"max_relative_rms": limit, "source": "a reason"},
                "class": "within format cost" if rms <= limit else "wrong",
                "failures": list(failures),
                "attestation": {"shares": [{"provider": "cpu", "precision": "fp32", "share": 1.0}], "how": "test"},
            },
        }
        return self._record("verify", None, {**fields, **changes})

    def evaluate(self, drop=0.001, low=-0.002, high=0.004, value=0.98, **changes):
        figures = {"accuracy.top1": Figure(value, "fraction", n=360)}
        if drop is not None:
            figures["accuracy.drop"] = Figure(drop, "fraction", low, high, 0.95, 360)
        fields = {
            "figures": figures,
            "conditions": {"data": "digits", "samples": 360, "synthetic": False},
            "details": {"counts": {"read": 360, "scored": 360, "failed": 0}},
        }
        return self._record("evaluate", None, {**fields, **changes})

    def measure(self, batch=1, rate=100.0, width=0.01, p99=0.012, scenario="offline", kind="measure", **changes):
        time = batch / rate
        figures = {
            "throughput": Figure(rate, "samples/s", rate * (1 - width), rate * (1 + width), 0.95, 400),
            "latency.p50": Figure(time, "s", time * (1 - width), time * (1 + width), 0.95, 400),
            "latency.p90": Figure(time * 1.1, "s", time * 1.05, time * 1.15, 0.95, 400),
            "latency.p99": withheld("s", "only 40 samples")
            if p99 is None
            else Figure(p99, "s", p99 * 0.9, p99 * 1.1, 0.95, 400),
            "memory.peak": Figure(500e6, "B", n=1),
        }
        fields = {"figures": figures, "conditions": {"scenario": scenario, "batch": batch}, "label": "stable"}
        return self._record(kind, batch, {**fields, **changes})

    def all(self, **rates):
        """Verified, evaluated, and measured at batch 1 and 8 in both scenarios."""
        speed = {"rate1": 100.0, "rate8": 300.0, **rates}
        return [
            self.verify(),
            self.evaluate(),
            *(self.measure(b, speed[f"rate{b}"], scenario=s) for b in (1, 8) for s in ("latency", "offline")),
        ]

    def _record(self, kind, batch, fields):
        return Record(kind, self.candidate.subject("net", batch), **fields)


@pytest.fixture
def candidate():
    return make_candidate


@pytest.fixture
def evidence():
    return lambda *a, **k: Evidence(make_candidate(*a, **k))
