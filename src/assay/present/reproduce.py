"""The command that measures one row of the table again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from assay.present.rows import Row

_WITH_VALUE = ("--engine", "--precision", "--batch", "--batches", "--threads", "--out", "--json")
_ALONE = ("--dry-run", "--debug", "--quiet", "--quick")


def row_command(row: Row, about: Mapping[str, Any]) -> str | None:
    """``assay run`` as it was typed, held to this row's engine, precision and batch size.

    None for a run whose command was not recorded or was not ``assay run``, and for what never became a
    candidate.
    """
    words = _words(about.get("command"))
    subject = row.subject
    if words[:2] != ["assay", "run"] or row.batch is None or not row.candidate:
        return None
    kept = _without(words, _WITH_VALUE, _ALONE)
    for option in ("engine", "precision", "threads"):
        if subject.get(option) is not None:
            kept += [f"--{option}", str(subject[option])]
    return shlex.join([*kept, "--batch", str(row.batch)])


def _words(command: object) -> list[str]:
    try:
        return shlex.split(str(command or ""))
    except ValueError:
        return []


def _without(words: list[str], valued: tuple[str, ...], alone: tuple[str, ...]) -> list[str]:
    """``words`` without these options and their values; one written without its value loses only itself."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip and not word.startswith("-"):
            skip = False
            continue
        skip = word in valued
        if not skip and word not in alone and not word.startswith(tuple(f"{option}=" for option in valued)):
            kept.append(word)
    return kept
