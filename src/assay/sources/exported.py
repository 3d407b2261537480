"""``.pt2`` files: torch.export's programs, and packages compiled ahead of time."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.artifact import file_artifact
from assay.core.errors import BadInput, NotAvailable
from assay.core.model import Model
from assay.core.tensors import DTYPES, TensorSpec
from assay.sources.arguments import first_line
from assay.sources.checkpoint import model_name
from assay.sources.fetch import check_digests
from assay.sources.inputs import apply_shapes, fit_shapes
from assay.sources.options import SourceOptions

if TYPE_CHECKING:
    from torch import nn


def open_program(spec: str, options: SourceOptions) -> Model:
    """An exported program; inputs come from its own signature, in the order of its flattened arguments.

    Raises BadInput for a damaged file, SignatureMismatch for a ``--shape`` that does not fit.
    """
    path = Path(spec)
    program = _load_program(path, options)
    inputs = fit_shapes(program_inputs(program, path), options.shapes)
    module = program_module(program)
    artifact = replace(file_artifact(path, "exported"), module=lambda: module)
    return _model(spec, artifact, inputs)


def open_package(spec: str, options: SourceOptions) -> Model:
    """An ahead-of-time compiled package.  It is machine code: opened only when its module is asked for.

    Its inputs are not described, so they come from ``--shape``.
    """
    path = Path(spec)
    check_digests(path, options)
    artifact = replace(file_artifact(path, "aoti"), module=functools.cache(lambda: _load_package(path)))
    return _model(spec, artifact, apply_shapes(None, options.shapes))


def program_inputs(program: Any, path: Path) -> tuple[TensorSpec, ...]:
    """Specs of the program's inputs.  A free dim at axis 0 that the first input has too is the batch."""
    values = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    names = [n for n in program.graph_signature.user_inputs if isinstance(n, str)]
    specs: list[TensorSpec] = []
    symbols: dict[str, str] = {}
    for name in names:
        value: Any = values.get(name)
        dtype = str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")
        if dtype not in DTYPES:
            raise BadInput(f"{path}: its input {name!r} is {dtype}, not a tensor of a known dtype")
        shape = [_dim(d, i, symbols) for i, d in enumerate(value.shape)]
        batched = bool(shape) and shape[0] == (specs[0].shape[0] if specs and specs[0].shape else shape[0])
        specs.append(TensorSpec(name, dtype, tuple(shape), 0 if batched else None))
    return tuple(specs)


def program_module(program: Any) -> nn.Module:
    """The program as a module to be called with its inputs in order, whatever structure they had."""
    module: nn.Module = program.module()
    # Such a module refuses eval() and train(): its mode was fixed when it was exported.
    object.__setattr__(module, "train", lambda mode=True: module)
    object.__setattr__(module, "eval", lambda: module)
    spec = program.call_spec.in_spec
    arguments, keywords = spec.children() if callable(getattr(spec, "children", None)) else spec.children_specs
    flat = all(c.is_leaf() for c in arguments.children()) and keywords.num_leaves == 0
    return module if flat else _flattened(module, spec)


def _flattened(module: nn.Module, spec: Any) -> nn.Module:
    from torch import nn
    from torch.utils import _pytree

    class Flattened(nn.Module):  # type: ignore[misc]
        """Takes the leaves in order and puts them back into the structure the program was exported with."""

        def __init__(self) -> None:
            super().__init__()
            self.program = module

        def forward(self, *inputs: Any) -> Any:
            args, kwargs = _pytree.tree_unflatten(list(inputs), spec)
            return self.program(*args, **kwargs)

    return Flattened().eval()


def _dim(dim: Any, axis: int, symbols: dict[str, str]) -> int | str:
    """A size, or a name for a free one: equal symbols keep equal names, the first at axis 0 is ``batch``."""
    if isinstance(dim, int):
        return dim
    key = str(dim)
    if key not in symbols:
        symbols[key] = "batch" if axis == 0 and "batch" not in symbols.values() else f"dim_{len(symbols)}"
    return symbols[key]


def _load_program(path: Path, options: SourceOptions) -> Any:
    import torch

    check_digests(path, options)
    try:
        return torch.export.load(path)
    except Exception as error:
        raise BadInput(
            f"{path} is not a readable exported program: {type(error).__name__}: {first_line(error)}",
            remedy=f"it must be written by torch.export.save; this is torch {torch.__version__}",
        ) from error


def _load_package(path: Path) -> nn.Module:
    import torch
    from torch import nn
    from torch.utils import _pytree

    try:
        compiled = torch._inductor.aoti_load_package(str(path))
        spec = _pytree.treespec_loads(compiled.loader.get_call_spec()[0])
    except Exception as error:
        raise NotAvailable(
            f"{path} cannot be opened here: {first_line(error)}",
            remedy="compile it again on this machine, with this torch",
        ) from error

    class Compiled(nn.Module):  # type: ignore[misc]
        """Machine code behind the face of a module."""

        def forward(self, *inputs: Any) -> Any:
            args, kwargs = _pytree.tree_unflatten(list(inputs), spec)
            return compiled(*args, **kwargs)

    return Compiled().eval()


def _model(spec: str, artifact: Any, inputs: tuple[TensorSpec, ...] | None) -> Model:
    return Model(
        name=model_name(Path(spec)),
        spec=spec,
        artifact=artifact,
        weights=f"in {Path(spec).name}",
        inputs=inputs,
        runs_code=(spec,),
    )
