"""Which inputs a module takes: names, dtypes, free dims, and how they bind to ``forward``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assay.core.errors import BadInput, UnknownName, suggest
from assay.core.forward import forward_parameters, passed_by_name
from assay.core.model import Model
from assay.core.shapes import ShapeSpec
from assay.core.tensors import Dim, TensorSpec
from assay.export.options import ExportOptions

DEFAULT_NAME = "input"
BATCH_NAME = "batch"


@dataclass(frozen=True)
class InputPlan:
    """``specs`` in order, with the names the ONNX file will have and free dims as names.

    ``bindings`` holds, for each, the parameter of ``forward`` it is passed as, or None when it is
    passed by position.  ``batch_name`` is None when the batch is fixed; ``batch`` is the example's
    batch size.  ``known`` holds sizes the source knows for dims the user made free.
    """

    specs: tuple[TensorSpec, ...]
    bindings: tuple[str | None, ...]
    batch_name: str | None
    batch: int
    known: Mapping[str, int] = field(default_factory=dict)

    @property
    def free_dims(self) -> tuple[str, ...]:
        """Free dims other than the batch, in order of appearance."""
        dims = [d for s in self.specs for d in s.shape if isinstance(d, str) and d != self.batch_name]
        return tuple(dict.fromkeys(dims))


@dataclass(frozen=True)
class _Wanted:
    name: str | None
    dtype: str
    dims: tuple[Dim, ...]
    batch_axis: int | None
    known: tuple[Dim, ...] | None = None


def plan_inputs(model: Model, options: ExportOptions, module: Any) -> InputPlan:
    """Put together what the source knows and what the user said.

    Raises BadInput when no shape is known, names do not fit or are too many; UnknownName for a
    ``--shape`` that names no input.
    """
    parameters = forward_parameters(module)
    wanted = _wanted(model, options.shapes)
    names = _default_names(wanted, parameters)
    bindings: tuple[str | None, ...] = (None,) * len(names)
    if (all(w.name for w in wanted) or names == parameters[: len(names)]) and passed_by_name(module, names):
        order = sorted(range(len(names)), key=lambda i: parameters.index(names[i]))
        wanted, names = [wanted[i] for i in order], [names[i] for i in order]
        bindings = tuple(names) if passed_by_name(module, names) else bindings
    onnx_names = _renamed(names, options.input_names)
    batch_name, axes = _batch(wanted)
    fixed = options.batch if isinstance(options.batch, int) else None
    specs: list[TensorSpec] = []
    known: dict[str, int] = {}
    for name, want, axis in zip(onnx_names, wanted, axes, strict=True):
        dims = list(want.dims)
        if axis is not None:
            dims[axis] = fixed if fixed is not None else batch_name
        for mine, theirs in zip(dims, want.known or (), strict=False):
            if isinstance(mine, str) and isinstance(theirs, int):
                known.setdefault(mine, theirs)
        specs.append(TensorSpec(name, want.dtype, tuple(dims), axis))
    batched = any(a is not None for a in axes)
    free = batch_name if fixed is None and batched else None
    known.update(dict(options.sizes))
    _check_known(options, specs)
    return InputPlan(tuple(specs), bindings, free, fixed or (2 if free else 1), known)


def _wanted(model: Model, shapes: Sequence[ShapeSpec]) -> list[_Wanted]:
    known = model.inputs or ()
    if not shapes:
        if not known:
            raise BadInput(
                f"the input shape of {model.spec} is not known", remedy=f"assay export {model.spec} --shape {_EXAMPLE}"
            )
        return [_Wanted(s.name, s.dtype, s.shape, s.batch_axis, s.shape) for s in known]
    _no_repeats(shapes)
    by_name = {s.name: s for s in known}
    named = [s.name for s in shapes if s.name is not None]
    matching = [n for n in named if n in by_name]
    if matching and len(shapes) <= len(known):
        return _refined(known, shapes, by_name)
    if known and named and len(shapes) != len(known):
        strange = [n for n in named if n not in by_name]
        if strange:
            raise UnknownName("input", strange[0], by_name)
        raise BadInput(f"{len(shapes)} shapes were given, the model has {len(known)} inputs: {', '.join(by_name)}")
    pairs = zip(shapes, known, strict=True) if len(shapes) == len(known) else ((s, None) for s in shapes)
    return [_from_shape(shape, spec) for shape, spec in pairs]


_EXAMPLE = "x:1x3x224x224"


def _refined(known: Sequence[TensorSpec], shapes: Sequence[ShapeSpec], by_name: Mapping[str, Any]) -> list[_Wanted]:
    """Shapes that name some of the known inputs: those change, the others stay."""
    given = {s.name: s for s in shapes}
    for name in given:
        if name not in by_name:
            raise UnknownName("input", str(name), by_name)
    return [
        _from_shape(given[s.name], s) if s.name in given else _Wanted(s.name, s.dtype, s.shape, s.batch_axis, s.shape)
        for s in known
    ]


def _from_shape(shape: ShapeSpec, spec: TensorSpec | None) -> _Wanted:
    if spec is None:
        return _Wanted(shape.name, shape.dtype or "float32", shape.dims, 0 if shape.dims else None)
    axis = spec.batch_axis if len(spec.shape) == len(shape.dims) else (0 if shape.dims else None)
    dims = spec.shape if len(spec.shape) == len(shape.dims) else None
    return _Wanted(shape.name or spec.name, shape.dtype or spec.dtype, shape.dims, axis, dims)


def _no_repeats(shapes: Sequence[ShapeSpec]) -> None:
    names = [s.name for s in shapes if s.name is not None]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"--shape gives the input {name!r} more than once")


def _default_names(wanted: Sequence[_Wanted], parameters: list[str]) -> list[str]:
    if len(wanted) == 1:
        return [wanted[0].name or (parameters[0] if DEFAULT_NAME in parameters else DEFAULT_NAME)]
    if len(parameters) >= len(wanted) and not any(w.name for w in wanted):
        return parameters[: len(wanted)]
    return [w.name or f"{DEFAULT_NAME}_{i}" for i, w in enumerate(wanted)]


def _renamed(names: list[str], given: tuple[str, ...]) -> list[str]:
    if not given:
        return names
    if len(given) != len(names):
        raise BadInput(
            f"{len(given)} input names were given, the model has {len(names)} inputs: {', '.join(names)}",
            remedy=f"--input-names {','.join(names)}",
        )
    return list(given)


def _batch(wanted: Sequence[_Wanted]) -> tuple[str, list[int | None]]:
    """The batch dim's name and its axis in every input.

    A name in the first dim of an input is the batch, wherever it stands in the others, and inputs
    without it are not batched.  Where no input names it, it is the source's axis, else axis 0 of
    every input whose first dim equals the first input's.
    """
    names = [w.dims[0] for w in wanted if w.dims and isinstance(w.dims[0], str)]
    if BATCH_NAME in {d for w in wanted for d in w.dims}:
        names.insert(0, BATCH_NAME)
    if names:
        name = str(names[0])
        return name, [w.dims.index(name) if name in w.dims else None for w in wanted]
    sizes = [w.dims[w.batch_axis] for w in wanted if w.batch_axis is not None]
    return BATCH_NAME, [
        w.batch_axis if w.batch_axis is not None and w.dims[w.batch_axis] == sizes[0] else None for w in wanted
    ]


def _check_known(options: ExportOptions, specs: Sequence[TensorSpec]) -> None:
    names = [s.name for s in specs]
    for name, _, _ in options.ranges:
        if name not in names:
            raise UnknownName("input", name, names)
    dims = {d for s in specs for d in s.shape if isinstance(d, str)}
    for dim, size in options.sizes:
        if dim not in dims:
            near = suggest(dim, dims)
            raise BadInput(f"no input has a free dim {dim!r}", remedy=f"did you mean {near[0]}?" if near else None)
        if size < 1:
            raise BadInput(f"the free dim {dim!r} cannot have the size {size}")
    for spec in specs:
        if spec.dtype == "string":
            raise BadInput(f"input {spec}: a PyTorch module takes no strings")
    if len(set(names)) != len(names):
        raise BadInput(f"input names must differ: {', '.join(names)}")
