"""Input specs of module sources: what is known, what ``--shape`` says, and a first forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInput, SignatureMismatch
from assay.core.shapes import ShapeSpec, parse_shape
from assay.core.tensors import TensorSpec, is_float
from assay.sources.arguments import first_line

if TYPE_CHECKING:
    import torch
    from torch import nn

_FREE_SIZE = 64


def specs_from_shapes(shapes: Sequence[ShapeSpec], names: Sequence[str] = ()) -> tuple[TensorSpec, ...]:
    """Specs from shapes alone; ``names`` are used, in order, for those that name no input.

    Without names a single input is ``input``, several are ``input_0``, ``input_1`` …; the dtype is
    float32 unless said, and the batch lies at axis 0.
    """
    specs = []
    for i, shape in enumerate(shapes):
        default = names[i] if i < len(names) else "input" if len(shapes) == 1 else f"input_{i}"
        specs.append(_spec(shape, shape.name or default, shape.dtype or "float32"))
    return _unique(tuple(specs))


def apply_shapes(
    known: tuple[TensorSpec, ...] | None, shapes: Sequence[ShapeSpec], names: Sequence[str] = ()
) -> tuple[TensorSpec, ...] | None:
    """What is known, with what ``--shape`` says put in its place.

    A module's inputs have no names of their own, so as many shapes as inputs may rename them; fewer
    must name the input they mean.  Raises BadInput for a name or a number of shapes that does not fit.
    """
    if not shapes:
        return known
    if known is None:
        return specs_from_shapes(shapes, names)
    by_name = {s.name: i for i, s in enumerate(known)}
    specs = list(known)
    if len(shapes) == len(known) and not all(s.name in by_name for s in shapes):
        order = list(range(len(known)))
    elif len(shapes) > len(known):
        raise BadInput(f"{len(shapes)} shapes were given, the model has inputs {', '.join(map(str, known))}")
    else:
        order = [_index(by_name, s, known) for s in shapes]
    for i, shape in zip(order, shapes, strict=True):
        specs[i] = _spec(shape, shape.name or known[i].name, shape.dtype or known[i].dtype)
    return _unique(tuple(specs))


def fit_shapes(known: tuple[TensorSpec, ...], shapes: Sequence[ShapeSpec]) -> tuple[TensorSpec, ...]:
    """For files whose signature is fixed: a free dim may be given a size, anything else must agree.

    Raises SignatureMismatch naming the input, the file's spec and the shape asked for.
    """
    by_name = {s.name: i for i, s in enumerate(known)}
    specs = list(known)
    for shape in shapes:
        i = 0 if shape.name is None and len(known) == 1 else _index(by_name, shape, known)
        spec = known[i]
        agrees = len(shape.dims) == len(spec.shape) and all(
            isinstance(k, str) or k == d for k, d in zip(spec.shape, shape.dims, strict=True)
        )
        if not agrees or shape.dtype not in (None, spec.dtype):
            asked = TensorSpec(spec.name, shape.dtype or spec.dtype, shape.dims, None)
            raise SignatureMismatch(f"the shape {asked} does not fit the model, whose input is {spec}")
        specs[i] = replace(spec, shape=shape.dims)
    return tuple(specs)


def parse_specs(texts: Sequence[str]) -> tuple[TensorSpec, ...]:
    """``["input:batchx1x32x32"]`` -> specs, in the dialects of ``--shape``."""
    return specs_from_shapes([parse_shape(t) for t in texts])


def draw(specs: Sequence[TensorSpec], rows: int, seed: int) -> list[torch.Tensor]:
    """Seeded inputs: floats are normal with a mean and a contrast of their own per row and channel, so
    that rows differ by more than noise that averages out; other dtypes are zero (safe as an index).

    The batch takes ``rows`` where free; any other free dim takes 64.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    tensors = []
    for spec in specs:
        free = {i: rows if i == spec.batch_axis else _FREE_SIZE for i in range(len(spec.shape))}
        shape = [d if isinstance(d, int) else free[i] for i, d in enumerate(spec.shape)]
        dtype = torch_dtype(spec)
        if not is_float(spec.dtype):
            tensors.append(torch.zeros(shape, dtype=dtype))
            continue
        head = [*shape[:2], *[1] * (len(shape) - 2)] if len(shape) > 2 else [1] * len(shape)
        noise = torch.randn(shape, generator=generator)
        offset = torch.randn(head, generator=generator)
        contrast = 0.5 + torch.rand(head, generator=generator)
        tensors.append((noise * contrast + 0.5 * offset).to(dtype))
    return tensors


def is_certain(specs: Sequence[TensorSpec]) -> bool:
    """Whether the batch is the only free dim, so that ``draw`` guesses no size."""
    return all(isinstance(d, int) or i == s.batch_axis for s in specs for i, d in enumerate(s.shape))


def probe(module: nn.Module, specs: tuple[TensorSpec, ...], name: str) -> None:
    """One forward with zero-cost checks, to find a shape that does not fit before any long work.

    Raises BadInput quoting the module's own error.  Nothing is done where a size would be a guess.
    """
    import torch

    if not is_certain(specs):
        return
    try:
        with torch.no_grad():
            module(*draw(specs, 2, 0))
    except Exception as error:
        raise refused(name, specs, error) from error


def refused(name: str, specs: Sequence[TensorSpec], error: Exception) -> BadInput:
    """The error for a module that does not run on inputs of ``specs``."""
    return BadInput(
        f"{name} does not accept {', '.join(map(str, specs))}: {type(error).__name__}: {first_line(error)}",
        remedy="give shapes that fit, one per input: --shape NAME:batchx3x224x224[:dtype]",
    )


def torch_dtype(spec: TensorSpec) -> Any:
    """The torch dtype of a spec.  Raises SignatureMismatch for strings, which torch does not have."""
    import torch

    if spec.dtype == "string":
        raise SignatureMismatch(f"{spec.name}: a PyTorch module takes no strings")
    return getattr(torch, spec.dtype)


def _spec(shape: ShapeSpec, name: str, dtype: str) -> TensorSpec:
    return TensorSpec(name, dtype, shape.dims, 0 if shape.dims else None)


def _index(by_name: dict[str, int], shape: ShapeSpec, known: Sequence[TensorSpec]) -> int:
    if shape.name in by_name:
        return by_name[shape.name]
    asked = "a shape without a name" if shape.name is None else f"a shape for {shape.name!r}"
    raise BadInput(f"{asked} was given; the model's inputs are {', '.join(map(str, known))}")


def _unique(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    names = [s.name for s in specs]
    if len(set(names)) != len(names):
        raise BadInput(f"two inputs have one name: {', '.join(names)}")
    return specs
