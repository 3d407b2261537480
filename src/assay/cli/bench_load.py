"""The options of ``assay bench`` about many callers, and how their texts become a load."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from assay.cli.options import sizes
from assay.core.errors import BadInput
from assay.core.units import Seconds, parse_seconds
from assay.core.workload import ARRIVALS, Arrivals, Clients

if TYPE_CHECKING:
    from assay.job.bench.one import Press
    from assay.measure.loadgen import LoadGenSettings

F = TypeVar("F", bound=Callable[..., Any])
BATCHES = "1,8"
MOST_COUNTS = 10_000
"""Of a range: each is a measurement of its own."""

_BELONGS: dict[str, tuple[str, ...]] = {
    "batch": ("latency", "offline"),
    "clients": ("clients",),
    "total": ("clients",),
    "threads_per_client": ("clients",),
    "request_batch": ("clients", "server"),
    "max_batch": ("clients", "server"),
    "delay": ("clients", "server"),
    "instances": ("clients", "server"),
    "policy": ("clients", "server"),
    "rate": ("server",),
    "arrivals": ("server",),
    "find_rate": ("server",),
    "p99": ("server",),
    "noise_floor": ("latency",),
    "against": ("latency",),
}
"""The scenarios an option has a meaning in; a value in another one is refused."""


def load_options(function: F) -> F:
    """How many callers, how often, and through which batcher."""
    options = [
        click.option("--clients", metavar="N|A:B:xK", help="Callers that ask again when answered.  [10]"),
        click.option("--total", type=int, help="Samples in all.  [10000]"),
        click.option("--request-batch", type=int, help="Samples per request.  [1]"),
        click.option("--threads-per-client", is_flag=True, help="An OS thread per client, as torchpipe does."),
        click.option("--rate", type=float, metavar="PER_S", help="Requests per second, answered or not."),
        click.option("--arrivals", metavar="poisson|constant|FILE", help="FILE: a time a line.  [poisson]"),
        click.option("--find-rate", is_flag=True, help="The highest rate that holds --p99."),
        click.option("--p99", metavar="TIME", help="Such as 15ms, from the scheduled arrival."),
        click.option("--loadgen", is_flag=True, help="Let MLPerf LoadGen press it: latency, offline or server."),
        click.option("--max-batch", type=int, help="Merge requests in the dynamic batcher."),
        click.option("--delay", metavar="TIME", help="How long a request may wait for company.  [0]"),
        click.option("--instances", type=int, help="Batches in the engine at one time.  [1]"),
        click.option("--policy", metavar="eager|delay|adaptive", help="The batcher's."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def refuse_strangers(values: dict[str, Any]) -> None:
    """Raise BadInput for an option that means nothing in the scenario."""
    scenario = values["scenario"]
    for name, scenarios in _BELONGS.items():
        if values[name] not in (None, False) and scenario not in scenarios:
            option = f"--{name.replace('_', '-')}"
            raise BadInput(
                f"{option} means nothing in scenario {scenario}", remedy=f"--scenario {scenarios[0]} {option} …"
            )


def loadgen_of(values: dict[str, Any]) -> LoadGenSettings | None:
    """LoadGen's settings where it was asked for.  Raises BadInput for what it has nothing like."""
    if not values["loadgen"]:
        return None
    from assay.job.bench.loadgen import loadgen_settings

    scenario = values["scenario"]
    other = next((n for n in ("max_batch", "find_rate", "arrivals", "request_batch", "batch") if values[n]), None)
    if other:
        raise BadInput(f"--{other.replace('_', '-')} means nothing to LoadGen", remedy="leave it out")
    if scenario == "server" and values["rate"] is None:
        raise BadInput("arrivals need a rate", remedy="--rate 100")
    return loadgen_settings(scenario, values["duration"] or 5.0, values["rate"])


def press_of(values: dict[str, Any]) -> Press | None:
    """The load, or None for one caller and offline.  Raises BadInput before anything is opened."""
    scenario = values["scenario"]
    if scenario not in ("clients", "server"):
        return None
    from assay.job.bench.many import through_of
    from assay.job.bench.one import Press

    instances = 1 if values["instances"] is None else values["instances"]
    through = through_of(
        values["max_batch"], seconds(values["delay"] or "0", "--delay 2ms"), instances, values["policy"]
    )
    rows = 1 if values["request_batch"] is None else values["request_batch"]
    if scenario == "clients":
        total = 10_000 if values["total"] is None else values["total"]
        clients = counts(values["clients"] or "10", "clients", "--clients 10")
        loads = tuple(Clients(n, total, rows, values["threads_per_client"], seed=values["seed"]) for n in clients)
        return Press(loads, through)
    return _open_loop(values, rows, through)


def _open_loop(values: dict[str, Any], rows: int, through: Any) -> Press:
    from assay.job.bench.one import Press
    from assay.measure.server import Limit

    duration_s = 10.0 if values["duration"] is None else values["duration"]
    limit_s = None if values["p99"] is None else seconds(values["p99"], "--p99 15ms")
    kind = values["arrivals"] or "poisson"
    limit = None
    if values["find_rate"]:
        if limit_s is None:
            raise BadInput("a rate is searched for a limit", remedy="--find-rate --p99 15ms")
        if values["rate"] is not None or kind not in ("poisson", "constant"):
            raise BadInput("--find-rate chooses the rate itself", remedy="leave --rate and traces out")
        limit = Limit(limit_s)
    elif limit_s is not None:
        raise BadInput("--p99 is what --find-rate holds", remedy=f"--find-rate --p99 {values['p99']}")
    times: tuple[float, ...] = ()
    if kind not in ARRIVALS or kind == "trace":
        times = _trace(kind)
        span = times[-1] - times[0]
        if values["rate"] is not None or values["duration"] is not None:
            raise BadInput("a trace has its own rate and duration", remedy="leave --rate and --duration out")
        load = Arrivals((len(times) - 1) / span, span, "trace", rows, warmup_s=0.0, seed=values["seed"])
        return Press((load,), through, None, times)
    if values["rate"] is None and limit is None:
        raise BadInput("arrivals need a rate", remedy="--rate 100, or --find-rate --p99 15ms")
    rate = 1.0 if values["rate"] is None else values["rate"]
    return Press((Arrivals(rate, duration_s, kind, rows, seed=values["seed"]),), through, limit)


def counts(text: str, what: str, example: str) -> tuple[int, ...]:
    """``"1,2,4"``, ``"1:32:x2"`` (times two), ``"1:9:4"`` (plus four) or ``"1:4"`` -> numbers.  Raises BadInput."""
    if ":" not in text:
        try:
            return sizes(text)
        except BadInput:
            raise BadInput(f"{text!r} is not a list of {what}, each at least 1", remedy=example) from None
    first, _, rest = text.partition(":")
    last, _, step = rest.partition(":")
    grows = step.startswith("x")
    try:
        low, high, by = int(first), int(last), int(step.removeprefix("x") or 1)
    except ValueError:
        low, high, by = 0, 0, 0
    if low < 1 or high < low or by < (2 if grows else 1) or (not grows and (high - low) // by >= MOST_COUNTS):
        raise BadInput(f"{text!r} is not a range of {what}", remedy=f"{example.split()[0]} 1:32:x2")
    found = [low]
    while (following := found[-1] * by if grows else found[-1] + by) <= high:
        found.append(following)
    return tuple(found)


def seconds(text: str, example: str) -> Seconds:
    """``"15ms"`` -> 0.015.  Raises BadInput."""
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise BadInput(str(error), remedy=example) from None


def _trace(name: str) -> tuple[float, ...]:
    """Times in seconds from a file: a JSON list, or one a line."""
    path = Path(name)
    if not path.is_file():
        raise BadInput(
            f"{name!r} is neither a kind of arrivals nor a file of arrival times", remedy="--arrivals poisson"
        )
    try:
        text = path.read_text(encoding="utf-8")
        times = json.loads(text) if text.lstrip().startswith("[") else text.split()
        found = tuple(float(t) for t in times)
    except (ValueError, TypeError, RecursionError) as error:
        raise BadInput(f"{path} does not hold arrival times: {error}", remedy="one time in seconds a line") from None
    if len(found) < 2 or not found[-1] > found[0]:
        raise BadInput(f"{path} holds {len(found)} arrival times; at least two, ascending, are needed")
    from assay.batching.arrivals import trace

    return tuple(float(t) for t in trace(found))
