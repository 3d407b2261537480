"""benchmarks/coverage.py with fewer runs: the limits there, less what so few runs may miss them by."""

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "coverage.py"
RUNS = 200
sys.path.insert(0, str(SCRIPT.parent))


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("coverage_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def slack(share):
    return 2 * math.sqrt(share * (1 - share) / RUNS)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8])
def test_the_complete_procedure_holds_the_truth(script, phi):
    for name, tally in script.coverage(phi, RUNS).items():
        assert tally.runs == RUNS
        assert tally.given >= 0.8 * RUNS, name
        assert tally.share >= script.COVERS - slack(script.COVERS), name


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8])
def test_the_same_thing_twice_is_seldom_called_different(script, phi):
    assert script.differs(phi, RUNS) <= script.DIFFERS + slack(script.DIFFERS)


def test_the_simulated_series_is_what_it_says(script):
    rng = np.random.default_rng(0)
    for phi in (0.0, 0.5, 0.8):
        z = script.draw(rng, 200_000, phi)
        assert z.std() == pytest.approx(1, abs=0.02)
        assert np.corrcoef(z[:-1], z[1:])[0, 1] == pytest.approx(phi, abs=0.02)


def test_without_the_effective_size_it_would_not_cover(script, monkeypatch):
    """The test can fail: intervals that take correlated calls for independent ones miss the truth."""
    monkeypatch.setattr("assay.core.stats.effective_size", lambda values: float(len(values)))
    assert script.coverage(0.8, 100)["latency.mean"].share < 0.8
