"""What can be asked of an export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from assay.core.errors import BadInput, UnknownName
from assay.core.shapes import ShapeSpec
from assay.core.units import Bytes
from assay.graph.external_data import THRESHOLD_BYTES
from assay.graph.passes import DEFAULT_PASSES

EXPORTERS: dict[str, str] = {
    "dynamo": "assay.export.dynamo:export",
    "torchscript": "assay.export.torchscript:export",
}
AUTO = "auto"
DYNAMIC = "dynamic"

DYNAMO_MIN_OPSET = 18
"""torch's operator library for the dynamo exporter starts here; below, it converts downwards as best it can."""
TORCHSCRIPT_MAX_OPSET = 20
MIN_OPSET, MAX_OPSET = 7, 25
DEFAULT_OPSET = 18
"""The oldest opset both exporters write without conversion, hence the one most engines read."""


@dataclass(frozen=True)
class ExportOptions:
    """``shapes`` name the inputs and their free dims; ``sizes`` gives example sizes of free dims
    other than the batch; ``ranges`` bounds drawn inputs as (input, low, high), both inclusive.

    ``batch`` is a size or ``"dynamic"``.  ``params`` False turns the weights into inputs.
    ``constant_folding`` False also skips the passes, which would fold.
    """

    exporter: str = AUTO
    opset: int | None = None
    batch: int | str = DYNAMIC
    shapes: tuple[ShapeSpec, ...] = ()
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    params: bool = True
    constant_folding: bool = True
    passes: tuple[str, ...] = DEFAULT_PASSES
    custom_ops: Path | None = None
    seed: int = 0
    ranges: tuple[tuple[str, float, float], ...] = ()
    sizes: tuple[tuple[str, int], ...] = ()
    external_data_threshold: Bytes = THRESHOLD_BYTES


def check_options(options: ExportOptions) -> None:
    """Refuse what cannot be right before anything runs.  Raises BadInput or UnknownName."""
    if options.exporter not in (AUTO, *EXPORTERS):
        raise UnknownName("exporter", options.exporter, (AUTO, *EXPORTERS))
    if options.opset is not None and not MIN_OPSET <= options.opset <= MAX_OPSET:
        raise BadInput(f"opset {options.opset} cannot be exported", remedy=f"choose --opset {MIN_OPSET} to {MAX_OPSET}")
    batch = options.batch
    if isinstance(batch, bool) or not (batch == DYNAMIC or (isinstance(batch, int) and batch >= 1)):
        raise BadInput(f"{batch!r} is not a batch", remedy="--batch 1, --batch 8 or --batch dynamic")
    for what, names in (("input", options.input_names), ("output", options.output_names)):
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            raise BadInput(f"the {what} name {repeated[0]!r} is given more than once")
        if any(not n.strip() for n in names):
            raise BadInput(f"an empty {what} name was given")
    both = sorted(set(options.input_names) & set(options.output_names))
    if both:
        raise BadInput(f"{both[0]!r} is given as an input and as an output name; ONNX needs them to differ")
