"""``--ray`` and ``--ray-cpus``: the same on a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from assay.scale.ray_data_pool import Cluster

F = TypeVar("F", bound=Callable[..., Any])
HERE = "here"


def ray_options(function: F) -> F:
    function = click.option(
        "--ray-cpus",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Cores of each Ray actor, and threads of its engine.",
    )(function)
    return click.option(
        "--ray",
        is_flag=False,
        flag_value=HERE,
        metavar="[ADDRESS]",
        help="On a Ray cluster: auto, HOST:PORT, or alone for the one that runs here, else a new one.",
    )(function)


def asked_cluster(values: dict[str, Any]) -> Cluster | None:
    """None without ``--ray``.  Ray is told to report nothing to its makers before it is imported."""
    if values["ray"] is None:
        return None
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray warns of a change that does not concern us
    from assay.scale.ray_data_pool import Cluster

    return Cluster(None if values["ray"] == HERE else values["ray"], values["ray_cpus"])


def engine_for(values: dict[str, Any], cluster: Cluster | None) -> str | None:
    """The engine asked for; on a cluster a MODEL that is code is exported, since a file can be sent."""
    from assay.job.packed import bundle_folder
    from assay.sources import is_complete

    sent = is_complete(values["model"]) or bundle_folder(values["model"]) is not None
    if values["engine_name"] is None and cluster is not None and not sent:
        return "onnxruntime"
    engine: str | None = values["engine_name"]
    return engine
