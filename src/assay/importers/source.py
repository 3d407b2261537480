"""A log as text with line numbers: a whole file, or the part of one that another tool wrote."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_THOUSANDS = re.compile(r"^\s*[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?\s*$")  # any other comma may be a decimal one
LARGEST_BYTES = 512 * 2**20
MOST = 10**15  # of anything that is counted
LARGEST, SMALLEST = 1e21, 1e-15  # what lies beyond is no figure of a benchmark, and would overflow products


@dataclass(frozen=True)
class Source:
    """``text`` starts at line ``first_line`` of ``path``; ``sha256`` is that of the whole file."""

    path: str
    text: str
    sha256: str
    first_line: int = 1

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return Path(self.path).name

    @property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    @property
    def last_line(self) -> int:
        """The last line that says something."""
        return self.first_line + max(0, self.text.rstrip().count("\n"))

    def numbered(self) -> list[tuple[int, str]]:
        """(line number in the file, line)."""
        return [(self.first_line + i, line) for i, line in enumerate(self.lines)]

    def line_of(self, offset: int) -> int:
        """The file's line number of a character offset of ``text``."""
        return self.first_line + self.text.count("\n", 0, offset)

    def part(self, first: int, last: int) -> Source:
        """Lines ``first`` to ``last`` of the file, both included, with their numbers kept."""
        kept = self.lines[first - self.first_line : last - self.first_line + 1]
        return replace(self, text="\n".join(kept), first_line=first)

    def at(self, line: int) -> str:
        return f"{self.path}:{line}"

    def bad(self, line: int, message: str) -> BadInput:
        """The error for a line that cannot be read."""
        return BadInput(f"{self.at(line)}: {message}", remedy="import the file as the tool wrote it")

    def log(self, first: int, last: int) -> dict[str, Any]:
        """What a Record keeps of its source: file, digest and lines."""
        return {"file": self.path, "sha256": self.sha256, "lines": [first, last]}


def read_source(path: Path) -> Source:
    """The text of a log file (UTF-8 or UTF-16, colour codes removed, any line ends).

    Raises BadInput for what is no file, cannot be read, is binary, empty or above 512 MiB.
    """
    if path.is_dir():
        raise BadInput(f"{path} is a folder; assay imports files", remedy=f"assay import {path}/*")
    if not path.is_file():
        raise BadInput(f"there is no file {path}")
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise BadInput(f"{path} has more than 512 MiB: not a log that is read whole")
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    text = _decode(content, path)
    if not text.strip():
        raise BadInput(f"{path}:1: the file is empty")
    return source_of(text, str(path), hashlib.sha256(content).hexdigest())


def source_of(text: str, path: str, sha256: str | None = None) -> Source:
    """A Source from text at hand."""
    plain = _ANSI.sub("", text.removeprefix("\ufeff")).replace("\r\n", "\n").replace("\r", "\n")
    return Source(path, plain, sha256 or hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())


def _decode(content: bytes, path: Path) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors="replace")
    if b"\0" in content:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise BadInput(f"{path}:{line}: this is a binary file, not a log")
    return content.decode("utf-8", errors="replace")


def number(source: Source, line: int, text: Any, what: str) -> float:
    """A finite number from text (thousands may be separated by commas) or from JSON.

    Raises BadInput with file and line for anything else.
    """
    try:
        if isinstance(text, bool) or (isinstance(text, str) and "," in text and not _THOUSANDS.match(text)):
            raise ValueError(text)
        value = float(text.replace(",", "") if isinstance(text, str) else text)
    except (ValueError, TypeError, OverflowError):
        raise source.bad(line, f"{what} is {_short(text)}, not a number") from None
    if not math.isfinite(value):
        raise source.bad(line, f"{what} is {_short(text)}, not a finite number")
    if abs(value) > LARGEST or 0 < abs(value) < SMALLEST:
        raise source.bad(line, f"{what} is {_short(text)}; no benchmark measures that")
    return value


def positive(source: Source, line: int, text: Any, what: str) -> float:
    """As :func:`number`, and above zero."""
    value = number(source, line, text, what)
    if value <= 0:
        raise source.bad(line, f"{what} is {_short(text)}; it must be above zero")
    return value


def not_negative(source: Source, line: int, text: Any, what: str) -> float:
    """As :func:`number`, and not below zero."""
    value = number(source, line, text, what)
    if value < 0:
        raise source.bad(line, f"{what} is {_short(text)}; it must not be negative")
    return value


def whole(source: Source, line: int, text: Any, what: str) -> int:
    """As :func:`positive`, and a whole number."""
    value = positive(source, line, text, what)
    if value != int(value) or value > MOST:
        raise source.bad(line, f"{what} is {_short(text)}, not a whole number up to {MOST:g}")
    return int(value)


def load_json(source: Source) -> Any:
    """The JSON document in ``source``.  Raises BadInput with file and line where it is broken."""
    try:
        return json.loads(source.text)
    except json.JSONDecodeError as error:
        raise source.bad(source.first_line + error.lineno - 1, f"broken JSON: {error.msg}") from error
    except (RecursionError, ValueError) as error:
        raise source.bad(source.first_line, f"JSON that cannot be read: {error}") from error


def read_csv(source: Source, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    """(line number, cells) of every row that is not empty.  Raises BadInput where the CSV is broken."""
    reader = csv.reader(io.StringIO(source.text), delimiter=delimiter)
    rows: list[tuple[int, list[str]]] = []
    line = source.first_line
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append((line, [cell.strip() for cell in row]))
            line = source.first_line + reader.line_num
    except csv.Error as error:
        raise source.bad(line, f"broken CSV: {error}") from error
    return rows


def csv_dicts(
    source: Source, rows: list[tuple[int, list[str]]], needed: str | None = None
) -> list[tuple[int, dict[str, str]]]:
    """Rows by column name.

    Raises BadInput for a header without the column ``needed``, and for a row of another width.
    """
    if not rows:
        raise source.bad(source.first_line, "there are no rows")
    header = rows[0][1]
    if needed is not None and needed not in header:
        raise source.bad(rows[0][0], f"no column {needed!r} in the header")
    found: list[tuple[int, dict[str, str]]] = []
    for line, cells in rows[1:]:
        while len(cells) > len(header) and not cells[-1]:
            cells = cells[:-1]
        if len(cells) != len(header):
            raise source.bad(line, f"the row has {len(cells)} cells, the header {len(header)}")
        found.append((line, dict(zip(header, cells, strict=True))))
    if not found:
        raise source.bad(rows[0][0], "a header without a single row")
    return found


def _short(value: Any) -> str:
    try:
        shown = repr(value)
    except ValueError:  # an int of more digits than Python prints
        return "too long a number"
    return shown if len(shown) <= 60 else shown[:57] + "…"
