"""``assay bench --loadgen``: MLPerf LoadGen presses the candidate instead of this tool's own harness."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.batching.direct import Direct
from assay.core.engine import Candidate
from assay.core.errors import BadInput
from assay.core.record import Record
from assay.core.tensors import Feed
from assay.importers.imported import Hints
from assay.importers.loadgen_summary import LoadGenSummary
from assay.importers.source import source_of
from assay.job.opening import open_candidate
from assay.job.trial import Opening, with_module
from assay.measure.loadgen import LoadGenSettings, run_loadgen
from assay.measure.measurement import check_rows

LOADGEN_SCENARIOS = {"latency": "SingleStream", "offline": "Offline", "server": "Server"}
"""This tool's scenario -> LoadGen's nearest."""


@dataclass(frozen=True)
class LoadGenTrial:
    settings: LoadGenSettings
    feeds: Sequence[Feed]


def loadgen_settings(scenario: str, duration_s: float, rate: float | None) -> LoadGenSettings:
    """Raises BadInput for a scenario LoadGen has nothing like."""
    if scenario not in LOADGEN_SCENARIOS:
        raise BadInput(
            f"LoadGen has no scenario like {scenario}", remedy=f"--scenario {' or '.join(LOADGEN_SCENARIOS)}"
        )
    return LoadGenSettings(LOADGEN_SCENARIOS[scenario], duration_s, rate=100.0 if rate is None else rate)


def press_with_loadgen(candidate: Candidate, opening: Opening | None, trial: LoadGenTrial) -> str:
    """In a child process: LoadGen's summary as text."""
    candidate = with_module(candidate, opening) if opening else candidate
    with open_candidate(candidate) as session, tempfile.TemporaryDirectory(prefix="assay-loadgen-") as folder:
        check_rows(session.signature, trial.feeds, 1)
        with Direct(session) as dispatcher:
            run_loadgen(dispatcher, trial.feeds, LoadGenSettings("SingleStream", 0.3, 10), Path(folder, "warm"))
            return run_loadgen(dispatcher, trial.feeds, trial.settings, Path(folder, "run")).read_text()


def loadgen_record(text: str) -> Record:
    """What LoadGen's summary says, by the importer that reads such files."""
    (record,) = LoadGenSummary().read(source_of(text, "mlperf_log_summary.txt"), Hints()).records
    return record
