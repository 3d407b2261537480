"""How often a healthy build is accused: every run should be ``equal`` or ``within format cost``.

Prints, per engine and precision, the largest error as a share of its limit, and the smallest relative error
that would have been called suspicious (the detection limit)::

    python benchmarks/false_alarms.py [SEEDS]     # 25 seeds × 4 architectures × 3 = 300 runs, and 150 more in int8

int8 files are made by NNCF, where it is installed, as ``assay quantize`` makes them.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import networks

from assay.core.engine import OpenOptions
from assay.core.errors import NotAvailable
from assay.core.sample import Sample
from assay.core.tensors import Signature
from assay.export.arithmetic import ModuleArithmetic
from assay.graph.external_data import onnx_artifact
from assay.graph.rounding import rounding_depth
from assay.graph.signature import read_signature
from assay.job.compare_two import compare_with_truth
from assay.job.opening import engine
from assay.judge.classes import Judged, classify
from assay.judge.tolerance import tolerance
from assay.precision.int8_nncf import lower
from assay.precision.job import Calibration, Job

WAYS = (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))
INT8 = (("onnxruntime", "int8"), ("openvino", "int8"))
NOT_HEALTHY = frozenset({("unet3d", "openvino", "int8"), ("vit", "openvino", "int8")})
"""Left out, and said in the output: OpenVINO 2026.4 gives other numbers for these files than ONNX Runtime does, about
a quarter of the signal away.  They were left out after that had been seen; the verdict on them is ``suspicious`` or
``wrong``.
"""
ROWS = 16
BATCHES = (1, 8)
CALIBRATION = 64


def judged(path: Path, module: object, signature: Signature, way: tuple[str, str], x: object) -> Judged:
    """One candidate file held against its module."""
    name, precision = way
    rows = networks.np.asarray(x)
    feeds = {b: [{"x": rows[i : i + b]} for i in range(0, len(rows) - b + 1, b)] for b in BATCHES}
    artifact = onnx_artifact(path)
    with (
        engine("torch").open_module(module, signature, OpenOptions()) as first,  # type: ignore[attr-defined]
        engine(name).open(artifact, OpenOptions(precision=precision)) as second,
    ):
        exact = (ModuleArithmetic(module, signature), None)
        result, split = compare_with_truth((first, second), feeds, exact, precision)
    return classify(result, tolerance(precision, rounding_depth(path)), split)


def quantised(path: Path, name: str) -> Path:
    """NNCF's int8 file beside ``path``, calibrated on samples that are not the ones it is judged on."""
    samples = tuple(Sample(str(i), {"x": row}) for i, row in enumerate(networks.example(name, CALIBRATION, 999)))
    job = Job(onnx_artifact(path), read_signature(path), "int8", path.parent, Calibration(samples, "drawn", 999))
    made = path.with_suffix(".int8.onnx")
    lower(job).write(made)
    return made


def healthy(
    seeds: int, first: int = 0, wanted: Sequence[tuple[str, str]] = WAYS
) -> Iterator[tuple[str, int, tuple[str, str], Judged]]:
    """Every architecture, seed and way that is available here."""
    ways = [w for w in wanted if w[1] == "int8" or engine(w[0]).unavailable("cpu", w[1]) is None]
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, first + seeds):
            for name in networks.NETWORKS:
                module, x = networks.build(name, seed), networks.example(name, ROWS, seed)
                path = networks.export(module, x, Path(folder, f"{name}.onnx"))
                files = {"int8": quantised(path, name)} if any(w[1] == "int8" for w in ways) else {}
                for way in ways:
                    if (name, *way) not in NOT_HEALTHY:
                        yield name, seed, way, judged(files.get(way[1], path), module, read_signature(path), way, x)


def every(seeds: int) -> Iterator[tuple[str, int, tuple[str, str], Judged]]:
    yield from healthy(seeds)
    try:
        yield from healthy(seeds, wanted=INT8)
    except NotAvailable as missing:
        print(f"int8 was left out: {missing.message}")


def main(seeds: int) -> int:
    runs, alarms = 0, 0
    worst: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for name, seed, way, found in every(seeds):
        runs += 1
        if not found.accepted:
            alarms += 1
            print(f"FALSE ALARM: {name}, seed {seed}, {' '.join(way)}: {found.name}, {found.reason.text}")
        share = max((s.share for s in found.shares), default=0.0)
        worst.setdefault(way, []).append((share, found.detectable or 0.0))
    for (name, precision), shares in worst.items():
        limits = sorted(d for _, d in shares if d)
        spread = f"{limits[0]:.1e} to {limits[-1]:.1e}" if limits else "—"
        print(
            f"{name + ' ' + precision:<18} largest error {max(s for s, _ in shares):.2f} of its limit, "
            f"detection limit {spread} (relative), n = {len(shares)}"
        )
    print(f"{alarms} false alarms in {runs} healthy runs")
    for name, engine_name, precision in sorted(NOT_HEALTHY):
        print(f"left out, not counted as healthy: {name} on {engine_name} in {precision}")
    return 1 if alarms or not runs else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 25))
