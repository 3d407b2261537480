"""Raw values on disk: every timing that a Record's figures are made of."""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from assay.core.archives import check_members
from assay.core.artifact import digest_file
from assay.core.errors import BadInput, StorageFailed
from assay.core.record import RawSamples
from assay.core.stats import Vector
from assay.core.tensors import Array
from assay.measure.measurement import Measurement

FOLDER = "samples"


def save_raw(root: Path, name: str, measurement: Measurement) -> RawSamples:
    """Write ``samples/NAME.npz`` under ``root``: ``values`` (float64, seconds), ``warmup`` (bool) and what else
    the measurement knows about every call.

    Written beside its place and renamed.  Raises StorageFailed when that cannot be done.
    """
    arrays = {**measurement.columns, "values": measurement.values, "warmup": measurement.warmup}
    return save_series(root, name, arrays)


def save_series(root: Path, name: str, arrays: Mapping[str, Array]) -> RawSamples:
    """Write any named series of seconds as ``samples/NAME.npz``.  Raises StorageFailed."""
    path = root / FOLDER / f"{name}.npz"
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    write_whole(path, content.getvalue())
    return RawSamples(path.relative_to(root).as_posix(), digest_file(path), "s")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all.  Raises StorageFailed."""
    temporary = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StorageFailed(f"cannot write {path}: {error.strerror or error}") from error


def load_raw(root: Path, raw: RawSamples) -> tuple[Vector, Array]:
    """(seconds per call, which of them are warm-up).  Raises BadInput for a missing or changed file."""
    path = checked(root, raw)
    try:
        with np.load(path, allow_pickle=False) as file:
            check_members(file.zip, path)
            values, warmup = file["values"], file["warmup"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise BadInput(f"{path} does not hold timings: {error}") from error
    if values.ndim != 1 or values.dtype.kind != "f" or warmup.dtype != np.bool_ or warmup.shape != values.shape:
        raise BadInput(f"{path} does not hold timings: values {values.dtype} {values.shape}, warmup {warmup.dtype}")
    return values, warmup


def path_of(root: Path, raw: RawSamples) -> Path:
    """Where raw values lie.  Raises BadInput for a place outside ``root``: a Record may come from anywhere."""
    path = root / raw.path
    if "\0" in raw.path or not path.resolve().is_relative_to(root.resolve()):
        raise BadInput(f"a Record names raw values outside its own folder {root}: {raw.path!r}")
    return path


def checked(root: Path, raw: RawSamples) -> Path:
    """The path of raw values whose digest is still the recorded one.  Raises BadInput."""
    path = path_of(root, raw)
    if not os.path.isfile(path):  # noqa: PTH113 - Path raises for a name too long
        raise BadInput(f"there are no raw values at {path}")
    found = digest_file(path)
    if found != raw.sha256:
        raise BadInput(f"{path} was changed after it was recorded: sha256 {found[:12]}, recorded {raw.sha256[:12]}")
    return path
