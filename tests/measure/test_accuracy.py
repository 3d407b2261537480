import numpy as np
import pytest

from assay.core.dataset import Scored
from assay.core.errors import BadInput, EngineFailed
from assay.core.record import Figure
from assay.core.sample import Sample
from assay.core.stats import wilson
from assay.core.tensors import Signature, TensorSpec
from assay.measure.accuracy import evaluate_session


class Top1:
    """A small task: the largest score's place is the answer."""

    name = "top1"
    primary = "accuracy.top1"
    higher_is_better = True

    def __init__(self):
        self.batches = []

    def score(self, ids, outputs, targets):
        scores = outputs["y"]
        if len(scores) != len(ids):
            raise BadInput(f"{len(scores)} rows for {len(ids)} targets")
        self.batches.append(len(ids))
        found = scores.argmax(1)
        return [Scored(i, {"predicted": int(f)}, bool(f == t)) for i, f, t in zip(ids, found, targets, strict=True)]

    def figures(self, scored):
        if not scored:
            raise BadInput("no samples")
        found = wilson(sum(bool(s.correct) for s in scored), len(scored))
        return {self.primary: Figure(found.value, "fraction", found.low, found.high, 0.95, found.n)}


def one_hot(feed):
    """Answers with the place of the largest of the first three inputs; remembers nothing."""
    return {"y": feed["x"][:, :3].copy()}


def samples(n, wrong=(), width=4):
    made = []
    for i in range(n):
        row = np.zeros(width, np.float32)
        row[i % 3] = 1.0
        made.append(Sample(f"s{i}", {"x": row}, (i + 1) % 3 if i in wrong else i % 3))
    return made


@pytest.fixture
def session(session_of, signature):
    return lambda batch="batch", function=one_hot: session_of(function, signature(batch))


@pytest.mark.parametrize("batch", [1, 3, 4, 10, 100])
@pytest.mark.parametrize("static", [False, True])
def test_every_sample_is_scored_once_at_any_batch_size(session, batch, static):
    task = Top1()
    found = evaluate_session(session(batch if static else "batch"), samples(10, wrong=(2, 7)), task, batch)
    assert [s.id for s in found.scored] == [f"s{i}" for i in range(10)]
    assert [s.id for s in found.scored if not s.correct] == ["s2", "s7"]
    assert found.figures["accuracy.top1"].value == 0.8
    assert found.counts() == {"read": 10, "scored": 10, "failed": 0}
    assert sum(task.batches) == 10


def test_a_fixed_batch_size_overrides_and_is_always_filled(session):
    sizes = []

    def function(feed):
        sizes.append(len(feed["x"]))
        return one_hot(feed)

    found = evaluate_session(session(4, function), samples(10), Top1(), 32)
    assert sizes == [4, 4, 4]
    assert found.counts()["scored"] == 10


def test_no_samples(session):
    with pytest.raises(BadInput, match="no samples to evaluate"):
        evaluate_session(session(), [], Top1(), 4)


def test_samples_may_be_a_stream(session):
    found = evaluate_session(session(), (s for s in samples(5)), Top1(), 2)
    assert found.read == 5
    assert found.primary == "accuracy.top1"


def test_a_sample_that_fails_alone_is_counted_with_its_reason(session):
    def picky(feed):
        if (feed["x"][:, 3] != 0).any():
            raise EngineFailed("cannot do this one")
        return one_hot(feed)

    given = samples(6)
    given[4].inputs["x"][3] = 1.0
    found = evaluate_session(session(function=picky), given, Top1(), 3)
    assert found.counts() == {"read": 6, "scored": 5, "failed": 1}
    assert found.failures == (("s4", "cannot do this one"),)
    assert found.figures["accuracy.top1"].n == 5


def test_what_fails_for_all_is_raised_at_once(session):
    calls = []

    def broken(feed):
        calls.append(1)
        raise EngineFailed("device lost")

    with pytest.raises(EngineFailed, match="device lost"):
        evaluate_session(session(function=broken), samples(100), Top1(), 4)
    assert len(calls) == 5  # the first batch, and its samples one by one


def test_samples_of_unequal_shape_go_one_by_one(session_of):
    signature = Signature((TensorSpec("x", "float32", ("batch", "n")),), (TensorSpec("y", "float32", ("batch", 3)),))
    given = [*samples(3), *[Sample(f"w{i}", s.inputs, s.target) for i, s in enumerate(samples(3, width=5))]]
    found = evaluate_session(session_of(one_hot, signature), given, Top1(), 6)
    assert found.counts()["scored"] == 6


def test_the_same_id_twice(session):
    with pytest.raises(BadInput, match="'s0' occurs more than once"):
        evaluate_session(session(), [*samples(2), *samples(1)], Top1(), 1)


def test_a_task_that_loses_samples_is_caught(session):
    class Forgetful(Top1):
        def score(self, ids, outputs, targets):
            return super().score(ids, outputs, targets)[1:]

    with pytest.raises(BadInput, match="the task top1 gave 0 results for 1 samples"):
        evaluate_session(session(), samples(4), Forgetful(), 2)


def test_rows_are_found_along_each_outputs_own_axis(session_of):
    signature = Signature(
        (TensorSpec("x", "float32", ("batch", 4)),), (TensorSpec("y", "float32", (3, "batch"), batch_axis=1),)
    )
    transposed = session_of(lambda f: {"y": one_hot(f)["y"].T.copy()}, signature)
    assert evaluate_session(transposed, samples(7), Top1(), 3).figures["accuracy.top1"].value == 1.0


def test_unbatched_outputs_are_fed_one_at_a_time(session_of):
    spec = TensorSpec("y", "float32", (3,), batch_axis=None)
    free = session_of(lambda f: {"y": one_hot(f)["y"][0]}, Signature((TensorSpec("x", "float32", ("b", 4)),), (spec,)))
    task = Top1()
    assert evaluate_session(free, samples(3), task, 8).counts()["scored"] == 3
    assert task.batches == [1, 1, 1]
    fixed = session_of(one_hot, Signature((TensorSpec("x", "float32", (4, 4)),), (spec,)))
    with pytest.raises(BadInput, match="cannot be told apart"):
        evaluate_session(fixed, samples(3), task, 8)
