"""Versions and repositories with queues that do what they are told: order, races, retirement, leaks."""

import contextlib
import gc
import threading
import weakref

import numpy as np
import pytest

from assay.core import clock
from assay.core.errors import AssayError, BadInput
from assay.core.tensors import Signature, TensorSpec
from assay.serve.decoding import DecodePool
from assay.serve.errors import CANCELLED, EXPIRED, INVALID, UNAVAILABLE, ServeError, serve_error
from assay.serve.inference import InferRequest
from assay.serve.models import ModelParts, ServedModel
from assay.serve.repository import Repository

SIGNATURE = Signature((TensorSpec("x", "float32", ("n", 2)),), (TensorSpec("y", "float32", ("n", 2)),))


class Drop(AssayError):
    def __init__(self, reason, retry_after_s=None):
        super().__init__(f"it was {reason}")
        self.reason = reason
        self.retry_after_s = retry_after_s


class Pending:
    def __init__(self, queue, feed, on_done, context):
        self.feed, self.on_done, self.context = feed, on_done, context
        self.outputs, self.error = None, None
        self.enqueued_s = self.started_s = clock.now()
        self.batch_rows, self.spans = 1, (0.0, 0.0, 0.0)
        self._queue = queue

    def cancel(self):
        if self not in self._queue.waiting:
            return False
        self._queue.waiting.remove(self)
        self.error = Drop("cancelled")
        self.on_done([self])
        return True


class Queue:
    """Answers when told to, or ``at_once``; what ``refuse`` makes is raised instead of taking a request."""

    at_once = False

    def __init__(self):
        self.waiting, self.refuse, self.closed = [], None, False

    @property
    def statistics(self):
        class Statistics:
            pending = len(self.waiting)

        return Statistics

    def submit(self, feed, on_done, *, priority=0, deadline_s=None, context=None):
        if self.closed:
            raise Drop("closed")
        if self.refuse is not None:
            raise self.refuse()
        SIGNATURE.check_feed(feed)
        self.waiting.append(Pending(self, feed, on_done, context))
        self.asked = priority, deadline_s
        made = self.waiting[-1]
        if self.at_once:
            self.answer()
        return made

    def answer(self, error=None):
        """Everything that waits is one batch."""
        batch, self.waiting = self.waiting, []
        for one in batch:
            one.error = error
            one.outputs = None if error else {"y": one.feed["x"] * 2}
        if batch:
            batch[0].on_done(batch)

    def close(self, drain_s=30.0):
        self.closed = True
        self.answer()
        return True


def parts(name="m", version="1", **more):
    return ModelParts(name, version, SIGNATURE, more.pop("queue", None) or Queue(), lambda: None, **more)


def request(value=1.0, **more):
    made = InferRequest("m", {"x": np.full((1, 2), value, np.float32)}, clock.now())
    for name, found in more.items():
        setattr(made, name, found)
    return made


def test_one_call_back_per_batch_and_front_end():
    served = ServedModel(parts())
    first, second = [], []
    to_first, to_second = first.append, second.append
    for number in range(5):
        served.submit(request(number), to_first if number % 2 else to_second)
    served.parts.queue.answer()
    assert [len(batch) for batch in first] == [2]
    assert [len(batch) for batch in second] == [3]
    (batch,) = first
    assert [r.response.outputs["y"][0, 0] for r in batch] == [2.0, 6.0]


def test_requested_outputs_priorities_and_deadlines():
    served = ServedModel(parts(priority_levels=2))
    served.submit(request(priority=9, timeout_us=2_000_000, deadline_s=5.0, arrived_s=1.0), print)
    assert served.parts.queue.asked == (0, 3.0)
    served.submit(request(priority=2, deadline_s=5.0), print)
    assert served.parts.queue.asked == (2, 5.0)


@pytest.mark.parametrize(
    ("raised", "kind", "after_s"),
    [
        (Drop("rejected", 0.25), UNAVAILABLE, 0.25),
        (Drop("expired"), EXPIRED, None),
        (Drop("cancelled"), CANCELLED, None),
        (BadInput("no"), INVALID, None),
    ],
)
def test_refusals_are_the_protocols_own(raised, kind, after_s):
    served = ServedModel(parts())
    served.parts.queue.refuse = lambda: raised
    with pytest.raises(ServeError) as found:
        served.submit(request(), print)
    assert (found.value.kind, found.value.retry_after_s) == (kind, after_s)
    assert served.statistics.totals()["failures"][kind.reason] == 1


def test_an_unexpected_error_is_not_shown():
    assert "secret" not in serve_error(KeyError("secret")).message


class Loader:
    def __init__(self):
        self.made, self.broken, self.key = [], False, 0

    def names(self):
        return ["m"]

    def versions(self, name):
        return {"1": str(self.key)}

    def open(self, name, version):
        if self.broken:
            raise BadInput("it is broken")
        self.made.append(parts(name, version, key=str(self.key)))
        return self.made[-1]


@pytest.fixture
def repository():
    made = Repository(Loader())
    made.load("m")
    yield made
    made.close()


def test_a_request_overtaken_by_a_swap_goes_to_the_next_version(repository):
    loader = repository._loader
    old = repository.lookup("m")
    done = []
    lookup = repository.lookup

    def late(name, version=""):
        """The old one is looked up, and replaced before it is asked."""
        repository.lookup = lookup
        repository.load("m")
        for thread in repository._draining:
            thread.join()
        return old

    repository.lookup = late
    repository.submit(request(3.0), done.extend)
    loader.made[-1].queue.answer()
    assert done[0].response.outputs["y"][0, 0] == 6.0
    assert done[0].served is repository.lookup("m")


def test_what_was_taken_is_answered_by_the_version_that_took_it(repository):
    old, done = repository.lookup("m"), []
    repository.submit(request(), done.extend)
    repository.load("m")
    for thread in repository._draining:
        thread.join()
    assert done[0].served is old
    assert done[0].error is None


def test_a_failed_load_changes_nothing(repository):
    old = repository.lookup("m")
    repository._loader.broken = True
    with pytest.raises(ServeError, match="failed to load 'm', it is broken"):
        repository.load("m")
    assert repository.lookup("m") is old
    assert repository.ready
    assert repository.index() == [{"name": "m", "version": "1", "state": "READY", "reason": "it is broken"}]


def test_refresh_reloads_what_changed_and_nothing_else(repository):
    loader = repository._loader
    repository.refresh()
    assert len(loader.made) == 1
    loader.key = 1
    repository.refresh()
    assert len(loader.made) == 2
    loader.broken, loader.key = True, 2
    repository.refresh()
    assert repository.lookup("m").parts is loader.made[1]


def test_what_stays_broken_is_looked_at_ever_more_rarely_and_mended_is_found(repository):
    loader, told = repository._loader, []
    repository._event = lambda event, about: told.append(event)
    loader.broken, loader.key = True, 1
    for _ in range(40):
        repository.refresh()
    assert 3 <= told.count("refused") <= 8
    loader.key = 2  # its files changed: it is looked at at once
    before = told.count("refused")
    repository.refresh()
    assert told.count("refused") == before + 1
    loader.broken = False
    for _ in range(40):
        repository.refresh()
    assert repository.lookup("m").parts.key == "2"
    assert "loaded" in told


def test_unknown_names_versions_and_unloaded_models(repository):
    for name, version in (("n", ""), ("m", "2")):
        with pytest.raises(ServeError, match="not found"):
            repository.lookup(name, version)
    with pytest.raises(ServeError, match="positive number"):
        repository.lookup("m", "one")
    repository.unload("m")
    with pytest.raises(ServeError, match="no available versions"):
        repository.lookup("m")
    with pytest.raises(ServeError, match="unknown model"):
        repository.unload("n")


def test_not_ready_before_everything_is_loaded_and_while_stopping(repository):
    assert repository.ready
    for flag in ("starting", "stopping"):
        setattr(repository, flag, True)
        assert not repository.ready
        setattr(repository, flag, False)
    assert not Repository(Loader()).ready


# Pictures


@pytest.fixture
def pool():
    made = DecodePool(2)
    yield made
    made.close()


def pictures(*contents):
    return InferRequest("m", {"x": np.array([*contents, b""], dtype=object)[:-1]}, clock.now())


def decode(content):
    if content == b"bad":
        raise BadInput("this is no picture")
    return np.full(2, float(content), np.float32)


class Done:
    def __init__(self):
        self.requests, self._event = [], threading.Event()

    def __call__(self, requests):
        self.requests += requests
        self._event.set()

    def wait(self):
        assert self._event.wait(10)
        return self.requests


def until_waiting(queue, count=1):
    for _ in range(1000):
        if len(queue.waiting) >= count:
            return
        threading.Event().wait(0.005)
    raise AssertionError("nothing was queued")


def test_pictures_of_one_request_are_rows_in_their_order(pool):
    served, done = ServedModel(parts(decode=decode, max_batch=8), pool), Done()
    served.submit(pictures(*(b"%d" % n for n in range(8))), done)
    until_waiting(served.parts.queue)
    served.parts.queue.answer()
    assert done.wait()[0].response.outputs["y"][:, 0].tolist() == [0, 2, 4, 6, 8, 10, 12, 14]


def test_one_bad_picture_fails_its_request_once(pool):
    served, done = ServedModel(parts(decode=decode, max_batch=8), pool), Done()
    served.submit(pictures(b"1", b"bad", b"bad", b"2"), done)
    (found,) = done.wait()
    assert (found.error.kind, found.error.message) == (INVALID, "this is no picture")
    assert served.statistics.totals()["failures"]["OTHER"] == 1
    assert served.close(5)


def test_too_many_pictures_and_wrong_shapes(pool):
    served = ServedModel(parts(decode=decode, max_batch=2), pool)
    with pytest.raises(ServeError, match="takes 2"):
        served.submit(pictures(b"1", b"2", b"3"), print)
    made = pictures(b"1", b"2")
    made.inputs = {"x": made.inputs["x"].reshape(1, 2)}
    with pytest.raises(ServeError, match="shape"):
        served.submit(made, print)


def test_a_full_pool_refuses_at_once_and_every_request_ends():
    hold = threading.Event()

    def slow(content):
        hold.wait(10)
        return decode(content)

    pool = DecodePool(1, most_waiting=3)
    served, done = ServedModel(parts(decode=slow, max_batch=8), pool), []
    ended = threading.Semaphore(0)

    def on_done(requests):
        done.extend(requests)
        ended.release()

    refused = 0
    for _ in range(6):
        try:
            served.submit(pictures(b"1", b"2"), on_done)
        except ServeError as error:
            assert error.kind is UNAVAILABLE
            refused += 1
    hold.set()
    until_waiting(served.parts.queue)
    assert served.close(10)
    for _ in range(6 - refused):
        assert ended.acquire(timeout=10)
    assert refused >= 2
    assert len(done) + refused == 6
    pool.close()


def test_a_cancelled_request_is_not_decoded(pool):
    served, done = ServedModel(parts(decode=decode, max_batch=8), pool), Done()
    made = pictures(b"1")
    made.cancel()
    served.submit(made, done)
    assert done.wait()[0].error.kind is CANCELLED


def test_pictures_beside_an_input_nobody_knows_are_refused(pool):
    served = ServedModel(parts(decode=decode, max_batch=8), pool)
    made = pictures(b"1")
    made.inputs = {**made.inputs, "z": np.zeros((1, 2), np.float32)}
    with pytest.raises(ServeError, match="inputs given: x, z"):
        served.submit(made, print)


# Leaks


def test_finished_and_refused_requests_are_freed_without_the_collector():
    """Reference cycles would keep every request's arrays until the collector runs."""
    served, kept = ServedModel(parts()), []
    gc.disable()
    try:
        for refuse in (None, lambda: Drop("rejected", 1.0)):
            served.parts.queue.refuse = refuse
            made = request()
            kept.append(weakref.ref(made))
            with contextlib.suppress(ServeError):
                served.submit(made, lambda requests: None)
            served.parts.queue.answer()
            served.parts.queue.waiting = []
            del made
        served.parts.queue.refuse = None
        made = request()
        kept.append(weakref.ref(made))
        served.submit(made, lambda requests: None)
        served.parts.queue.answer(Drop("expired"))
        del made
        served.parts.queue.at_once = True  # as a batcher runs brief batches: answered before ``submit`` returns
        made = request()
        kept.append(weakref.ref(made))
        served.submit(made, lambda requests: None)
        del made
        assert [found() for found in kept] == [None] * 4
    finally:
        gc.enable()
