"""What a search feeds, and what the reference makes of it: found once, sent to every process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from assay.core.sample import Sample
from assay.core.tensors import Array, Feed, Signature
from assay.core.units import Seconds
from assay.job.context import batched
from assay.measure.quantised import Quantised
from assay.measure.truth import Split

CHECK_ROWS = 4
"""Different rows that are fed; larger batches repeat them."""


@dataclass(frozen=True)
class FileKnown:
    """What a quantised file says by its own scales of the rows that are fed; ``quantised`` is all that is known of it
    before an engine has run it: its own error against the truth and what file and engine may cost."""

    outputs: Mapping[str, Array]
    quantised: Quantised


@dataclass(frozen=True)
class Known:
    """What the reference makes of the rows that are fed (of the first feed alone where outputs have no batch axis).

    ``exact`` is the same in float64, None where there is no exact run; ``splits`` holds per precision what the format
    must cost, or why that is not known (see ``measure/truth.py``); ``files`` holds by its digest what each quantised
    file says; ``took_s`` is what finding all this took.
    """

    outputs: Mapping[str, Array]
    exact: Mapping[str, Array] | None = None
    splits: Mapping[str, Split] = field(default_factory=dict)
    files: Mapping[str, FileKnown] = field(default_factory=dict)
    took_s: Seconds = 0.0


@dataclass(frozen=True)
class Given:
    """Sent once to each process: what is fed, and what the reference makes of it (None: nothing to compare with)."""

    rows: tuple[Sample, ...]
    signature: Signature
    known: Known | None = None

    def feeds(self, batch: int) -> list[dict[str, Array]]:
        return batched(self.rows, batch, self.signature)

    def answers(self, batch: int) -> dict[str, Array]:
        """The reference's outputs for the first feed of ``batch`` rows."""
        assert self.known is not None
        return self._spread(self.known.outputs, batch)

    def truth(self, batch: int) -> dict[str, Array]:
        """The same in float64; nothing where that is not known."""
        assert self.known is not None
        return self._spread(self.known.exact or {}, batch)

    def file_of(self, digests: Iterable[str]) -> FileKnown | None:
        """The quantised file among ``digests``: a candidate's own and those that it was made from."""
        files = self.known.files if self.known is not None else {}
        return next((files[digest] for digest in digests if digest in files), None)

    def said(self, file: FileKnown, batch: int) -> dict[str, Array]:
        """What the file says of the first feed of ``batch`` rows."""
        return self._spread(file.outputs, batch)

    def _spread(self, outputs: Mapping[str, Array], batch: int) -> dict[str, Array]:
        if not self.signature.is_batched:
            return dict(outputs)
        order = [i % len(self.rows) for i in range(batch)]
        axes = {s.name: s.batch_axis for s in self.signature.outputs}
        return {name: np.take(array, order, axis=axes[name]) for name, array in outputs.items()}


def cost_feeds(given: Given) -> list[dict[str, Array]]:
    """All rows in one feed, or the first feed of the only size there is."""
    static = given.signature.static_batch
    if not given.signature.is_batched:
        return given.feeds(static or 1)[:1]
    return given.feeds(static or len(given.rows))


def of_rows(given: Given, run: Callable[[Feed], Mapping[str, Array]]) -> dict[str, Array]:
    """What ``run`` makes of all rows (of the first feed alone where outputs have no batch axis)."""
    made = [run(feed) for feed in cost_feeds(given)]
    if not given.signature.is_batched:
        return dict(made[0])
    axes = {s.name: s.batch_axis or 0 for s in given.signature.outputs}
    whole = {name: np.concatenate([m[name] for m in made], axis=axes[name]) for name in made[0]}
    count = range(len(given.rows))
    return {name: np.take(array, count, axis=axes[name]) for name, array in whole.items()}
