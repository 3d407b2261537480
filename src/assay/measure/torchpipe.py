"""The figures of torchpipe's closed-loop test, by its definitions, from all timings of a run.

* ``throughput::qps`` — samples over the time from the first request to the last answer.
* ``throughput::avg`` — 1000 · clients / qps, in ms: derived, not measured.
* ``latency::TP50/TP90/TP99`` — the sorted latencies at index n // 2, int(0.9 n), int(0.99 n); ``avg``
  their arithmetic mean; in ms.  A request of b samples counts b times.
* ``-50``, ``-20``, ``-10``, ``-1`` — the k-th slowest latency.  (That tool writes the 40th slowest under
  ``-50``; here it is the 50th.)  With fewer than k latencies it is withheld: that tool would repeat the
  list until it is long enough.
* ``cpu_usage`` — processor time of this process over the run's time, 100 for one core, so that short runs
  have one too; that tool takes the median of samples 2 s apart and prints 0 without any.
* ``gpu_usage`` — the median of what the device told while the load ran, in percent (measure/accelerator.py);
  withheld here, and filled in by whoever watched it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.core.stats import Vector
from assay.core.units import Seconds
from assay.core.workload import Clients

WORST = (50, 20, 10, 1)
ROWS = (
    "num_clients",
    "total_number",
    "throughput::qps",
    "throughput::avg",
    "latency::TP50",
    "latency::TP90",
    "latency::TP99",
    "latency::avg",
    *(f"-{k}" for k in WORST),
    "cpu_usage",
    "gpu_usage",
)
"""The rows of the table, in that tool's order."""


def closed_loop_row(seconds: Vector, span_s: Seconds, load: Clients, cpu_s: Seconds) -> dict[str, Any]:
    """One model's column: ``ROWS`` with numbers, or None where there is none.

    ``seconds`` are the latencies of all requests of the timed run, ``span_s`` its length.
    """
    latencies_ms = np.sort(np.repeat(seconds, load.request_batch)) * 1e3
    n = len(latencies_ms)
    qps = n / span_s if span_s > 0 else None
    row: dict[str, Any] = {
        "num_clients": load.clients,
        "total_number": n,
        "throughput::qps": qps,
        "throughput::avg": 1000 * load.clients / qps if qps else None,
        "latency::TP50": float(latencies_ms[n // 2]),
        "latency::TP90": float(latencies_ms[int(0.9 * n)]),
        "latency::TP99": float(latencies_ms[int(0.99 * n)]),
        "latency::avg": float(latencies_ms.mean()),
    }
    row |= {f"-{k}": float(latencies_ms[n - k]) if n >= k else None for k in WORST}
    row["cpu_usage"] = 100 * cpu_s / span_s if span_s > 0 else None
    row["gpu_usage"] = None
    return row
