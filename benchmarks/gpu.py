"""Every engine that can use an NVIDIA GPU, measured on one model; what cannot run is a Record too.

    python benchmarks/gpu.py [--model timm:resnet50] [--batch 1,8,32] [--device cuda] [--out runs/bench-gpu]

Writes ``records.jsonl``.  Exit code 0 also where there is no GPU: the one Record then says so.
Exit code 1 when an engine that says it can run here fails.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from assay.cli.main import run_cli
from assay.core.errors import AssayError
from assay.core.record import Record, RecordLog
from assay.job.bench.one import Bench, bench_one
from assay.job.opening import engine
from assay.job.progress import Silent
from assay.measure.environment import environment
from assay.sources import SourceOptions

RUNS = {
    "torch": ("fp32", "tf32", "bf16", "fp16"),
    "torch_compile": ("fp32", "tf32", "bf16", "fp16"),
    "onnxruntime": ("fp32", "tf32", "fp16"),
    "tensorrt": ("fp32", "tf32", "bf16", "fp16"),
}


def no_gpu(device: str) -> str | None:
    """Why nothing can be measured, as PyTorch and ONNX Runtime say it; None when either can run."""
    reasons = [engine(name).unavailable(device) for name in ("torch", "onnxruntime")]
    return None if None in reasons else "; ".join(str(r) for r in reasons)


def fp16_file(model: str, folder: Path) -> Path:
    """An ONNX file of the model in fp16.  Raises AssayError when exporting or converting fails."""
    source, target = folder / "model.onnx", folder / "fp16"
    for command in (
        ["export", model, "-o", str(source), "--quiet"],
        ["quantize", str(source), "--precision", "fp16", "-o", str(target), "--quiet"],
    ):
        if not target.joinpath("model.onnx").is_file() and run_cli(command):
            raise AssayError(f"assay {' '.join(command)} failed")
    return target / "model.onnx"


def measure(name: str, precision: str, given: argparse.Namespace) -> list[Record]:
    subject = {"model": given.model, "engine": name, "precision": precision, "device": given.device}
    converted = name == "onnxruntime" and precision == "fp16"
    why = engine(name).unavailable(given.device, "fp32" if converted else precision)
    if why is not None:
        return [Record("measure", subject, status="skipped", reason=why, environment=environment())]
    records: list[Record] = []
    try:
        model = str(fp16_file(given.model, given.out)) if converted else given.model
        for scenario in ("latency", "offline"):
            bench = Bench(
                model=model,
                scenario=scenario,
                engine=name,
                precision=precision,
                device=given.device,
                batches=given.batch,
                duration_s=given.duration,
            )
            records += bench_one(bench, SourceOptions(out_dir=given.out), Silent())
    except AssayError as error:
        records.append(Record("measure", subject, status="failed", reason=error.message, environment=environment()))
    return records


def main() -> int:
    parser = argparse.ArgumentParser(description="Engines on an NVIDIA GPU.")
    parser.add_argument("--model", default="timm:resnet50")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=lambda text: tuple(int(w) for w in text.split(",")), default=(1, 8, 32))
    parser.add_argument("--duration", type=float, default=3.0, help="seconds per measurement")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-gpu"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    with RecordLog(given.out / "records.jsonl") as log:
        why = no_gpu(given.device)
        if why is not None:
            subject = {"model": given.model, "device": given.device}
            log.append(Record("measure", subject, status="skipped", reason=why, environment=environment()))
            print(f"skipped: {why}")
            return 0
        for name, precisions in RUNS.items():
            for precision in precisions:
                for record in measure(name, precision, given):
                    log.append(record)
                    failed += record.status == "failed"
                    rate = record.value("throughput")
                    said = record.reason if rate is None else f"{rate:.0f} samples/s"
                    batch, scenario = record.subject.get("batch"), record.conditions.get("scenario")
                    print(f"{name:<13} {precision:<5} batch {batch} {scenario}: {said}", flush=True)
    print(f"records: {given.out / 'records.jsonl'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
