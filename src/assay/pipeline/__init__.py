"""Read, preprocess, infer and score, overlapped, over callables; with shards that survive a kill."""

from __future__ import annotations

from assay.pipeline.batch_work import BatchResult, Worker
from assay.pipeline.flow import Enough, Outcome, gather, run
from assay.pipeline.rates import Bottleneck, Rates, bottleneck, rates, vendor_lines
from assay.pipeline.reading import Batch, Reading
from assay.pipeline.settings import Flow, Stages
from assay.pipeline.shards import ShardStore
from assay.pipeline.sliding import Windows, sliding
from assay.pipeline.stopwatch import Stopwatch

__all__ = [
    "Batch",
    "BatchResult",
    "Bottleneck",
    "Enough",
    "Flow",
    "Outcome",
    "Rates",
    "Reading",
    "ShardStore",
    "Stages",
    "Stopwatch",
    "Windows",
    "Worker",
    "bottleneck",
    "gather",
    "rates",
    "run",
    "sliding",
    "vendor_lines",
]
