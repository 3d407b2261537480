"""``assay bench``: latency, throughput, many clients, and arrivals at a rate, of one model or many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assay.cli.bench_load import BATCHES, load_options, loadgen_of, press_of, refuse_strangers
from assay.cli.options import (
    SourceArguments,
    asked_precision,
    common,
    duration,
    model_options,
    opening_options,
    output_of,
)
from assay.cli.output import Output
from assay.core.errors import EXIT_INTERNAL, EXIT_LIMIT_MISSED, EXIT_OK, BadInput

if TYPE_CHECKING:
    from assay.core.record import Record
    from assay.job.bench.one import Bench
    from assay.job.bench.pair import Against

SCENARIOS = ("latency", "offline", "clients", "server")


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL…")
@click.option("--data", metavar="DATA", help="Real samples; without: drawn from the signature, and said so.")
@click.option("--scenario", type=click.Choice(SCENARIOS), default="latency", show_default=True)
@click.option("--engine", "engine_name", help="Default: the one the file is for.")
@opening_options
@click.option("--threads", type=click.IntRange(min=1))
@click.option("--format", "form", type=click.Choice(["table", "torchpipe"]), default="table", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Keep Records and raw values; resumes.")
@click.option("--batch", "--batches", "batch", metavar="N,…|A:B:xK", help=f"Latency, offline; default {BATCHES}.")
@click.option("--duration", metavar="TIME", help="Such as 500ms, 3s or 1m.  Default: 3s, for server 10s.")
@click.option(
    "--within",
    type=click.FloatRange(min=0),
    default=0.02,
    show_default=True,
    help="Latency, offline: stop once the interval is this narrow.",
)
@click.option("--noise-floor", is_flag=True, help="Measure MODEL against itself (A B B A): what differs is noise.")
@click.option("--against", metavar="MODEL", help="Measure MODEL against this one in turns (A B B A): their ratio.")
@click.option("--against-engine", metavar="E", help="Its engine; default: the one of --engine.")
@click.option("--against-precision", metavar="P", help="Its precision; default: the one of --precision.")
@load_options
@model_options
@common
def command(**values: Any) -> int:
    """Measure MODEL… in processes of their own.  No accuracy is implied: the table says what was not checked.

    \b
    assay bench timm:resnet18 --scenario offline --batch 1:256:x2
    assay bench timm:resnet18 timm:resnet50 --scenario clients --clients 10 --format torchpipe
    assay bench net.onnx --scenario server --find-rate --p99 15ms --max-batch 8
    assay bench net.onnx --engine openvino --against net.onnx --against-engine onnxruntime
    """
    output = output_of("bench", values)
    from assay.cli.progress import progress_for
    from assay.job.bench.many import bench_many
    from assay.job.bench.one import NO_RATE, bench_one

    asked = _asked(values)
    source, progress = SourceArguments(values).source(Path()), progress_for(output)
    models = values["models"]
    single = len(models) == 1 and values["out"] is None and not set("*?[") & set(models[0].partition("?")[0])
    records = (
        bench_one(asked, source, progress) if single else bench_many(models, asked, source, progress, values["out"])
    )
    _show(output, records, values["form"], many=len({str(r.subject.get("model")) for r in records}) > 1)
    curve = [
        {"batch": r.conditions["batch"], "latency_s": r.value("latency.p50"), "throughput": r.value("throughput")}
        for r in records
        if r.status == "ok" and asked.scenario in ("latency", "offline") and not (asked.noise_floor or asked.against)
    ]
    output.result(records=records, extra={"curve": curve} if curve else None)
    if any(r.status != "ok" for r in records):
        return EXIT_INTERNAL
    return EXIT_LIMIT_MISSED if any(r.label == NO_RATE for r in records) else EXIT_OK


def _asked(values: dict[str, Any]) -> Bench:
    """Everything about the load is checked here, before any model is opened."""
    from assay.job.bench.one import Bench

    precision = asked_precision(values["precision"], "bench")
    scenario = values["scenario"]
    values = {**values, "duration": duration(values["duration"])}
    refuse_strangers(values)
    if values["form"] == "torchpipe" and scenario != "clients":
        raise BadInput(f"torchpipe's table is about clients, not about {scenario}", remedy="--scenario clients")
    loadgen = loadgen_of(values)
    return Bench(
        model=values["models"][0],
        data=values["data"],
        scenario=scenario,
        engine=values["engine_name"],
        precision=precision,
        device=values["device"],
        threads=values["threads"],
        batches=_batches(values["batch"]),
        duration_s=3.0 if values["duration"] is None else values["duration"],
        within=values["within"],
        press=None if loadgen else press_of(values),
        noise_floor=values["noise_floor"],
        against=_against(values),
        loadgen=loadgen,
    )


def _against(values: dict[str, Any]) -> Against | None:
    """The other model.  Raises BadInput for its settings without it, and beside what it has no meaning with."""
    given = {n: values[f"against_{n}"] for n in ("engine", "precision")}
    if values["against"] is None:
        if name := next((n for n, v in given.items() if v is not None), None):
            raise BadInput(f"--against-{name} is about the other model", remedy=f"--against MODEL --against-{name} …")
        return None
    from assay.job.bench.pair import Against

    if len(values["models"]) > 1:
        raise BadInput("--against compares one MODEL with another one", remedy="assay bench A --against B")
    if values["noise_floor"] or values["loadgen"]:
        other = "--noise-floor" if values["noise_floor"] else "--loadgen"
        raise BadInput(f"--against and {other} are two different measurements", remedy="leave one of them out")
    given["precision"] = asked_precision(given["precision"], "bench")
    return Against(values["against"], given["engine"], given["precision"], values["duration"])


def _batches(text: str | None) -> tuple[int, ...]:
    from assay.cli.bench_load import counts

    return counts(text or BATCHES, "batch sizes", "--batch 1,4,8")


def _show(output: Output, records: Sequence[Record], form: str, many: bool) -> None:
    if form == "torchpipe":
        from assay._version import __version__
        from assay.present.torchpipe import torchpipe_markdown

        output.say_lines(torchpipe_markdown(records, __version__).rstrip("\n").split("\n"))
    elif (many or len(records) > 3) and not any("answer" in r.details for r in records):
        _listing(output, records)
    else:
        for record in records:
            _one(output, record)
    for record in records:
        for text in record.warnings if form == "table" else ():
            output.warn(f"{_case(record)}: {text}" if len(records) > 1 else text)
    output.say("not checked: accuracy and numerics (assay run or assay verify do)")


def _one(output: Output, record: Record) -> None:
    from assay.present.figures import format_figure

    output.say(f"{_case(record)}  [{record.label or record.status}]  {record.reason or ''}".rstrip())
    if answer := record.details.get("answer"):
        output.say(f"  {answer}")
    for name, figure in record.figures.items():
        output.say(f"  {name:<19} {format_figure(figure)}")


def _listing(output: Output, records: Sequence[Record]) -> None:
    from assay.present.figures import format_figure
    from assay.present.plain import listing_lines

    headers = ("model", "load", "samples/s", "p50", "p99", "")
    rows = []
    for r in records:
        figures = [format_figure(r.figures.get(n)) for n in ("throughput", "latency.p50", "latency.p99")]
        cells = [*(f.replace(" samples/s", "") for f in figures), r.label or r.status]
        rows.append((r.subject["model"], _case(r), *(cells if r.status == "ok" else ("", "", "", r.reason))))
    for line in listing_lines(headers, rows):
        output.say(line)


def _case(record: Record) -> str:
    conditions = record.conditions
    if str(conditions.get("scenario")).startswith("loadgen"):
        return str(conditions["scenario"])
    if "clients" in conditions:
        return f"{conditions['clients']} client{'s' if conditions['clients'] != 1 else ''}"
    if "limit_s" in conditions:
        return f"{conditions['limit_share']:.0%} within {1e3 * conditions['limit_s']:g} ms"
    if "rate" in conditions:
        return f"{conditions['rate']:.4g}/s"
    if against := record.details.get("against"):
        other = " ".join(filter(None, (against["model"], against["engine"], against["precision"])))
        return f"against {other}, batch {conditions.get('batch')}"
    return f"batch {conditions.get('batch')}"
