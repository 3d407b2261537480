"""``assay import``: logs become Records in a run folder; malformed ones are refused with file and line."""

import json
from pathlib import Path

import pytest

from assay.cli.main import run_cli
from assay.job.folder import load_run

SUMMARY = """\
[05/17/2022-15:33:49] [I] === Performance summary ===
[05/17/2022-15:33:49] [I] Throughput: 231.086 qps
[05/17/2022-15:33:49] [I] Latency: min = 3.29 ms, max = 9.36 ms, mean = 4.41 ms, median = 4.42 ms, percentile(99%) = 5.4 ms
[05/17/2022-15:33:49] [I] Enqueue Time: min = 3.2 ms, max = 9.4 ms, mean = 4.1 ms, median = 4.23 ms, percentile(99%) = 4.7 ms
[05/17/2022-15:33:49] [I] GPU Compute Time: min = 3.2 ms, max = 9.2 ms, mean = 4.3 ms, median = 4.3 ms, percentile(99%) = 5.3 ms
"""  # noqa: E501 - a log has the lines it has


def test_a_log_becomes_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "t4.log"
    log.write_text(SUMMARY)
    out = tmp_path / "run"
    assert run_cli(["import", str(log), "--out", str(out), "--device", "T4", "--batch", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {r["conditions"]["source_log"]["file"] for r in result["records"]} == {str(log)}
    assert any(f["kind"] and "98%" in f["text"] for f in result["findings"]), "a launch-bound trace is flagged"
    records, about = load_run(out)
    assert about["imported"] is True
    assert len(records) == len(result["records"]) > 0


def test_importing_again_replaces_and_a_measured_run_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "t4.log"
    log.write_text(SUMMARY)
    out = tmp_path / "run"
    arguments = ["import", str(log), "--out", str(out), "--batch", "1"]
    assert run_cli(arguments) == 0
    first = len(load_run(out)[0])
    assert run_cli(arguments) == 0
    assert len(load_run(out)[0]) == first
    (out / "run.json").write_text('{"model": "mine"}')
    assert run_cli(arguments) == 2


def test_a_malformed_log_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "broken.log"
    log.write_text(SUMMARY.replace("231.086 qps", "many qps"))
    assert run_cli(["import", str(log), "--out", str(tmp_path / "r")]) == 2
    assert "broken.log:2" in capsys.readouterr().err
