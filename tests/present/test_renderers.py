import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.record import Figure, Record, withheld
from assay.core.table import resolve
from assay.core.verdict import Reason, combine
from assay.present import FORMATS, SUFFIXES, markdown, plain, terminal
from assay.present import csv as csv_format
from assay.present.comparison import CellText, LineText, comparison_table
from assay.present.figures import format_drop
from assay.present.rows import NOT_CHECKED_SPEED, Report

from .conftest import measured, subject, verified


def shown(renderable, width=400):
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    return console.file.getvalue()


RENDERERS = {
    "markdown": markdown.render,
    "csv": csv_format.render,
    "terminal": lambda report: shown(terminal.candidate_table(report)),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_renders_a_full_and_an_empty_report(name, report):
    render = resolve(FORMATS, name, "report format")
    assert "onnxruntime" in render(report)
    assert render(Report("m", ())).endswith("\n")
    assert name in SUFFIXES


@pytest.mark.parametrize("name", RENDERERS)
def test_no_renderer_shows_a_speed_that_was_not_checked(name):
    report = Report("m", (measured("torch", throughput=123457.0),))
    text = RENDERERS[name](report)
    assert NOT_CHECKED_SPEED in text
    for trace in ("123,457", "123457", "8.1", "8.9"):
        assert trace not in text
    assert "123" in RENDERERS[name](replace(report, records=(*report.records, verified("torch"))))


@pytest.mark.parametrize("name", RENDERERS)
def test_no_renderer_shows_a_speed_without_the_accuracy_state(name, report):
    text = " ".join(RENDERERS[name](report).split())
    assert "98.67" in text and "not checked: synthetic data" in text


def test_the_verdict_and_its_reasons_come_first(report):
    text = markdown.render(report)
    order = [text.index(part) for part in ("## Verdict", "the drop is", "## Not checked", "## Candidates")]
    assert order == sorted(order)
    assert "**passed**" in text
    assert "latency: no limit was given" in text
    assert "assay run timm:resnet18 --data digits" in text
    assert "a fresh run made after the choice" in text
    assert "95 % confidence" in text
    assert "versions.numpy | 2.4.6" in text
    assert "confirm-onnxruntime-fp32-8" in text
    for note in ("Weights: a checkpoint", "net.py", "tensorrt fp16: no GPU", "something odd"):
        assert note in text


def test_no_verdict_is_said():
    text = markdown.render(Report("m", ()))
    assert "nothing was judged" in text and "No candidate was built or measured." in text


def test_markdown_makes_names_and_labels_harmless(report):
    nasty = "a|b <script>alert(1)</script> [x](javascript:1)\n| c `d`"
    bad = Record(
        "build", {"engine": nasty, "precision": "fp32", "device": "cpu"}, status="failed", reason=nasty, id="nasty"
    )
    text = markdown.render(replace(report, title=nasty, records=(*report.records, bad)))
    assert "<script" not in text and "](javascript" not in text.replace("\\](", "")
    table = [line for line in text.split("## Candidates")[1].split("##")[0].splitlines() if line.startswith("|")]
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table}
    assert len(columns) == 1
    assert len(table) == 8


def test_a_command_with_backticks_stays_inside_its_fence():
    text = markdown.render(Report("m", (), about={"command": "assay run ```x```"}))
    assert "````sh\nassay run ```x```\n````" in text


@given(st.text())
def test_escaped_text_is_one_line_without_html(text):
    escaped = markdown.escape(text)
    assert "\n" not in escaped and "<" not in escaped and ">" not in escaped
    assert not re.search(r"(?<!\\)(\\\\)*[|`]", escaped.replace("\\|", "").replace("\\`", ""))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "\n\n-", "\uff1d", "\uff20"])
def test_csv_defuses_formulas(start):
    name = f"{start}cmd|' /C calc'!A0"
    record = Record("build", {"engine": name}, status="failed", reason=name)
    text = csv_format.render(Report("m", (record,)))
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["engine"] == f"'{name}"
    assert row["reason"] == f"'{name}"


def test_csv_numbers_stay_numbers_and_lines_end_in_crlf(report):
    text = csv_format.render(report)
    assert text.count("\r\n") == len(text.splitlines()) == 6
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    chosen = next(r for r in rows if r["chosen"] == "yes")
    assert float(chosen["throughput_samples_per_s"]) == 390.0
    assert float(chosen["throughput_samples_per_s_low"]) == pytest.approx(382.2)
    assert float(chosen["accuracy_drop"]) == -0.0022
    assert chosen["latency_p99_s"] == "" and chosen["speed_state"] == "shown"
    assert chosen["records"].split()[0] == "confirm-onnxruntime-fp32-8"


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=4))
def test_csv_reads_back(names):
    records = tuple(Record("build", {"engine": n}, status="failed", reason=n, id="i") for n in dict.fromkeys(names))
    rows = list(csv.DictReader(io.StringIO(csv_format.render(Report("m", records)), newline="")))
    assert [r["engine"] for r in rows] == [csv_format.safe(r.subject["engine"]) for r in records]


def test_a_terminal_gets_no_markup_and_no_control_characters(report):
    name = "[bold red]x[/] \x1b[2Jy"
    bad = Record("build", {"engine": name}, status="failed", reason=name)
    verdict = combine([Reason(name, "failed", name)], [name])
    for renderable in (
        terminal.candidate_table(Report(name, (bad,))),
        terminal.verdict_panel(verdict),
        terminal.listing(name, [name], [[name]]),
    ):
        text = shown(renderable)
        assert "[bold red]x[/]" in text
        assert "\x1b" not in text


def test_a_terminal_says_what_the_verdict_says(report):
    text = shown(terminal.verdict_panel(report.verdict))
    assert "verdict: passed" in text
    assert "the drop is −0.2 points" in text
    assert "latency: no limit was given" in text
    assert "nothing was judged" in shown(terminal.verdict_panel(None))
    text = shown(terminal.candidate_table(report))
    assert "accuracy is top1" in text
    assert "no candidate was built or measured" in shown(terminal.candidate_table(Report("m", ())))


def test_plain_lines_are_aligned():
    lines = plain.listing_lines(("name", "value"), [("a", 1), ("long name", "x\ny")])
    assert lines == ["name       value", "a          1", "long name  x y"]


def test_nothing_is_computed_or_changed(report):
    before = [r.to_json() for r in report.records]
    for render in RENDERERS.values():
        assert render(report) == render(report)
    assert [r.to_json() for r in report.records] == before
    assert subject("torch")["candidate"] == report.records[0].subject["candidate"]


@pytest.mark.parametrize("width", [70, 80, 100, 120, 200])
def test_a_narrow_terminal_loses_neither_speeds_nor_accuracy(report, width):
    text = shown(terminal.candidate_table(report), width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("98.67") == 3 and "…" not in text
    for speed in ("50.0", "390", "210"):
        assert speed in text
    assert "openvino fp16: skipped because" in " ".join(text.split())


def test_the_column_over_eager_torch_is_named_whatever_comes_after_it():
    figures = {"speedup.eager": Figure(2.0, "ratio"), "speedup.torch_compile": Figure(1.5, "ratio")}
    record = measured("onnxruntime")
    record = replace(record, figures={**record.figures, **figures})
    text = markdown.render(Report("m", (verified("onnxruntime"), record)))
    assert text.index("| vs torch eager fp32 | vs torch.compile |") > 0
    assert "`vs torch eager fp32` is the ratio to PyTorch in eager mode" in text
    assert "last speed column" not in text


def test_a_finding_that_names_no_place(report):
    about = {"findings": [{"severity": "suspect", "text": "too fast"}]}
    assert "- **suspect** too fast" in markdown.render(replace(report, about=about))


def test_csv_writes_numpys_numbers_as_numbers():
    assert [csv_format.safe(x) for x in (np.float64(1.5), np.float64("nan"), 3, 2.0)] == ["1.5", "", "3", "2.0"]


def test_a_withheld_drop_keeps_its_reason():
    reason = "needs 95 % of the samples"
    assert format_drop(withheld("fraction", reason)) == f"— ({reason})"
    assert format_drop(Figure(0.003, "fraction", 0.001, 0.005)) == "0.30 points (0.10–0.50)"


def test_a_comparison_gets_no_control_characters():
    name = "[bold]net[/] \x1b[2Jy"
    cell = CellText(Figure(1.0, "samples/s"), None, name, (name,), at=name)
    table, notes = comparison_table(name, (name,), 0, [LineText(name, name, (cell,))])
    text = shown(table) + "".join(notes)
    assert "\x1b" not in text and text.count("[bold]net[/]") == 7
