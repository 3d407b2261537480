from __future__ import annotations

import numpy as np
import pytest

from assay.batching.profiling import profile_at_load, repeated
from assay.batching.settings import BatcherSettings
from assay.core.errors import BadInput
from assay.core.tensors import Signature, TensorSpec


def test_every_size_is_run_by_every_instance(plus_one, row):
    times = profile_at_load(plus_one, row(1), BatcherSettings(max_batch=6, instances=2), calls=3)
    assert times.known and times.predict(6) > 0
    sizes = [len(f["x"]) for f in plus_one.seen]
    assert {s: sizes.count(s) for s in sizes} == {1: 8, 2: 8, 4: 8, 6: 8}
    assert times.report() == ()


def test_a_static_batch_is_run_at_its_own_size(session, row):
    signature = Signature((TensorSpec("x", "float32", (4, 1)),), (TensorSpec("y", "float32", (4, 1)),))
    s = session(lambda feed: {"y": feed["x"]}, signature)
    profile_at_load(s, row(1), BatcherSettings(), calls=1)
    assert [len(f["x"]) for f in s.seen] == [4, 4]


def test_a_model_that_is_never_merged_is_run_as_it_is(session, row):
    signature = Signature((TensorSpec("x", "float32", ("n", 1)),), (TensorSpec("sum", "float32", (), None),))
    s = session(lambda feed: {"sum": np.asarray(feed["x"].sum())}, signature)
    profile_at_load(s, row(1, rows=3), BatcherSettings(max_batch=16), calls=1)
    assert [len(f["x"]) for f in s.seen] == [3, 3]


def test_what_the_session_raises_is_raised(session, row):
    def broken(feed):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        profile_at_load(session(broken), row(1), BatcherSettings())


def test_no_rows(plus_one, row):
    with pytest.raises(BadInput, match="at least one row"):
        profile_at_load(plus_one, row(1, rows=0), BatcherSettings())
    with pytest.raises(BadInput, match="at least one session"):
        profile_at_load({}, row(1), BatcherSettings())


def test_repeated_takes_rows_in_turn():
    signature = Signature(
        (TensorSpec("a", "int64", (2, "n"), 1), TensorSpec("b", "int64", (1,), None)),
        (TensorSpec("y", "int64", ("n",)),),
    )
    made = repeated(signature, {"a": np.array([[1, 2], [3, 4]]), "b": np.array([9])}, 5)
    assert made["a"].tolist() == [[1, 2, 1, 2, 1], [3, 4, 3, 4, 3]]
    assert made["b"].tolist() == [9]
