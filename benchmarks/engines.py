"""What a Session costs over the bare library call, and whether it copies its input.

    python benchmarks/engines.py [--repeats 400] [--json FILE]

(a) Overhead: ``Session.run`` against ``InferenceSession.run`` (onnxruntime) and
    ``infer(share_inputs=True, share_outputs=True)`` (openvino) at batch 1, a small model with one
    input and outputs of at most 4 KB, one thread.  Both run in short blocks that take turns; the
    fastest tenth of the blocks counts, since other processes only ever slow this down; the quartiles of the
    differences between neighbouring blocks are printed beside it, and far apart they mean a busy machine.
    To reach: under 30 µs.
(b) Peak memory: one call with a 256 MB input in a process of its own, through the session and
    bare.  To reach: the session's peak is at most 5 % above the bare call's.

Exit code 1 when a figure is missed.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from verdict import MISSED

from assay.core import child
from assay.core.artifact import Artifact, file_artifact
from assay.core.engine import OpenOptions
from assay.core.telemetry import import_untold
from assay.engines.onnxruntime import OnnxRuntimeEngine
from assay.engines.openvino import OpenVinoEngine

LIMIT_OVERHEAD_S = 30e-6
LIMIT_MEMORY = 0.05
CALLS = 10
LARGE = (64, 1024, 1024)  # float32: 256 MiB
ENGINES = {"onnxruntime": OnnxRuntimeEngine, "openvino": OpenVinoEngine}


def write_model(path: Path, large: bool) -> Artifact:
    """Small: (batch, 64) x (64, 128) + Relu.  Large: the largest value of each of 64 planes."""
    import onnx
    from onnx import helper, numpy_helper

    value, weights = helper.make_tensor_value_info, []
    if large:
        nodes = [helper.make_node("ReduceMax", ["x"], ["y"], axes=[1, 2], keepdims=0)]
        shapes = (["n", *LARGE[1:]], ["n"])
    else:
        weight = np.random.default_rng(0).standard_normal((64, 128)).astype(np.float32)
        weights = [numpy_helper.from_array(weight, "w")]
        nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Relu", ["m"], ["y"])]
        shapes = (["n", 64], ["n", 128])
    tensors = [value(name, onnx.TensorProto.FLOAT, shape) for name, shape in zip("xy", shapes, strict=True)]
    graph = helper.make_graph(nodes, "g", tensors[:1], tensors[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return file_artifact(path, "onnx")


def bare(engine: str, path: Path) -> Callable[[dict[str, Any]], Any]:
    """The library's own call, with the settings the engine uses."""
    if engine == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda feed: session.run(["y"], feed)
    openvino = import_untold("openvino")
    settings = {"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": "ACCURACY", "INFERENCE_NUM_THREADS": 1}
    request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    return lambda feed: request.infer(feed, share_inputs=True, share_outputs=True)


def overhead(engine: str, path: Path, repeats: int) -> dict[str, float]:
    """Seconds per call of both in the fastest tenth of their blocks, and the difference."""
    artifact = write_model(path / "small.onnx", large=False)
    feed = {"x": np.random.default_rng(0).random((1, 64), dtype=np.float32)}
    plain = bare(engine, artifact.path)
    times: dict[str, list[float]] = {"bare": [], "session": []}
    with ENGINES[engine]().open(artifact, OpenOptions(threads=1)) as session:
        for _ in range(repeats + 2):
            for name, call in (("bare", plain), ("session", session.run)):
                started = time.perf_counter()
                for _ in range(CALLS):
                    call(feed)
                times[name].append((time.perf_counter() - started) / CALLS)
    kept = {name: values[2:] for name, values in times.items()}
    fast = {name: statistics.quantiles(values, n=10)[0] for name, values in kept.items()}
    pairs = statistics.quantiles([s - b for s, b in zip(kept["session"], kept["bare"], strict=True)], n=4)
    spread = {"paired_low": pairs[0], "paired_median": pairs[1], "paired_high": pairs[2]}
    return {**fast, "overhead": fast["session"] - fast["bare"], **spread}


def peak_of_one_call(engine: str, path: str, through_session: bool) -> int:
    """Runs in a child process: bytes resident at the peak."""
    feed = {"x": np.full(LARGE, 0.5, np.float32)}
    if through_session:
        artifact = file_artifact(Path(path), "onnx")
        with ENGINES[engine]().open(artifact, OpenOptions(threads=1)) as session:
            found = session.run(feed)["y"]
    else:
        result = bare(engine, Path(path))(feed)
        found = result[0]
    assert np.all(np.asarray(found) == 0.5)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def memory(engine: str, path: Path) -> dict[str, float]:
    artifact = write_model(path / "large.onnx", large=True)
    peaks = {}
    for name, through in (("bare", False), ("session", True)):
        arguments = {"engine": engine, "path": str(artifact.path), "through_session": through}
        limits = child.Limits(env={"PYTHONPATH": str(Path(__file__).parent)})
        peaks[name] = float(child.run("engines:peak_of_one_call", arguments, limits).value)
    return {**peaks, "above": peaks["session"] / peaks["bare"] - 1}


def main() -> int:
    parser = argparse.ArgumentParser(description="Session overhead and memory over the bare library call.")
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {}
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        for engine in ENGINES:
            row = found[engine] = {
                "overhead": overhead(engine, Path(folder), given.repeats),
                "memory": memory(engine, Path(folder)),
            }
            cost, above = row["overhead"], row["memory"]
            print(
                f"{engine:<12} bare {1e6 * cost['bare']:6.1f} µs, session {1e6 * cost['session']:6.1f} µs: "
                f"{1e6 * cost['overhead']:+.1f} µs (limit {1e6 * LIMIT_OVERHEAD_S:.0f}); neighbouring blocks "
                + "/".join(f"{1e6 * cost[f'paired_{n}']:+.1f}" for n in ("low", "median", "high"))
            )
            bare_mib, session_mib = above["bare"] / 2**20, above["session"] / 2**20
            print(
                f"{'':<12} 256 MB input: bare {bare_mib:.0f} MiB, session {session_mib:.0f} MiB: "
                f"{above['above']:+.1%} (limit {LIMIT_MEMORY:.0%})"
            )
            if cost["overhead"] >= LIMIT_OVERHEAD_S:
                missed.append(f"{engine} overhead")
            if above["above"] >= LIMIT_MEMORY:
                missed.append(f"{engine} memory")
    if given.json:
        given.json.write_text(json.dumps({"engines": found, "missed": missed}, indent=2))
    print("missed: " + ", ".join(missed) if missed else "all reached")
    return MISSED if missed else 0


if __name__ == "__main__":
    sys.exit(main())
