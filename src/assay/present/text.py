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
    whole = str(text)
    if not whole.isprintable():  # what is printable holds none of them; a list of thousands is looked at faster so
        whole = "".join(c if unicodedata.category(c) not in _INVISIBLE else " " for c in whole)
    return " ".join(whole.split())


_INVISIBLE = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})
