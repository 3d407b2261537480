"""Nested outputs as a flat list of named tensors, and modules that give them so."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInput

if TYPE_CHECKING:
    import torch

SINGLE = "output"
INNER = "inner"
"""The attribute under which a wrapped module sits; names in the exported file lose this prefix."""


def flatten(value: Any) -> list[tuple[str, torch.Tensor]]:
    """Name and tensor of every output, in a stable order.

    A single tensor is ``output``; entries of a mapping, dataclass or named tuple keep their names,
    those of a list or tuple are numbered (``output_0`` on the outside, ``aux.0`` within).  None is
    skipped.  Raises BadInput for anything else, and for no tensor at all.
    """
    found: list[tuple[str, torch.Tensor]] = []
    _walk(value, "", found)
    if not found:
        raise BadInput("the module gives no tensor")
    if len(found) == 1 and isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return [(SINGLE, found[0][1])] if found[0][0] == f"{SINGLE}_0" else found
    unique: dict[str, torch.Tensor] = {}
    for name, tensor in found:
        spelling, number = name, 1
        while spelling in unique:
            number += 1
            spelling = f"{name}_{number}"
        unique[spelling] = tensor
    return list(unique.items())


def _walk(value: Any, path: str, found: list[tuple[str, torch.Tensor]]) -> None:
    import torch

    if value is None:
        return
    if isinstance(value, torch.Tensor):
        found.append((path or SINGLE, value))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _walk(item, _join(path, _clean(key)), found)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            _walk(getattr(value, field.name), _join(path, field.name), found)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for key in value._fields:
            _walk(getattr(value, key), _join(path, key), found)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _walk(item, f"{path}.{index}" if path else f"{SINGLE}_{index}", found)
    else:
        where = f"output {path!r}" if path else "the output"
        raise BadInput(f"{where} is {type(value).__name__}, not a tensor; only tensors can be exported")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _clean(key: Any) -> str:
    return re.sub(r"[^A-Za-z0-9_.]", "_", str(key)) or "_"


def is_flat(value: Any) -> bool:
    """Whether exporters can take these outputs as they are: a tensor, or a plain tuple or list of tensors."""
    import torch

    if isinstance(value, torch.Tensor):
        return True
    return type(value) in (list, tuple) and bool(value) and all(isinstance(v, torch.Tensor) for v in value)


def wrap(module: torch.nn.Module, bindings: tuple[str | None, ...]) -> torch.nn.Module:
    """A module that takes its tensors by position and gives a flat tuple of tensors."""
    import torch

    class Flat(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            args = [t for t, name in zip(tensors, bindings, strict=True) if name is None]
            kwargs = {name: t for t, name in zip(tensors, bindings, strict=True) if name is not None}
            return tuple(t for _, t in flatten(self.inner(*args, **kwargs)))

    return Flat().eval()
