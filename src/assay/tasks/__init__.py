"""What the numbers mean: tasks that score outputs against targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from assay.core.dataset import Task
from assay.core.table import resolve
from assay.core.tensors import Signature, is_float
from assay.tasks.options import TaskOptions

__all__ = ["TASKS", "TaskOptions", "fitting", "open_task"]

# Each factory takes TaskOptions and returns a Task.
TASKS = {
    "classification": "assay.tasks.classification:classification",
    "segmentation": "assay.tasks.segmentation:segmentation",
    "super_resolution": "assay.tasks.super_resolution:super_resolution",
    "tensor": "assay.tasks.tensor:tensor",
}


def open_task(name: str, options: TaskOptions | None = None) -> Task:
    """The task of that name.  Raises UnknownName, and BadInput for options it cannot work with."""
    task: Task = resolve(TASKS, name, "task")(options or TaskOptions())
    return task


def fitting(signature: Signature, target: Any) -> str | None:
    """The task that suits a model's outputs and one sample's target; None where no task or several would."""
    floats = [s for s in signature.outputs if is_float(s.dtype)]
    dims = [len(s.shape) for s in floats]
    if hasattr(target, "__index__") and np.ndim(target) == 0:  # an array has it too
        return "classification" if dims.count(2) == 1 else None
    original = target.get("original") if isinstance(target, Mapping) else target
    if not isinstance(original, np.ndarray):
        return None
    if original.dtype == np.uint8 and original.ndim == 3 and original.shape[2] in (1, 3) and dims.count(4) == 1:
        return "super_resolution"
    if original.dtype.kind in "iu" and original.ndim in (2, 3) and dims.count(original.ndim + 2) == 1:
        return "segmentation"
    return None
