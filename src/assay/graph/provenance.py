"""Where a node comes from: module path, ATen operator and line of Python, read from the exporter's metadata.

Passes rename nodes and drop metadata, but tensors keep their names; what an exporter said of a tensor
is therefore looked up by name in the raw export, and a node nobody said anything of inherits from the
nearest tensor before it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assay.graph.subgraphs import reads

if TYPE_CHECKING:
    import onnx

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)\n\s*(.+)')
_TARGET = re.compile(r"target=(?:torch\.ops\.)?([\w.]+)")
_LIBRARY = ("/site-packages/torch/", "/site-packages/torchvision/ops/", "/dist-packages/torch/")


@dataclass(frozen=True)
class Provenance:
    """``module`` is the path of the submodule (``layer1.0.conv1``), ``aten`` the operator it was exported
    from, ``line`` the user's line of Python as ``file:number: code``; None where nothing is known."""

    module: str | None = None
    aten: str | None = None
    line: str | None = None

    def __str__(self) -> str:
        parts = [self.module and f"module {self.module}", self.aten, self.line]
        return ", ".join(p for p in parts if p) or "of unknown origin"

    def to_json(self) -> dict[str, str | None]:
        return {"module": self.module, "aten": self.aten, "line": self.line}


UNKNOWN = Provenance()


def node_provenance(node: onnx.NodeProto) -> Provenance:
    """From one node's own metadata (written by torch's dynamo exporter), or its name (TorchScript's)."""
    said = {e.key: e.value for e in node.metadata_props}
    if not said:
        return _from_name(node.name)
    scopes = _listed(said.get("pkg.torch.onnx.name_scopes"))
    module = scopes[-2] if len(scopes) >= 2 else None
    found = _TARGET.search(said.get("pkg.torch.onnx.fx_node", ""))
    return Provenance(module or None, found.group(1) if found else None, _line(said.get("pkg.torch.onnx.stack_trace")))


def _from_name(name: str) -> Provenance:
    """``/layer1/layer1.0/conv1/Conv`` names the submodule."""
    parts = name.strip("/").split("/")
    if not name.startswith("/") or len(parts) < 2:
        return UNKNOWN
    path = ""
    for part in parts[:-1]:
        path = part if part.startswith(f"{path}.") or not path else f"{path}.{part}"
    return Provenance(path)


def _listed(text: str | None) -> list[str]:
    """Nothing from what is no list: anybody may write into a file."""
    try:
        found = ast.literal_eval(text or "[]")
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return []
    return [str(part) for part in found] if isinstance(found, list) else []


def _line(trace: str | None) -> str | None:
    """The innermost line that is not torch's own."""
    frames = [m.groups() for m in _FRAME.finditer(trace or "")]
    own = [f for f in frames if not any(part in f[0] for part in _LIBRARY)]
    chosen = (own or frames)[-1:]
    return f"{chosen[0][0]}:{chosen[0][1]}: {chosen[0][3].strip()}" if chosen else None


def by_tensor(model: onnx.ModelProto) -> dict[str, Provenance]:
    """What is known of every tensor that a node with metadata makes."""
    found = {name: node_provenance(node) for node in model.graph.node for name in node.output if name}
    return {name: p for name, p in found.items() if p != UNKNOWN}


def inherited(model: onnx.ModelProto, known: Mapping[str, Provenance]) -> dict[str, Provenance]:
    """Provenance of every node of ``model`` by node name: its own, that of its tensors in ``known``, or that
    of what it reads."""
    of_tensor = dict(known)
    found = {}
    for node in model.graph.node:
        own = node_provenance(node)
        if own == UNKNOWN:
            own = next((of_tensor[n] for n in node.output if n in of_tensor), UNKNOWN)
        if own == UNKNOWN:
            own = next((of_tensor[n] for n in reads(node) if n in of_tensor), UNKNOWN)
        found[node.name] = own
        for name in node.output:
            of_tensor.setdefault(name, own)
    return found
