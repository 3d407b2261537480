"""What runs in a warm process: giving up, comparing one call, holding a session."""

import dataclasses

import numpy as np
import pytest

from assay.core import clock
from assay.core.artifact import file_artifact
from assay.core.errors import EngineFailed
from assay.core.sample import Sample
from assay.core.tensors import Signature, TensorSpec
from assay.core.workload import StopRule, Workload
from assay.job.opening import make_candidate
from assay.job.single import Wanted, prepare
from assay.job.tune import press as tune_press
from assay.job.tune.given import Given
from assay.job.tune.press import Order
from assay.judge.classes import ENGINE, FILE, classify
from assay.judge.tolerance import tolerance
from assay.measure.throughput import measure_throughput
from assay.sources import SourceOptions

BATCH = 4


class Slow:
    """``calls[i]`` seconds for call i, then the last one for ever, on a clock that only calls move."""

    parallelism = 1

    def __init__(self, calls):
        self.calls, self.now, self.made = list(calls), 0.0, 0
        x = TensorSpec("x", "float32", ("batch", 2), 0)
        self.signature = Signature((x,), (TensorSpec("y", "float32", ("batch", 2), 0),))

    def run(self, feed, out=None, spans=None):
        self.now += self.calls[min(self.made, len(self.calls) - 1)]
        self.made += 1
        return {"y": feed["x"]}


def press(session, floor, seconds=1.0):
    workload = Workload("offline", BATCH, StopRule(max_s=seconds, min_s=0.1), warmup_s=0.05)
    guarded = tune_press._Guarded(session, workload, floor)
    with clock.use(clock.Clock(now=lambda: session.now, sleep=lambda s: None, wall=clock.REAL.wall)):
        return measure_throughput(guarded, [{"x": np.zeros((BATCH, 2), np.float32)}], workload)


def test_a_point_below_the_floor_is_given_up_after_a_few_calls():
    session = Slow([3.0, 0.1])  # the first call prepares; then 40 samples/s
    with pytest.raises(EngineFailed, match="given up after 3 calls: at most 40 samples/s, 100 were needed") as caught:
        press(session, 100.0)
    assert caught.value.bound == pytest.approx(40.0)


def test_one_fast_call_is_enough_to_go_on():
    session = Slow([3.0, 0.1, 0.1, 0.02, 0.1])
    assert press(session, 30.0).figures["throughput"].value is not None


def test_the_first_calls_of_a_fast_session_decide_nothing():
    """Three calls of 8 ms on a busy machine say nothing of one that takes 1 ms."""
    session = Slow([0.1, 0.008, 0.008, 0.008, 0.001])
    found = press(session, 2000.0, 0.4)
    assert found.figures["throughput"].value > 2000


@pytest.fixture(scope="module")
def opened(model, tmp_path_factory):
    """The tests' model on ONNX Runtime, given to this process as a warm one would be."""
    prepared = prepare(Wanted(str(model)), SourceOptions(out_dir=tmp_path_factory.mktemp("press")))
    rng = np.random.default_rng(0)
    rows = tuple(Sample(str(i), {"x": rng.random((1, 8, 8), dtype=np.float32)}) for i in range(6))
    candidate = make_candidate(prepared.candidate.artifact, "onnxruntime", prepared.candidate.options, "here")
    workload = Workload("offline", 4, StopRule(min_calls=5, max_s=0.05), warmup_s=0.01)
    order = Order(candidate, None, (workload,))
    given = Given(rows, prepared.signature)
    given = dataclasses.replace(given, known=tune_press.reference_known(order, given, ("fp32", "bf16")))
    tune_press.give(given)
    yield order, given
    tune_press.release()
    tune_press.give(None)


def test_one_call_is_compared_at_the_batch_it_is_measured_at(opened):
    order, given = opened
    assert given.known.outputs["scores"].shape == given.known.exact["scores"].shape == (6, 10)
    assert given.answers(8)["scores"].shape == (8, 10)
    found = tune_press.press(order)
    assert found.compared.failures == () and found.compared.rows == 4
    assert found.split.costs["scores"].format > 0 and 4 in found.split.candidate
    assert found.measurements["offline"].figures["throughput"].value > 0
    assert found.peak.value > 2**20


def test_each_precision_has_its_own_cost(opened):
    _, given = opened
    costs = {p: split.costs["scores"].format for p, split in given.known.splits.items()}
    assert 0 < 100 * costs["fp32"] < costs["bf16"]


def test_wrong_outputs_are_seen(opened):
    order, given = opened
    wrong = dataclasses.replace(given.known, outputs={"scores": given.known.outputs["scores"] * 1.5})
    tune_press.give(dataclasses.replace(given, known=wrong))
    try:
        compared = tune_press.press(order).compared
    finally:
        tune_press.give(given)
    assert compared.figures()["numeric.relative_rms"].value == pytest.approx(1 / 3, rel=0.01)


class Rows:
    """Calibration data for ONNX Runtime's quantiser."""

    def __init__(self, rows):
        self.rows = iter([{"x": row.inputs["x"][None]} for row in rows])

    def get_next(self):
        return next(self.rows, None)


@pytest.fixture(scope="module")
def int8(model, opened, tmp_path_factory):
    """The tests' model quantised, its order, and what the reference's process knows of it."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    order, given = opened
    path = tmp_path_factory.mktemp("int8") / "int8.onnx"
    types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(str(model), str(path), Rows(given.rows), QuantFormat.QDQ, per_channel=True, **types)
    candidate = order.candidate
    artifact = file_artifact(path, "onnx")
    options = dataclasses.replace(candidate.options, precision="int8")
    own = make_candidate(artifact, "onnxruntime", options, "here")
    files = (candidate.artifact, artifact)
    known = tune_press.reference_known(order, dataclasses.replace(given, known=None), ("fp32", "int8"), files)
    return Order(own, None, order.workloads), dataclasses.replace(given, known=known)


def judged(order, given, before):
    tune_press.give(given)
    try:
        found = tune_press.press(order)
    finally:
        tune_press.give(before)
    return classify(found.compared, tolerance("int8", 3), found.split), found


def test_an_int8_candidate_is_held_to_its_own_file_as_verify_does(opened, int8):
    order, given = int8
    assert list(given.known.files) == [order.candidate.artifact.sha256]  # the float file is none
    answer, found = judged(order, given, opened[1])
    assert answer.accepted and {s.part for s in answer.shares} == {ENGINE, FILE}
    assert found.split.quantised.engine[4]["scores"].rows == 4
    limits = {s.part: s.due for s in answer.shares}
    assert limits[ENGINE] < limits[FILE]


def test_an_engine_that_does_not_do_what_the_file_says_is_told_from_a_bad_file(opened, int8):
    order, given = int8
    digest = order.candidate.artifact.sha256
    own = given.known.files[digest]
    other = dataclasses.replace(own, outputs={"scores": own.outputs["scores"] * 1.1})
    known = dataclasses.replace(given.known, files={digest: other})
    answer, _ = judged(order, dataclasses.replace(given, known=known), opened[1])
    worst = max(answer.shares, key=lambda s: s.share)
    assert answer.name == "wrong" and worst.part == ENGINE and "what the quantised file says" in answer.reason.text

    measures = {"scores": dataclasses.replace(own.quantised.file["scores"], snr_db=10.0)}
    bad = dataclasses.replace(own, quantised=dataclasses.replace(own.quantised, file=measures))
    known = dataclasses.replace(given.known, files={digest: bad})
    answer, _ = judged(order, dataclasses.replace(given, known=known), opened[1])
    assert answer.name == "wrong" and max(answer.shares, key=lambda s: s.share).part == FILE


def test_a_file_built_from_the_quantised_one_is_held_to_it(int8):
    order, given = int8
    digest = order.candidate.artifact.sha256
    assert given.file_of(("another", digest)) is given.known.files[digest]
    assert given.file_of(("another",)) is None


def test_a_session_is_held_for_blocks(opened):
    order, _ = opened
    with pytest.raises(EngineFailed, match="no session is held"):
        tune_press.block(1)
    assert tune_press.hold(order) == 1
    assert tune_press.block(3) > 0
    tune_press.release()
    tune_press.release()


def test_block_lengths():
    assert tune_press.lengths([0.01], 2, 0.12) == 12
    assert tune_press.lengths([3.0], 2, 0.12) == 1
    assert tune_press.lengths([0.0], 2, 0.12) == 2
