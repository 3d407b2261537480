import numpy as np
import pytest

from assay.core.errors import BadInput, StorageFailed
from assay.core.record import RawSamples
from assay.core.workload import StopRule, Workload
from assay.measure.latency import measure_latency
from assay.measure.raw import load_raw, save_raw, save_series


@pytest.fixture
def measured(scripted, feeds):
    work = Workload(stop=StopRule(min_calls=30, max_calls=30), warmup_s=0.0)
    return measure_latency(scripted(np.linspace(1e-3, 2e-3, 33)), feeds(1), work)


def test_every_timing_comes_back(tmp_path, measured):
    raw = save_raw(tmp_path, "abc", measured)
    assert (raw.path, raw.unit) == ("samples/abc.npz", "s")
    values, warmup = load_raw(tmp_path, raw)
    assert np.array_equal(values, measured.values)
    assert np.array_equal(warmup, measured.warmup)
    assert [p.name for p in (tmp_path / "samples").iterdir()] == ["abc.npz"]


def test_the_digest_depends_on_the_values_alone(tmp_path, measured):
    first, second = (save_raw(tmp_path / d, "abc", measured) for d in ("a", "b"))
    assert first.sha256 == second.sha256


def test_a_changed_file_is_noticed(tmp_path, measured):
    raw = save_raw(tmp_path, "abc", measured)
    path = tmp_path / raw.path
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BadInput, match="was changed after it was recorded"):
        load_raw(tmp_path, raw)
    path.unlink()
    with pytest.raises(BadInput, match="no raw values"):
        load_raw(tmp_path, raw)


def test_a_file_of_something_else(tmp_path):
    from assay.core.artifact import digest_file

    (tmp_path / "x.npz").write_text("not a zip")
    with pytest.raises(BadInput, match="does not hold timings"):
        load_raw(tmp_path, RawSamples("x.npz", digest_file(tmp_path / "x.npz"), "s"))


def test_a_folder_that_cannot_be_written(tmp_path, measured):
    (tmp_path / "samples").write_text("in the way")
    with pytest.raises(StorageFailed, match="cannot write"):
        save_raw(tmp_path, "abc", measured)


@pytest.mark.parametrize(
    "arrays",
    [
        {"values": np.ones(3), "warmup": np.zeros(2, bool)},
        {"values": np.ones(3), "warmup": np.zeros(3)},
        {"values": np.array(["a"]), "warmup": np.zeros(1, bool)},
        {"values": np.float64(1.0), "warmup": np.bool_(False)},
    ],
)
def test_arrays_that_are_no_timings(tmp_path, arrays):
    with pytest.raises(BadInput, match="does not hold timings"):
        load_raw(tmp_path, save_series(tmp_path, "odd", arrays))
