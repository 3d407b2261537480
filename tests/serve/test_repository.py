"""Repositories with loaders and queues that do what they are told: what goes, comes back, and goes down meanwhile."""

import threading

import pytest

from assay.core import clock
from assay.core.errors import BadInput
from assay.core.tensors import Signature, TensorSpec
from assay.serve.decoding import DecodePool
from assay.serve.errors import UNAVAILABLE, ServeError
from assay.serve.models import ModelParts
from assay.serve.repository import Repository

SIGNATURE = Signature((TensorSpec("x", "float32", ("n", 2)),), (TensorSpec("y", "float32", ("n", 2)),))


class Queue:
    """Takes nothing; ``finishes`` is what closing it says."""

    finishes = True
    statistics = None

    def submit(self, feed, on_done, *, priority=0, deadline_s=None, context=None):
        raise NotImplementedError

    def close(self, drain_s=30.0):
        return self.finishes


class Loader:
    """``there`` are the names; ``gate`` holds an ``open`` that has begun until it is set."""

    def __init__(self):
        self.there, self.broken, self.released = ["m"], False, []
        self.queue, self.release = Queue, lambda: None
        self.begun, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def names(self):
        return self.there

    def versions(self, name):
        return {"1": "key"}

    def open(self, name, version):
        self.begun.set()
        assert self.gate.wait(10)
        if self.broken:
            raise BadInput("it is broken")

        def release():
            self.released.append(name)
            self.release()

        return ModelParts(name, version, SIGNATURE, self.queue(), release, key="key")


@pytest.fixture
def loader():
    return Loader()


@pytest.fixture
def told():
    return []


@pytest.fixture
def repository(loader, told):
    return Repository(loader, event=lambda event, about: told.append((event, dict(about))))


def drained(repository):
    for thread in repository._draining:
        thread.join(10)


def test_a_model_whose_files_went_and_came_back_is_served_again(repository, loader, told):
    repository.refresh()
    loader.there = []
    repository.refresh()
    repository.refresh()
    drained(repository)
    assert loader.released == ["m"]
    assert [event for event, _ in told].count("unloaded") == 1
    with pytest.raises(ServeError, match="no available versions"):
        repository.lookup("m")
    loader.there = ["m"]
    repository.refresh()
    assert repository.lookup("m").ready


def test_one_that_was_unloaded_on_demand_stays_so(repository):
    repository.refresh()
    repository.unload("m")
    repository.refresh()
    with pytest.raises(ServeError, match="no available versions"):
        repository.lookup("m")
    assert repository.index() == [{"name": "m", "state": "UNAVAILABLE", "reason": "unloaded"}]


def test_a_broken_one_that_is_taken_away_no_longer_keeps_the_server_from_being_ready(repository, loader):
    loader.broken = True
    repository.refresh()
    loader.broken, loader.there = False, ["m", "n"]
    repository.load("n")
    assert not repository.ready
    loader.there = ["n"]
    repository.refresh()
    assert repository.ready


def test_unloading_waits_for_a_load_that_is_under_way(repository, loader):
    repository.load("m")
    first = repository.lookup("m")
    loader.gate.clear()
    loader.begun.clear()
    loading = threading.Thread(target=repository.load, args=("m",))
    loading.start()
    assert loader.begun.wait(10)
    unloading = threading.Thread(target=repository.unload, args=("m",))
    unloading.start()
    loader.gate.set()
    loading.join(10)
    unloading.join(10)
    drained(repository)
    assert not first.ready
    assert loader.released == ["m", "m"], "each version is closed once"
    with pytest.raises(ServeError, match="no available versions"):
        repository.lookup("m")


def test_what_is_still_being_loaded_when_the_server_goes_down_is_closed(repository, loader):
    loader.gate.clear()
    raised = []

    def load():
        try:
            repository.load("m")
        except ServeError as error:
            raised.append(error)

    loading = threading.Thread(target=load)
    loading.start()
    assert loader.begun.wait(10)
    assert repository.close()
    loader.gate.set()
    loading.join(10)
    assert raised[0].kind is UNAVAILABLE
    assert loader.released == ["m"]
    assert repository.served() == []


def test_what_was_not_finished_is_not_called_drained(repository, loader):
    loader.queue = type("Unfinished", (Queue,), {"finishes": False})
    repository.load("m")
    assert not repository.close()


def test_an_engine_that_cannot_be_closed_is_told_of(repository, loader, told):
    def fail():
        raise RuntimeError("the device is gone")

    loader.release = fail
    repository.load("m")
    assert not repository.close()
    ((_, about),) = [one for one in told if one[0] == "error"]
    assert "the device is gone" in about["message"]


def test_a_decoder_that_hangs_does_not_keep_the_server_up():
    pool, hold, began = DecodePool(2), threading.Event(), threading.Event()

    def hang():
        began.set()
        hold.wait(20)

    pool.submit(hang)
    assert began.wait(10)
    assert not pool.close(0.05)
    hold.set()
    assert pool.close(clock.now())
