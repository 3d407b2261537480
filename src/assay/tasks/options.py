"""Settings of tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TaskOptions:
    """``output`` names the output that is scored, where a model has several.

    The rest is for a user's own metric (task ``tensor``): the function, the name its figure gets
    (None: the function's own), the key that limits are about when it returns a mapping (None: the first), its
    unit, and whether more is better.  ``white`` and ``order`` (RGB or BGR) say how an output is a picture.
    """

    output: str | None = None
    metric: Callable[[Any, Any], Any] | None = None
    metric_name: str | None = None
    primary: str | None = None
    unit: str = "value"
    higher_is_better: bool = True
    white: float = 1.0
    order: str = "RGB"
