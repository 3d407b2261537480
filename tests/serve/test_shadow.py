"""The canary: a share of the requests is repeated on another model, and nobody waits for it."""

import threading
import time

import numpy as np
import pytest
import tritonclient.grpc as client
from grpc_servers import null_session, repository, serving

from assay.core import clock
from assay.core.errors import BadInput, StorageFailed
from assay.core.tensors import Signature, TensorSpec
from assay.engines.null import NullSession
from assay.serve.errors import ServeError
from assay.serve.inference import InferRequest, RequestedOutput
from assay.serve.shadow import Shadow, ShadowRule, ShadowSettings, parse_shadow

SIGNATURE = Signature((TensorSpec("x", "float32", ("b", 4)),), (TensorSpec("y", "float32", ("b", 3)),))


class Altered(NullSession):
    """The null engine with something added to its answers."""

    def __init__(self, change, signature=SIGNATURE):
        super().__init__(signature, 1)
        self.change = change

    def run(self, feed, out=None, spans=None):
        return {name: self.change(array) for name, array in super().run(feed, out, spans).items()}


def backwards(array):
    return np.ascontiguousarray(array[:, ::-1]) if array.ndim == 2 else array


@pytest.fixture
def records():
    return []


def ask(models, count=1, value=1.0, **changes):
    """Ask ``old`` that often, one after another; the answers."""
    found = []
    for _ in range(count):
        done = threading.Event()
        x = np.full((2, 4), value, np.float32)
        request = InferRequest("old", {"x": x}, clock.now())
        for name, change in changes.items():
            setattr(request, name, change)
        models.submit(request, lambda _, done=done: done.set())
        assert done.wait(10)
        x[:] = -1  # the caller's buffer is used again at once
        found.append(request)
    return found


def models_with(change, **more):
    return repository({"old": null_session(SIGNATURE), "new": lambda: Altered(change), **more})


def hanging():
    """A gate, and models of which the new one answers when it is set."""
    gate = threading.Event()

    def hang(array):
        gate.wait(20)
        return array

    return gate, models_with(hang)


def shadowing(models, records, share=1.0, **settings):
    return Shadow(models, [ShadowRule("old", "new", share)], records.append, ShadowSettings(**settings))


def close(shadow, models):
    shadow.close()
    models.drain_s = 1.0
    models.close()


def test_equal_answers(records):
    models = models_with(lambda y: y)
    shadow = shadowing(models, records, window=5)
    answers = ask(shadow, 12)
    close(shadow, models)
    assert all((a.response.outputs["y"] == [[1, 1, 1]] * 2).all() for a in answers)
    compared = sum(r.value("shadow.requests") for r in records)
    assert compared + sum(records[-1].conditions["skipped"].values()) == 12
    assert compared > 0
    for record in records:
        assert record.kind == "shadow"
        assert (record.subject["reference"], record.subject["model"]) == ("old", "new")
        assert (record.subject["reference_version"], record.subject["version"]) == ("1", "1")
        assert record.value("numeric.relative_rms") == 0.0
        assert record.value("numeric.top1_agreement") == 1.0
        assert record.details["outputs"]["y"]["n"] == 6 * record.value("shadow.requests")


def test_different_answers_are_measured_with_verifys_measures(records):
    models = models_with(lambda y: y * 1.25)
    shadow = shadowing(models, records)
    answers = ask(shadow, 3, value=8.0)
    close(shadow, models)
    assert (answers[0].response.outputs["y"] == 8).all(), "the caller gets the old model's answer"
    (record,) = records
    assert record.value("numeric.relative_rms") == pytest.approx(0.25)
    assert record.value("numeric.max_abs") == pytest.approx(2.0)


def test_another_winner_is_counted(records):
    spread = lambda y: y + np.arange(3, dtype=np.float32)  # noqa: E731
    models = repository({"old": lambda: Altered(spread), "new": lambda: Altered(lambda y: backwards(spread(y)))})
    shadow = shadowing(models, records)
    ask(shadow, 4)
    close(shadow, models)
    (record,) = records
    assert record.value("numeric.top1_agreement") == 0.0
    lines = shadow.metrics()
    compared = int(record.value("shadow.requests"))
    assert f'assay_shadow_top1_disagreements_total{{model="old",shadow="new"}} {2 * compared}' in lines
    assert f'assay_shadow_compared_total{{model="old",shadow="new"}} {compared}' in lines


def test_a_failing_shadow_harms_nobody(records):
    def fail(array):
        raise ValueError("the new model is broken")

    models = models_with(fail)
    shadow = shadowing(models, records)
    answers = ask(shadow, 3)
    close(shadow, models)
    assert all(a.error is None for a in answers)
    assert any('reason="refused"} 3' in line for line in shadow.metrics())


@pytest.mark.parametrize(
    "other", [Signature(SIGNATURE.inputs, (TensorSpec("z", "float32", ("b", 3)),)),
              Signature(SIGNATURE.inputs, (TensorSpec("y", "float32", ("b", 9)),)),
              Signature((TensorSpec("x", "float32", ("b", 5)),), SIGNATURE.outputs)]
)  # fmt: skip
def test_a_shadow_of_another_signature_is_told(records, other):
    models = repository({"old": null_session(SIGNATURE), "new": null_session(other)})
    shadow = shadowing(models, records)
    answers = ask(shadow, 2)
    close(shadow, models)
    assert all(a.error is None for a in answers)
    told = " ".join(w for r in records for w in r.warnings)
    refused = any('reason="refused"} 2' in line for line in shadow.metrics())
    assert "differ" in told or "y" in told or refused
    assert all(r.value("numeric.relative_rms") is None for r in records)


def test_only_a_share_is_drawn(records):
    models = models_with(lambda y: y)
    shadow = shadowing(models, records, share=0.3, window=10_000, most_waiting=10_000)
    ask(shadow, 300)
    close(shadow, models)
    (record,) = records
    assert 50 < record.value("shadow.requests") < 130
    assert record.conditions["share"] == 0.3


def test_copies_are_bounded(records):
    """A new model that hangs makes the shadow skip, not the callers wait."""
    gate, models = hanging()
    shadow = shadowing(models, records, most_waiting=3)
    answers = ask(shadow, 20)
    assert all(a.response is not None for a in answers)
    assert any('reason="busy"} 17' in line for line in shadow.metrics())
    gate.set()
    close(shadow, models)
    assert sum(r.value("shadow.requests") for r in records) == 3


def test_the_shadow_compares_what_was_asked_not_what_the_buffer_holds_later(records):
    models = models_with(lambda y: y)
    shadow = shadowing(models, records)
    ask(shadow, 5, value=7.0)  # ``ask`` overwrites its array as soon as it is answered
    close(shadow, models)
    assert records[0].value("numeric.max_abs") == 0.0


def test_what_cannot_be_compared_is_not_drawn(records):
    models = models_with(lambda y: y)
    shadow = shadowing(models, records)
    ask(shadow, 2, outputs=[RequestedOutput("y", {"classification": 1})])
    close(shadow, models)
    assert records == []


def test_refused_and_failed_requests(records):
    models = models_with(lambda y: y)
    shadow = shadowing(models, records)
    with pytest.raises(ServeError):
        ask(shadow, outputs=[RequestedOutput("nothing")])
    close(shadow, models)
    assert shadow._held == 0
    assert shadow._copies == {}
    assert records == []
    with pytest.raises(ServeError):
        ask(shadow)  # closed


def test_strings_are_counted(records):
    signature = Signature(SIGNATURE.inputs, (TensorSpec("s", "string", ("b", 2)),))
    shout = lambda array: np.array([t + b"!" for t in array.ravel()], dtype=object).reshape(array.shape)  # noqa: E731
    models = repository({"old": null_session(signature), "new": lambda: Altered(shout, signature)})
    shadow = shadowing(models, records)
    ask(shadow)
    close(shadow, models)
    assert records[0].details["unequal_strings"] == {"s": 4}
    assert records[0].figures["numeric.relative_rms"].reason


def test_nan_is_said(records):
    models = models_with(lambda y: y * np.float32("nan"))
    shadow = shadowing(models, records)
    ask(shadow)
    close(shadow, models)
    assert "NaN" in records[0].warnings[0]
    assert records[0].value("numeric.relative_rms") is None


def test_behind_a_front_end(records):
    models = models_with(lambda y: y * 2)
    shadow = shadowing(models, records, most_waiting=1000)
    x = client.InferInput("x", [1, 4], "FP32")
    with (
        serving(models, shadow=shadow) as front,
        client.InferenceServerClient(f"127.0.0.1:{front.port}") as channel,
    ):
        for value in range(1, 11):
            x.set_data_from_numpy(np.full((1, 4), value, np.float32))
            assert (channel.infer("old", [x]).as_numpy("y") == value).all()
        for _ in range(200):
            if any(line.endswith("} 10") for line in shadow.metrics()):
                break
            time.sleep(0.02)
        shadow.close()
    assert sum(r.value("shadow.requests") for r in records) == 10
    assert records[0].value("numeric.relative_rms") == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("a=b", ShadowRule("a", "b", 0.1)),
        ("a=b:0.5", ShadowRule("a", "b", 0.5)),
        ("a=b:25%", ShadowRule("a", "b", 0.25)),
        ("a=b:1", ShadowRule("a", "b", 1.0)),
        ("a=runs/x:y/bundle", ShadowRule("a", "runs/x:y/bundle", 0.1)),
        ("a = runs/x:y/bundle:5%", ShadowRule("a", "runs/x:y/bundle", 0.05)),
    ],
)
def test_rules_are_read(text, rule):
    assert parse_shadow(text) == rule


@pytest.mark.parametrize("text", ["a", "", "=b", "a=", "a=a", "a=b:0", "a=b:-1", "a=b:1.5", "a=b:101%", "a=b:nan"])
def test_wrong_rules(text):
    with pytest.raises(BadInput) as caught:
        parse_shadow(text)
    assert "--shadow" in caught.value.remedy


def test_one_shadow_a_model():
    rules = [ShadowRule("a", "b"), ShadowRule("a", "c")]
    with pytest.raises(BadInput, match="two shadows"):
        Shadow(models_with(lambda y: y), rules, lambda record: None)


def test_a_new_model_that_hangs_does_not_keep_the_server_up(records):
    gate, models = hanging()
    shadow = shadowing(models, records, most_waiting=3)
    ask(shadow, 3)
    shadow.close(within_s=0.3)
    assert not shadow._thread.is_alive()
    assert any('reason="refused"} 3' in line for line in shadow.metrics())
    gate.set()
    close(shadow, models)


def test_a_record_that_cannot_be_written_is_told_of_in_the_next(records):
    def full(record):
        if not records:
            records.append(None)
            raise StorageFailed("the disk is full")
        records.append(record)

    models = models_with(lambda y: y)
    shadow = Shadow(models, [ShadowRule("old", "new", 1.0)], full, ShadowSettings(window=1, most_waiting=100))
    ask(shadow, 4)
    close(shadow, models)
    assert len(records) == 4
    assert "1 comparisons was lost: the disk is full" in records[1].warnings[0]
    assert records[2].warnings == ()
