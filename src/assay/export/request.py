"""What an exporter is asked to do, the same for both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from assay.export.inputs import InputPlan


@dataclass(frozen=True)
class CustomOps:
    """A user's translations: for dynamo by torch operator, for torchscript by its qualified name."""

    dynamo: Mapping[Any, Callable[..., Any]] = field(default_factory=dict)
    torchscript: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    path: Path | None = None


@dataclass(frozen=True)
class ExportRequest:
    """``module`` takes its tensors by position and gives tensors; ``example`` are those tensors.

    ``output_axes`` is the batch axis of every output, in order.
    """

    module: Any
    example: tuple[Any, ...]
    plan: InputPlan
    output_names: tuple[str, ...]
    output_axes: tuple[int | None, ...]
    opset: int
    constant_folding: bool
    custom: CustomOps
    varargs: bool = False


class Exporter(Protocol):
    """Writes ``path``; raises whatever torch raises.  The caller checks everything it wrote."""

    def __call__(self, request: ExportRequest, path: Path) -> None: ...


def free_axes(request: ExportRequest) -> list[dict[int, str]]:
    """For each input, the name of every free axis."""
    return [{i: d for i, d in enumerate(s.shape) if isinstance(d, str)} for s in request.plan.specs]
