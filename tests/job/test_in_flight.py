"""Which samples are told to be in inference, and what is made of them again."""

import threading

import numpy as np

from assay.core.dataset import Item, Scored
from assay.core.errors import BadInput, EngineFailed
from assay.core.tensors import Signature, TensorSpec
from assay.data.plain import null_transform
from assay.job.context import Data
from assay.job.stages import in_flight
from assay.job.stages.in_flight import InFlight, again
from assay.pipeline import Flow, ShardStore, Stages
from assay.pipeline.flow import run

SIGNATURE = Signature((TensorSpec("x", "float32", ("batch", 4), 0),), (TensorSpec("y", "float32", ("batch", 4), 0),))


class Rows:
    """``count`` rows; the one of ``broken`` cannot be read."""

    name, synthetic, labels, preprocess = "rows", False, None, None

    def __init__(self, count, broken=None, width=4):
        self._count, self._broken, self._width = count, broken, width

    def __len__(self):
        return self._count

    def items(self, start=0, stop=None):
        for index in range(start, self._count if stop is None else stop):
            if index == self._broken:
                raise BadInput(f"row{index} is broken")
            yield Item(f"row{index}", {"x": np.full(self._width, index, np.float32)}, 0)


def data(reader):
    return Data("rows", SIGNATURE, 0, reader, null_transform({"kind": "none"}))


def test_a_batch_is_told_while_it_is_in_inference_and_no_longer(tmp_path):
    lock, told, held = threading.Lock(), [], {}

    def tell(slot, places):
        with lock:
            told.append(places)
            held[slot] = places

    def infer(feed):
        first = int(feed["x"][0, 0])
        with lock:
            assert any(places and places[0] <= first <= places[1] for places in held.values())
        if 7.0 in feed["x"] and len(feed["x"]) > 1:
            raise EngineFailed("not together")  # each of them is then run alone
        return {"y": feed["x"]}

    def score(ids, outputs, targets):
        return [Scored(id, {}) for id in ids]

    def prepare(item, rows):
        return item.content

    reader = Rows(22, broken=13)
    stages = InFlight(tell).around(Stages(reader.items, prepare, infer, score, SIGNATURE))
    flow = Flow(22, batch=5, workers=3, cores=3, max_failures=None)
    outcome = run(stages, flow, ShardStore(tmp_path / "shards", {}))
    assert (outcome.scored, len(outcome.failures)) == (21, 1)
    assert {p for p in told if p} == {(0, 4), (5, 9), (10, 14), (15, 19), (20, 21)}
    assert set(held.values()) == {None}


def test_the_same_samples_are_made_again_but_those_that_cannot_be(monkeypatch):
    found = list(again(data(Rows(40, broken=33)), ((0, 2), (32, 60))))
    assert [[[item.id for item in batch] for batch in round] for round in found] == [
        [["row0", "row1", "row2"], ["row32", *(f"row{i}" for i in range(34, 40))]]
    ]
    monkeypatch.setattr(in_flight, "ROUND_BYTES", 40)
    assert [len(round) for round in again(data(Rows(40)), ((0, 1), (2, 2), (3, 3), (4, 20)))] == [1, 2, 1]
    assert list(again(data(Rows(40, width=5)), ((0, 2),))) == [[]]  # of a shape that the model does not take
    assert list(again(data(Rows(40)), ())) == [[]]
