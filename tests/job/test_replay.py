"""A bundle's evidence taken again: what holds, what moved, and what cannot be told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from assay.bundle.contents import BundleContents
from assay.bundle.pack import pack
from assay.cli.main import run_cli
from assay.core.artifact import file_artifact
from assay.core.disturbance import NEIGHBOURS
from assay.core.engine import Candidate, OpenOptions
from assay.core.record import Figure, Record
from assay.engines.onnxruntime import OnnxRuntimeEngine
from assay.job.replay.moves import moves
from assay.job.replay.one import rows_of
from assay.job.replay.overlay import check_requirement


@pytest.fixture(scope="module")
def bundle(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    engine = OnnxRuntimeEngine()
    candidate = Candidate(file_artifact(model, "onnx"), "onnxruntime", engine.version(), OpenOptions(threads=1), "cpu")
    feed = {"x": np.random.default_rng(0).random((3, 1, 8, 8), np.float32)}
    with engine.open(candidate.artifact, candidate.options) as session:
        signature, goldens = session.signature, ((feed, session.run(feed)),)
    record = Record(
        "measure",
        candidate.subject("means", 2),
        # No call can be slower than an hour: whatever this machine does, it got better, or others disturbed it.
        figures={"latency.p50": Figure(3600.0, "s", low=3500.0, high=3700.0, confidence=0.95)},
        conditions={"scenario": "latency", "batch": 2},
    )
    contents = BundleContents(
        model="means",
        candidate=candidate,
        signature=signature,
        goldens=goldens,
        tolerance={"max_relative_rms": 1e-5, "source": "a test's own limit"},
        records=(record,),
        environment={"versions": {"onnxruntime": "0.9"}},
    )
    out = tmp_path_factory.mktemp("replay") / "bundle"
    pack(contents, out)
    return out


def test_the_outputs_the_versions_and_the_speed(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    assert run_cli(["replay", str(bundle), "--duration", "0.5s", f"--json={file}"]) == 0
    result = json.loads(file.read_text())
    (record,) = result["records"]
    assert (record["kind"], record["conditions"]["batch"], record["status"]) == ("replay", 2, "ok")
    (move,) = result["replay"]["moves"]
    assert move["figure"] == "latency.p50"
    assert move["state"] in ("better", "not shown")
    assert move["ratio"] < 0.01
    assert any(change.startswith("onnxruntime: 0.9 then") for change in result["replay"]["changes"])
    assert any("accuracy" in text for text in result["replay"]["not_checked"])


def test_a_changed_file_is_not_measured(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    file = broken / "goldens.json"
    file.write_text(file.read_text() + " ")
    assert run_cli(["replay", str(broken)]) == 1
    assert "speed: the bundle did not pass its check" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--with", "onnxruntime>=1"], "one package at one version"),
        (["--duration", "soon"], "--duration soon"),
        (["--margin", "-1"], "--margin -1"),
    ],
)
def test_mistakes_are_told(bundle: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["replay", str(bundle), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_requirement_is_one_package_at_one_version() -> None:
    assert check_requirement("onnxruntime==1.22.0") == "onnxruntime==1.22.0"


def speed(value: float, spread: float, **more: object) -> Record:
    figure = Figure(value, "samples/s", low=value * (1 - spread), high=value * (1 + spread), confidence=0.95)
    conditions = {"scenario": "offline", "batch": 1}
    return Record("measure", {}, figures={"throughput": figure}, conditions=conditions, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "state"),
    [
        (speed(80, 0.01), "worse"),
        (speed(130, 0.01), "better"),
        (speed(97, 0.001), "within noise"),  # disjoint, yet nearer than the margin
        (speed(80, 0.4), "within noise"),
        (speed(80, 0.01, warnings=(f"{NEIGHBOURS}: other processes used 1.0 of 2 cores",)), "not shown"),
        (Record("replay", {}, status="failed", reason="it crashed"), "not shown"),
    ],
)
def test_what_counts_as_a_move(now: Record, state: str) -> None:
    (move,) = moves(speed(100, 0.01), now, 0.05)
    assert move.state == state


def test_golden_rows_take_turns(bundle: Path) -> None:
    from assay.bundle.contents import read_bundle
    from assay.bundle.goldens import read_goldens

    signature = read_bundle(bundle).signature
    feeds = [feed for feed, _ in read_goldens(bundle, signature).pairs]
    made = rows_of(feeds, signature, 5)["x"]
    assert made.shape == (5, 1, 8, 8)
    assert np.array_equal(made[3], made[0])
    assert not np.array_equal(made[1], made[0])
