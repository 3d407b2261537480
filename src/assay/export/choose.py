"""Which exporter to try, in which order, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assay.core.errors import BadInput
from assay.export.options import AUTO, DEFAULT_OPSET, DYNAMO_MIN_OPSET, TORCHSCRIPT_MAX_OPSET, ExportOptions
from assay.export.request import CustomOps


@dataclass(frozen=True)
class Attempt:
    """One exporter, why it was chosen, and the opset it is asked for."""

    exporter: str
    why: str
    opset: int


def attempts(options: ExportOptions, module: Any, custom: CustomOps) -> tuple[Attempt, ...]:
    """The exporters to try in order.  Raises BadInput where the one asked for can never do it."""
    import torch

    scripted = isinstance(module, torch.jit.ScriptModule)
    opset = options.opset if options.opset is not None else DEFAULT_OPSET
    if options.exporter != AUTO:
        _check_asked(options.exporter, opset, scripted, custom)
        return (Attempt(options.exporter, "asked for", opset),)
    if scripted:
        return _only("torchscript", "a TorchScript module, which the dynamo exporter cannot read", opset)
    if opset < DYNAMO_MIN_OPSET:
        why = f"the dynamo exporter writes opset {DYNAMO_MIN_OPSET} and up, {opset} was asked for"
        return _only("torchscript", why, opset)
    if opset > TORCHSCRIPT_MAX_OPSET:
        why = f"the torchscript exporter writes opsets up to {TORCHSCRIPT_MAX_OPSET}, {opset} was asked for"
        return _only("dynamo", why, opset)
    if custom.torchscript and not custom.dynamo:
        return _only("torchscript", f"{custom.path} translates operators for this exporter only", opset)
    if custom.dynamo and not custom.torchscript:
        return _only("dynamo", f"{custom.path} translates operators for this exporter only", opset)
    return (
        Attempt("dynamo", "the default", opset),
        Attempt("torchscript", "the dynamo exporter could not do it", opset),
    )


def _only(name: str, why: str, opset: int) -> tuple[Attempt, ...]:
    return (Attempt(name, why, opset),)


def _check_asked(name: str, opset: int, scripted: bool, custom: CustomOps) -> None:
    other = "torchscript" if name == "dynamo" else "dynamo"
    table = {"dynamo": custom.dynamo, "torchscript": custom.torchscript}
    if custom.path is not None and not table[name]:
        raise BadInput(f"{custom.path} has no translations for the {name} exporter", remedy=f"--exporter {other}")
    if name == "dynamo" and scripted:
        raise BadInput(
            "a TorchScript module was given, and the dynamo exporter cannot read one",
            remedy="--exporter torchscript",
        )
    if name == "dynamo" and opset < DYNAMO_MIN_OPSET:
        raise BadInput(
            f"the dynamo exporter writes opset {DYNAMO_MIN_OPSET} and up, {opset} was asked for",
            remedy=f"--exporter torchscript --opset {opset}, or --exporter dynamo --opset {DYNAMO_MIN_OPSET}",
        )
    if name == "torchscript" and opset > TORCHSCRIPT_MAX_OPSET:
        raise BadInput(
            f"the torchscript exporter writes opsets up to {TORCHSCRIPT_MAX_OPSET}, {opset} was asked for",
            remedy=f"--exporter dynamo, or --opset {TORCHSCRIPT_MAX_OPSET}",
        )
