"""Checkpoint files: weights for the architecture given with ``--arch``, or a pickled whole module."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from assay.core.errors import BadInput
from assay.core.model import Model
from assay.sources import open_spec
from assay.sources.fetch import check_digests
from assay.sources.finish import finish
from assay.sources.options import Architecture, SourceOptions
from assay.sources.weights import find_state, read_checkpoint

SUFFIXES = (".pth.tar", ".safetensors", ".pth", ".pt")


def open_source(spec: str, options: SourceOptions) -> Architecture | Model:
    """With ``--arch``: that architecture with these weights.  Without: a whole module, if trusted.

    Raises BadInput when the architecture is missing or does not fit, UntrustedCode for a pickled
    module without trust.
    """
    path = Path(spec)
    if options.weights is not None:
        raise BadInput(
            f"{spec} is a checkpoint already; --weights {options.weights} would be a second one",
            remedy="give one of them",
        )
    if options.arch is None:
        return _whole_module(path, options)
    inner = replace(options, weights=str(path), arch=None)
    found = open_spec(options.arch, inner)
    if not isinstance(found, Architecture):
        raise BadInput(
            f"--arch {options.arch} is a finished model, not an architecture",
            remedy="write --arch timm:NAME, torchvision:NAME or FILE.py:NAME",
        )
    return finish(replace(found, name=model_name(path), spec=spec), inner)


def model_name(path: Path) -> str:
    """The file's name without what says its kind."""
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), path.suffix)
    return path.name[: len(path.name) - len(suffix)] or path.name


def _whole_module(path: Path, options: SourceOptions) -> Architecture:
    from torch import nn

    check_digests(path, options)
    content = read_checkpoint(path, options.trust)
    if not isinstance(content, nn.Module):
        state, _ = find_state(content, path)
        raise BadInput(
            f"{path} is a checkpoint ({len(state)} tensors) and does not say of which architecture",
            remedy=f"name it: {path} --arch timm:NAME (or torchvision:NAME, FILE.py:NAME)",
        )
    return Architecture(
        name=model_name(path),
        spec=str(path),
        identity={"builder": "pickle", "class": type(content).__qualname__},
        module=content,
        weights=f"{path.name}, a pickled module",
        runs_code=(str(path),),
    )
