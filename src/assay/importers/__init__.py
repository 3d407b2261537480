"""Other tools' logs -> Records, with what their figures say about each other.

``import_file`` reads one file, ``import_files`` several as one body of evidence (a table in one file is
then held against the logs in the others).  The tool is recognised by content.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from assay.core.errors import BadInput
from assay.core.table import resolve
from assay.importers.consistency import check
from assay.importers.imported import Finding, Hints, Imported, Importer
from assay.importers.source import Source, read_source, source_of

__all__ = ["IMPORTERS", "Detected", "Finding", "Hints", "Imported", "detect", "import_file", "import_files"]

IMPORTERS: Mapping[str, str] = {
    "trtexec": "assay.importers.trtexec:TrtexecText",
    "trtexec-times": "assay.importers.trtexec_times:TrtexecTimes",
    "trtexec-profile": "assay.importers.trtexec_profile:TrtexecProfile",
    "trtexec-output": "assay.importers.trtexec_output:TrtexecOutput",
    "ascend-benchmark": "assay.importers.ascend_benchmark:AscendBenchmark",
    "ascend-pure-inference": "assay.importers.ascend_pure:AscendPureInfer",
    "ascend-accuracy": "assay.importers.ascend_accuracy:AscendAccuracy",
    "ais-bench": "assay.importers.ais_bench:AisBench",
    "ais-bench-summary": "assay.importers.ais_bench_summary:AisBenchSummary",
    "perf-analyzer-csv": "assay.importers.perf_analyzer_csv:PerfAnalyzerCsv",
    "perf-analyzer-json": "assay.importers.perf_analyzer_json:PerfAnalyzerJson",
    "loadgen-summary": "assay.importers.loadgen_summary:LoadGenSummary",
    "loadgen-detail": "assay.importers.loadgen_detail:LoadGenDetail",
    "benchmark-app": "assay.importers.benchmark_app:BenchmarkApp",
    "benchmark-app-report": "assay.importers.benchmark_app_report:BenchmarkAppReport",
    "onnxruntime-perf-test": "assay.importers.onnxruntime_perf_test:OnnxRuntimePerfTest",
    "torchpipe": "assay.importers.torchpipe:TorchpipeTable",
    "torchpipe-dict": "assay.importers.torchpipe_dict:TorchpipeDict",
    "timm-results": "assay.importers.timm_results:TimmResults",
    "timm-benchmark": "assay.importers.timm_benchmark:TimmBenchmark",
    "markdown": "assay.importers.markdown:Markdown",
}
DOCUMENT = "markdown"
PART_OF_A_DOCUMENT = 0.5
SURE = 0.9
ENOUGH = 0.3


@dataclass(frozen=True)
class Detected:
    """An importer that recognises a file, and how surely (0..1)."""

    name: str
    confidence: float


def detect(what: Path | Source | str) -> list[Detected]:
    """The importers that recognise a file (a path, or text at hand), the surest first.

    Inside a document a log is only a part, so the document's importer comes before the log's.
    Raises BadInput for a file that cannot be read.
    """
    source = _source(what)
    found = {name: _importer(name).confidence(source) for name in IMPORTERS}
    if found[DOCUMENT] >= SURE:
        found = {name: c if name == DOCUMENT else min(c, PART_OF_A_DOCUMENT) for name, c in found.items()}
    known = [Detected(name, c) for name, c in found.items() if c > 0]
    return sorted(known, key=lambda d: -d.confidence)


def import_file(path: Path | str, hints: Hints | None = None, importer: str | None = None) -> Imported:
    """The Records of one file and what their figures say about each other.

    ``hints`` tell what a log leaves out (model, device, batch …); ``importer`` names the tool where
    content does not.  A document without measurements gives no Records and a warning.
    Raises BadInput: unreadable or malformed (with file and line), or of no known tool; UnknownName.
    """
    found = _read(Path(path), hints or Hints(), importer)
    return found + Imported(findings=check(found.records))


def import_files(paths: Iterable[Path | str], hints: Hints | None = None) -> Imported:
    """Several files as one body of evidence.  Raises as :func:`import_file`, and for no files at all."""
    listed = [Path(path) for path in paths]
    if not listed:
        raise BadInput("there is no file to import", remedy="assay import FILE…")
    found = Imported()
    for path in listed:
        found += _read(path, hints or Hints(), None)
    return found + Imported(findings=check(found.records))


def _read(path: Path, hints: Hints, importer: str | None) -> Imported:
    source = read_source(path)
    name = importer
    if name is None:
        known = [d for d in detect(source) if d.confidence >= ENOUGH]
        if not known:
            raise BadInput(
                f"{path}:1: no tool that assay knows wrote this file",
                remedy=f"name the tool; known: {', '.join(sorted(IMPORTERS))}",
            )
        name = known[0].name
    reader = _importer(name)
    try:
        return reader.read(source, hints)
    except BadInput as error:
        if str(path) in error.message:
            raise
        raise BadInput(f"{path}:1: {error.message}", remedy=error.remedy) from error
    except RecursionError as error:
        raise BadInput(f"{path}: nested too deeply to be a log of {name}") from error


def _importer(name: str) -> Importer:
    made = resolve(IMPORTERS, name, "importer")
    if name == DOCUMENT:
        found: Importer = made({other: _importer(other) for other in IMPORTERS if other != DOCUMENT})
    else:
        found = made()
    return found


def _source(what: Path | Source | str) -> Source:
    if isinstance(what, Source):
        return what
    if isinstance(what, Path):
        return read_source(what)
    return source_of(what, "text")
