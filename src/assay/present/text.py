"""Names and messages made safe to print: they come from models, files and vendors' libraries."""

from __future__ import annotations

import unicodedata

STATE_WORDS = {"passed": "passed", "failed": "failed", "not_shown": "not shown"}


def state_word(state: str) -> str:
    """A verdict's or a reason's state in words."""
    return STATE_WORDS.get(state, one_line(state))


def one_line(text: object) -> str:
    """``text`` on one line, without control characters (which could move a terminal's cursor) and without
    the invisible marks that reorder text."""
    return " ".join(_visible(str(text)).split())


def printable(text: object) -> str:
    """Lines of the tool's own for a terminal: as ``one_line``, but lines, tabs and blanks stay as they are."""
    whole = str(text)
    return whole if whole.isprintable() else "\n".join(map(_visible, whole.split("\n")))


def hanging(text: object) -> str:
    """A message for a terminal: as ``printable``, every line after the first one behind a bar.

    Messages quote bundles, Records, models and vendors' libraries: a line end in there must not begin a line that
    looks like one of the tool's own.
    """
    first, *rest = printable(text).split("\n")
    return "\n".join([first, *(f"{FURTHER}{line}" for line in rest if line.strip())])


FURTHER = "  | "


def _visible(line: str) -> str:
    if line.isprintable():  # what is printable holds none of them; a list of thousands is looked at faster so
        return line
    return "".join(c if c in _KEPT or unicodedata.category(c) not in _INVISIBLE else " " for c in line)


_INVISIBLE = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})
_KEPT = frozenset("\t\u200c\u200d") | frozenset(map(chr, range(0xE0020, 0xE0080)))
"""The tab, and what joins or parts letters and emoji within a word: Persian, Devanagari, families, flags."""
