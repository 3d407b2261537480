"""What goes in and out of a PyTorch module, seen by running it: for modules that are run, not exported."""

from __future__ import annotations

from collections.abc import Mapping

from assay.core.model import Model
from assay.core.tensors import Array, Dim, Signature, TensorSpec, dtype_name
from assay.export.export import opened_module, output_axes_of
from assay.export.inputs import InputPlan, plan_inputs
from assay.export.options import ExportOptions
from assay.export.prove import Trial, make_trials
from assay.export.reference import Reference


def module_signature(model: Model, options: ExportOptions) -> Signature:
    """The Signature an export of ``model`` would have, without exporting.

    The batch axis of an output is the one that follows the batch over several runs; other output
    dims that vary with a free input dim are ``?``.  Raises BadInput when the inputs are not known or
    the module does not accept them.
    """
    module = opened_module(model)
    reference = Reference(module, plan_inputs(model, options, module))
    trials = make_trials(reference, options)
    axes, _ = output_axes_of(reference, trials)
    outputs = tuple(
        TensorSpec(name, dtype_name(array), _dims(name, array, trials, axes[name], reference.plan), axes[name])
        for name, array in trials[0].reference.items()
    )
    return Signature(reference.plan.specs, outputs)


def _dims(name: str, array: Array, trials: tuple[Trial, ...], axis: int | None, plan: InputPlan) -> tuple[Dim, ...]:
    batch: Dim = plan.batch_name or plan.batch
    return tuple(
        batch if i == axis else (size if _constant(i, [t.reference for t in trials], name) else "?")
        for i, size in enumerate(array.shape)
    )


def _constant(axis: int, references: list[Mapping[str, Array]], name: str) -> bool:
    return len({r[name].shape[axis] for r in references}) == 1
