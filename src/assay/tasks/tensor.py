"""tensor: a user's own metric, for models of any kind.

``metric(outputs, targets)`` is called **once per sample**, with a batch axis of size one kept on
everything, so that a function written for batches works as it is and the mean over samples has an
interval.  (A metric that is not a mean over samples, such as F1, has no such per-sample value.)

* ``outputs`` is the model's array when it has one output (or one is named), else a mapping;
* ``targets`` is the sample's target with a leading axis of one when it is an array or a number,
  else the target itself (a string, a mapping, None).

Both are numpy arrays.  If the function cannot take those on its first call (TypeError or
AttributeError), it is called with torch tensors instead, which is then kept.  It returns a number, or a
mapping of names to numbers with the same names each time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.core.dataset import Scored
from assay.core.errors import BadInput
from assay.core.record import Figure, withheld
from assay.core.tensors import Array
from assay.tasks.means import mean_figure
from assay.tasks.options import TaskOptions

_REMEDY = "a metric takes (outputs, targets) of one sample, each with a batch axis of one"


class TensorMetric:
    """Figures are named ``metric.NAME``: the option's or the function's name, or the keys of its mapping."""

    name = "tensor"

    def __init__(self, options: TaskOptions) -> None:
        if options.metric is None:
            raise BadInput("the task 'tensor' needs a metric", remedy="metric=fn, a function of (outputs, targets)")
        if not callable(options.metric):
            raise BadInput(f"the metric is a {type(options.metric).__name__}, not a function of (outputs, targets)")
        self._metric = options.metric
        self._options = options
        self.higher_is_better = options.higher_is_better
        self._name = options.metric_name or _function_name(options.metric)
        self._as_torch: bool | None = None
        self._keys: tuple[str, ...] | None = None

    @property
    def primary(self) -> str:
        """``metric.NAME``; of a mapping, the key asked for or the first, which is known once something was scored."""
        if self._options.primary is not None:
            return f"metric.{self._options.primary}"
        return f"metric.{self._keys[0] if self._keys else self._name}"

    def score(self, ids: Sequence[str], outputs: Mapping[str, Array], targets: Sequence[Any]) -> list[Scored]:
        """One row per sample: ``id``, ``values`` (a number that is not finite is None, ``reason`` says so).

        Raises BadInput when the metric fails or changes its keys, naming the sample.
        """
        selected = self._select(outputs)
        if not ids:
            raise BadInput("no samples to score")
        if len(targets) != len(ids):
            raise BadInput(f"{len(ids)} samples and {len(targets)} targets do not fit")
        for name, array in selected.items():
            if array.ndim == 0 or len(array) != len(ids):
                raise BadInput(f"output {name!r} has shape {array.shape}, which is not one row for each of {len(ids)}")
        return [
            self._row(id, {n: a[i : i + 1] for n, a in selected.items()}, target)
            for i, (id, target) in enumerate(zip(ids, targets, strict=True))
        ]

    def figures(self, scored: Sequence[Scored]) -> dict[str, Figure]:
        """The mean of every value with its interval; withheld when any sample's is not finite."""
        if not scored:
            raise BadInput("no samples were scored, so the metric has no value")
        keys = self._agree(scored[0].id, tuple(scored[0].row["values"]))
        for sample in scored:
            self._agree(sample.id, tuple(sample.row["values"]))
        return {f"metric.{key}": self._mean(key, scored) for key in keys}

    def _mean(self, key: str, scored: Sequence[Scored]) -> Figure:
        values = [s.row["values"][key] for s in scored]
        bad = [s.id for s, value in zip(scored, values, strict=True) if value is None]
        if bad:
            reason = f"{key} is not a finite number for {len(bad)} of {len(values)} samples, first {bad[0]}"
            return withheld(self._options.unit, reason, len(values))
        return mean_figure(values, self._options.unit)

    def _select(self, outputs: Mapping[str, Array]) -> Mapping[str, Array]:
        name = self._options.output
        if not outputs:
            raise BadInput("the model gave no outputs to score")
        if name is None:
            return outputs
        if name not in outputs:
            raise BadInput(f"the model has no output {name!r}; it has {', '.join(outputs)}")
        return {name: outputs[name]}

    def _row(self, id: str, outputs: Mapping[str, Array], target: Any) -> Scored:
        values = _numbers(id, self._call(id, outputs, target), self._name)
        self._agree(id, tuple(values))
        bad = {k: v for k, v in values.items() if not math.isfinite(v)}
        row: dict[str, Any] = {"id": id, "values": {k: None if k in bad else v for k, v in values.items()}}
        if bad:
            row["reason"] = ", ".join(f"{k} is {v}" for k, v in bad.items())
        return Scored(id, row)

    def _agree(self, id: str, keys: tuple[str, ...]) -> tuple[str, ...]:
        if self._keys is None:
            if self._options.primary is not None and self._options.primary not in keys:
                raise BadInput(
                    f"the metric gives {', '.join(keys)}, not {self._options.primary!r}, which was asked for"
                )
            self._keys = keys
        if set(keys) != set(self._keys):
            raise BadInput(f"{id}: the metric gives {', '.join(keys)}; before it gave {', '.join(self._keys)}")
        return self._keys

    def _call(self, id: str, outputs: Mapping[str, Array], target: Any) -> Any:
        given: Any = dict(outputs) if len(outputs) > 1 else next(iter(outputs.values()))
        batch = _with_axis(target)
        try:
            if self._as_torch:
                return self._metric(_to_torch(given), _to_torch(batch))
            result = self._metric(given, batch)
            self._as_torch = False
        except (TypeError, AttributeError) as error:
            if self._as_torch is not None:
                raise _failed(id, error) from error
            return self._call_with_tensors(id, given, batch, error)
        except Exception as error:  # a user's own function may raise anything
            raise _failed(id, error) from error
        return result

    def _call_with_tensors(self, id: str, given: Any, batch: Any, first: Exception) -> Any:
        """The first call again, with torch tensors; if that fails too, both failures are told."""
        try:
            result = self._metric(_to_torch(given), _to_torch(batch))
        except ImportError:
            raise _failed(id, first) from first
        except Exception as second:
            message = f"{id}: the metric failed on numpy arrays ({_told(first)}) and on torch tensors ({_told(second)})"
            raise BadInput(message, remedy=_REMEDY) from second
        self._as_torch = True
        return result


def tensor(options: TaskOptions) -> TensorMetric:
    return TensorMetric(options)


def _failed(id: str, error: Exception) -> BadInput:
    return BadInput(f"{id}: the metric failed with {_told(error)}", remedy=_REMEDY)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _function_name(function: Any) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return "value" if name == "<lambda>" else str(name)


def _with_axis(target: Any) -> Any:
    if isinstance(target, (np.ndarray, np.generic, int, float)):
        return np.asarray(target)[None]
    return target


def _to_torch(value: Any) -> Any:
    import torch

    if isinstance(value, dict):
        return {k: _to_torch(v) for k, v in value.items()}
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.name == "bfloat16":
        return torch.from_numpy(value.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(value.copy())


def _numbers(id: str, result: Any, name: str) -> dict[str, float]:
    """A metric's result as named floats."""
    if isinstance(result, Mapping):
        if not result:
            raise BadInput(f"{id}: the metric gave an empty mapping")
        return {str(k): _number(id, v) for k, v in result.items()}
    return {name: _number(id, result)}


def _number(id: str, value: Any) -> float:
    try:
        return float(value.item() if hasattr(value, "item") else value)  # also of an array of one, as of a batch of one
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise BadInput(f"{id}: the metric gave {type(value).__name__}, not a number ({error})") from error
