"""``parquet:FILE``: a column of image bytes and one of labels, as the Hugging Face hub keeps data sets.

``FILE`` may be a glob.  The image column is binary, or a struct with a field ``bytes``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core.dataset import Item
from assay.core.errors import BadInput, NotAvailable
from assay.data.context import ReaderContext
from assay.data.files import matching_files, short_names

IMAGE_COLUMNS = ("image", "img", "jpg", "png", "bytes", "content")
LABEL_COLUMNS = ("label", "labels", "target", "cls", "fine_label", "y")
_ROWS = 64


@dataclass(frozen=True)
class _File:
    path: Path
    rows: tuple[int, ...]
    """Rows in each row group."""
    name: str
    """What ids begin with."""
    image: str
    label: str | None


class ParquetReader:
    """An item is the image's bytes, its id ``FILE/ROW``.  A few rows at a time are held in memory."""

    synthetic = False
    streams = True
    labels: tuple[str, ...] | None = None
    preprocess: Mapping[str, Any] | None = None

    def __init__(self, name: str, files: list[_File]) -> None:
        self.name, self.files = f"parquet:{name}", tuple(f.path for f in files)
        self._files = files
        self._count = sum(sum(f.rows) for f in files)
        if not self._count:
            raise BadInput(f"{name} holds no rows")

    def __len__(self) -> int:
        return self._count

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        first, last, _ = slice(start, stop).indices(self._count)
        begin = 0
        for file in self._files:
            end = begin + sum(file.rows)
            if begin < last and end > first:
                yield from _rows(file, max(first - begin, 0), min(last, end) - begin)
            begin = end


def open_parquet(argument: str | None, context: ReaderContext) -> ParquetReader:
    """Raises NotAvailable without pyarrow, BadInput for missing files and for columns that are not there."""
    if not argument:
        raise BadInput("--data parquet needs a file", remedy="--data parquet:FILE.parquet")
    paths = matching_files(argument)
    return ParquetReader(argument, [_open(p, name) for p, name in zip(paths, short_names(paths), strict=True)])


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise NotAvailable(
            f"Parquet files need pyarrow, which cannot be imported ({error})", remedy="pip install pyarrow"
        ) from error
    return pyarrow.parquet


def _damage() -> tuple[type[Exception], ...]:
    """What pyarrow raises for a damaged file."""
    import pyarrow

    return (OSError, ValueError, pyarrow.ArrowException)


def _open(path: Path, name: str) -> _File:
    parquet = _parquet()
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            rows = tuple(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups))
    except _damage() as error:
        raise BadInput(f"{path} is not a readable Parquet file ({error})") from error
    image = next((n for n in IMAGE_COLUMNS if n in names), None)
    if image is None:
        raise BadInput(f"{path} has the columns {', '.join(names)}; the images' is one of {', '.join(IMAGE_COLUMNS)}")
    return _File(path, rows, name, image, next((n for n in LABEL_COLUMNS if n in names), None))


def _rows(file: _File, first: int, last: int) -> Iterator[Item]:
    columns = [file.image] + ([file.label] if file.label else [])
    begin = 0
    with _parquet().ParquetFile(file.path) as source:
        for group, count in enumerate(file.rows):
            if begin < last and begin + count > first:
                yield from _group(file, source, (group, columns), begin, (first, last))
            begin += count


def _group(
    file: _File, source: Any, what: tuple[int, list[str]], begin: int, wanted: tuple[int, int]
) -> Iterator[Item]:
    """The rows of one group that lie in ``wanted``; the group's first row has the number ``begin``."""
    group, columns = what
    row = begin
    try:
        for batch in source.iter_batches(_ROWS, row_groups=[group], columns=columns):
            if row + batch.num_rows > wanted[0] and row < wanted[1]:
                images = batch.column(file.image)
                labels = batch.column(file.label) if file.label else None
                for i in range(batch.num_rows):
                    if wanted[0] <= row + i < wanted[1]:
                        id = f"{file.name}/{row + i:08d}"
                        yield Item(id, _bytes(images[i].as_py(), id), None if labels is None else labels[i].as_py())
            row += batch.num_rows
    except _damage() as error:
        raise BadInput(f"{file.path} is damaged near row {row} ({error})") from error


def _bytes(value: Any, id: str) -> bytes:
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise BadInput(f"{id} holds no image bytes but {type(content).__name__}")
    return content
