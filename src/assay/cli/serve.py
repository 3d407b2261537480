"""``assay serve``: models behind the Open Inference Protocol."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from assay.cli.options import common, output_of, sizes
from assay.cli.output import Output
from assay.cli.ray_options import HERE, ray_options
from assay.core import clock
from assay.core.errors import BadInput
from assay.present.text import hanging, printable

_FILE = click.Path(path_type=str)


@click.command()
@click.argument("models", nargs=-1, metavar="[NAME=]BUNDLE|MODEL…")
@click.option("--name", help="The name one model is served under.  [its own]")
@click.option("--engine", help="With a MODEL: what runs it.")
@click.option("--precision", help="With a MODEL.  [fp32]")
@click.option("--device", help="With a MODEL.  [cpu]")
@click.option("--preprocess", metavar="FILE.py:fn", help="Your own transform for pictures.")
@click.option("--trust", is_flag=True, default=None, help="Open files that run code.")
@click.option("--digest", metavar="sha256:HEX", help="The digest of the bundle's manifest, from somewhere you trust.")
@click.option("--host", help="Where to listen.  [127.0.0.1: this machine only]")
@click.option("--http-port", type=int, help="0: any free one.  [8000]")
@click.option("--grpc-port", type=int, help="[8001]")
@click.option("--metrics-port", type=int, help="[8002]")
@click.option("--no-http", is_flag=True)
@click.option("--no-grpc", is_flag=True)
@click.option("--no-metrics", is_flag=True)
@click.option("--policy", metavar="adaptive|delay|eager", help="How requests are merged.  [adaptive]")
@click.option("--max-batch", type=int, help="[8]")
@click.option("--delay", metavar="TIME", help="Policy delay: how long a request waits for company.")
@click.option("--preferred", metavar="N,…", help="Policy delay: batch sizes that are sent at once.")
@click.option("--instances", type=int, help="Batches in the engine at one time.  [as the bundle was measured]")
@click.option("--threads", type=int, help="Engine threads.  [the cores, divided among the instances]")
@click.option("--slo", metavar="TIME", help="Every answer within this time, or 503 at once.")
@click.option("--max-queue", type=int, help="Requests that may wait.  [1000]")
@click.option("--watch", type=_FILE, metavar="FOLDER", help="Serve every bundle in it, and follow its changes.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE.toml", help="All of this, from a file.")
@click.option("--admin", is_flag=True, default=None, help="Allow load, unload, shared memory and trace requests.")
@click.option("--token-file", type=_FILE, help="Every request must bear the token in it.")
@click.option("--tls-cert", type=_FILE)
@click.option("--tls-key", type=_FILE)
@click.option("--allow-host", multiple=True, help="A name this server has, for administrative requests.")
@click.option("--shadow", multiple=True, metavar="OLD=NEW[:SHARE]", help="Mirror a share of OLD's requests to NEW.")
@click.option("--shadow-out", type=_FILE, metavar="DIR", help="Append what the shadow finds to DIR/records.jsonl.")
@click.option("--triton-config", type=_FILE, metavar="config.pbtxt", help="Take batching from Triton's configuration.")
@click.option("--drain", metavar="TIME", help="For requests in flight at the end.  [30s]")
@click.option("--access-log", is_flag=True, default=None, help="Log every request.")
@click.option("--log", type=click.Choice(["text", "json"]), help="[text on a terminal, else json]")
@click.option("--replicas", default="1", show_default=True, metavar="N|LEAST:MOST", help="With --ray.")
@ray_options
@common
def command(**values: Any) -> int:
    """Serve models over REST and gRPC: Open Inference Protocol v2, dynamic batching, metrics.

    \b
    assay serve runs/demo/run/bundle
    curl --data-binary @picture.jpg http://127.0.0.1:8000/predict/NAME
    """
    output = output_of("serve", values)
    from assay.job.serve.config import request_of
    from assay.job.serve.run import Serve

    log = Log(output, values.pop("log"))
    ray = {key: values.pop(key) for key in ("ray", "ray_cpus", "replicas")}
    if ray["ray"] is not None:
        drained = _on_ray(ray, values, log)
    else:
        serve = Serve(request_of(table_of(values)), log)
        log.serve = serve
        drained = serve.run()
    if not drained:
        output.warn("some requests were not finished in time")
    return 0


def _on_ray(ray: dict[str, Any], values: dict[str, Any], log: Log) -> bool:
    """``--ray`` swallows the word after it: what is no address there is the first model."""
    from assay.cli.ray_options import asked_cluster
    from assay.job.serve.config import request_of

    address = ray["ray"]
    if address not in (HERE, "auto", "local") and (Path(address).exists() or ":" not in address):
        values["models"] = (address, *values["models"])
        ray["ray"] = HERE
    cluster = asked_cluster(ray)
    assert cluster is not None
    from assay.scale.ray_serve import RayPlan, RayServe, parse_replicas

    least, most = parse_replicas(ray["replicas"])
    plan = RayPlan(cluster.address, least, most, cluster.cpus_per_actor)
    return RayServe(request_of(table_of(values)), plan, log).run()


def table_of(values: dict[str, Any]) -> dict[str, Any]:
    """The configuration file's table with the options laid over it."""
    from assay.job.serve.config import read_config

    config = values.pop("config")
    table = read_config(config) if config is not None else {}
    models = [_model(text) for text in values.pop("models")]
    if models:
        table["model"] = [*table.get("model", []), *models]
    for key in ("http", "grpc", "metrics"):
        if values.pop(f"no_{key}"):
            values[f"{key}_port"] = False
    if values["preferred"] is not None:
        values["preferred"] = sizes(values["preferred"])
    for key in ("allow_host", "shadow"):
        values[key] = list(values[key]) or None
    return {**table, **{key: value for key, value in values.items() if value is not None}}


def _model(text: str) -> dict[str, Any]:
    """``NAME=SOURCE`` or ``SOURCE``; an existing path is one, whatever its name."""
    name, equals, source = text.partition("=")
    if not equals or Path(text).exists() or "?" in name or "/" in name or ":" in name:
        return {"source": text}
    if not name or not source:
        raise BadInput(f"{text!r} is neither a model nor NAME=MODEL", remedy="assay serve a=runs/one/bundle")
    return {"source": source, "name": name}


class Log:
    """Events as lines on stderr: for people, or one JSON object each.  Any thread may call it."""

    def __init__(self, output: Output, form: str | None) -> None:
        self._output = output
        self._json = form == "json" or (form is None and not sys.stderr.isatty())
        self._lock = threading.Lock()
        self._began_s = clock.now()
        self._ports: Mapping[str, Any] = {}
        self.serve: Any = None

    def __call__(self, event: str, about: Mapping[str, Any]) -> None:
        if event == "listening":
            self._ports = about
        if event == "ready":
            about = {**about, "seconds": round(clock.now() - self._began_s, 3)}
            self._output.result(extra={"serving": {**self._ports, **about}})
        if self._json:
            line = json.dumps({"time": clock.timestamp(), "event": event, **about}, default=str)
        else:
            line = _for_people(event, about)
        if line and (event == "refused" or not self._output.quiet):
            with self._lock:
                click.echo(printable(line) if self._json or event == "listening" else hanging(line), err=True)


def _for_people(event: str, about: Mapping[str, Any]) -> str:
    if event == "listening":
        host = about["host"]
        lines = []
        if "http_port" in about:
            url = f"http://{host}:{about['http_port']}"
            lines.append(f"REST     {url}   (the API: {url}/docs)")
        if "grpc_port" in about:
            lines.append(f"gRPC     {host}:{about['grpc_port']}")
        if "metrics_port" in about:
            lines.append(f"metrics  http://{host}:{about['metrics_port']}/metrics")
        return "\n".join(lines)
    if event == "request":
        return f"{about['method']} {about['path']} {about['status']} {1e3 * about['seconds']:.2f} ms"
    if event == "loaded":
        return ""
    if event == "ready":
        return f"ready after {about['seconds']:.1f} s: {', '.join(about['models'])}   (Ctrl-C stops)"
    return f"{event}: " + ", ".join(f"{k} {v}" for k, v in about.items())
