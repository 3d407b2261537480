"""What verification costs over the inference it cannot do without, and what memory comparing inner tensors takes.

The bare inference is the time inside ``Session.run`` of both sides, taken in the very run that is timed.
Limits: 1.5× without the float64 truth, 8× with it; memory at most 2× the model plus one batch of activations::

    python benchmarks/verify.py [MODEL] [SIZE] [SAMPLES] [--write]     # timm names; resnet50 224 32

``--write`` puts the figures into docs/verify.md.
"""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path

import marked
import networks
import numpy as np
from verdict import MISSED

from assay.core import child, clock
from assay.core.engine import OpenOptions
from assay.core.units import format_bytes, format_seconds
from assay.diagnose.operators import GraphRecorder, Suspect, blame
from assay.export.arithmetic import ModuleArithmetic
from assay.graph.extract import Parts, flat
from assay.graph.signature import load_model, read_signature
from assay.job.compare_two import compare_with_truth
from assay.job.diagnose.stages import How, open_onnx, opener
from assay.job.opening import engine
from assay.measure.observe import Observed

BATCHES = (1, 2, 8)
LIMITS = {"without truth": 1.5, "with truth": 8.0, "memory": 2.0}
_BATCH = 4
DOCS = Path(__file__).parents[1] / "docs" / "verify.md"


def make(name: str, size: int, folder: Path) -> tuple[object, Path]:
    from assay.sources.torchvision_ops import make_importable

    make_importable()
    import timm
    import torch

    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False).eval()
    x = np.random.default_rng(0).normal(size=(2, 3, size, size)).astype(np.float32)
    return module, networks.export(module, x, folder / "model.onnx")


SAID: list[str] = []


def say(line: str) -> None:
    SAID.append(line)
    print(line)


def time_ratio(module: object, path: Path, x: np.ndarray, truth: bool) -> float:
    """Wall time of the whole comparison over the time inside the two sessions."""
    signature = read_signature(path)
    feeds = {b: [{"x": x[i : i + b]} for i in range(0, len(x), b)] for b in BATCHES}
    with (
        engine("torch").open_module(module, signature, OpenOptions()) as first,  # type: ignore[attr-defined]
        open_onnx(path, How(level=None)) as second,
    ):
        watched = [Observed(s, lambda feed, outputs: None) for s in (first, second)]
        for session in watched:  # the first run of each prepares its kernels
            session.run(feeds[BATCHES[-1]][0])
            session.seconds = 0.0
        started = clock.now()
        exact = (ModuleArithmetic(module, signature), None) if truth else (None, "left out")
        result, split = compare_with_truth((watched[0], watched[1]), feeds, exact, "fp32")
        wall = clock.now() - started
    assert not result.failures, result.failures
    assert bool(split and split.costs) == truth
    bare = sum(s.seconds for s in watched)
    label = "with truth" if truth else "without truth"
    say(
        f"{label:<14} {format_seconds(wall):>9} over {format_seconds(bare):>9} of bare inference: "
        f"{wall / bare:.2f}×  (limit {LIMITS[label]}×)"
    )
    return wall / bare


def inner(path: str, size: int, compare: bool) -> int:
    """Body of the child: compare the inner tensors of the file with themselves, or only get ready to.  Gives the
    bytes of all activations of one batch."""
    parts = Parts(flat(load_model(Path(path), external_data=True)))
    feed = {"x": np.random.default_rng(0).normal(size=(_BATCH, 3, size, size)).astype(np.float32)}
    recorder = GraphRecorder(parts, opener(How()))
    recorder.values(feed, parts.tensors()[:1])  # imports the runtime, whose own memory is not counted
    if not compare:
        return 0
    total = sum(a.nbytes for name in parts.tensors() for a in recorder.values(feed, [name]).values())
    found = blame(recorder, Suspect(parts, opener(How()), 1e-5), feed)
    assert found.guilty == ()
    return total


def memory_ratio(path: Path, size: int) -> float:
    """Peak resident memory beyond an idle process, over the model plus one batch of activations."""
    idle = child.run(f"{_HERE}:inner", {"path": str(path), "size": size, "compare": False}, _LIMITS)
    busy = child.run(f"{_HERE}:inner", {"path": str(path), "size": size, "compare": True}, _LIMITS)
    model = path.stat().st_size
    allowed = model + busy.value
    used = busy.peak_rss_bytes - idle.peak_rss_bytes + model  # the idle child holds the model once
    say(
        f"memory         {format_bytes(used)} over {format_bytes(allowed)} of model ({format_bytes(model)}) and "
        f"activations of {_BATCH} rows: {used / allowed:.2f}×  (limit {LIMITS['memory']}×)"
    )
    return used / allowed


_HERE = "verify"
_LIMITS = child.Limits(env={"PYTHONPATH": str(Path(__file__).parent)})


def main(name: str, size: int, samples: int, write: bool) -> int:
    with tempfile.TemporaryDirectory() as folder:
        module, path = make(name, size, Path(folder))
        x = np.random.default_rng(1).normal(size=(samples, 3, size, size)).astype(np.float32)
        ratios = {
            "without truth": time_ratio(module, path, x, truth=False),
            "with truth": time_ratio(module, path, x, truth=True),
            "memory": memory_ratio(path, size),
        }
    if write:
        marked.write(DOCS, "verify", ["```", f"{name} at {size}, {samples} samples", *SAID, "```"])
    missed = [k for k, v in ratios.items() if not (math.isfinite(v) and v <= LIMITS[k])]
    print(f"missed: {', '.join(missed)}" if missed else f"{name} at {size}, {samples} samples: every limit met")
    return MISSED if missed else 0


if __name__ == "__main__":
    given = [a for a in sys.argv[1:] if a != "--write"]
    size, samples = (int(a) for a in (given[1:] + ["224", "32"][len(given[1:]) :]))
    sys.exit(main(given[0] if given else "resnet50", size, samples, "--write" in sys.argv))
