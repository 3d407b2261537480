"""Rates re-derived: Little's law, rate × duration = samples, batch sizes, versions, bases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from assay.core import derive
from assay.core.record import Record
from assay.importers.checks_evidence import agree_values, batch, device, rate, same_model, where
from assay.importers.imported import Finding
from assay.importers.reading import END_TO_END, EXTRAPOLATED

IN_FLIGHT_ABOVE = 1.05
IN_FLIGHT_BELOW = 0.8
SAMPLES = 0.005


def rederived(records: Sequence[Record]) -> Iterator[Finding]:
    """Figures that other figures of the same log make; each importer says which."""
    for record in records:
        for entry in record.details.get("rederived") or ():
            said = record.value(entry["figure"])
            if said is None or abs(said - entry["value"]) <= entry["tolerance"] * abs(entry["value"]):
                continue
            inputs = ", ".join(f"{k} {v:g}" for k, v in entry["inputs"].items())
            text = (
                f"{entry['figure']} is given as {said:.10g} {entry['unit']}; {entry['formula']} ({inputs}) "
                f"makes {entry['value']:.10g}"
            )
            figures = {"said": said, "derived": entry["value"]}
            yield Finding("arithmetic", text, figures, where(record), "contradiction")


def littles_law(records: Sequence[Record]) -> Iterator[Finding]:
    """No more requests can be in flight than clients send; far fewer mean that the clients were the limit."""
    for record in records:
        clients, requests = record.conditions.get("clients"), _requests(record)
        mean = record.value("latency.mean") or record.details.get("parts_s")
        coarse = record.conditions.get("time_resolution_s") or 0.0
        if not clients or not requests or not mean or float(mean) < 20 * coarse:
            continue
        found = derive.concurrency(requests, float(mean))
        share = found.value / float(clients)
        figures = {
            "clients": float(clients),
            "in_flight": found.value,
            "requests_per_s": requests,
            "mean_s": float(mean),
        }
        if share > IN_FLIGHT_ABOVE:
            text = (
                f"Little's law: {requests:g}/s × {mean * 1e3:g} ms = {found.value:.3g} in flight, of {clients} clients"
            )
            yield Finding("littles-law", text, figures, where(record), "contradiction")
        elif share < IN_FLIGHT_BELOW:
            text = f"only {found.value:.3g} of {clients} clients' requests were in flight: the clients were the limit"
            yield Finding("idle-clients", text, figures, where(record))


def sample_counts(records: Sequence[Record]) -> Iterator[Finding]:
    """rate × duration against the number of samples that were counted or scored."""
    scored = [r for r in records if r.kind == "evaluate" and r.conditions.get("samples")]
    for record in records:
        duration_s = record.conditions.get("duration_s")
        if not duration_s or record.conditions.get("counted_duration") is False or rate(record) <= 0:
            continue
        if record.conditions.get("basis") != END_TO_END and not record.conditions.get("samples"):
            continue
        done = derive.samples_done(rate(record), float(duration_s)).value
        alike = [r for r in scored if same_model(r, record) and device(r) == device(record)]
        own = record.conditions.get("samples")
        known = (
            [float(own)]
            if own
            else [float(r.conditions["samples"]) for r in alike if "samples_done" in record.conditions]
        )
        if known and not any(abs(done - n) <= SAMPLES * n for n in known):
            text = f"rate × duration makes {done:.10g} samples, but {known[0]:.10g} were counted"
            figures = {"rate_x_duration": done, "counted": known[0]}
            yield Finding("samples-do-not-add-up", text, figures, where(record), "contradiction")


def batch_sizes(records: Sequence[Record]) -> Iterator[Finding]:
    """A batch size in words or hints against the one in the log's own figures or command."""
    seen: set[str] = set()
    for record in records:
        stated, used = record.conditions.get("stated_batch"), batch(record)
        if stated and used and int(stated) != used and where(record) not in seen:
            seen.add(where(record))
            text = f"called batch {used}, but the log itself says batch {stated}"
            yield Finding(
                "batch-contradicted",
                text,
                {"called": float(used), "log": float(stated)},
                where(record),
                "contradiction",
            )


def versions(records: Sequence[Record]) -> Iterator[Finding]:
    """A claimed TensorRT version that cannot have printed such a log."""
    seen: set[tuple[str, str]] = set()
    for record in records:
        limits = record.conditions.get("format_versions")
        claimed = record.conditions.get("claimed_version") or record.subject.get("engine_version")
        if not limits or not claimed or record.status != "ok":
            continue
        low, high, said = (_version(v) for v in (*limits, claimed))
        if not said or low <= said < high or (str(claimed), where(record)) in seen:
            continue
        seen.add((str(claimed), where(record)))
        text = f"TensorRT {claimed} is claimed, but this log has the format of {limits[0]} up to below {limits[1]}"
        figures = {"claimed_major": float(said[0]), "format_from_major": float(low[0])}
        yield Finding("version-contradicts-format", text, figures, where(record), "contradiction")


def interface_rates(records: Sequence[Record]) -> Iterator[Finding]:
    """The inference call alone against the pipeline around it."""
    for record in records:
        excess = record.details.get("interface_excess")
        if excess and excess["value"] >= 1.2:
            given = excess["inputs"]
            text = (
                f"the interface rate ({given['interface']:g}/s) is {excess['value']:.2f} × what the pipeline "
                f"delivered end to end ({given['end_to_end']:g}/s)"
            )
            yield Finding("interface-is-not-end-to-end", text, dict(given), where(record), "note")


def extrapolations(records: Sequence[Record]) -> Iterator[Finding]:
    """Card figures that nobody measured: one note per device and file."""
    seen: set[tuple[str, str]] = set()
    for record in records:
        key = (device(record), str(record.conditions["source_log"]["file"]))
        if record.conditions.get("how") == EXTRAPOLATED and key not in seen:
            seen.add(key)
            text = f"figures for a {key[0]} card are one die's times the dies per card; a whole card was not measured"
            yield Finding("extrapolated", text, {"throughput": rate(record)}, where(record), "note")


def two_derivations(records: Sequence[Record]) -> Iterator[Finding]:
    """One log, two readings of its rate (counted, and computed from the mean time): both are shown."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.conditions.get("tool") == "trtexec" and rate(record) > 0:
            groups.setdefault(where(record), []).append(record)
    for place, group in groups.items():
        rates = [rate(r) for r in group]
        if len(group) == 2 and not agree_values(rates[0], rates[1]):
            bases = [f"{rate(r):.6g} ({r.conditions['basis']}, {r.conditions['how']})" for r in group]
            text = f"two readings of one log: {' and '.join(bases)} samples/s"
            figures = {str(r.conditions["how"]): rate(r) for r in group}
            yield Finding("two-derivations", text, figures, place, "note")


def invalid_runs(records: Sequence[Record]) -> Iterator[Finding]:
    """A run that its own tool calls invalid."""
    for record in records:
        result = record.conditions.get("result")
        if record.conditions.get("tool") == "loadgen" and result != "VALID":
            broken = ", ".join(record.details.get("not_satisfied") or ()) or "no reason given"
            yield Finding("invalid-run", f"LoadGen calls this run {result}: {broken}", {}, where(record))


def _requests(record: Record) -> float | None:
    """Requests per second; a sample each where the Record knows no batch."""
    for name in ("throughput.requests", "throughput.queries"):
        if value := record.value(name):
            return value
    per_request = record.conditions.get("samples_per_query") or batch(record) or 1
    value = record.value("throughput")
    return value / float(per_request) if value else None


def _version(text: object) -> tuple[int, ...]:
    parts = str(text).split(".")
    numbers = [int(p) for p in parts[:3] if p.isdecimal() and len(p) <= 9]
    return tuple(numbers) if parts[0].isdecimal() else ()
