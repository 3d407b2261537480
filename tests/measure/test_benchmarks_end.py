"""benchmarks/all.py tells a missed target from a benchmark that failed, and every benchmark gives an exit code."""

import ast
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))


@pytest.fixture
def ran(tmp_path):
    import all as every

    def run(body):
        script = tmp_path / "some.py"
        script.write_text(body)
        return every.measure(every.Benchmark("some", str(script), 0.5), smoke=False)

    return run


def test_all_reached(ran):
    record = ran("print('fast')")
    assert (record.status, record.details["reached"], record.details["lines"]) == ("ok", True, ["fast"])


def test_a_missed_target_is_a_figure_like_any_other(ran):
    record = ran("import sys; print('slow'); sys.exit(3)")
    assert (record.status, record.details["reached"], record.details["lines"]) == ("ok", False, ["slow"])


@pytest.mark.parametrize("body", ["raise RuntimeError('no')", "raise SystemExit('no server')"])
def test_a_benchmark_that_broke_has_failed_and_missed_nothing(ran, body):
    record = ran(body)
    assert record.status == "failed"
    assert record.reason == "it ended with exit code 1"


NO_TARGET = {"scale.py"}
"""Measures for a plan; there is nothing to reach."""


def programs():
    for script in sorted(BENCHMARKS.glob("*.py")):
        end = ast.parse(script.read_text(encoding="utf-8")).body[-1]
        if isinstance(end, ast.If) and script.name not in NO_TARGET:
            yield pytest.param(end, id=script.name)


@pytest.mark.parametrize("end", list(programs()))
def test_no_benchmark_ends_well_whatever_it_found(end):
    assert ast.unparse(end.body[-1]).startswith("sys.exit(main(")
