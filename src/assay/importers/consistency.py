"""What the figures of an import say about each other.

Each check looks at all Records of an import and yields Findings; none is tied to one document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from assay.core.record import Record
from assay.importers import checks_accuracy, checks_latency, checks_rates, checks_ratios, checks_tables
from assay.importers.imported import SEVERITIES, Finding

CHECKS: tuple[Callable[[Sequence[Record]], Iterator[Finding]], ...] = (
    checks_tables.cells,
    checks_tables.statements,
    checks_tables.best_rows,
    checks_tables.ratio_cells,
    checks_ratios.best_ratios,
    checks_ratios.hidden_losses,
    checks_ratios.rules,
    checks_accuracy.identical,
    checks_latency.launch_bound,
    checks_latency.copy_bound,
    checks_latency.several_streams,
    checks_latency.too_few,
    checks_latency.order,
    checks_latency.stalls,
    checks_latency.usage,
    checks_latency.mislabelled_rows,
    checks_rates.rederived,
    checks_rates.littles_law,
    checks_rates.sample_counts,
    checks_rates.batch_sizes,
    checks_rates.versions,
    checks_rates.interface_rates,
    checks_rates.extrapolations,
    checks_rates.two_derivations,
    checks_rates.invalid_runs,
)


def check(records: Sequence[Record]) -> tuple[Finding, ...]:
    """All findings once, contradictions first, then in the order of the checks."""
    found: dict[tuple[str, str, str], Finding] = {}
    for one in CHECKS:
        for finding in one(records):
            found.setdefault((finding.kind, finding.where, finding.text), finding)
    return tuple(sorted(found.values(), key=lambda f: SEVERITIES.index(f.severity)))
