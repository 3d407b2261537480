"""config.pbtxt: Triton's model configuration in protobuf's text format, from a bundle's signature and options."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from assay.core.errors import BadInput, NotAvailable
from assay.core.tensors import Signature, TensorSpec

TYPES = {
    "bool": "TYPE_BOOL",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64",
    "float16": "TYPE_FP16",
    "bfloat16": "TYPE_BF16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "string": "TYPE_STRING",
}


class Name(str):
    """An enumeration's value: written without quotes."""

    __slots__ = ()


def text_format(message: Mapping[str, Any], indent: int = 0) -> str:
    """A nested mapping as a protobuf text message.

    A list of numbers or names is one field in brackets, a list of mappings one block each, and the
    mappings ``parameters`` and ``inputs`` are protobuf maps of key and value.
    """
    return "".join(f"{'  ' * indent}{line}\n" for line in _lines(message))


def _lines(message: Mapping[str, Any]) -> Iterator[str]:
    for field, value in message.items():
        if field in ("parameters", "inputs") and isinstance(value, Mapping):
            for key, inner in value.items():
                yield from _block(field, {"key": key, "value": inner})
        elif isinstance(value, Mapping):
            yield from _block(field, value)
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            for inner in value:
                yield from _block(field, inner)
        elif isinstance(value, list | tuple):
            yield f"{field}: [{', '.join(_scalar(v) for v in value)}]"
        else:
            yield f"{field}: {_scalar(value)}"


def _block(field: str, message: Mapping[str, Any]) -> Iterator[str]:
    yield f"{field} {{"
    yield from (f"  {line}" for line in _lines(message))
    yield "}"


def _scalar(value: Any) -> str:
    if isinstance(value, Name):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=True) if value.isascii() else _escaped(value)
    return str(value)


def _escaped(value: str) -> str:
    return (
        '"'
        + "".join(
            f"\\{byte:03o}" if byte > 126 or byte < 32 or byte in (34, 92) else chr(byte) for byte in value.encode()
        )
        + '"'
    )


def batches(signature: Signature) -> bool:
    """Whether Triton may merge requests: a free batch axis, the first of every input and output."""
    specs = (*signature.inputs, *signature.outputs)
    free = all(isinstance(spec.batch, str) for spec in signature.inputs)
    return bool(signature.inputs) and signature.is_batched and free and all(s.batch_axis == 0 for s in specs)


def tensor(spec: TensorSpec, name: str, *, batched: bool) -> dict[str, Any]:
    """ModelInput or ModelOutput.  A tensor of no dims is asked for as [1] and reshaped, which Triton demands."""
    dims = [d if isinstance(d, int) else -1 for d in (spec.row_shape() if batched else spec.shape)]
    described: dict[str, Any] = {"name": name, "data_type": Name(TYPES[spec.dtype]), "dims": dims or [1]}
    if not dims:
        described["reshape"] = {"shape": []}
    return described


def pictures(name: str) -> dict[str, Any]:
    """The input of a model that takes encoded pictures: one BYTES element a row, as [batch, 1]."""
    return {"name": name, "data_type": Name("TYPE_STRING"), "dims": [1]}


def instances(device: str, count: int) -> list[dict[str, Any]]:
    """Raises NotAvailable for a device that Triton has no kind for."""
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return [{"count": count, "kind": Name("KIND_CPU")}]
    if kind in ("cuda", "gpu"):
        return [{"count": count, "kind": Name("KIND_GPU"), "gpus": [int(index or 0)]}]
    raise NotAvailable(f"Triton has no instances on {device}", remedy="assay serve serves this bundle where it runs")


def batching(max_batch: int, delay_us: int) -> dict[str, Any]:
    if max_batch < 2:
        return {}
    return {"dynamic_batching": {"max_queue_delay_microseconds": delay_us} if delay_us else {}}


def check_name(name: str) -> str:
    """A model's folder.  Raises BadInput for a name that would leave the repository."""
    if not name.isprintable() or not 0 < len(name.encode()) <= 128 or name[0] in ".-" or "/" in name or "\\" in name:
        raise BadInput(f"{name[:200]!r} cannot be the name of a model's folder", remedy="--name my_model")
    return name


def warmup(rows: Sequence[tuple[str, Mapping[str, Any]]], sizes: Sequence[int]) -> list[dict[str, Any]]:
    """ModelWarmup entries: for every batch size in ``sizes`` that many requests of one row each."""
    inputs = dict(rows)
    return [{"name": f"batch {size}", "batch_size": size, "inputs": inputs} for size in sizes]
