"""What ``assay inspect`` says of an ONNX file's operators: where they come from, and who takes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.diagnose.support.table import ABSENT, DOCUMENTED, EngineSupport, operator_support, spans
from assay.graph.mapping import Mapped, aten_mapping
from assay.graph.operator_uses import since, uses
from assay.graph.quiet import quiet
from assay.graph.signature import load_model


@dataclass(frozen=True)
class Operators:
    """``opset`` is the file's own; ``mapping`` is empty for a file that keeps no exporter's metadata."""

    opset: int
    support: tuple[EngineSupport, ...]
    mapping: tuple[Mapped, ...]

    def lines(self) -> list[str]:
        return [*_support_lines(self.support, self.opset), *mapping_lines(self.mapping)]

    def to_json(self) -> dict[str, Any]:
        return {
            "support": {s.engine: s.to_json() for s in self.support},
            "mapping": [m.to_json() for m in self.mapping],
        }


def operators_of(path: Path, opsets: Mapping[str, int]) -> Operators:
    model = load_model(path)
    opset = opsets.get("", opsets.get("ai.onnx", 0))
    support = operator_support(uses(model), opset)
    return Operators(opset, support, aten_mapping(model, {s.engine: s.refused(opset).get for s in support}))


def _support_lines(support: Sequence[EngineSupport], opset: int) -> list[str]:
    lines = []
    for found in support:
        if found.missing is not None:
            lines.append(f"engine      {found.engine}: not asked, {found.missing}")
            continue
        lines.append(f"engine      {found.engine} ({found.source}): {_at_own(found, opset)}{_elsewhere(found, opset)}")
        for op, by_opset in found.answers.items():
            reasons: dict[str, list[int]] = {}
            for version, why in by_opset.items():
                if why is not None and why != ABSENT:
                    reasons.setdefault(why, []).append(version)
            lines += [f"              {op} at opset {spans(versions)}: {why}" for why, versions in reasons.items()]
    names = {op for s in support for op, by in s.answers.items() if ABSENT in by.values()}
    younger = [f"{op} {first}" for op in sorted(names) if (first := _first(op, opset))]
    return [*lines, *([f"              ONNX has these only since opset: {', '.join(younger)}"] if younger else [])]


def _at_own(found: EngineSupport, opset: int) -> str:
    if not found.covers(opset):
        first, last = found.opsets or (0, 0)
        return f"opset {opset} is {'not documented' if found.how == DOCUMENTED else 'not opened'} ({first}–{last} are)"
    refused = found.refused(opset)
    return f"refuses {', '.join(refused)} at opset {opset}" if refused else f"takes every operator at opset {opset}"


def _elsewhere(found: EngineSupport, opset: int) -> str:
    whole = found.whole()
    if not whole:
        return ", and the whole model at no opset"
    return "" if whole == (opset,) else f"; the whole model at {spans(whole)}"


def _first(op: str, opset: int) -> int | None:
    """The oldest opset that has the operator."""
    return next((v for v in range(1, opset + 1) if since(op, v) is not None), None)


def program_lines(program: Any) -> tuple[list[str], list[dict[str, Any]]]:
    """What each ATen operator of an exported program becomes, by a trial export, or the one that becomes nothing."""
    import torch

    try:
        with quiet(("torch", "onnxscript")):
            exported = torch.onnx.export(program, dynamo=True, verbose=False)
    except Exception as error:  # the exporter's own classes, none of them public
        return [f"ATen        has no ONNX form as a whole: {_unsupported(error)}"], []
    mapping = aten_mapping(exported.model_proto)
    return mapping_lines(mapping), [m.to_json() for m in mapping]


def _unsupported(error: BaseException) -> str:
    """The operator at which the exporter stopped, from the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = re.search(r"OpOverload\(op='([^']+)', overload='([^']+)'", str(error))
    if said is not None:
        return f"{said.group(1)}.{said.group(2)} has no translation (the exporter stops at the first)"
    return str(error).strip().splitlines()[0][:200]


def mapping_lines(mapping: Sequence[Mapped]) -> list[str]:
    """One line an ATen operator and decomposition."""
    if not mapping:
        return ["ATen        not said in this file; from the model: assay diagnose MODEL FILE --mapping"]
    lines = []
    for row in mapping:
        refused = "".join(f"; {engine}: {why}" for engine, why in row.refused_by)
        lines.append(f"ATen        {row.aten} -> {', '.join(row.onnx)}  ({row.kind}, {row.calls} calls{refused})")
    return lines
