"""The README's Python, run as a newcomer pastes it, in an empty folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.docs.test_blocks import PYTHON, ROOT

import assay
from assay.cli.main import run_cli

FEWER = {"engines": ["onnxruntime"], "precisions": ["fp32"], "batches": [1]}
"""What is tried: one configuration in place of a dozen, which take minutes.  Nothing else differs from the block."""


def test_python_of_the_readme_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = (b for b in PYTHON if b.page == ROOT / "README.md")
    assert "assay.run(" in block.text
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(assay, "run", partial(assay.run, **FEWER))
    names: dict[str, Any] = {}
    exec(compile(block.text, str(block), "exec"), names)

    run, x, y = names["run"], names["x"].numpy(), names["y"].numpy()
    first, second = capsys.readouterr().out.splitlines()[-2:]
    passed, engine, precision, rate = first.split()
    assert (passed, engine, precision) == ("True", "onnxruntime", "fp32")
    assert float(rate) == run.best.throughput.value > 0
    report, bundle = map(Path, second.split())
    assert "Sequential" in report.read_text()
    assert run_cli(["check", str(bundle)]) == 0

    (evaluated,) = (r for r in run.records if r.kind == "evaluate" and r.subject["engine"] == "onnxruntime")
    figure = evaluated.figures["metric.accuracy"]
    assert figure.value is not None and figure.value > 0.85
    with assay.open(bundle) as session:
        (scores,) = session.run({session.signature.input_names[0]: x[1300:]}).values()
    assert np.mean(scores.argmax(-1) == y[1300:]) > 0.85
