"""What the words around a log or a table say about it: device, batch, precision.

For the device: the line right above, then the nearest heading, then the other lines, then the headings
above.  For the batch: the nearest line or command, back to the log before.  A line that names two devices
or two batch sizes decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

from assay.importers.ascend_accuracy import scored_from
from assay.importers.devices import generic, kind_of, mentions, named, speaks_of_numeric
from assay.importers.document import Block
from assay.importers.imported import Hints
from assay.importers.trtexec_command import model_in, parse_trtexec

BATCH = re.compile(
    r"(?:(?<![A-Za-z])(?:batch[ _-]?size|batch)s?\s*(?:_|=|:|：|为|是|of)?\s*|(?<![A-Za-z])bs\s*(?:=|:|：|为|是)?\s*|"
    r"批(?:处理)?(?:大小|次|量)?\s*(?:=|:|：|为|是)?\s*)(\d{1,5})(?![\d.]*[A-Za-z\d])",
    re.I,
)
_PRECISION = re.compile(
    r"(?<![A-Za-z0-9])(fp16|fp32|bf16|int8|fp8|int4|tf32|float16|float32|half)(?![A-Za-z0-9])", re.I
)
_PRECISIONS = {"float16": "fp16", "half": "fp16", "float32": "fp32"}
_VERSION = re.compile(r"TensorRT\s*(?:版本|version)?\s*[:：=]{0,2}\s*v?(\d{1,4}(?:\.\d{1,6}){1,3})(?!\d)", re.I)
_PERFORMANCE = re.compile(r"性能|吞吐|performance|throughput|\bspeed\b|\bqps\b|\bfps\b", re.I)
LINES_ABOVE = 200
"""Farther up, words are not around a log, heading or none; a document of any length is read in a bounded time."""
_COMMAND = re.compile(r"^\s*(?:\$ ?)?(?:\S*/)?(?:trtexec|benchmark\S*|ais_bench|atc|python\S*|bash|msit)\s", re.M)


@dataclass(frozen=True)
class Document:
    """The blocks and what the document as a whole says."""

    blocks: tuple[Block, ...]
    numeric_devices: bool = False
    models: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()

    @property
    def model(self) -> str | None:
        return self.models[0] if len(self.models) == 1 else None

    def resolve_generic(self, kind: str) -> str | None:
        """``gpu`` stands for the one GPU the document names."""
        known = [name for name in self.devices if kind_of(name) == kind]
        return known[0] if len(known) == 1 else None


def document_of(blocks: Sequence[Block]) -> Document:
    text = "\n".join(block.text for block in blocks)
    numeric = speaks_of_numeric(text)
    paths = [model_in(line) for line in text.split("\n")]
    models = [m for m in paths if m and "$" not in m and "{" not in m]
    # A name that differs only in case, or is another's beginning, is the same model.
    distinct: dict[str, str] = {}
    for name in models:
        distinct.setdefault(name.lower(), name)
    kinds = {m.name: m.kind for line in text.split("\n") for m in mentions(line, numeric)}
    accelerators = tuple(name for name, kind in kinds.items() if kind != "cpu")
    return Document(tuple(blocks), numeric, tuple(distinct.values()), accelerators or tuple(kinds))


@dataclass(frozen=True)
class Facts:
    """What a piece of text says; None where it says nothing or more than one thing."""

    device: str | None = None
    batch: int | None = None
    precision: str | None = None


def facts_of(text: str, document: Document) -> Facts:
    """The one device, batch size and precision that ``text`` names."""
    facts, sort = _said(text, document.numeric_devices)
    return facts if sort is None else replace(facts, device=document.resolve_generic(sort))


@lru_cache(maxsize=2**10)
def _said(text: str, numeric: bool) -> tuple[Facts, str | None]:
    """What a text says by itself, and the sort of device where it names no more."""
    found = named(text, numeric)
    batches = batches_in(text)
    precisions = {_PRECISIONS.get(p.lower(), p.lower()) for p in _PRECISION.findall(text)}
    facts = Facts(
        found[0] if len(found) == 1 else None,
        batches[0] if len(batches) == 1 else None,
        precisions.pop() if len(precisions) == 1 else None,
    )
    return facts, None if found else generic(text)


def batches_in(text: str) -> list[int]:
    """The distinct batch sizes a text names, above zero."""
    return [b for b in dict.fromkeys(int(n) for n in BATCH.findall(text)) if b > 0]


def hints_at(document: Document, index: int, given: Hints, logs: frozenset[int]) -> Hints:
    """Hints for block ``index`` from the words above it; what was given by hand wins.

    ``logs`` are the blocks that are logs themselves: a text before one of them belongs to that one.
    """
    device, batch, precision = given.device, given.batch, given.precision
    passed_log, loose = False, None
    for distance, (i, text) in enumerate(_above(document, index)):
        if i in logs:
            passed_log = True
            continue
        facts = facts_of(text, document)
        if distance == 0:
            device = device or facts.device  # the line right above is the log's own label
        loose = loose or facts.device
        precision = precision or facts.precision or (parse_trtexec(text).precision if "trtexec" in text else None)
        if not passed_log:
            batch = batch or facts.batch or (parse_trtexec(text).batch if "trtexec" in text else None)
    device = device or heading_device(document, index, nearest=True) or loose or heading_device(document, index)
    return replace(given, device=device, batch=batch, precision=precision, model=given.model or document.model)


def heading_device(document: Document, index: int, nearest: bool = False) -> str | None:
    """The device of the nearest heading, or of one above it, that names exactly one."""
    for heading in headings_above(document, index)[: 1 if nearest else None]:
        if (device := facts_of(heading, document).device) is not None:
            return device
    return None


def headings_above(document: Document, index: int) -> list[str]:
    """The chain of headings a block stands under, the nearest first."""
    found: list[str] = []
    level = 7
    for block in reversed(document.blocks[:index]):
        if block.kind == "heading" and block.level < level:
            found.append(block.text)
            level = block.level
    return found


def about_performance(document: Document, index: int) -> bool:
    """Whether a table's headings or the text right above it speak of speed."""
    near = [text for _, text in islice(_above(document, index), 3)]
    return any(_PERFORMANCE.search(text) for text in [*headings_above(document, index)[:1], *near])


def claimed_version(document: Document, index: int) -> str | None:
    """The TensorRT version the text claims: in the section first, else anywhere, if it is one."""
    near = [m for _, text in _above(document, index) for m in _VERSION.findall(text)]
    everywhere = [m for block in document.blocks for m in _VERSION.findall(block.text)]
    for versions in (near, everywhere):
        if len(set(versions)) == 1:
            return str(versions[0])
    return None


def dumps_above(document: Document, index: int) -> str | None:
    """The folder of dumps in the last metric command before a block."""
    for block in reversed(document.blocks[:index]):
        if (folder := scored_from(block.text)) and _COMMAND.search(block.text):
            return folder
    return None


def _above(document: Document, index: int) -> Iterator[tuple[int, str]]:
    """(block index, line) upwards from block ``index`` to its heading; a fence counts as one line."""
    return islice(_all_above(document, index), LINES_ABOVE)


def _all_above(document: Document, index: int) -> Iterator[tuple[int, str]]:
    for i in range(index - 1, -1, -1):
        block = document.blocks[i]
        if block.kind == "heading":
            return
        lines = block.text.split("\n") if block.kind == "text" else [block.text]
        for line in reversed(lines):
            yield i, line
