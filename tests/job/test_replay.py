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
from assay.core.engine import Candidate, OpenOptions
from assay.core.errors import ChildFailed, NotAvailable
from assay.core.record import Figure, Record
from assay.engines.onnxruntime import OnnxRuntimeEngine
from assay.job.replay.golden_rows import rows_of
from assay.job.replay.one import MOST_CASES, MOST_FEED_BYTES
from assay.job.replay.overlay import check_imports, check_requirement, run_with


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
    for record in result["records"]:  # two where the first showed a move
        assert (record["kind"], record["conditions"]["batch"], record["status"]) == ("replay", 2, "ok")
    assert len(result["records"]) in (1, 2)
    (move,) = result["replay"]["moves"]
    assert move["figure"] == "latency.p50"
    assert move["state"] in ("better", "not shown")
    assert move["ratio"] < 0.01
    assert any(change.startswith("onnxruntime: 0.9 then") for change in result["replay"]["changes"])
    assert any("accuracy" in text for text in result["replay"]["not_checked"])


def test_a_driver_and_variables_that_changed_are_told(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    then = {"gpu_driver": "535.1", "thread_env": {"OMP_NUM_THREADS": "7"}, "versions": {}}
    assert run_cli(["replay", str(changed(bundle, tmp_path, environment=then, records=[]))]) == 0
    said = capsys.readouterr().out
    assert "changed       gpu_driver: 535.1 then" in said
    assert "changed       thread_env: {'OMP_NUM_THREADS': '7'} then" in said


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


def changed(bundle: Path, folder: Path, **description: object) -> Path:
    """A copy with another bundle.json or other Records, and a manifest that fits."""
    import shutil

    from assay.bundle.manifest import write_manifest

    made = folder / "bundle"
    shutil.copytree(bundle, made)
    records = description.pop("records", None)
    if records is not None:
        (made / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))  # type: ignore[attr-defined]
    about = json.loads((made / "bundle.json").read_text())
    (made / "bundle.json").write_text(json.dumps({**about, **description}))
    write_manifest(made)
    return made


@pytest.mark.parametrize("versions", ["x", [1], 3, None, {"onnxruntime": ["a"]}, {"onnxruntime": {"b": 1}}])
def test_versions_of_any_kind_are_read(
    bundle: Path, tmp_path: Path, versions: object, capsys: pytest.CaptureFixture[str]
) -> None:
    made = changed(bundle, tmp_path, environment={"versions": versions, "cpu": [1, {}]}, records=[])
    assert run_cli(["replay", str(made)]) == 0
    assert "onnxruntime: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("conditions", "code", "said"),
    [
        ({"scenario": ["latency"]}, 2, "not a record"),
        ({"scenario": {}}, 2, "not a record"),
        ({"scenario": "latency", "batch": [2]}, 2, "not a record"),
        ({"scenario": "latency", "batch": -2}, 0, "no measurement of its engine"),
        ({"scenario": None}, 0, "no measurement of its engine"),
        ({"scenario": "server"}, 0, "no measurement of its engine"),
        ({}, 0, "no measurement of its engine"),
    ],
)
def test_records_of_odd_conditions_are_not_measured(
    bundle: Path,
    tmp_path: Path,
    conditions: dict[str, object],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = json.loads((bundle / "records.jsonl").read_text())
    made = changed(bundle, tmp_path, records=[{**record, "conditions": {"batch": 2, **conditions}}])
    assert run_cli(["replay", str(made)]) == code
    found = capsys.readouterr()
    assert said in found.out + found.err


def test_what_a_bundle_may_ask_for_is_bounded(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches that would fill the memory, and Records that would take a day."""
    from assay.job.replay import one

    record = json.loads((bundle / "records.jsonl").read_text())
    sizes = [*range(1, MOST_CASES + 6), MOST_FEED_BYTES // 64, 10**30]
    records = [{**record, "id": f"r{b}", "conditions": {"scenario": "latency", "batch": b}} for b in sizes]
    made = changed(bundle, tmp_path, records=records)
    asked = []

    def measured(_: object, __: object, recorded: list[tuple[Record, ...]], ___: object) -> list[Record]:
        asked.append(len(recorded))
        return [Record("replay", {}, conditions=r.conditions, status="failed", reason="not now") for (r,) in recorded]

    monkeypatch.setattr(one, "_measure_again", measured)
    assert run_cli(["replay", str(made)]) == 1
    said = capsys.readouterr().out
    assert asked == [MOST_CASES]
    assert "5 of the bundle's 37 measurements" in said
    assert f"batch {MOST_FEED_BYTES // 64}: more than 512 MiB of input" in said
    assert f"batch {10**30}: more than" in said


def package(folder: Path, source: str) -> Path:
    """A version that was installed into a folder of its own, and what it asks for."""
    (folder / "oddlib").mkdir()
    (folder / "oddlib" / "__init__.py").write_text(source)
    about = folder / "oddlib-9.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: oddlib\nVersion: 9.1\nRequires-Dist: sympy\nRequires-Dist: numpy<2\n"
        'Requires-Dist: never; extra == "x"\n'
    )
    return folder


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise ImportError('built for another numpy')", "ImportError: built for another numpy"),
        ("import os; os.abort()", "signal SIGABRT"),
        ("raise SystemExit(3)", "exit code 3"),
        ("import sys; print('ImportError: printed, and gone on', file=sys.stderr)", "printed, and gone on"),
    ],
)
def test_a_version_that_cannot_be_imported_is_told_with_what_it_asks_for(
    source: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(NotAvailable, match="cannot be imported beside") as caught:
        check_imports(["oddlib==9.1"], package(tmp_path, source), {})
    assert said in caught.value.message
    assert "asks for numpy<2, sympy" in caught.value.message
    assert "never" not in caught.value.message
    assert "--with" in str(caught.value.remedy)


def test_a_version_that_can_be_imported_is(tmp_path: Path) -> None:
    check_imports(["oddlib==9.1"], package(tmp_path, "import json"), {})


def test_other_versions_are_found_first_and_a_crash_is_told(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replay itself, in its own interpreter: in place of onnxruntime, a module that ends the process."""
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").write_text("import os; os.abort()")
    strangers = tmp_path / "strangers"
    strangers.mkdir()
    (strangers / "numpy.py").write_text("raise SystemExit('a stranger in the current folder was run')")
    monkeypatch.chdir(strangers)
    with pytest.raises(ChildFailed, match="SIGABRT"):
        run_with(tmp_path, [str(bundle)], {})


def test_a_replay_that_is_ended_leaves_nothing_behind(bundle: Path, tmp_path: Path) -> None:
    """SIGTERM, as ``timeout`` and containers send it, and kill -9: neither its folder nor its child stays."""
    import os
    import signal
    import subprocess
    import sys
    import time

    slow = tmp_path / "slow"
    (slow / "onnxruntime").mkdir(parents=True)
    (slow / "onnxruntime" / "__init__.py").write_text(
        "import os, time\n"
        f"with open({str(tmp_path / 'pid')!r}, 'w') as file: file.write(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    code = (
        "import os, tempfile; from pathlib import Path; from assay.cli import interrupts; from assay.job.replay import "
        "overlay; interrupts.install()\n"
        f"with tempfile.TemporaryDirectory(dir={str(tmp_path / 'own')!r}): "
        f"overlay.run_with(Path({str(slow)!r}), [{str(bundle)!r}], os.environ)"
    )
    for sent, ended in ((signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)):
        (tmp_path / "own").mkdir(exist_ok=True)
        (tmp_path / "pid").unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
                break
            time.sleep(0.05)
        child = int((tmp_path / "pid").read_text())
        process.send_signal(sent)
        assert process.wait(20) == ended
        assert sent == signal.SIGKILL or list((tmp_path / "own").iterdir()) == []
        for _ in range(200):
            try:
                state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                break
            if state == "Z":
                break
            time.sleep(0.05)
        else:
            os.kill(child, signal.SIGKILL)
            pytest.fail("the replay went on without the one that waited for it")


def test_what_is_no_bundle_is_told_before_anything_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from assay.job.replay import overlay

    monkeypatch.setattr(overlay, "install", lambda *_: pytest.fail("something was installed"))
    for words in ([str(tmp_path)], [str(tmp_path / "none")], [str(tmp_path), "--duration", "x"]):
        assert run_cli(["replay", *words, "--with", "onnxruntime==1.22.0"]) == 2
    assert "is not a bundle" in capsys.readouterr().err


def test_golden_rows_take_turns(bundle: Path) -> None:
    from assay.bundle.contents import read_bundle
    from assay.bundle.goldens import read_goldens

    signature = read_bundle(bundle).signature
    feeds = [feed for feed, _ in read_goldens(bundle, signature).pairs]
    made = rows_of(feeds, signature, 5)["x"]
    assert made.shape == (5, 1, 8, 8)
    assert np.array_equal(made[3], made[0])
    assert not np.array_equal(made[1], made[0])
