"""The main job on a real trained model and real data, end to end."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import MODEL

Cli = Callable[..., Any]


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


def test_every_part_of_the_run_folder_is_there(finished: Path) -> None:
    for name in ("manifest.json", "records.jsonl", "verdict.json", "report.md", "report.csv", "run.json"):
        assert (finished / name).stat().st_size > 0, name
    assert (finished / "bundle" / "manifest.json").exists()
    assert any((finished / "samples").iterdir())


def test_three_engines_were_proved_and_measured(finished: Path) -> None:
    found = records(finished)
    verified = {r["subject"]["engine"] for r in found if r["kind"] == "verify" and r["status"] == "ok"}
    measured = {r["subject"]["engine"] for r in found if r["kind"] == "measure" and r["status"] == "ok"}
    assert verified == measured == {"torch", "onnxruntime", "openvino"}
    for record in found:
        if record["kind"] == "verify":
            assert record["details"]["attestation"]["shares"], record["subject"]
            assert record["conditions"]["real_data"] is True
            assert set(record["details"]["outputs"]) == {"1", "2", "8"}


def test_the_accuracy_is_real_and_paired_with_the_reference(finished: Path) -> None:
    evaluated = [r for r in records(finished) if r["kind"] == "evaluate"]
    assert len(evaluated) >= 3
    for record in evaluated:
        assert record["figures"]["accuracy.top1"]["value"] >= 0.95
        counts = record["details"]["counts"]
        assert counts["read"] == counts["scored"] + counts["failed"] == record["conditions"]["samples"]
    assert sum("accuracy.drop" in r["figures"] for r in evaluated) == len(evaluated) - 1


def test_published_figures_come_from_a_fresh_run_after_the_choice(finished: Path) -> None:
    found = records(finished)
    kinds = [r["kind"] for r in found]
    assert "confirm" in kinds
    assert kinds.index("confirm") > max(i for i, k in enumerate(kinds) if k == "measure")
    best = json.loads((finished / "run.json").read_text())["best"]
    confirmed = [r for r in found if r["kind"] == "confirm"]
    assert {r["subject"]["candidate"] for r in confirmed} == {best["candidate"]}
    offline = next(r for r in confirmed if r["conditions"]["scenario"] == "offline")
    assert best["figures"]["offline.throughput"] == offline["figures"]["throughput"]


def test_no_speed_stands_without_an_accuracy_state(finished: Path) -> None:
    rows = list(csv.DictReader((finished / "report.csv").read_text().splitlines()))
    assert rows
    accuracy = [column for column in rows[0] if "accuracy" in column.lower()]
    assert accuracy
    for row in rows:
        assert any(row[column] for column in accuracy), row


def test_json_alone_on_stdout(trained: Path, finished: Path, cli: Cli) -> None:
    done = cli("run", MODEL, "--weights", trained, "--data", "digits", "--quick", "--out", finished, "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["schema"] == "assay.result/1"
    assert result["verb"] == "run"
    assert result["verdict"]["state"] == "passed"
    assert result["best"]["figures"]["offline.throughput"]["value"] > 0


def test_a_second_run_does_nothing_again(trained: Path, finished: Path, cli: Cli) -> None:
    before = (finished / "records.jsonl").read_bytes()
    done = cli("run", MODEL, "--weights", trained, "--data", "digits", "--quick", "--out", finished)
    assert done.code == 0, done.err
    assert (finished / "records.jsonl").read_bytes() == before


def test_killed_in_the_middle_and_resumed(trained: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "killed"
    arguments = ["run", MODEL, "--weights", str(trained), "--data", "digits", "--quick", "--out", str(out)]
    arguments += ["--engine", "torch,onnxruntime", "--precision", "fp32"]
    process = subprocess.Popen([sys.executable, "-m", "assay.cli.main", *arguments], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (out / "stages" / "verify-onnxruntime-fp32.json").exists():
        assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()
    saved = records(out)
    assert saved
    assert not (out / "verdict.json").exists()
    done = cli(*arguments)
    assert done.code == 0, done.err
    after = records(out)
    assert [r["id"] for r in after[: len(saved)]] == [r["id"] for r in saved]
    assert sum(r["kind"] == "export" for r in after) == 1
    assert "(unchanged since the last run)" in done.err


def test_ctrl_c_exits_130_and_keeps_what_was_finished(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "interrupted"
    arguments = ["run", MODEL, "--weights", str(trained), "--data", "digits", "--quick", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "assay.cli.main", *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not (out / "stages" / "export.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "resume" in err
    assert "Traceback" not in err
    assert any(r["kind"] == "export" for r in records(out))


def test_an_engine_that_is_not_here_is_exit_3_and_the_rest_is_finished(trained: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "missing"
    done = cli(
        "run", MODEL, "--weights", trained, "--data", "digits", "--quick", "--out", out,
        "--engine", "onnxruntime", "--precision", "fp32,bf16",
    )  # fmt: skip
    assert done.code == 3, done.err
    assert "not available here" in done.out
    assert "bf16" in done.out
    assert (out / "verdict.json").exists()
    assert (out / "bundle" / "manifest.json").exists()


def test_the_bundle_checks_and_a_changed_byte_does_not(finished: Path, tmp_path: Path, cli: Cli) -> None:
    bundle = tmp_path / "bundle"
    packed = cli("pack", finished, "-o", bundle)
    assert packed.code == 0, packed.err
    digest = packed.out.split()[-1]
    assert cli("check", bundle).code == 0
    assert cli("check", bundle, "--digest", digest).code == 0
    assert cli("check", bundle, "--digest", "sha256:" + "0" * 64).code == 1
    files = [p for p in bundle.rglob("*") if p.is_file() and p.name != "manifest.json"]
    victim = max(files, key=lambda p: p.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(bytes(content))
    done = cli("check", bundle)
    assert done.code == 1
    assert victim.name in done.out


def test_gate_by_a_policy_nobody_can_meet(finished: Path, tmp_path: Path, cli: Cli) -> None:
    policy = tmp_path / "p.toml"
    policy.write_text('[throughput]\nmin = "1e12"\n')
    done = cli("gate", finished, "--policy", policy)
    assert done.code == 1, done.err
    assert "throughput" in done.out


def test_reports_are_written_again_from_records(finished: Path, cli: Cli) -> None:
    before = (finished / "report.md").read_text()
    (finished / "report.md").unlink()
    assert cli("report", finished).code == 0
    assert (finished / "report.md").read_text() == before


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_verify_the_exported_file_on_an_engine(finished: Path, trained: Path, cli: Cli, engine: str) -> None:
    onnx = finished / "artifacts" / "model.onnx"
    done = cli("verify", MODEL, onnx, "--weights", trained, "--data", "digits", "--engine", engine)
    assert done.code == 0, done.out + done.err
    assert "within format cost" in done.out


def test_verify_names_another_models_weights_as_different(finished: Path, trained: Path, cli: Cli) -> None:
    onnx = finished / "artifacts" / "model.onnx"
    done = cli("verify", MODEL, onnx, "--data", "digits", "--seed", "7")
    assert done.code == 1, done.out + done.err
    assert "wrong: output" in done.out
