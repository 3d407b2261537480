"""Output files that vendor tools dump: ``<stem>_<k>.txt``, ``.bin`` or ``.npy``, one for each input and output k.

The sample's name is the text before the first dot, cut at its last underscore.  A ``.txt`` is numbers
separated by blanks, a ``.bin`` raw little-endian float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from assay.core.errors import BadInput
from assay.core.tensors import Array
from assay.data.files import existing_folder, read_array

SUFFIXES = (".txt", ".bin", ".npy")


def find_dumps(folder: str, output: int | None = None) -> dict[str, Path]:
    """Sample name -> its dump.  ``output`` chooses among several outputs of a sample.

    Raises BadInput for a folder without dumps, and for samples with several where none is chosen.
    """
    root = existing_folder(folder, "dumps")
    found: dict[str, dict[int, Path]] = {}
    for path in sorted(p for p in root.iterdir() if p.suffix in SUFFIXES and p.is_file()):
        stem, _, number = path.name.split(".", 1)[0].rpartition("_")
        if not stem or not number.isdecimal():
            continue
        others = found.setdefault(stem, {})
        if int(number) in others:
            raise BadInput(f"{others[int(number)].name} and {path.name} in {root} are the same output of {stem}")
        others[int(number)] = path
    if not found:
        raise BadInput(f"no dumps in {root}: files named <stem>_<k> with {', '.join(SUFFIXES)}")
    if output is not None:
        return {stem: paths[output] for stem, paths in found.items() if output in paths}
    several = [stem for stem, paths in found.items() if len(paths) > 1]
    if several:
        numbers = sorted({n for paths in found.values() for n in paths})
        raise BadInput(
            f"{len(several)} samples in {root} have several outputs ({', '.join(map(str, numbers))})",
            remedy=f"choose one: --output-index {numbers[0]}",
        )
    return {stem: path for stem, paths in found.items() for path in paths.values()}


def read_dump(path: Path) -> Array:
    """float32 (classes,).  Raises BadInput, naming the file, for what does not hold numbers."""
    try:
        if path.suffix == ".npy":
            values = read_array(path)
        elif path.suffix == ".bin":
            values = np.frombuffer(path.read_bytes(), dtype="<f4")
        else:
            values = np.array(path.read_text(encoding="ascii").split(), dtype=np.float32)
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"{path} does not hold an output ({error})") from error
    flat = np.asarray(values, dtype=np.float32).reshape(-1)
    if flat.size < 2:
        raise BadInput(f"{path} holds {flat.size} numbers, not the scores of classes")
    return flat


def write_dumps(folder: Path, ids: list[str], outputs: Mapping[str, Array], format: str = "bin") -> None:
    """One file for each sample and output, numbered in the model's order; ``ids`` are the samples' names."""
    for number, array in enumerate(outputs.values()):
        for id, row in zip(ids, array, strict=True):
            path = folder / f"{id}_{number}.{format}"
            values = np.ascontiguousarray(row, dtype="<f4")
            if format == "bin":
                path.write_bytes(values.tobytes())
            elif format == "npy":
                np.save(path, values)
            else:
                path.write_text(" ".join(f"{v:.9g}" for v in values.reshape(-1)), encoding="ascii")
