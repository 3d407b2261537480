"""What a log's times say about each other: host-bound runs, percentiles of too few, stalls, odd counters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from assay.core.record import Record
from assay.core.stats import needed_for_percentile
from assay.importers.checks_evidence import where
from assay.importers.imported import Finding

LAUNCH_BOUND = 0.8  # trtexec's own warning line
STALL_JUMP = 3.0
STALL_FLAT = 1.5
STALL_REQUESTS = 10
_PERCENTILE = re.compile(r"^latency\.p(\d+(?:\.\d+)?)$")
_SLOWEST = re.compile(r"^latency\.slowest_(\d+)$")


def launch_bound(records: Sequence[Record]) -> Iterator[Finding]:
    """The host's enqueue takes as long as the GPU's work: the rate is the host's."""
    for record in records:
        enqueue, compute = record.value("latency.enqueue.p50"), record.value("latency.compute.p50")
        if not enqueue or not compute or enqueue < LAUNCH_BOUND * compute:
            continue
        share = enqueue / compute
        text = (
            f"enqueueing takes {enqueue * 1e3:.4g} ms of {compute * 1e3:.4g} ms GPU time (medians, "
            f"{share:.0%}); the figure is partly the host's, a CUDA graph would tell"
        )
        figures = {"enqueue_s": enqueue, "compute_s": compute, "share": share}
        yield Finding("launch-bound", text, figures, where(record))


def copy_bound(records: Sequence[Record]) -> Iterator[Finding]:
    """A copy takes as long as the GPU's work (trtexec's own warning)."""
    for record in records:
        compute = record.value("latency.compute.p50")
        for part, words in (("h2d", "input copies"), ("d2h", "output copies")):
            copy = record.value(f"latency.{part}.p50")
            if compute and copy and copy >= compute:
                text = f"{words} take {copy * 1e3:.4g} ms, the GPU {compute * 1e3:.4g} ms (medians)"
                yield Finding("copy-bound", text, {"copy_s": copy, "compute_s": compute}, where(record))


def several_streams(records: Sequence[Record]) -> Iterator[Finding]:
    """trtexec's latencies overlap when it runs several streams."""
    for record in records:
        streams = record.conditions.get("streams")
        if record.conditions.get("tool") == "trtexec" and streams and int(streams) > 1:
            text = f"{streams} inference streams: trtexec's latencies are unreliable, its throughput holds"
            yield Finding("several-streams", text, {"streams": float(streams)}, where(record), "note")


def too_few(records: Sequence[Record]) -> Iterator[Finding]:
    """Percentiles that so few observations do not bound; one finding per Record."""
    for record in records:
        short: dict[float, int] = {}
        for name, figure in record.figures.items():
            match = _PERCENTILE.match(name)
            if match and figure.n is not None and 90 <= float(match[1]) < 100:
                short[float(match[1])] = figure.n
        missed = {p: n for p, n in sorted(short.items()) if n < needed_for_percentile(p / 100)}
        if missed:
            lowest, n = next(iter(missed.items()))
            needed = needed_for_percentile(lowest / 100)
            listed = ", ".join(f"p{p:g}" for p in missed)
            text = f"{listed} from {n} observations: p{lowest:g} alone takes {needed} to bound"
            yield Finding("percentile-from-too-few", text, {"n": float(n), "needed": float(needed)}, where(record))


def order(records: Sequence[Record]) -> Iterator[Finding]:
    """A higher percentile below a lower one, a mean outside min and max."""
    for record in records:
        points = _ascending(record)
        for (low, a), (high, b) in pairwise(points):
            if a > b * (1 + 1e-6):
                text = f"{high} ({b * 1e3:g} ms) is below {low} ({a * 1e3:g} ms)"
                yield Finding("percentile-order", text, {low: a, high: b}, where(record), "contradiction")
        mean, least, most = (record.value(f"latency.{n}") for n in ("mean", "min", "max"))
        if mean is not None and (least is not None and mean < least * (1 - 1e-6)):
            text = f"the mean ({mean * 1e3:g} ms) is below the minimum ({least * 1e3:g} ms)"
            yield Finding("percentile-order", text, {"mean": mean, "min": least}, where(record), "contradiction")
        if mean is not None and (most is not None and mean > most * (1 + 1e-6)):
            text = f"the mean ({mean * 1e3:g} ms) is above the maximum ({most * 1e3:g} ms)"
            yield Finding("percentile-order", text, {"mean": mean, "max": most}, where(record), "contradiction")


def stalls(records: Sequence[Record]) -> Iterator[Finding]:
    """A jump between neighbouring percentiles with a flat block above it: requests that waited together."""
    for record in records:
        total = record.conditions.get("samples") or record.conditions.get("queries")
        most = record.value("latency.max")
        if not total or not most:
            continue
        points = _by_rank(record, float(total))
        for (_, below), (rank, above) in pairwise(points):
            if below > 0 and above >= STALL_JUMP * below and rank >= STALL_REQUESTS and most <= STALL_FLAT * above:
                model = f"{record.subject['model']}: " if record.subject.get("model") else ""
                text = (
                    f"{model}a stall: the slowest {rank:g} requests took {above * 1e3:g} to {most * 1e3:g} ms, "
                    f"those before them at most {below * 1e3:g} ms"
                )
                figures = {"requests": rank, "below_s": below, "above_s": above, "max_s": most}
                yield Finding("stall", text, figures, where(record))
                break


def usage(records: Sequence[Record]) -> Iterator[Finding]:
    """A processor that did nothing while it served requests."""
    for record in records:
        for key in ("cpu_usage", "gpu_usage"):
            if record.details.get(key) != 0:
                continue
            duration_s = record.conditions.get("duration_s")
            lasted = f"; the run lasted {duration_s:.2f} s and the sampler ticks every 2 s" if duration_s else ""
            line = (record.details.get("rows") or {}).get(key)
            name = record.subject.get("model") or "this run"
            text = f"{key} of {name} is 0 while it served requests: no sample was kept{lasted}"
            figures = {key: 0.0, **({"duration_s": float(duration_s)} if duration_s else {})}
            yield Finding(key.replace("_", "-") + "-0", text, figures, where(record, line))


def mislabelled_rows(records: Sequence[Record]) -> Iterator[Finding]:
    """torchpipe's row -50 holds the 40th-slowest value; said once per table."""
    seen: set[str] = set()
    for record in records:
        rows = record.details.get("rows") or {}
        if record.conditions.get("tool") != "torchpipe" or "-50" not in rows:
            continue
        place = where(record, rows["-50"])
        if place not in seen:
            seen.add(place)
            text = "the row called -50 is the 40th-slowest request: torchpipe writes the key twice; read here as -40"
            yield Finding("mislabelled-row", text, {"called": 50.0, "is": 40.0}, place, "contradiction")


def _ascending(record: Record) -> list[tuple[str, float]]:
    """min, the percentiles and max that a Record has, in the order in which they must rise."""
    found = [(float(m[1]), n) for n in record.figures if (m := _PERCENTILE.match(n))]
    names = ["latency.min", *[n for _, n in sorted(found)], "latency.max"]
    return [(n.removeprefix("latency."), v) for n in names if (v := record.value(n)) is not None]


def _by_rank(record: Record, total: float) -> list[tuple[float, float]]:
    """(how many requests are at least this slow, latency in s), from the many to the few."""
    points: list[tuple[float, float]] = []
    for name in record.figures:
        value = record.value(name)
        if value is None:
            continue
        if match := _PERCENTILE.match(name):
            points.append((total * (1 - float(match[1]) / 100), value))
        elif match := _SLOWEST.match(name):
            points.append((float(match[1]), value))
    return sorted(points, key=lambda p: -p[0])
