"""Figures put into a page by the benchmark that measured them, between two comments that name it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def write(page: Path, name: str, lines: Sequence[str]) -> None:
    """Replace what stands between ``<!-- name -->`` and ``<!-- /name -->``.  Raises ValueError where they are not."""
    text = page.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
    made, count = pattern.subn(lambda m: m[1] + "\n".join(lines) + "\n" + m[2], text)
    if count != 1:
        raise ValueError(f"{page} has {count} places marked {name!r}, not one")
    page.write_text(made, encoding="utf-8")
