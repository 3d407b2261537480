"""What a PyTorch module *is*: its architecture, its numbers, and the user's code that runs them."""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from assay.core.artifact import digest_file
from assay.core.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor, nn


def digest_state(module: nn.Module) -> str:
    """sha256 over every parameter and buffer, sorted by name: name, dtype, shape, bytes.

    Raises BadInput for parameters that have no values yet (lazy modules, the meta device).
    """
    from torch.nn.parameter import is_lazy

    sha = hashlib.sha256()
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name in sorted(tensors):
        tensor = tensors[name]
        if is_lazy(tensor) or tensor.is_meta:
            raise BadInput(f"the parameter {name} has no values yet", remedy="run the module once before giving it")
        sha.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        sha.update(_bytes(tensor))
    return sha.hexdigest()


def code_files(module: nn.Module, more: Iterable[Path] = ()) -> tuple[Path, ...]:
    """The user's files that define the classes of the module tree (and ``more``), sorted.

    The standard library, installed packages and assay itself do not count: their versions are
    part of the environment.
    """
    found = {p.resolve() for p in more}
    kinds = {base for part in module.modules() for base in type(part).__mro__}
    for name in {kind.__module__ for kind in kinds}:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None and (path := Path(file).resolve()).is_file() and not _is_installed(path):
            found.add(path)
    return tuple(sorted(found, key=lambda p: (p.name, str(p))))


def digest_code(files: Iterable[Path]) -> list[dict[str, str]]:
    """``[{"file": name, "sha256": …}]``, by name: where the files lie does not matter."""
    return sorted(({"file": p.name, "sha256": digest_file(p)} for p in files), key=lambda e: (e["file"], e["sha256"]))


def _bytes(tensor: Tensor) -> bytes:
    import torch

    plain = tensor.detach()
    if plain.layout != torch.strided or plain.is_quantized:
        plain = plain.dequantize() if plain.is_quantized else plain.to_dense()
    plain = plain.resolve_conj().resolve_neg().cpu().contiguous()
    data: bytes = plain.reshape(-1).view(torch.uint8).numpy().tobytes()
    return data


def _is_installed(path: Path) -> bool:
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    places = [Path(sysconfig.get_path(k)).resolve() for k in ("stdlib", "platstdlib", "purelib", "platlib")]
    places.append(Path(__file__).resolve().parents[1])
    return any(path.is_relative_to(p) for p in places)
