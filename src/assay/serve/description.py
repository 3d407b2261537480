"""What a served model says of itself: metadata and configuration, in the protocol's JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from assay.core.tensors import Dim, Signature, TensorSpec
from assay.serve.dtypes import WIRE

if TYPE_CHECKING:
    from assay.serve.models import ModelParts


def metadata(parts: ModelParts, versions: Sequence[str]) -> dict[str, Any]:
    """The metadata response: shapes with their batch axis, -1 for a free dim."""
    signature = parts.signature
    return {
        "name": parts.name,
        "versions": list(versions),
        "platform": parts.platform,
        "inputs": [_tensor(s) for s in signature.inputs],
        "outputs": [_tensor(s) for s in signature.outputs],
    }


def largest_batch(parts: ModelParts) -> int:
    """Triton's ``max_batch_size``: 0 where rows are not the first axis of every tensor."""
    return parts.max_batch if batches_first(parts.signature) else 0


def batches_first(signature: Signature) -> bool:
    return all(s.batch_axis == 0 for s in (*signature.inputs, *signature.outputs))


def configuration(parts: ModelParts) -> dict[str, Any]:
    """Triton's ModelConfig as JSON, as far as it has a meaning here."""
    most = largest_batch(parts)
    found: dict[str, Any] = {
        "name": parts.name,
        "platform": parts.platform,
        "backend": parts.backend,
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": most,
        "input": [_configured(s, most) for s in parts.signature.inputs],
        "output": [_configured(s, most) for s in parts.signature.outputs],
        "instance_group": [
            {"name": f"{parts.name}_0", "kind": parts.instance_kind, "count": parts.instances, "gpus": []}
        ],
        "default_model_filename": "",
        "parameters": {k: {"string_value": str(v)} for k, v in parts.parameters.items()},
    }
    if most:
        found["dynamic_batching"] = dict(parts.batching)
    return found


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": WIRE[spec.dtype], "shape": [_size(d) for d in spec.shape]}


def _configured(spec: TensorSpec, most: int) -> dict[str, Any]:
    wire = WIRE[spec.dtype]
    dims = spec.shape[1:] if most else spec.shape
    return {
        "name": spec.name,
        "data_type": "TYPE_STRING" if wire == "BYTES" else f"TYPE_{wire}",
        "dims": [_size(d) for d in dims],
    }


def _size(dim: Dim) -> int:
    return dim if isinstance(dim, int) else -1
