import re
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest

from assay.batching.direct import Direct
from assay.core.errors import BadInput, EngineFailed, UnknownName
from assay.measure.loadgen import LoadGenSettings, run_loadgen


def settings(scenario="SingleStream", **more):
    return LoadGenSettings(scenario, **{"duration_s": 0.2, "queries": 50, "rate": 500.0, **more})


def test_settings_that_cannot_be():
    with pytest.raises(UnknownName, match="'MultiStream'"):
        settings("MultiStream")
    with pytest.raises(BadInput, match="cannot be"):
        settings(rate=0)


@pytest.mark.parametrize("scenario", ["SingleStream", "Offline", "Server"])
def test_loadgen_drives_the_dispatcher(session_of, signature, feeds, tmp_path, scenario):
    pytest.importorskip("mlperf_loadgen")
    seen = []

    def function(feed):
        seen.append(float(feed["x"][0, 0]))
        return {"y": np.zeros((1, 3), np.float32)}

    given = feeds(1, count=3)
    with Direct(session_of(function, signature(), parallelism=2)) as target:
        text = run_loadgen(target, given, settings(scenario), tmp_path).read_text()
    assert scenario.lower() in text.lower().replace(" ", "")
    assert re.search(r"50.00 percentile latency \(ns\)\s*: [1-9]\d+", text)
    assert len(seen) >= 50
    assert set(seen) == {float(f["x"][0, 0]) for f in given}


def test_a_failing_model_is_raised(session_of, signature, feeds, tmp_path):
    pytest.importorskip("mlperf_loadgen")

    def function(feed):
        raise EngineFailed("device lost")

    with pytest.raises(EngineFailed, match="device lost"), Direct(session_of(function, signature())) as target:
        run_loadgen(target, feeds(1), settings(queries=5, duration_s=0.01), tmp_path)


def test_a_query_that_fails_at_once_is_completed_once(feeds, tmp_path, monkeypatch):
    """Against a stand-in for LoadGen, whose queries are pointers: completed twice is a crash."""
    completed = []

    def start(sut, qsl, settings, log):
        sut([SimpleNamespace(id=n + 1, index=n) for n in range(4)])
        (tmp_path / "mlperf_log_summary.txt").write_text("")

    parts = {
        "QuerySamplesComplete": completed.extend,
        "QuerySampleResponse": lambda query, data, size: query,
        "ConstructSUT": lambda issue, flush: issue,
        "StartTestWithLogSettings": start,
    }
    stand_in = MagicMock(**parts)
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", stand_in)

    class Hasty:
        def submit_many(self, feeds, on_done, contexts):
            made = [SimpleNamespace(error=EngineFailed("lost"), done=True, outputs=None, context=c) for c in contexts]
            on_done(made)
            return made

    with pytest.raises(EngineFailed, match="lost"):
        run_loadgen(Hasty(), feeds(1), settings(), tmp_path)
    assert completed == [1, 2, 3, 4]
