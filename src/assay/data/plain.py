"""The transform that changes nothing, for data that already are model inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.core.transform import NullTransform


def null_transform(data: Mapping[str, Any]) -> NullTransform:
    """``{"kind": "none"}`` holds no settings."""
    return NullTransform()
