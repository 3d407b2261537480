"""Per-sample results on disk, and two sets of them compared sample by sample."""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.archives import gunzip
from assay.core.artifact import digest_file
from assay.core.dataset import Scored
from assay.core.errors import BadInput
from assay.core.record import Figure, RawSamples, withheld
from assay.core.stats import mcnemar_exact, paired_score_interval
from assay.measure.raw import FOLDER, write_whole

_MOST_SHOWN = 5


@dataclass(frozen=True)
class Flip:
    """A sample that only one of the two got right.  ``lost``: the reference had it right."""

    id: str
    lost: bool
    reference: Mapping[str, Any]
    candidate: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "lost": self.lost, "reference": dict(self.reference), "candidate": dict(self.candidate)}


@dataclass(frozen=True)
class PairedResult:
    """``drop`` is the share of right answers lost against the reference, positive when the candidate is worse.

    ``only_reference`` and ``only_candidate`` count the samples that one of them alone got right;
    ``mcnemar_p`` is the chance of such a split, or a worse one, if both were equally good.
    """

    n: int
    only_reference: int
    only_candidate: int
    drop: Figure
    mcnemar_p: float | None
    flips: tuple[Flip, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "flips": len(self.flips),
            "lost": self.only_reference,
            "won": self.only_candidate,
            "mcnemar_p": self.mcnemar_p,
            "flipped": [flip.to_json() for flip in self.flips[:100]],
        }


def save_predictions(root: Path, name: str, scored: Sequence[Scored], *, exact_name: bool = False) -> RawSamples:
    """Write ``samples/NAME.jsonl.gz`` under ``root`` (or ``root/NAME`` itself, compressed when it ends in .gz).

    One line a sample: ``id``, ``correct``, ``row``.  Written beside its place and renamed.  Raises
    StorageFailed when that cannot be done.
    """
    path = root / name if exact_name else root / FOLDER / f"{name}.jsonl.gz"
    buffer = io.BytesIO()
    # Compressed line by line: of many samples the lines alone would be most of the memory.
    target: Any = gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) if path.suffix == ".gz" else buffer
    for one in scored:
        target.write((json.dumps(_line(one), default=_plain) + "\n").encode())
    if target is not buffer:
        target.close()
    write_whole(path, buffer.getvalue())
    return RawSamples(path.relative_to(root).as_posix(), digest_file(path), "row")


def read_predictions(path: Path, sha256: str | None = None) -> list[Scored]:
    """Read them back.  Raises BadInput for a missing, changed or broken file."""
    if not os.path.isfile(path):  # noqa: PTH113 - Path raises for a name too long
        raise BadInput(f"there are no predictions at {path}")
    if sha256 is not None and digest_file(path) != sha256:
        raise BadInput(f"{path} was changed after it was recorded")
    try:
        content = gunzip(path) if path.suffix == ".gz" else path.read_bytes()
        # By "\n" alone: other ends of lines may stand inside a text.
        return [_scored(json.loads(line)) for line in content.decode().split("\n") if line.strip()]
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error, RecursionError) as error:
        raise BadInput(f"{path} does not hold predictions: {error}") from error


def compare_predictions(reference: Sequence[Scored], candidate: Sequence[Scored]) -> PairedResult:
    """Pair two sets of results by sample id.

    The drop's interval is Tango's score interval (core.stats.paired_score_interval).  A task without right
    and wrong has no such drop: it is withheld and says so.  Raises BadInput for no samples, an id
    that occurs twice, or ids that are not the same on both sides.
    """
    first, second = _by_id(reference, "reference"), _by_id(candidate, "candidate")
    _same_ids(first, second)
    n = len(first)
    if any(s.correct is None for s in (*first.values(), *second.values())):
        drop = withheld("fraction", "the task does not tell right from wrong", n)
        return PairedResult(n, 0, 0, drop, None, ())
    flips = tuple(
        Flip(id, bool(a.correct), a.row, second[id].row) for id, a in first.items() if a.correct != second[id].correct
    )
    lost = sum(flip.lost for flip in flips)
    won = len(flips) - lost
    found = paired_score_interval(lost, won, n)
    drop = Figure(found.value, "fraction", found.low, found.high, found.confidence, n)
    return PairedResult(n, lost, won, drop, mcnemar_exact(lost, won), flips)


def _by_id(scored: Sequence[Scored], side: str) -> dict[str, Scored]:
    found = {s.id: s for s in scored}
    if not found:
        raise BadInput(f"the {side} has no predictions: there is nothing to compare")
    if len(found) != len(scored):
        raise BadInput(f"{len(scored) - len(found)} sample ids occur more than once in the {side}'s predictions")
    return found


def _same_ids(first: Mapping[str, Scored], second: Mapping[str, Scored]) -> None:
    if missing := sorted(first.keys() ^ second.keys()):
        shown = ", ".join(missing[:_MOST_SHOWN]) + (", …" if len(missing) > _MOST_SHOWN else "")
        raise BadInput(
            f"{len(missing)} samples were scored on one side only ({shown})",
            remedy="evaluate both on the same data",
        )


def _scored(line: Mapping[str, Any]) -> Scored:
    correct, row = line["correct"], line["row"]
    if not isinstance(row, dict) or not isinstance(correct, bool | None):
        raise TypeError(f"sample {line['id']!r}: row is an object, correct is true, false or null")
    return Scored(str(line["id"]), row, correct)


def _line(scored: Scored) -> dict[str, Any]:
    return {"id": scored.id, "correct": scored.correct, "row": dict(scored.row)}


def _plain(value: Any) -> Any:
    """numpy scalars and arrays as JSON."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value)
