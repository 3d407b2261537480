"""What the numbers mean: tasks that score outputs against targets."""

from __future__ import annotations

from assay.core.dataset import Task
from assay.core.table import resolve
from assay.tasks.options import TaskOptions

__all__ = ["TASKS", "TaskOptions", "open_task"]

# Each factory takes TaskOptions and returns a Task.
TASKS = {
    "classification": "assay.tasks.classification:classification",
    "tensor": "assay.tasks.tensor:tensor",
}


def open_task(name: str, options: TaskOptions | None = None) -> Task:
    """The task of that name.  Raises UnknownName, and BadInput for options it cannot work with."""
    task: Task = resolve(TASKS, name, "task")(options or TaskOptions())
    return task
