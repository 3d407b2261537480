"""Read, preprocess, infer and score, overlapped, over callables; with shards that survive a kill."""

from __future__ import annotations

from assay.pipeline.flow import Outcome, run
from assay.pipeline.rates import Bottleneck, Rates, bottleneck, rates, vendor_lines
from assay.pipeline.settings import Flow, Stages
from assay.pipeline.shards import ShardStore
from assay.pipeline.sliding import Windows, sliding

__all__ = [
    "Bottleneck",
    "Flow",
    "Outcome",
    "Rates",
    "ShardStore",
    "Stages",
    "Windows",
    "bottleneck",
    "rates",
    "run",
    "sliding",
    "vendor_lines",
]
