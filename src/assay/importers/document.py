"""A Markdown document cut into headings, texts, fenced blocks and tables, each with its lines."""

from __future__ import annotations

import re
from dataclasses import dataclass

from assay.importers.source import Source
from assay.importers.tables import is_row, is_rule

_HEADING = re.compile(r"^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_FENCE = re.compile(r"^\s*(?:>\s*)*(`{3,}|~{3,})(.*)$")
_NUMBER = re.compile(r"^(?:<[^>]*>\s*)*(?:\d+(?:\.\d+)*\.?|[一二三四五六七八九十]+、)\s*")


@dataclass(frozen=True)
class Block:
    """``kind`` is heading, text, fence or table; a fence's lines are those inside it."""

    kind: str
    first: int
    last: int
    text: str
    level: int = 0


def is_document(text: str) -> bool:
    """Whether a text is Markdown: a fence, or a heading beside a table or another heading."""
    lines = text.split("\n")
    fences = sum(bool(_FENCE.match(line)) for line in lines)
    headings = sum(bool(_HEADING.match(line)) for line in lines)
    rules = any(is_rule(line) for line in lines)
    return fences >= 2 or headings >= 2 or (headings >= 1 and rules)


def blocks(source: Source) -> list[Block]:
    """The blocks of a document in order; blank lines end a text."""
    found: list[Block] = []
    lines = source.numbered()
    i = 0
    while i < len(lines):
        number, line = lines[i]
        if fence := _FENCE.match(line):
            i = _take_fence(lines, i, fence[1], found)
        elif heading := _HEADING.match(line):
            title = re.sub(r"<[^>]*>", "", heading[2])
            found.append(Block("heading", number, number, _NUMBER.sub("", title), len(heading[1])))
            i += 1
        elif is_row(line) and i + 1 < len(lines) and is_rule(lines[i + 1][1]):
            i = _take_table(lines, i, found)
        else:
            if line.strip():
                _add_text(found, number, line)
            i += 1
            if not line.strip() and found and found[-1].kind == "text":
                found.append(Block("blank", number, number, ""))
    return [block for block in found if block.kind != "blank"]


def _take_fence(lines: list[tuple[int, str]], i: int, mark: str, found: list[Block]) -> int:
    j = i + 1
    while j < len(lines):
        closing = _FENCE.match(lines[j][1])
        if closing and closing[1][0] == mark[0] and len(closing[1]) >= len(mark) and not closing[2].strip():
            break
        j += 1
    inside = lines[i + 1 : j]
    if inside:
        found.append(Block("fence", inside[0][0], inside[-1][0], "\n".join(text for _, text in inside)))
    return j + 1


def _take_table(lines: list[tuple[int, str]], i: int, found: list[Block]) -> int:
    j = i + 2
    while j < len(lines) and is_row(lines[j][1]):
        j += 1
    found.append(Block("table", lines[i][0], lines[j - 1][0], "\n".join(text for _, text in lines[i:j])))
    return j


def _add_text(found: list[Block], number: int, line: str) -> None:
    if found and found[-1].kind == "text":
        before = found.pop()
        found.append(Block("text", before.first, number, f"{before.text}\n{line}"))
    else:
        found.append(Block("text", number, number, line))
