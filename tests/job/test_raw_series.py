"""Raw timings made small enough to draw."""

from pathlib import Path

import numpy as np
import pytest

from assay.core.record import RawSamples, Record
from assay.job.raw_series import STRETCHES, condense, series_of
from assay.measure.measurement import Measurement
from assay.measure.raw import save_raw


def test_every_call_is_counted_and_the_slowest_is_kept() -> None:
    values = np.concatenate([np.full(5000, 0.001), [0.5], np.full(4999, 0.001)])
    found = condense(values, warmup=3)
    assert sum(found.counts) == found.n == 10_000
    assert len(found.edges) == len(found.counts) + 1
    assert found.edges[0] <= 0.001 and found.edges[-1] >= 0.5
    assert len(found.timeline) == STRETCHES
    assert max(largest for _, _, _, largest in found.timeline) == 0.5
    assert found.warmup == 3


@pytest.mark.parametrize("values", [[0.002], [0.002] * 7])
def test_a_constant_series_is_drawn_too(values: list[float]) -> None:
    found = condense(np.array(values))
    assert sum(found.counts) == len(values) and found.reason is None


@pytest.mark.parametrize("values", [[], [0.0, 1.0], [float("nan")]])
def test_what_cannot_be_drawn_says_why(values: list[float]) -> None:
    assert condense(np.array(values)).reason


def test_a_changed_or_missing_file_is_a_reason_not_a_plot(tmp_path: Path) -> None:
    measurement = Measurement({}, np.array([9.0, 0.1, 0.2]), np.array([True, False, False]), "stable", "", (), {})
    raw = save_raw(tmp_path, "a", measurement)
    good = Record("measure", {}, raw=raw)
    changed = Record("measure", {}, raw=RawSamples(raw.path, "0" * 64, "s"))
    gone = Record("confirm", {}, raw=RawSamples("samples/none.npz", raw.sha256, "s"))
    rows = Record("evaluate", {}, raw=RawSamples("samples/p.jsonl.gz", raw.sha256, "row"))
    found = series_of(tmp_path, [good, changed, gone, rows])
    assert set(found) == {good.id, changed.id, gone.id}
    assert found[good.id].n == 2 and found[good.id].warmup == 1
    assert "changed" in (found[changed.id].reason or "")
    assert "no raw values" in (found[gone.id].reason or "")
