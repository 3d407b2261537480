"""Verdict: passed, failed or not shown, with every reason and all that was not checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.core import checked
from assay.core.errors import EXIT_LIMIT_MISSED, EXIT_OK

STATES = ("passed", "failed", "not_shown")
UNCOMPARED = "nothing was compared"
"""How the reason of a comparison begins that a policy did without: whoever shows a verdict says it."""


@dataclass(frozen=True)
class Reason:
    """One limit and how it was met.  ``text`` is for people, ``record`` is the id of the evidence."""

    limit: str
    state: str
    text: str
    record: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"limit": self.limit, "state": self.state, "text": self.text, "record": self.record}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Reason:
        limit, text = checked.field(data, "limit", str), checked.field(data, "text", str)
        return cls(limit, _state(data), text, checked.optional(data, "record", str))


@dataclass(frozen=True)
class Verdict:
    """The answer to "may this be shipped?" for one candidate."""

    state: str
    reasons: tuple[Reason, ...]
    not_checked: tuple[str, ...] = ()
    subject: str | None = None

    @property
    def passed(self) -> bool:
        return self.state == "passed"

    @property
    def exit_code(self) -> int:
        return EXIT_OK if self.passed else EXIT_LIMIT_MISSED

    def to_json(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "passed": self.passed,
            "reasons": [r.to_json() for r in self.reasons],
            "not_checked": list(self.not_checked),
            "subject": self.subject,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Verdict:
        """Raises KeyError, TypeError and ValueError for what is no verdict."""
        reasons = tuple(Reason.from_json(r) for r in checked.each(data, "reasons", dict))
        not_checked = checked.each(data, "not_checked", str)
        return cls(_state(data), reasons, not_checked, checked.optional(data, "subject", str))


def _state(data: Mapping[str, Any]) -> str:
    state = checked.field(data, "state", str)
    if state not in STATES:
        raise ValueError(f"a state is one of {', '.join(STATES)}, not {state!r}")
    return state


def combine(reasons: Sequence[Reason], not_checked: Sequence[str] = (), subject: str | None = None) -> Verdict:
    """Any failed limit fails; else any that could not be shown, or no limit at all, is ``not_shown``."""
    states = {r.state for r in reasons}
    if "failed" in states:
        state = "failed"
    elif "not_shown" in states or not reasons:
        state = "not_shown"
    else:
        state = "passed"
    return Verdict(state, tuple(reasons), tuple(not_checked), subject)
