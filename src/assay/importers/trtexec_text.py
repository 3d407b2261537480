"""The grammar of trtexec's console logs: both summary styles, as numbers with their line numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from assay.importers.source import Source, not_negative, whole
from assay.importers.trtexec_command import Command, parse_trtexec

_PREFIX = re.compile(r"^\s*(?:\[[^\]\n]*\]\s*)*(?:\[[IWEVF]\]\s*)?")
_RUNNING = re.compile(r"^&&&& RUNNING TensorRT\.trtexec.*$", re.M)
_SUMMARY = re.compile(r"=== Performance summary([^=\n]*)===")
_EXPLANATIONS = re.compile(r"^[^\n]*=== Explanations of the performance metrics ===", re.M)
_FRAME = re.compile(r"&&&& (?:RUNNING|PASSED|FAILED) TensorRT\.trtexec[^\[\n]*\[TensorRT v([\d.]{1,16})\]")
_VERSION = re.compile(r"\[I\] TensorRT version: (\d{1,4}(?:\.\d{1,6}){1,3})(?![\d.])")
_FAILED = re.compile(r"^&&&& FAILED TensorRT\.trtexec.*$", re.M)
_TRACE = re.compile(r"Timing trace has (\S+) queries over (\S+) s")
_LABELS = {
    "Throughput": "throughput",
    "End-to-End Host Latency": "end_to_end",
    "Latency": "latency",
    "Enqueue Time": "enqueue",
    "H2D Latency": "h2d",
    "GPU Compute Time": "compute",
    "D2H Latency": "d2h",
    "Total Host Walltime": "walltime",
    "Total GPU Compute Time": "total_compute",
}
_LABEL = re.compile(
    r"(?:^|(?<=\]\s)|(?<=\]))[ \t]*(" + "|".join(re.escape(label) for label in _LABELS) + r")[ \t]*:", re.M
)
_NEXT = re.compile(r"\n[ \t]*(?:\[|&&&&)")  # where another line of the log begins
_STAT = re.compile(r"\b(min|max|mean|median|percentile\(([\d.]+)%?\))[ \t]*=[ \t]*([^\s,]+)[ \t]*ms")
_OLD_SECTIONS = {"Host Latency": "latency", "Enqueue Time": "enqueue", "GPU Compute": "compute"}
_OLD_STAT = re.compile(
    r"^(min|max|mean|median|percentile): (\S+) ms(?: at ([\d.]+)%)?(?: \(end to end (\S+) ms(?: at [\d.]+%)?\))?\s*$"
)
_OLD_TOTAL = re.compile(r"^(throughput|walltime|total compute time): (\S+) (?:qps|s)\s*$")
_NAMES = {"median": "p50"}


@dataclass
class Run:
    """One run: times in ms by part and statistic, the rest where the log has it."""

    source: Source
    format: str
    stats: dict[str, dict[str, float]] = field(default_factory=dict)
    throughput: float | None = None
    walltime_s: float | None = None
    queries: int | None = None
    version: str | None = None
    command: Command = field(default_factory=Command)
    warnings: tuple[str, ...] = ()
    failed: str | None = None
    profiled: bool = False
    frame_line: int = 1
    lines: tuple[int, int] = (1, 1)

    @property
    def versions(self) -> tuple[str, str]:
        """The TensorRT versions that print this format: from the first, up to and without the second."""
        if self.format == "7":
            return "7.0", "8.0"
        if self.format == "8.0-8.2":
            return "8.0", "8.4"
        if any(name in self.stats.get("latency", {}) for name in ("p90", "p95")):
            return "8.5", "12.0"
        return ("8.4", "12.0") if self.format == "8.4+" else ("8.0", "12.0")

    @property
    def copies_timed(self) -> bool:
        """Whether input copies took time: False where transfers were off or not logged."""
        return self.stats.get("h2d", {}).get("max", 0.0) > 0


def confidence(text: str) -> float:
    if _RUNNING.search(text) or _SUMMARY.search(text):
        return 1.0
    if re.search(r"\bHost Latency\s*$", text, re.M) and re.search(r"percentile: \S+ ms at", text):
        return 1.0
    if re.search(r"GPU Compute(?: Time)?\s*:", text) and "percentile(" in text:
        return 0.95
    return 0.0


def runs(source: Source) -> list[Run]:
    """The runs of a log.  Raises BadInput, with file and line, for a figure that is no number."""
    found = [_run(part, segment) for segment in _segments(source) for part in _summaries(segment)]
    return [run for run in found if run is not None]


def framed(source: Source) -> int:
    """How many runs the log announces."""
    return len(_RUNNING.findall(source.text))


def _segments(source: Source) -> list[Source]:
    """The log cut at its RUNNING lines."""
    return _cut(source, [source.line_of(m.start()) for m in _RUNNING.finditer(source.text)])


def _summaries(segment: Source) -> list[Source]:
    """A run cut before every summary but the first (with and without profiler, or lines without frames)."""
    marks = list(_SUMMARY.finditer(segment.text)) or list(re.finditer(r"\bHost Latency[ \t]*$", segment.text, re.M))
    return _cut(segment, [segment.line_of(m.start()) for m in marks[1:]])


def _cut(source: Source, starts: list[int]) -> list[Source]:
    edges = sorted({source.first_line, *starts})
    last = source.first_line + len(source.lines) - 1
    return [source.part(a, b - 1) for a, b in zip(edges, [*edges[1:], last + 1], strict=True)]


def _run(source: Source, segment: Source) -> Run | None:
    """The run in ``source``; its command, version and number of queries may stand before, in ``segment``."""
    text = source.text
    if failed := _FAILED.search(text):
        run = Run(source, "unknown", lines=(source.first_line, source.last_line))
        run.failed = f"trtexec ended with FAILED{_first_error(text)}"
        run.lines = (source.first_line, source.line_of(failed.start()))
    elif re.search(r"^[^\n]*\bHost Latency[ \t]*$", text, re.M) and "percentile:" in text:
        run = _old(source)
    else:
        modern = _modern(source)
        if modern is None:
            return None
        run = modern
    run.frame_line = segment.first_line
    run.command = parse_trtexec(segment.text)
    run.version = _version(segment.text)
    run.warnings = tuple(m.strip() for m in re.findall(r"\[W\] \* (.+)", text))
    run.profiled = any("w/ profiler" in m[1] for m in _SUMMARY.finditer(text))
    traces = [m for m in _TRACE.finditer(segment.text) if segment.line_of(m.start()) <= run.lines[1]]
    if traces:
        run.queries = whole(segment, segment.line_of(traces[-1].start()), traces[-1][1], "the number of queries")
        if run.format == "7" and run.command.implicit_batch:
            run.queries = max(1, run.queries // run.command.implicit_batch)  # 7.x counts samples here
    return run


def _modern(source: Source) -> Run | None:
    """The ``Label: min = a ms, max = b ms, …`` style of 8.0 and later, also with its lines broken up."""
    text = _EXPLANATIONS.split(source.text, maxsplit=1)[0]  # the verbose log explains each label below
    labels = list(_LABEL.finditer(text))
    if not labels:
        return None
    run = Run(source, "8.4+")
    for i, match in enumerate(labels):
        end = labels[i + 1].start() if i + 1 < len(labels) else len(text)
        body = _NEXT.split(text[match.end() : end], maxsplit=1)[0]
        _take(run, _LABELS[match[1]], body, source.line_of(match.start()))
    if "end_to_end" in run.stats:
        run.format = "8.0-8.2"
    if run.throughput is None and not run.stats:
        return None
    if run.format == "8.4+" and "latency" not in run.stats:
        run.format = "8.0+"  # an excerpt: the line that tells the two apart may have been left out
    run.lines = (source.line_of(labels[0].start()), source.line_of(labels[-1].start()))
    tail = _NEXT.split(text[labels[-1].end() :], maxsplit=1)[0].rstrip()
    run.lines = (run.lines[0], run.lines[1] + tail.count("\n"))
    return run


def _take(run: Run, name: str, body: str, line: int) -> None:
    if name in ("throughput", "walltime", "total_compute"):
        words = body.split()
        if len(words) < 2 or words[1] not in ("qps", "s"):
            raise run.source.bad(line, f"the line of {name} has no figure with its unit")
        value = not_negative(run.source, line, words[0], name)
        if name == "throughput":
            run.throughput = value
        elif name == "walltime":
            run.walltime_s = value or None
        return
    stats = {
        _NAMES.get(m[1], m[1]) if m[2] is None else f"p{_share(m[2])}": not_negative(run.source, line, m[3], name)
        for m in _STAT.finditer(body)
    }
    if not stats:
        raise run.source.bad(line, f"the line of {name} has no figures (min, max, mean, median)")
    run.stats[name] = stats


def _old(source: Source) -> Run:
    """The multi-line style of 7.x."""
    run = Run(source, "7")
    section, first, last = None, None, source.first_line
    for line, raw in source.numbered():
        text = _PREFIX.sub("", raw).strip()
        if text in _OLD_SECTIONS:
            section, first, last = _OLD_SECTIONS[text], first or line, line
        elif section and (match := _OLD_STAT.match(text)):
            name = f"p{_share(match[3])}" if match[3] else _NAMES.get(match[1], match[1])
            run.stats.setdefault(section, {})[name] = not_negative(source, line, match[2], f"{section} {name}")
            if match[4]:
                ends = run.stats.setdefault("end_to_end", {})
                ends[name] = not_negative(source, line, match[4], f"end to end {name}")
            last = line
        elif section and (total := _OLD_TOTAL.match(text)):
            value = not_negative(source, line, total[2], total[1])
            if total[1] == "throughput":
                run.throughput = value
            elif total[1] == "walltime":
                run.walltime_s = value or None
            last = line
        elif section and re.match(r"(min|max|mean|median|percentile|throughput|walltime):", text):
            raise source.bad(line, f"{text!r} is not a figure with its unit")
    if "latency" not in run.stats:
        raise source.bad(first or source.first_line, "Host Latency without figures")
    run.lines = (first or source.first_line, last)
    return run


def _share(text: str) -> str:
    """``99`` or ``99.9`` as it stands in a figure's name."""
    return text.strip(".").lstrip("0") or "0"


def _version(text: str) -> str | None:
    if plain := _VERSION.search(text):
        return plain[1]
    match = _FRAME.search(text)
    if match is None:
        return None
    digits = match[1].strip(".")
    if "." in digits:
        return digits
    if len(digits) >= 6:  # v100200 is 10.2.0
        return f"{int(digits[:-4])}.{int(digits[-4:-2])}.{int(digits[-2:])}"
    if len(digits) == 4:  # v8601 is 8.6.1
        return f"{digits[0]}.{digits[1]}.{int(digits[2:])}"
    return digits or None


def _first_error(text: str) -> str:
    match = re.search(r"\[E\] (.+)", text)
    return f": {match[1].strip()[:300]}" if match else ""
