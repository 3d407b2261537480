"""Inputs and outputs bound to device memory, for ONNX Runtime.

Buffers on the device are made once per set of input shapes and written again for every call, so
that a call allocates nothing for its inputs.  With CUDA graphs the outputs' buffers are fixed too
(a graph replays addresses): the first call of a set of shapes runs without one and shows the
outputs' shapes, the second is recorded, those after it are replayed.

Device types are ONNX Runtime's: ``cpu``, ``cuda``, ``cann``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from assay.core.tensors import Array

_KEPT = 8
_UNRECORDED = "-1"

Shapes = tuple[tuple[int, ...], ...]


@dataclass
class _Bound:
    """Buffers for one set of input shapes; ``outputs`` are None until their shapes are known and fixed."""

    binding: Any
    inputs: dict[str, Any]
    graph: str
    outputs: list[Any] | None = field(default=None)


class BoundSession:
    """Runs like an ``InferenceSession``; returned arrays are the caller's.

    Inputs are copied to the device before the call, so no reference to the feed is kept.  Used by one
    thread at a time.
    """

    def __init__(self, session: Any, device: str, index: int, graphs: bool = False) -> None:
        self._session, self._device, self._index, self._graphs = session, device, index, graphs
        self._inputs = [value.name for value in session.get_inputs()]
        self._bound: OrderedDict[Shapes, _Bound] = OrderedDict()
        self._made = 0

    def get_inputs(self) -> Any:
        return self._session.get_inputs()

    def run(self, names: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
        key = tuple(feed[name].shape for name in self._inputs)
        bound = self._bound.get(key)
        if bound is None:
            bound = self._bound[key] = self._bind(names, feed)
            while len(self._bound) > _KEPT:
                self._bound.popitem(last=False)
        self._bound.move_to_end(key)
        for name, value in bound.inputs.items():
            value.update_inplace(np.asarray(feed[name], order="C"))  # ascontiguousarray would give a scalar a dim
        self._session.run_with_iobinding(bound.binding, self._options(bound))
        found = [np.array(value.numpy()) for value in bound.outputs or bound.binding.get_outputs()]
        if self._graphs and bound.outputs is None:
            self._fix(bound, names, found)
        return found

    def _bind(self, names: Sequence[str], feed: Mapping[str, Array]) -> _Bound:
        binding = self._session.io_binding()
        inputs = {name: self._buffer(feed[name]) for name in self._inputs}
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name in names:
            binding.bind_output(name, self._device, self._index)
        self._made += 1
        return _Bound(binding, inputs, str(self._made))

    def _fix(self, bound: _Bound, names: Sequence[str], found: Sequence[Array]) -> None:
        bound.outputs = [self._buffer(array) for array in found]
        bound.binding.clear_binding_outputs()
        for name, value in zip(names, bound.outputs, strict=True):
            bound.binding.bind_ortvalue_output(name, value)

    def _buffer(self, like: Array) -> Any:
        import onnxruntime

        return onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            list(like.shape), like.dtype.type, self._device, self._index
        )

    def _options(self, bound: _Bound) -> Any:
        """Which graph to record or replay; None where there are none."""
        if not self._graphs:
            return None
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", _UNRECORDED if bound.outputs is None else bound.graph)
        return options
