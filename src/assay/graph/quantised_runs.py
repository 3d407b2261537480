"""A quantised ONNX file run as its scales say, and as they would have it without rounding or without cutting."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from assay.core.tensors import Array, Feed
from assay.graph.arithmetic import GraphArithmetic, RunOnnx
from assay.graph.external_data import save_model
from assay.graph.quantised import Quantiser, Spelling, spell_out, watch_names
from assay.graph.signature import load_model

JITTER = 2.0**-9
"""Steps by which an engine's sum may lie elsewhere than the exact one: it rounds biases to the grid of its products
and merges scales.  With this the draws differ from the exact result about as much as ONNX Runtime's and OpenVINO's
int8 kernels do (benchmarks/false_alarms.py prints how much)."""


class QuantisedGraph:
    """``run`` runs an ONNX file in fp32; close to remove the temporary files.

    Raises BadInput for a graph whose quantisation cannot be read.
    """

    def __init__(self, path: Path, run: RunOnnx) -> None:
        self._source = path
        self._run = run
        self._folder = tempfile.TemporaryDirectory(prefix="assay-quantised-")
        self._written: dict[Spelling, tuple[Path, tuple[Quantiser, ...]]] = {}
        try:
            self._exact = GraphArithmetic(self._file(Spelling())[0], run)
        except BaseException:
            self._folder.cleanup()
            raise

    def exact(self, feed: Feed) -> dict[str, Array]:
        """What the file says, in float64."""
        return self._exact.exact(feed)

    def engine(self, feed: Feed, seed: int) -> dict[str, Array]:
        """The same in fp32, what is rounded moved by up to ``JITTER`` of a step: an engine's own liberties."""
        return self._run(self._file(Spelling(jitter=JITTER, seed=seed))[0], feed)

    def smooth(self, feed: Feed) -> dict[str, Array]:
        """Nothing rounded, nothing cut; the weights as they are stored."""
        return self._run(self._file(Spelling("none", cut=frozenset()))[0], feed)

    def rounded(self, feed: Feed, seed: int) -> dict[str, Array]:
        """Rounded up or down by chance, weights moved within half a step, nothing cut."""
        return self._run(self._file(Spelling("random", cut=frozenset(), moved=True, seed=seed))[0], feed)

    def cut(self, feed: Feed, narrow: frozenset[str]) -> dict[str, Array]:
        """Nothing rounded, cut at the ends of every range but those of the quantisers ``narrow``."""
        made = {q.made for q in self._file(Spelling())[1]}
        return self._run(self._file(Spelling("none", cut=frozenset(made - narrow)))[0], feed)

    def reaches(self, feeds: Sequence[Feed]) -> Mapping[str, tuple[str, float, float]]:
        """Per quantiser: its node's name, how far the values reach as a multiple of its range (the largest of each
        feed, averaged over the feeds), and the share of the values that it cuts off."""
        path, quantisers = self._file(Spelling("none", cut=frozenset(), watched=True))
        found = [self._run(path, feed) for feed in feeds]
        means = {}
        for q in quantisers:
            reach, cut = (sum(float(f[name]) for f in found) / len(found) for name in watch_names(q))
            means[q.made] = (q.node, reach, cut)
        return means

    def close(self) -> None:
        self._exact.close()
        self._folder.cleanup()

    def _file(self, how: Spelling) -> tuple[Path, tuple[Quantiser, ...]]:
        if how not in self._written:
            model, quantisers = spell_out(load_model(self._source, external_data=True), how)
            path = Path(self._folder.name, f"{len(self._written)}.onnx")
            save_model(model, path)
            self._written[how] = (path, quantisers)
        return self._written[how]
