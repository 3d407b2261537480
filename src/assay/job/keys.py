"""What makes a stage's result still valid: its inputs, options, versions and device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay._version import __version__
from assay.core.artifact import digest_json

STAGE_VERSIONS = {
    "export": 1,
    "quantize": 1,
    "convert": 1,
    "build": 1,
    "buckets": 1,
    "verify": 1,
    "evaluate": 1,
    "measure": 1,
    "confirm": 1,
    "tune": 1,
}


def stage_key(stage: str, environment: Mapping[str, Any], *inputs: Any) -> str:
    """A digest that changes when anything a stage depends on does."""
    return digest_json([stage, STAGE_VERSIONS[stage], __version__, identity(environment), list(inputs)])


def identity(environment: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an environment that decides results: versions and device, not load or clocks."""
    found = {name: environment.get(name) for name in ("versions", "python", "cpu", "cores_granted", "thread_env")}
    driver = environment.get("gpu_driver")
    return {**found, "gpu_driver": driver} if driver else found
