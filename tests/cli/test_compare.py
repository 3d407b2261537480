"""``assay compare``, ``assay gate`` between devices and ``assay runs``: exit codes and what is printed."""

import json
from pathlib import Path

import pytest

from assay.cli.main import run_cli
from assay.core.record import Figure, Record

ROOT = Path(__file__).parents[2]


def speed(rate, width=0.01, engine="openvino", **conditions):
    subject = {"model": "net", "candidate": f"c-{engine}", "engine": engine, "precision": "fp32", "device_name": "cpu"}
    figures = {"throughput": Figure(rate, "samples/s", rate * (1 - width), rate * (1 + width), 0.95, 500)}
    return Record("measure", subject, figures=figures, conditions={"scenario": "offline", "batch": 8, **conditions})


def card(device, batch, rate):
    subject = {"model": "regnet", "engine": "ascend", "device_name": device}
    conditions = {"imported": True, "batch": batch, "basis": "device-only", "evidence": "log"}
    return Record("measure", subject, figures={"throughput": Figure(rate, "samples/s")}, conditions=conditions)


def write(folder, *records):
    folder.mkdir(parents=True)
    verified = [Record("verify", r.subject, details={"class": "equal"}) for r in records if "candidate" in r.subject]
    (folder / "records.jsonl").write_text("".join(json.dumps(r.to_json()) + "\n" for r in (*verified, *records)))
    return folder


@pytest.fixture
def pair(tmp_path):
    def made(rate, **more):
        return [str(write(tmp_path / "base", speed(100.0))), str(write(tmp_path / "new", speed(rate, **more)))]

    return made


@pytest.mark.parametrize(("rate", "code"), [(100.0, 0), (70.0, 1), (97.0, 0)])
def test_a_regression_is_exit_code_1(pair, capsys, rate, code):
    assert run_cli(["compare", *pair(rate), "--fail-on", "regression"]) == code
    out = capsys.readouterr().out
    assert "regression.speed" in out and f"verdict: {'failed' if code else 'passed'}" in out


def test_the_margin_is_the_callers(pair):
    paths = pair(70.0)
    assert run_cli(["compare", *paths, "--fail-on", "regression", "--margin", "40%"]) == 0
    assert run_cli(["compare", *paths, "--fail-on", "regression", "--margin", "much"]) == 2


def test_unlike_runs_are_refused_with_the_way_to_allow_it(pair, capsys):
    paths = pair(200.0, data="imagenet")
    write(Path(paths[0]).parent / "other", speed(200.0, data="digits"))
    unlike = [str(Path(paths[0]).parent / "other"), paths[1]]
    assert run_cli(["compare", *unlike]) == 2
    shown = capsys.readouterr()
    assert "not ranked" in shown.out and "data imagenet against digits" in shown.out
    assert "--allow" in shown.err
    assert run_cli(["compare", *unlike, "--allow", "data"]) == 0
    assert "allowed: data imagenet against digits" in " ".join(capsys.readouterr().out.split())


def test_json_carries_every_cell(pair, capsys):
    assert run_cli(["compare", *pair(150.0), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["schema"] == "assay.result/1" and value["verb"] == "compare"
    (line,) = value["comparison"]["lines"]
    assert line["cells"][1]["ratio"]["value"] == pytest.approx(1.5)
    assert line["cells"][1]["accuracy"] == "not checked"
    assert value["accuracy"] == []


def test_three_runs_are_no_regression(pair, tmp_path, capsys):
    paths = pair(100.0)
    assert run_cli(["compare", *paths, str(write(tmp_path / "c", speed(1.0))), "--fail-on", "regression"]) == 2
    assert "BASE and NEW" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--base", "T4"], ["--columns", "colour"], ["--allow", "everything"]])
def test_unknown_words_are_bad_usage(pair, arguments):
    assert run_cli(["compare", *pair(100.0), *arguments]) == 2


def test_names_from_logs_do_not_reach_the_terminal_raw(tmp_path, capsys):
    hostile = "net\x1b[2J[bold]"
    records = [Record("measure", {**speed(1.0).subject, "model": hostile}, figures=speed(1.0).figures)]
    run_cli(["compare", str(write(tmp_path / "a", *records))])
    out = capsys.readouterr().out
    assert "\x1b[2J" not in out and "[bold]" in out


def test_gate_judges_devices_of_imported_logs(tmp_path, capsys):
    rates = {"310": {1: 1055.5, 16: 2858.1}, "310P": {1: 624.5, 16: 3907.4}, "T4": {1: 231.1, 16: 1465.5}}
    folder = write(tmp_path / "logs", *(card(d, b, v) for d, found in rates.items() for b, v in found.items()))
    best, every = (str(ROOT / "policies" / f"310p-{name}-batch.toml") for name in ("best", "every"))
    assert run_cli(["gate", str(folder), "--policy", best]) == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "1.367×" in out and "What this hides: 310P is slower than 310 at batch 1 (0.5917×)" in out
    finding = {"severity": "contradiction", "text": "the table lies", "where": "a.txt:3", "figures": {}}
    (folder / "findings.json").write_text(json.dumps([finding, {**finding, "severity": "note", "text": "a remark"}]))
    assert run_cli(["gate", str(folder), "--policy", every]) == 1
    out = capsys.readouterr().out
    assert "contradiction: the table lies (a.txt:3)" in out and "a remark" not in out
    assert run_cli(["gate", str(folder), "--policy", best, "--model", "none"]) == 2
    assert run_cli(["gate", str(folder), "--policy", str(ROOT / "policies" / "default.toml")]) == 2


def test_runs_lists_filters_and_tells_what_changed(tmp_path, capsys):
    write(tmp_path / "runs" / "one", speed(100.0))
    write(tmp_path / "runs" / "two", speed(150.0, engine="torch"))
    root = str(tmp_path / "runs")
    assert run_cli(["runs", root]) == 0
    out = capsys.readouterr().out
    assert "one" in out and "two" in out and "2 runs" in out
    assert run_cli(["runs", root, "--engine", "torch", "--json"]) == 0
    assert [r["name"] for r in json.loads(capsys.readouterr().out)["runs"]] == ["two"]
    assert run_cli(["runs", root, "--records"]) == 0
    assert "4 records" in capsys.readouterr().out
    assert run_cli(["runs", root, "--diff", "one", "two"]) == 0
    assert "openvino fp32 batch 8" in " ".join(capsys.readouterr().out.split())
    assert run_cli(["runs", root, "--diff", "one", "three"]) == 2
    assert run_cli(["runs", str(tmp_path / "nowhere")]) == 2


def test_a_long_list_is_cut_and_says_so(tmp_path, capsys):
    write(tmp_path / "runs" / "one", *(speed(100.0 + i, batch=i + 1) for i in range(300)))
    root = str(tmp_path / "runs")
    assert run_cli(["runs", root, "--records"]) == 0
    assert "the newest 50 of 600" in capsys.readouterr().out
    assert run_cli(["runs", root, "--records", "--all"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 602


def test_one_page_of_all_runs_keeps_them_apart(pair, tmp_path):
    page = tmp_path / "both.html"
    assert run_cli(["compare", *pair(150.0), "--html", str(page)]) == 0
    text = page.read_text()
    table = text[text.index('<table id="candidates">') : text.index("</table>")]
    assert "base openvino fp32" in table and "new openvino fp32" in table
    assert table.count("<tr ") == 2
