"""One table of a policy file while it is read: every access says what it must be."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from assay.core.errors import BadInput, suggest

JUDGE_BY = ("point", "interval")


class Table:
    """One TOML table while it is read: every access says what it must be."""

    def __init__(self, source: str, name: str, values: Any) -> None:
        if not isinstance(values, Mapping):
            raise BadInput(f"{source}: {name} must be a table, written [{name}]")
        self.source, self._name, self.values = source, name, values

    def known(self, *keys: str) -> None:
        known(self.source, f"key in [{self._name}]", self.values, keys)

    def wrong(self, key: str, must: str) -> BadInput:
        return BadInput(f"{self.source}: [{self._name}] {key} must be {must}, not {self.values[key]!r}")

    def number(self, key: str, default: float | None = None) -> float | None:
        """A number of zero or more, or a percentage such as ``"0.5%"``."""
        value = self.values.get(key, default)
        if isinstance(value, str) and value.strip().endswith("%"):
            try:
                value = float(value.strip()[:-1]) / 100
            except ValueError:
                raise self.wrong(key, 'a number or a percentage such as "0.5%"') from None
        if value is None:
            return None
        if is_number(value) and value >= 0:
            return float(value)
        raise self.wrong(key, "a number, zero or more")

    def quantity(self, key: str, parse: Callable[[str], float], example: str) -> Any:
        """A text with its unit, such as ``"15ms"``."""
        value = self.values.get(key)
        if value is None:
            return None
        must = f'a text with its unit, such as "{example}"'
        if not isinstance(value, str) or value.strip()[-1:].isdigit():
            raise self.wrong(key, must)
        try:
            return parse(value)
        except ValueError as error:
            raise BadInput(f"{self.source}: [{self._name}] {key}: {error}", remedy=f"write {must}") from None

    def text(self, key: str, must: str) -> str | None:
        """A text that is not blank, without the blanks around it; None where the key is missing."""
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, str) and value.strip():
            return value.strip()
        raise self.wrong(key, must)

    def choice(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.values.get(key, default)
        if value in allowed:
            return str(value)
        near = suggest(str(value), allowed)
        raise BadInput(
            f"{self.source}: [{self._name}] {key} must be one of {', '.join(allowed)}, not {value!r}",
            remedy=f"did you mean {near[0]}?" if near else None,
        )

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key, default)
        if isinstance(value, bool):
            return value
        raise self.wrong(key, "true or false")

    def batch(self, key: str, default: int | None, word: str | None) -> int | None:
        """A batch size; ``word`` is the text that stands for None."""
        value = self.values.get(key, default)
        if value is None or (word is not None and value == word):
            return None
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return value
        raise self.wrong(key, f"a batch size of 1 or more{f' or {chr(34)}{word}{chr(34)}' if word else ''}")


def is_number(value: Any) -> bool:
    """A number that a float can hold: TOML knows nan, inf and endless integers, and true is no number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def known(source: str, what: str, data: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for key in data:
        if key not in names:
            near = suggest(key, names)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
            raise BadInput(f"{source}: there is no {what} named {key!r}", remedy=hint)
