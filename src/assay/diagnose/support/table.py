"""The table of operators against engines and opsets, from what each engine's file answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assay.core.errors import AssayError
from assay.core.table import load
from assay.diagnose.support import SUPPORT
from assay.graph.operator_uses import Use

OLDEST = 11
"""Below it torch's exporters do not write, and nobody asks."""
ABSENT = "absent"
NOT_ASKED = "not asked: "
"""How a reason begins that is no refusal: the operator could not be written for that opset."""
ASKED, DOCUMENTED = "asked", "documented"


@dataclass(frozen=True)
class Knowledge:
    """``refusal(use, opset)`` says why an operator is not taken at an opset, None when it is.

    ``how`` is ``asked`` (the library installed here answered) or ``documented`` (nothing was run), ``source``
    says which version, or which document; ``opsets`` are the first and last it opens, or that its document covers.
    """

    how: str
    source: str
    refusal: Callable[[Use, int], str | None]
    opsets: tuple[int, int] | None = None


@dataclass(frozen=True)
class EngineSupport:
    """``answers`` maps operator -> opset -> reason for the refusal, None where it is taken, or ``ABSENT`` where
    ONNX has no such operator at that opset; those outside ``opsets`` are left out.  ``missing`` says
    why nothing could be asked."""

    engine: str
    how: str
    source: str
    answers: Mapping[str, Mapping[int, str | None]] = field(default_factory=dict)
    missing: str | None = None
    opsets: tuple[int, int] | None = None

    def covers(self, opset: int) -> bool:
        return self.missing is None and (self.opsets is None or self.opsets[0] <= opset <= self.opsets[1])

    def refused(self, opset: int) -> dict[str, str]:
        """Operators that exist at ``opset`` and are not taken there, with the reason."""
        found = {op: by_opset.get(opset) for op, by_opset in self.answers.items()}
        return {op: why for op, why in found.items() if why and why != ABSENT and not why.startswith(NOT_ASKED)}

    def whole(self) -> tuple[int, ...]:
        """The opsets at which every operator of the model exists and is taken."""
        opsets = sorted({v for by_opset in self.answers.values() for v in by_opset})
        return tuple(v for v in opsets if all(by.get(v, ABSENT) is None for by in self.answers.values()))

    def to_json(self) -> dict[str, Any]:
        return {
            "how": self.how,
            "source": self.source,
            "missing": self.missing,
            "opsets": list(self.opsets) if self.opsets else None,
            "operators": {op: {str(v): why for v, why in by.items()} for op, by in self.answers.items()},
            "whole": list(self.whole()),
        }


def operator_support(
    uses: Sequence[Use], opset: int, engines: Mapping[str, str] = SUPPORT
) -> tuple[EngineSupport, ...]:
    """Ask every engine about every operator a model uses, at each opset from ``OLDEST`` to the newest ONNX knows.

    ``opset`` is the model's own; it is asked too where it is older.  An engine whose library is missing is in
    the answer with the reason.
    """
    import onnx

    newest = onnx.defs.onnx_opset_version()
    opsets = sorted({opset, *range(OLDEST, newest + 1)})
    return tuple(_of(name, target, uses, opsets) for name, target in engines.items())


def _of(name: str, target: str, uses: Sequence[Use], opsets: Sequence[int]) -> EngineSupport:
    try:
        known: Knowledge = load(target)()
    except AssayError as error:
        return EngineSupport(name, ASKED, "", missing=error.message)
    if known.opsets is not None:
        opsets = [v for v in opsets if known.opsets[0] <= v <= known.opsets[1]]
    answers: dict[str, dict[int, str | None]] = {}
    for use in uses:
        row = answers.setdefault(use.name, {})
        for opset in opsets:
            why = ABSENT if not use.exists(opset) else known.refusal(use, opset)
            if opset not in row or (row[opset] is None and why is not None):  # several uses of one operator
                row[opset] = why
    return EngineSupport(name, known.how, known.source, answers, opsets=known.opsets)


def spans(numbers: Sequence[int]) -> str:
    """``(11, 12, 13, 17)`` -> ``11–13, 17``."""
    parts: list[list[int]] = []
    for n in sorted(numbers):
        if parts and n == parts[-1][1] + 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    return ", ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in parts)
