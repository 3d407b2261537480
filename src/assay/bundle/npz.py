"""Arrays in an .npz that is the same bytes every time, and is read without trusting it.

The archive is uncompressed and carries no times, so equal arrays give equal files.  ``bfloat16``
is kept as the uint16 of its bits and a string tensor as its bytes joined, with their lengths; a
JSON list beside the arrays says so.  ``numpy.load(path, allow_pickle=False)`` reads these files.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.errors import BadInput, StorageFailed
from assay.core.tensors import DTYPES, Array, dtype_name

_NEVER = (1980, 1, 1, 0, 0, 0)


def write_npz(path: Path, arrays: Mapping[str, Array]) -> list[dict[str, Any]]:
    """Write ``arrays`` and return their description, which ``read_npz`` needs.

    Raises SignatureMismatch for a dtype outside the closed list, StorageFailed.
    """
    described = []
    try:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for index, (name, array) in enumerate(arrays.items()):
                dtype = dtype_name(array)
                described.append({"name": name, "key": f"a{index}", "dtype": dtype, "shape": list(array.shape)})
                for part, plain in _encode(array, dtype).items():
                    _add(archive, f"a{index}{part}.npy", plain)
    except OSError as error:
        raise StorageFailed(f"cannot write {path}: {error.strerror}") from error
    return described


def _encode(array: Array, dtype: str) -> dict[str, Array]:
    if dtype == "bfloat16":
        return {"": np.asarray(array, order="C").view(np.uint16)}
    if dtype == "string":
        items = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel()]
        lengths = np.array([len(item) for item in items], np.int64)
        return {"": np.frombuffer(b"".join(items), np.uint8), "n": lengths}
    return {"": np.asarray(array, order="C")}


def _add(archive: zipfile.ZipFile, name: str, array: Array) -> None:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(array), version=(1, 0), allow_pickle=False)
    archive.writestr(zipfile.ZipInfo(name, _NEVER), out.getvalue())


def read_npz(path: Path, described: Any) -> dict[str, Array]:
    """The arrays ``described`` names, by their own names.

    Raises BadInput for a broken archive, a compressed one (it could unpack to any size), a member
    whose header claims more than it holds, or a description that does not fit.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            _refuse_shared(archive)
            if len({str(item["key"]) for item in described}) != len(described):
                raise ValueError("two arrays have one key")  # each would be read into memory
            found = {}
            for item in described:
                found[str(item["name"])] = _decode(archive, members, item)
            if len(found) != len(described):
                raise ValueError("two arrays have one name")
            return found
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError, EOFError, RuntimeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error


def _refuse_shared(archive: zipfile.ZipFile) -> None:
    """Members that lie over one another, which would unpack to more than there is.  Raises ValueError."""
    assert archive.fp is not None
    if sum(info.file_size for info in archive.infolist()) > archive.fp.seek(0, 2):
        raise ValueError("its members lie over one another, or are compressed")


def _decode(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], item: Mapping[str, Any]) -> Array:
    dtype, shape = str(item["dtype"]), tuple(int(n) for n in item["shape"])
    if dtype not in DTYPES or any(n < 0 for n in shape):
        raise ValueError(f"{item['name']}: dtype {dtype!r} or shape {shape} is not one")
    stored = _load(archive, members, f"{item['key']}.npy")
    if dtype == "string":
        lengths = _load(archive, members, f"{item['key']}n.npy")
        return _strings(stored, lengths, shape)
    array = stored.view(DTYPES["bfloat16"]) if dtype == "bfloat16" and stored.dtype == np.uint16 else stored
    if array.dtype != DTYPES[dtype] or array.shape != shape:
        raise ValueError(f"{item['name']}: found {array.dtype}{array.shape}, described as {dtype}{shape}")
    return array


def _strings(content: Array, lengths: Array, shape: tuple[int, ...]) -> Array:
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if ends.size else 0
    if content.dtype != np.uint8 or (lengths < 0).any() or total != content.size or lengths.size != math.prod(shape):
        raise ValueError("the lengths of a string tensor do not fit its bytes")
    data = content.tobytes()
    flat = np.empty(lengths.size, object)
    for i, (length, end) in enumerate(zip(lengths.tolist(), ends.tolist(), strict=True)):
        flat[i] = data[end - length : end]
    return flat.reshape(shape)


def _load(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str) -> Array:
    info = members[name]
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    with archive.open(info) as file:
        content = io.BytesIO(file.read())
    if np.lib.format.read_magic(content) != (1, 0):
        raise ValueError(f"{name} has a header of another version")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(content)
    if dtype.hasobject or fortran:
        raise ValueError(f"{name} holds Python objects or is not in C order")
    body = content.read()
    if len(body) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} holds {len(body)} bytes, its header claims {math.prod(shape) * dtype.itemsize}")
    return np.frombuffer(bytearray(body), dtype).reshape(shape)
