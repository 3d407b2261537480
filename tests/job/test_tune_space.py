"""Points and candidates: every point opens as what it says, and the space is what the machine and the model allow."""

import pytest

from assay.core.artifact import Artifact
from assay.core.engine import Candidate, OpenOptions
from assay.core.errors import BadInput
from assay.core.tensors import Signature, TensorSpec
from assay.job.tune.space import LATENCY_BATCHES, THROUGHPUT_BATCHES, Axes, map_space
from assay.search.objective import parse_objective
from assay.search.space import Form, Layout, Point

THROUGHPUT, LATENCY = parse_objective("throughput"), parse_objective("latency")


def signature(batch="batch", out_axis=0):
    x = TensorSpec("x", "float32", (batch, 3, 8, 8), 0)
    return Signature((x,), (TensorSpec("y", "float32", (batch, 4), out_axis),))


def candidate(engine, precision="fp32", format="onnx", module=None):
    artifact = Artifact(path=None, format=format, sha256="0" * 64, module=module)
    return Candidate(artifact, engine, "1", OpenOptions(precision=precision))


ALL = (candidate("torch", format="source", module=lambda: None), candidate("onnxruntime"), candidate("openvino"))


def test_the_space_on_two_cores():
    mapped = map_space(ALL, signature(), THROUGHPUT, Axes(), 2)
    assert [f.name for f in mapped.space.families] == ["onnxruntime fp32", "openvino fp32", "torch fp32"]
    for family in mapped.space.families:
        assert family.batches == THROUGHPUT_BATCHES
        assert family.layouts == (Layout(1, 2), Layout(2, 1), Layout(1, 1))
    assert len(mapped.space) >= 60
    digests = {mapped.candidate(p).digest + str(p.batch) for p in mapped.space.points()}
    assert len(digests) == len(mapped.space)


def test_streams_threads_and_instances_as_each_engine_counts_them():
    mapped = map_space(ALL, signature(), THROUGHPUT, Axes(), 8)
    layout = Layout(4, 2)
    shared = mapped.candidate(Point("openvino fp32", 8, layout, Form(True))).options
    assert (shared.streams, shared.threads, shared.instances, shared.buckets) == (4, 8, 1, (8,))
    each = mapped.candidate(Point("onnxruntime fp32", 8, layout, Form(True))).options
    assert (each.streams, each.threads, each.instances, each.buckets) == (None, 2, 4, (8,))
    free = mapped.candidate(Point("torch fp32", 8, layout, Form(False, (("memory_format", "channels_last"),)))).options
    assert (free.buckets, dict(free.provider_options)) == ((), {"memory_format": "channels_last"})


def test_forms_are_those_the_engine_names():
    families = {f.name: f.forms for f in map_space(ALL, signature(), THROUGHPUT, Axes(), 2).space.families}
    assert families["openvino fp32"] == (Form(True), Form(False))
    assert families["torch fp32"][0] == Form(False)
    assert Form(False, (("memory_format", "channels_last"),)) in families["torch fp32"]
    assert Form(True, (("graph_optimization_level", "extended"),)) in families["onnxruntime fp32"]
    plain = map_space(ALL, signature(), THROUGHPUT, Axes(forms=False), 2).space
    assert all(len(f.forms) == 1 for f in plain.families)


def test_a_latency_is_one_callers():
    (family, *_) = map_space(ALL, signature(), LATENCY, Axes(), 4).space.families
    assert family.batches == LATENCY_BATCHES
    assert family.layouts == (Layout(1, 4), Layout(1, 2), Layout(1, 1))


def test_one_core_has_one_layout():
    (family, *_) = map_space(ALL, signature(), THROUGHPUT, Axes(), 1).space.families
    assert family.layouts == (Layout(1, 1),)


def test_axes_narrow():
    axes = Axes(batches=(8, 4), threads=(1,), streams=(1, 2))
    (family, *_) = map_space(ALL, signature(), THROUGHPUT, axes, 2).space.families
    assert family.batches == (4, 8)
    assert family.layouts == (Layout(1, 1), Layout(2, 1))


def test_a_fixed_batch_is_the_only_one():
    mapped = map_space(ALL[1:], signature(batch=2), THROUGHPUT, Axes(), 2)
    assert {p.batch for p in mapped.space.points()} == {2}
    assert "fixed at 2" in mapped.notes[0]
    assert not any(p.form.static for p in mapped.space.points())
    with pytest.raises(BadInput, match="fixed at 2"):
        map_space(ALL, signature(batch=2), THROUGHPUT, Axes(batches=(1, 2)), 2)


def test_a_model_whose_output_has_no_batch_axis_keeps_its_shapes_free():
    mapped = map_space(ALL[1:], signature(out_axis=None), THROUGHPUT, Axes(), 2)
    assert not any(p.form.static for p in mapped.space.points())


@pytest.mark.parametrize("axes", [{"batches": (0,)}, {"threads": (-1,)}, {"streams": (0, 1)}])
def test_numbers_below_one_are_refused(axes):
    with pytest.raises(BadInput, match="positive whole numbers"):
        Axes(**axes)
