"""A small set of Records in the shape a run writes them."""

import pytest

from assay.core.record import Figure, Record, withheld
from assay.core.verdict import Reason, combine
from assay.present.rows import Report

ENVIRONMENT = {"cpu": "a processor", "versions": {"numpy": "2.4.6"}}


def subject(engine, precision="fp32", **more):
    return {
        "model": "timm:resnet18",
        "candidate": f"digest-{engine}-{precision}",
        "artifact": f"artifact-{engine}",
        "engine": engine,
        "engine_version": "1.0",
        "precision": precision,
        "device": "cpu",
        "threads": None,
        **more,
    }


def verified(engine, precision="fp32", kind="equal", rms=2.1e-7, **more):
    return Record(
        "verify",
        subject(engine, precision),
        figures={"numeric.relative_rms": Figure(rms, "1")},
        details={"class": kind},
        environment=ENVIRONMENT,
        id=f"verify-{engine}-{precision}",
        **more,
    )


def evaluated(engine, precision="fp32", value=0.9867):
    figures = {
        "accuracy.top1": Figure(value, "fraction", 0.971, 0.994, 0.95, 450),
        "accuracy.drop": Figure(-0.0022, "fraction", -0.007, 0.004, 0.95, 450),
    }
    return Record("evaluate", subject(engine, precision), figures=figures, id=f"evaluate-{engine}-{precision}")


def measured(engine, precision="fp32", batch=1, throughput=100.0, kind="measure", **more):
    figures = {
        "throughput": Figure(throughput, "samples/s", throughput * 0.98, throughput * 1.02, 0.95, 40),
        "latency.p50": Figure(batch / throughput, "s", 0.99 * batch / throughput, 1.01 * batch / throughput, 0.95, 40),
        "latency.p90": Figure(1.1 * batch / throughput, "s"),
        "latency.p99": withheld("s", "40 calls cannot bound p99; 368 are needed", 40),
        "memory.peak": Figure(64 * 2**20, "B"),
    }
    return Record(
        kind,
        subject(engine, precision, batch=batch),
        figures=figures,
        conditions={"batch": batch, "scenario": "latency"},
        environment=ENVIRONMENT,
        label="stable",
        id=f"{kind}-{engine}-{precision}-{batch}",
        **more,
    )


@pytest.fixture
def report():
    records = (
        verified("torch", kind="reference", rms=0.0),
        verified("onnxruntime"),
        verified("openvino", "bf16", "within format cost", 3.1e-3),
        evaluated("torch"),
        evaluated("onnxruntime"),
        Record("evaluate", subject("openvino", "bf16"), status="skipped", reason="synthetic data", id="skip-1"),
        measured("torch", throughput=50.0),
        measured("onnxruntime", batch=8, throughput=400.0),
        measured("onnxruntime", batch=1),
        measured("openvino", "bf16", throughput=210.0),
        measured("onnxruntime", batch=8, throughput=390.0, kind="confirm"),
        Record(
            "build",
            {"model": "timm:resnet18", "engine": "openvino", "precision": "fp16", "device": "cpu"},
            status="skipped",
            reason="this processor has no fp16 arithmetic",
            id="build-skip",
        ),
    )
    verdict = combine(
        [Reason("accuracy drop ≤ 0.5 %", "passed", "the drop is −0.2 points", "evaluate-onnxruntime-fp32")],
        ["latency: no limit was given"],
        "digest-onnxruntime-fp32",
    )
    return Report(
        title="timm:resnet18",
        records=records,
        verdict=verdict,
        chosen="digest-onnxruntime-fp32",
        about={
            "command": "assay run timm:resnet18 --data digits",
            "weights": "a checkpoint",
            "runs_code": ["net.py"],
            "missing": ["tensorrt fp16: no GPU"],
            "warnings": ["something odd"],
        },
    )
