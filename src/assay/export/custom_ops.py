"""A user's file of translations for operators the exporters do not know.

::

    # for the dynamo exporter: onnxscript functions by torch operator
    DYNAMO = {torch.ops.mine.twice.default: twice}
    # for the torchscript exporter: symbolic functions by qualified name
    TORCHSCRIPT = {"aten::asinh": lambda g, x: g.op("Asinh", x)}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput
from assay.export.request import CustomOps
from assay.graph.user_file import load_file

_REMEDY = 'define DYNAMO = {torch.ops.ns.op.default: onnxscript_fn} or TORCHSCRIPT = {"ns::op": symbolic_fn}'


def load_custom_ops(path: Path | None) -> CustomOps:
    """Run the file and take its tables.  Raises BadInput when it has none or they are malformed."""
    if path is None:
        return CustomOps()
    module = load_file(path)
    dynamo, torchscript = getattr(module, "DYNAMO", {}), getattr(module, "TORCHSCRIPT", {})
    for name, table in (("DYNAMO", dynamo), ("TORCHSCRIPT", torchscript)):
        if not isinstance(table, Mapping) or not all(callable(f) for f in table.values()):
            raise BadInput(f"{name} in {path} must map operators to functions", remedy=_REMEDY)
    for operator in torchscript:
        if not isinstance(operator, str) or operator.count("::") != 1:
            raise BadInput(f"TORCHSCRIPT in {path}: {operator!r} is not an operator's name", remedy=_REMEDY)
    for operator in dynamo:
        _check_overload(operator, path)
    if not dynamo and not torchscript:
        raise BadInput(f"{path} defines neither DYNAMO nor TORCHSCRIPT", remedy=_REMEDY)
    return CustomOps(dict(dynamo), dict(torchscript), path)


def _check_overload(operator: Any, path: Path) -> None:
    """dynamo looks translations up by overload; a packet or a string would never be found."""
    import torch

    if isinstance(operator, torch._ops.OpOverloadPacket):
        overloads = ", ".join(f"torch.ops.{operator}.{o}" for o in operator.overloads())
        raise BadInput(f"DYNAMO in {path}: {operator} has overloads, name one", remedy=f"one of {overloads}")
    if isinstance(operator, str) or not callable(operator):
        raise BadInput(f"DYNAMO in {path}: {operator!r} is not a torch operator", remedy=_REMEDY)
