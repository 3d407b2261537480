"""What a plan computes in: its layers as the engine inspector lists them, joined with the ONNX file's MACs.

A layer's metadata (from 8.6) or name holds the ONNX nodes it stands for; the dtype of its first
input is what it multiplies (the field ``Format/Datatype`` became ``Format`` and ``DataType`` in 11).
TF32 shows in the name of the kernel alone.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from assay.core.engine import Attestation
from assay.core.tensors import Signature
from assay.engines.macs import Ran, shares

_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_DTYPES = (
    ("int8", "int8"),
    ("bfloat16", "bf16"),
    ("bf16", "bf16"),
    ("half", "fp16"),
    ("fp16", "fp16"),
    ("float16", "fp16"),
)
_FLOATS = ("float", "fp32")


def mac_table(onnx: Path, signature: Signature, batch: int) -> dict[str, int] | None:
    """MACs per node name at that batch size, of the nodes whose shapes are known; None where there are some and none
    is."""
    from assay.graph.macs import count_macs, inferred_shapes
    from assay.graph.signature import load_model

    model = load_model(onnx)
    sizes = {dim: batch for spec in signature.inputs for dim in spec.shape if isinstance(dim, str)}
    _, per_output, unknown = count_macs(model, inferred_shapes(model, signature, sizes))
    if unknown is not None and not per_output:
        return None
    names = {node.output[0]: node.name or node.output[0] for node in model.graph.node if node.output}
    return {names[output]: macs for output, macs in per_output.items()}


def attest_plan(information: str, macs: dict[str, int]) -> Attestation:
    """``information`` is the inspector's JSON.  Nodes that no layer claims count as ``unknown``."""
    precision: dict[str, str] = {}
    for layer in json.loads(information)["Layers"]:
        if isinstance(layer, str):
            continue  # built without detailed verbosity: names only
        for node in _nodes(layer):
            precision[node] = _precision(layer)
    ran: list[Ran] = [("tensorrt", precision.get(node, "unknown"), count) for node, count in macs.items()]
    return Attestation(shares(ran), how="engine inspector")


def _nodes(layer: dict[str, Any]) -> list[str]:
    told = _NODE.findall(str(layer.get("Metadata", "")))
    return told or [part.strip() for part in str(layer.get("Name", "")).split("+")]


def _precision(layer: dict[str, Any]) -> str:
    inputs = layer.get("Inputs") or [{}]
    # One field up to version 10, two from 11 on, which moreover spell their names differently.
    fields = {name.lower(): str(value) for name, value in inputs[0].items()}
    text = " ".join(fields.get(name, "") for name in ("datatype", "format/datatype", "format")).lower()
    for word, name in _DTYPES:
        if word in text:
            return name
    if any(word in text for word in _FLOATS):
        return "tf32" if "tf32" in str(layer.get("TacticName", "")).lower() else "fp32"
    return "unknown"
