"""ATen to ONNX: which operators of PyTorch became which operators of ONNX, one to one or one to many."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assay.graph.provenance import node_provenance

if TYPE_CHECKING:
    import onnx

_KEY = "assay.aten"
ONE_TO_ONE, ONE_TO_MANY = "one-to-one", "one-to-many"


@dataclass(frozen=True)
class Mapped:
    """One ATen operator, the ONNX operators one call of it became (in order), and how many calls did.

    ``refused_by`` says, per engine, why it does not take one of these operators.
    """

    aten: str
    onnx: tuple[str, ...]
    calls: int
    modules: tuple[str, ...]
    refused_by: tuple[tuple[str, str], ...] = ()

    @property
    def kind(self) -> str:
        return ONE_TO_ONE if len(self.onnx) == 1 else ONE_TO_MANY

    def to_json(self) -> dict[str, object]:
        return {
            "aten": self.aten,
            "onnx": list(self.onnx),
            "kind": self.kind,
            "calls": self.calls,
            "modules": list(self.modules[:20]),
            "refused_by": dict(self.refused_by),
        }


Refusal = Callable[[str], str | None]
"""Why an engine does not take an operator (by its ONNX name); None when it does."""


def aten_mapping(model: onnx.ModelProto, engines: dict[str, Refusal] | None = None) -> tuple[Mapped, ...]:
    """The table for an export by torch's exporters, in order of appearance; empty without what they say of it.

    Different decompositions of one operator (another dtype, other arguments) are rows of their own.  A file
    whose nodes lost their metadata to a pass still says what ``remember`` wrote into it before.
    """
    kept = next((p.value for p in model.metadata_props if p.key == _KEY), None)
    rows = _read(kept) if kept is not None else _from_nodes(model)
    return tuple(replace(row, refused_by=_refused(row.onnx, engines or {})) for row in rows)


def remember(model: onnx.ModelProto) -> None:
    """Write the table into the file itself, before a pass merges nodes and drops what they say."""
    rows = aten_mapping(model)
    if rows and not any(p.key == _KEY for p in model.metadata_props):
        model.metadata_props.add(key=_KEY, value=_noted(rows))


def append_mapping(path: Path, rows: Sequence[Mapped]) -> None:
    """Write the table into the ONNX file at ``path``, whose nodes say nothing of where they come from.

    Two protobuf messages one after the other are read as one, so the file itself need not be read.
    """
    import onnx

    if rows:
        note = onnx.ModelProto()
        note.metadata_props.add(key=_KEY, value=_noted(rows))
        with path.open("ab") as file:
            file.write(note.SerializeToString())


def _noted(rows: Sequence[Mapped]) -> str:
    return json.dumps([[row.aten, list(row.onnx), row.calls] for row in rows])


def _read(text: str) -> tuple[Mapped, ...]:
    """Nothing from a note that is not ours: anybody may write into a file."""
    try:
        return tuple(Mapped(str(aten), tuple(map(str, made)), int(calls), ()) for aten, made, calls in json.loads(text))
    except (ValueError, TypeError, OverflowError, RecursionError):
        return ()


def _from_nodes(model: onnx.ModelProto) -> tuple[Mapped, ...]:
    calls: dict[str, tuple[str, list[str], str]] = {}
    for node in model.graph.node:
        said = {e.key: e.value for e in node.metadata_props}.get("pkg.torch.onnx.fx_node")
        origin = node_provenance(node)
        if said is None or origin.aten is None:
            continue
        key = said.partition(" : ")[0]
        calls.setdefault(key, (origin.aten, [], origin.module or ""))[1].append(node.op_type)
    counted: Counter[tuple[str, tuple[str, ...]]] = Counter()
    modules: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for aten, operators, module in calls.values():
        row = (aten, tuple(operators))
        counted[row] += 1
        modules.setdefault(row, []).append(module)
    return tuple(
        Mapped(aten, made, n, tuple(dict.fromkeys(m for m in modules[aten, made] if m)))
        for (aten, made), n in counted.items()
    )


def _refused(operators: tuple[str, ...], engines: dict[str, Refusal]) -> tuple[tuple[str, str], ...]:
    found = []
    for engine, refusal in engines.items():
        reason = next((why for op in dict.fromkeys(operators) if (why := refusal(op))), None)
        if reason is not None:
            found.append((engine, reason))
    return tuple(found)
