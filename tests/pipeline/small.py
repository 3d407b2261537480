"""A small evaluation over callables, which the tests run in this process and, to be killed, in another.

``python -m`` is not needed: ``python small.py FOLDER DELAY_S`` runs it with shards in FOLDER.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.core import clock
from assay.core.dataset import Item, Scored
from assay.core.errors import BadInput
from assay.core.tensors import Signature, TensorSpec
from assay.pipeline import Flow, Outcome, ShardStore, Stages, run

WIDTH = 6
WEIGHTS = np.random.default_rng(0).standard_normal((WIDTH, 4)).astype(np.float32)


class Small:
    """``broken`` items cannot be read, ``odd`` ones not be prepared, ``refused`` ones not be inferred.

    What was seen is kept, so that tests can tell how much ran at a time.
    """

    def __init__(self, count: int = 100, batch: Any = "batch", delay_s: float = 0.0) -> None:
        self.count = count
        self.delay_s = delay_s
        self.signature = Signature(
            (TensorSpec("x", "float32", (batch, WIDTH)),), (TensorSpec("y", "float32", (batch, 4)),)
        )
        self.broken: set[int] = set()
        self.odd: set[int] = set()
        self.refused: set[int] = set()
        self.batches: list[int] = []
        self.read_items = 0
        self.prepared = 0
        self.most_ahead = 0
        self.running = 0
        self.most_running = 0
        self.preparing = 0
        self.most_preparing = 0
        self.lock = threading.Lock()

    def read(self, start: int, stop: int) -> Iterator[Item]:
        for i in range(start, min(stop, self.count)):
            if i in self.broken:
                raise BadInput(f"file{i} cannot be read")
            with self.lock:
                self.read_items += 1
                self.most_ahead = max(self.most_ahead, self.read_items - self.prepared)
            yield Item(f"s{i:04d}", i, i % 4)

    def prepare(self, item: Item, rows: Mapping[str, Any] | None) -> Mapping[str, Any]:
        with self.lock:
            self.prepared += 1
            self.preparing += 1
            self.most_preparing = max(self.most_preparing, self.preparing)
        try:
            if item.content in self.odd:
                raise BadInput(f"{item.id}: not a whole image")
            values = np.random.default_rng(item.content).standard_normal(WIDTH).astype(np.float32)
            if item.content in self.refused:
                values[:] = np.nan
            if rows is None:
                return {"x": values}
            rows["x"][:] = values
            return rows
        finally:
            with self.lock:
                self.preparing -= 1

    def infer(self, feed: Mapping[str, Any]) -> Mapping[str, Any]:
        with self.lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            self.batches.append(len(feed["x"]))
        try:
            if self.delay_s:
                clock.sleep(self.delay_s)
            if np.isnan(feed["x"]).any():
                raise BadInput("the engine refuses NaN")
            return {"y": feed["x"] @ WEIGHTS}
        finally:
            with self.lock:
                self.running -= 1

    def score(self, ids: Sequence[str], outputs: Mapping[str, Any], targets: Sequence[Any]) -> list[Scored]:
        y = outputs["y"]
        return [
            Scored(id, {"id": id, "target": t, "y": [float(v) for v in row]}, bool(row.argmax() == t))
            for id, row, t in zip(ids, y, targets, strict=True)
        ]

    def stages(self) -> Stages:
        return Stages(self.read, self.prepare, self.infer, self.score, self.signature)


def evaluate(folder: Path, delay_s: float = 0.0) -> tuple[Outcome, ShardStore]:
    """200 samples in shards of 16; always the same results."""
    small = Small(200, delay_s=delay_s)
    store = ShardStore(folder, {"evaluation": "small"}, "jsonl")
    return run(small.stages(), Flow(200, batch=8, workers=2, cores=2, parallelism=2, shard_size=16), store), store


if __name__ == "__main__":
    evaluate(Path(sys.argv[1]), float(sys.argv[2]))
