"""The null engine: the smallest complete Engine and Session.

It computes nothing.  Every output is filled with a value taken from the input, row by row,
so that a harness can be tested (does each caller get its own rows?) and its own overhead
measured.  Read this file first when writing an engine.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.artifact import Artifact, file_artifact
from assay.core.engine import Attestation, BuildOptions, OpenOptions
from assay.core.errors import AssayError, BadInput
from assay.core.tensors import DTYPES, Array, Feed, Signature, TensorSpec, is_float
from assay.engines.base import PooledSession, check_format, check_open, parse_device, reason, refuse_streams

_ONES = (1,) * 32


def null_artifact(signature: Signature, path: Path) -> Artifact:
    """Write the file the null engine opens: the signature as JSON."""
    path.write_text(json.dumps({"signature": signature.to_json()}, indent=2))
    return file_artifact(path, "null")


class NullEngine:
    name = "null"
    reads: tuple[str, ...] = ("null",)
    opens: tuple[str, ...] = ("null",)
    precisions: tuple[str, ...] = ("fp32",)

    def version(self) -> str:
        return "1"

    def unavailable(self, device: str = "cpu", precision: str = "fp32") -> str | None:
        def probe() -> str | None:
            return None if parse_device(device).kind == "cpu" else f"null runs on cpu only, not on {device}"

        return reason(self.name, self.precisions, precision, probe)

    def build(self, artifact: Artifact, options: BuildOptions, out_dir: Path) -> Artifact:
        """Copies the file; with ``options.batch`` the copy has that batch size."""
        check_format(self.name, "build from", self.reads, artifact)
        signature = _read(artifact.path)
        if options.batch is not None:
            signature = signature.with_batch(options.batch)
        out_dir.mkdir(parents=True, exist_ok=True)
        made = null_artifact(signature, out_dir / "model.json.part")
        target = out_dir / "model.json"
        shutil.move(made.path, target)
        return file_artifact(target, "null", parents=(artifact.sha256,))

    def open(self, artifact: Artifact, options: OpenOptions) -> NullSession:
        check_open(self, artifact, options)
        refuse_streams(self.name, options)
        return NullSession(_read(artifact.path), options.instances)


class NullSession(PooledSession[int]):
    """Output element = 1·(first value of input 1's row) + 2·(… input 2's row) + … + the output's index.

    An output without a batch axis takes the first row's value.  bool is value > 0; integers
    are rounded towards zero; strings are the value's text.
    """

    def __init__(self, signature: Signature, instances: int) -> None:
        super().__init__("null", signature, range(instances))
        self._plan = [(s, _fixed_dims(s, signature)) for s in signature.outputs]

    def _infer(self, worker: int, feed: Feed, spans: MutableMapping[str, float] | None) -> Sequence[Array]:
        # A harness measures itself with this engine, so it makes no array that it can do without.
        signature = self._signature
        rows = signature.batch_of(feed)
        marks: Array | None = None
        for weight, spec in enumerate(signature.inputs, start=1):
            found = _marks(feed[spec.name], spec.batch_axis, rows)
            marks = found if marks is None else marks + weight * found
        if marks is None:
            marks = np.zeros(rows)
        outputs = []
        for index, (spec, fixed) in enumerate(self._plan):
            values = marks + index if index else marks
            if fixed is not None:
                out: Array = np.empty((rows, *fixed), DTYPES[spec.dtype])
                out[...] = values.reshape(rows, *_ONES[: out.ndim - 1])
            else:
                out = _filled(spec, values, _shape(spec, feed, signature))
            outputs.append(out)
        return outputs

    def _attest(self, worker: int) -> Attestation:
        return Attestation({}, how="the null engine computes nothing")


def _marks(array: Array, batch_axis: int | None, rows: int) -> Array:
    """The first element of every row as float64 of shape (rows,)."""
    if array.size == 0:
        return np.zeros(rows)
    if array.dtype == object:
        values = np.array([float(sum(v)) for v in array.reshape(-1)]).reshape(array.shape)
    else:
        values = array
    if batch_axis is None or array.shape[batch_axis] != rows:
        return np.full(rows, float(values.flat[0]))
    if batch_axis == 0:
        return values.reshape(rows, -1)[:, 0].astype(np.float64)
    index: list[Any] = [0] * array.ndim
    index[batch_axis] = slice(None)
    return np.asarray(values[tuple(index)], dtype=np.float64)


def _fixed_dims(spec: TensorSpec, signature: Signature) -> tuple[int, ...] | None:
    """The sizes behind the batch of a float output whose first dim is the feed's rows; None for any other one."""
    lead = next((s for s in signature.inputs if s.batch_axis is not None), None)
    if lead is None or spec.batch_axis != 0 or not is_float(spec.dtype):
        return None
    if spec.shape[0] != lead.shape[lead.batch_axis or 0]:
        return None
    fixed = tuple(d for d in spec.shape[1:] if isinstance(d, int))
    return fixed if len(fixed) == len(spec.shape) - 1 else None


def _filled(spec: TensorSpec, marks: Array, shape: tuple[int, ...]) -> Array:
    if spec.batch_axis is None or shape[spec.batch_axis] != len(marks):
        marks = marks[:1]
        spread = [1] * len(shape)
    else:
        spread = [len(marks) if axis == spec.batch_axis else 1 for axis in range(len(shape))]
    values = np.broadcast_to(marks.reshape(spread), shape)
    if spec.dtype == "string":
        return np.array([str(v).encode() for v in values.reshape(-1)], dtype=object).reshape(shape)
    if spec.dtype == "bool":
        return np.asarray(values > 0)
    if spec.dtype.startswith("uint"):
        values = np.abs(values)
    return values.astype(DTYPES[spec.dtype])


def _shape(spec: TensorSpec, feed: Feed, signature: Signature) -> tuple[int, ...]:
    sizes = {d: n for s in signature.inputs for d, n in zip(s.shape, feed[s.name].shape, strict=True)}
    return tuple(d if isinstance(d, int) else _size(d, spec, sizes) for d in spec.shape)


def _size(dim: str, spec: TensorSpec, sizes: dict[Any, int]) -> int:
    if dim in sizes:
        return sizes[dim]
    raise BadInput(f"the null engine cannot know the size of {dim!r} in {spec}", remedy="give that dim a number")


def _read(path: Path) -> Signature:
    try:
        return Signature.from_json(json.loads(path.read_text())["signature"])
    except AssayError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} is not a signature in JSON: {error!r}") from None
