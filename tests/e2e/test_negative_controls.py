"""Faults that must be caught and named, on four architectures and two engines; healthy builds must not be accused.

The same thresholds serve both.  What is too small to be told from a format's own cost must lie below the
detection limit that the verdict prints.
"""

import contextlib
import copy
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from assay.core.engine import OpenOptions
from assay.diagnose.operators import GraphRecorder, Suspect, blame
from assay.export.arithmetic import ModuleArithmetic
from assay.graph.external_data import onnx_artifact
from assay.graph.extract import Parts, flat
from assay.graph.signature import read_signature
from assay.job.arithmetic import quantised_of
from assay.job.compare_two import compare_with_truth
from assay.job.diagnose.stages import How, open_onnx, opener
from assay.job.opening import engine, make_candidate
from assay.judge.classes import ACCEPTED, WITHIN_COST, WRONG, classify
from assay.judge.tolerance import tolerance
from assay.measure.observe import Observed

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import false_alarms
import networks

ENGINES = ("onnxruntime", "openvino")
ROWS = 8
DUE = tolerance("fp32", 1).max_relative_rms


class Once:
    """Exact and rounded runs, each done once per feed: all faults of a network share them."""

    def __init__(self, arithmetic):
        self._arithmetic, self._known = arithmetic, {}

    def exact(self, feed):
        return self._run(("exact", feed["x"].tobytes()), lambda: self._arithmetic.exact(feed))

    def rounded(self, feed, precision, seed):
        key = (precision, seed, feed["x"].tobytes())
        return self._run(key, lambda: self._arithmetic.rounded(feed, precision, seed))

    def _run(self, key, make):
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


class Healthy:
    """One architecture: its module, its ONNX file, its truth (computed once)."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.module, self.x = networks.build(name, 0), networks.example(name, ROWS)
        self.path = networks.export(self.module, self.x, folder / "model.onnx")
        self.signature = read_signature(self.path)
        self.exact = Once(ModuleArithmetic(self.module, self.signature))
        self.model = onnx.load(self.path)

    def judged(self, path, name, precision="fp32", wrap=lambda session: session):
        if precision == "bf16" and engine(name).unavailable("cpu", precision) is not None:
            pytest.skip(f"{name} has no {precision} here")
        with (
            engine("torch").open_module(self.module, self.signature, OpenOptions()) as first,
            open_onnx(path, How(name, precision, None)) as second,
            quantised_of(make_candidate(onnx_artifact(path), name, OpenOptions(precision=precision), "cpu")) as own,
        ):
            feeds = {4: [{"x": self.x[:4]}, {"x": self.x[4:]}]}
            result, split = compare_with_truth((first, wrap(second)), feeds, (self.exact, None), precision, own)
        return classify(result, tolerance(precision, 20), split)

    def damaged(self, change):
        """The file with the change made, and the names of the nodes that carry the fault."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        named = change(model)
        path = self.folder / f"{change.__name__}.onnx"
        onnx.save(model, path)
        return path, named

    def blamed(self, path):
        recorder = GraphRecorder(Parts(flat(self.model)), opener(How()))
        found = blame(recorder, Suspect(Parts(flat(onnx.load(path))), opener(How()), DUE), {"x": self.x[:4]})
        return [name for piece in found.guilty for name, _ in piece.nodes]


@pytest.fixture(scope="session", params=networks.NETWORKS)
def net(request, tmp_path_factory):
    return Healthy(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def cnn(tmp_path_factory):
    return Healthy("cnn", tmp_path_factory.mktemp("cnn"))


# Faults in the graph: each returns the name of the node that carries it.


def weights(model, least=2):
    """(initializer, node) of every product's weight, in order."""
    by_name = {t.name: t for t in model.graph.initializer}
    products = [n for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    return [
        (by_name[n.input[1]], n) for n in products if n.input[1] in by_name and len(by_name[n.input[1]].dims) >= least
    ]


def put(tensor, array):
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))


def swapped_weight(model):
    """The channels of one weight in the opposite order."""
    tensor, node = weights(model)[1]
    put(tensor, numpy_helper.to_array(tensor)[::-1])
    return node.name


def transposed_layout(model):
    """The last two axes of the input changed places (all networks here take squares)."""
    rank = len(model.graph.input[0].type.tensor_type.shape.dim)
    return _before_input(
        model,
        [helper.make_node("Transpose", ["x"], ["x/new"], name="fault", perm=[*range(rank - 2), rank - 1, rank - 2])],
    )


def wrong_mean_std(model):
    scale = numpy_helper.from_array(np.float32(0.5 / 0.229), "scale")
    shift = numpy_helper.from_array(np.float32((0.5 - 0.485) / 0.229), "shift")
    model.graph.initializer.extend([scale, shift])
    return _before_input(
        model,
        [
            helper.make_node("Mul", ["x", "scale"], ["x/scaled"], name="fault"),
            helper.make_node("Add", ["x/scaled", "shift"], ["x/new"]),
        ],
    )


def bgr(model):
    channels = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    if channels != 3:
        return None
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0]), "order"))
    return _before_input(model, [helper.make_node("Gather", ["x", "order"], ["x/new"], name="fault", axis=1)])


def _before_input(model, nodes):
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == "x":
                node.input[i] = "x/new"
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    return "fault"


def dropped_bias(model):
    names = {t.name: t for t in model.graph.initializer}
    node = [n for n in model.graph.node if n.op_type in ("Conv", "Gemm") and len(n.input) == 3][-1]
    put(names[node.input[2]], np.zeros_like(numpy_helper.to_array(names[node.input[2]])))
    return node.name


def saturated_int8(model):
    """One activation through int8 with a range eight times too small."""
    tensor, node = weights(model)[1]
    del tensor
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.float32(0.5 / 127), "s"), numpy_helper.from_array(np.int8(0), "z")]
    )
    place = list(model.graph.node).index(node)
    model.graph.node.insert(place, helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dq"], name="dequantise"))
    model.graph.node.insert(place, helper.make_node("QuantizeLinear", [node.input[0], "s", "z"], ["q"], name="fault"))
    node.input[0] = "dq"
    return "fault"


def near_gelu(model):
    nodes = [n for n in model.graph.node if n.op_type == "Gelu"]
    if not nodes:
        return None
    del nodes[0].attribute[:]
    nodes[0].attribute.append(helper.make_attribute("approximate", "tanh"))
    return nodes[0].name


def scaled_tensor(model):
    tensor, node = weights(model)[1]
    put(tensor, numpy_helper.to_array(tensor) * np.float32(1.002))
    return node.name


def scaled_norm(model):
    """A layer or instance norm with another eps."""
    nodes = [n for n in model.graph.node if n.op_type in ("LayerNormalization", "InstanceNormalization")]
    if not nodes:
        return None
    for attribute in list(nodes[0].attribute):
        if attribute.name == "epsilon":
            nodes[0].attribute.remove(attribute)
    nodes[0].attribute.append(helper.make_attribute("epsilon", 1e-3))
    return nodes[0].name


GRAPH_FAULTS = (
    swapped_weight, transposed_layout, wrong_mean_std, bgr, dropped_bias, saturated_int8, near_gelu, scaled_tensor,
    scaled_norm,
)  # fmt: skip
LARGE = (swapped_weight, transposed_layout, wrong_mean_std, bgr)


@pytest.mark.parametrize("engine_name", ENGINES)
def test_healthy_builds_are_accepted(net, engine_name):
    judged = net.judged(net.path, engine_name)
    assert judged.name == WITHIN_COST, judged.reason.text


def test_healthy_bf16_is_accepted(net):
    judged = net.judged(net.path, "openvino", "bf16")
    assert judged.name == WITHIN_COST, judged.reason.text
    assert judged.detectable < 0.1


@pytest.mark.parametrize("engine_name", ENGINES)
@pytest.mark.parametrize("fault", GRAPH_FAULTS, ids=lambda f: f.__name__)
def test_every_fault_is_caught_in_fp32(net, fault, engine_name):
    path, named = net.damaged(fault)
    if named is None:
        pytest.skip(f"{net.name} has nothing to damage this way")
    judged = net.judged(path, engine_name)
    assert judged.name not in ACCEPTED, judged.reason.text
    assert judged.reason.state == "failed"


@pytest.mark.parametrize("fault", GRAPH_FAULTS, ids=lambda f: f.__name__)
def test_every_fault_is_named(net, fault):
    path, named = net.damaged(fault)
    if named is None:
        pytest.skip(f"{net.name} has nothing to damage this way")
    assert named in net.blamed(path)


@pytest.mark.parametrize("fault", GRAPH_FAULTS, ids=lambda f: f.__name__)
def test_in_bf16_a_fault_is_caught_or_lies_below_the_printed_limit(net, fault):
    path, named = net.damaged(fault)
    if named is None:
        pytest.skip(f"{net.name} has nothing to damage this way")
    judged = net.judged(path, "openvino", "bf16")
    if judged.accepted:
        in_fp32 = net.judged(path, "openvino")
        assert max(s.error for s in in_fp32.shares) < judged.detectable
        assert fault not in LARGE
    elif fault in LARGE:
        assert judged.name == WRONG or fault is wrong_mean_std, judged.reason.text  # a norm takes most of it back


def test_another_batch_norm_eps(cnn):
    module = copy.deepcopy(cnn.module)
    for m in module.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.eps = 1e-4
    path = networks.export(module, cnn.x, cnn.folder / "eps.onnx")
    for name in ENGINES:
        assert cnn.judged(path, name).name == WRONG
    assert cnn.blamed(path), "no convolution (with its batch norm folded in) was named"


def small_images(antialias):
    """Photographs twice as large, made small."""
    big = torch.from_numpy(np.random.default_rng(5).normal(size=(ROWS, 3, 60, 60)).astype(np.float32))
    big = torch.nn.functional.avg_pool2d(big, 3, 1, 1)
    return torch.nn.functional.interpolate(big, (24, 24), mode="bilinear", antialias=antialias).numpy()


def test_antialias_off(cnn):
    reference, other = small_images(True), small_images(False)
    index = {row.tobytes(): other[i] for i, row in enumerate(reference)}

    class Otherwise(Observed):
        def run(self, feed, out=None, spans=None):
            return super().run({"x": np.stack([index[row.tobytes()] for row in feed["x"]])})

    before, cnn.x = cnn.x, reference
    try:
        judged = cnn.judged(cnn.path, "onnxruntime", wrap=lambda s: Otherwise(s, lambda f, o: None))
    finally:
        cnn.x = before
    assert judged.name == WRONG


def test_nan_in_one_of_a_thousand_samples_is_caught_and_the_sample_named(cnn):
    class Rarely(Observed):
        seen = 0

        def run(self, feed, out=None, spans=None):
            found = {"y": super().run(feed)["y"].copy()}
            first, Rarely.seen = Rarely.seen, Rarely.seen + len(feed["x"])
            if first <= 777 < Rarely.seen:
                found["y"][777 - first, 3] = np.nan
            return found

    x = networks.example("cnn", 1000, 3)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(engine("torch").open_module(cnn.module, cnn.signature, OpenOptions()))
        second = stack.enter_context(open_onnx(cnn.path, How("onnxruntime", "fp32", None)))
        feeds = {50: [{"x": x[i : i + 50]} for i in range(0, 1000, 50)]}
        result, split = compare_with_truth(
            (first, Rarely(second, lambda f, o: None)), feeds, (None, "left out"), "fp32"
        )
    judged = classify(result, tolerance("fp32", 20), split)
    assert judged.name == WRONG
    assert judged.reason.text.endswith("in row 777")


@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_int8_healthy_and_sabotaged(tmp_path, name):
    quantisation = pytest.importorskip("onnxruntime.quantization")
    net = Healthy(name, tmp_path)

    class Reader(quantisation.CalibrationDataReader):
        def __init__(self):
            self.rows = iter(networks.example(name, 32, 9)[:, None])

        def get_next(self):
            row = next(self.rows, None)
            return None if row is None else {"x": row}

    def quantised(path):
        made = path.with_suffix(".int8.onnx")
        quantisation.quantize_static(path, made, Reader(), per_channel=True, quant_format=quantisation.QuantFormat.QDQ)
        return made

    good = net.judged(quantised(net.path), "onnxruntime", "int8")
    assert good.name == WITHIN_COST, good.reason.text
    for fault in (swapped_weight, bgr, wrong_mean_std):
        path, _ = net.damaged(fault)
        bad = net.judged(quantised(path), "onnxruntime", "int8")
        assert not bad.accepted, f"{fault.__name__}: {bad.reason.text}"
        assert bad.name == WRONG or fault is not swapped_weight, f"{fault.__name__}: {bad.reason.text}"


@pytest.fixture(scope="session")
def nncf_file(net):
    pytest.importorskip("nncf")
    return false_alarms.quantised(net.path, net.name)


def test_nncf_files_are_accepted_and_sabotaged_ones_wrong_or_below_the_printed_limit(net, nncf_file):
    good = net.judged(nncf_file, "onnxruntime", "int8")
    assert good.name == WITHIN_COST, good.reason.text
    assert good.detectable < 0.25
    told = 0
    for fault in (swapped_weight, dropped_bias):
        path, _ = net.damaged(fault)
        bad = net.judged(false_alarms.quantised(path, net.name), "onnxruntime", "int8")
        alone = max(s.error for s in net.judged(path, "onnxruntime").shares)
        if alone > 2 * good.detectable:
            assert bad.name == WRONG or alone < 3 * good.detectable, f"{fault.__name__}: {bad.reason.text}"
            told += bad.name == WRONG
        if bad.accepted:
            assert alone < good.detectable, f"{fault.__name__}: {bad.reason.text}"
    assert told


def activation_scales(model):
    """Names of the scales of activations, the first quantiser's first."""
    return list(dict.fromkeys(n.input[1] for n in model.graph.node if n.op_type == "QuantizeLinear"))


def saturated_layer(model):
    """The second activation's range eight times too small."""
    tensor = next(t for t in model.graph.initializer if t.name == activation_scales(model)[1])
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) / np.float32(8), tensor.name))


def doubled_scale(model):
    """The second layer's stored weights come out twice as large."""
    stored = {n.input[0]: n.input[1] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    weights = [t.name for t in model.graph.initializer if t.name in stored and len(t.dims) > 1]
    tensor = next(t for t in model.graph.initializer if t.name == stored[weights[1]])
    put(tensor, numpy_helper.to_array(tensor) * np.float32(2))


def doubled_result(model):
    """What the first activation is read back with, twice as large as what it was quantised with."""
    node = next(n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0].startswith("q_output_x"))
    scale = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == node.input[1]))
    model.graph.initializer.append(numpy_helper.from_array(scale * np.float32(2), "doubled"))
    node.input[1] = "doubled"


@pytest.mark.parametrize("fault", [saturated_layer, doubled_scale, doubled_result], ids=lambda f: f.__name__)
def test_a_sabotaged_int8_file_is_caught_or_lies_below_the_printed_limit(net, nncf_file, fault):
    model = onnx.load(nncf_file)
    fault(model)
    path = net.folder / f"{fault.__name__}.int8.onnx"
    onnx.save(model, path)
    judged = net.judged(path, "onnxruntime", "int8")
    engine_share = max(s.share for s in judged.shares if s.part == "engine")
    assert engine_share < 1, "the engine did what the file says"
    if judged.accepted:
        assert max(s.error for s in judged.shares if s.part == "file") < judged.detectable
        assert net.name != "cnn", "nothing there takes it back"
    if fault is saturated_layer and not judged.accepted:
        assert "cuts off" in judged.reason.text, judged.reason.text


def test_an_int8_engine_that_strays_from_its_file_is_told_from_a_file_that_strays(net, nncf_file):
    class Astray(Observed):
        def run(self, feed, out=None, spans=None):
            return {n: np.asarray(a * np.float32(1.1)) for n, a in super().run(feed).items()}

    judged = net.judged(nncf_file, "onnxruntime", "int8", wrap=lambda s: Astray(s, lambda f, o: None))
    assert not judged.accepted
    assert "the engine's result" in judged.reason.text
    assert max(s.share for s in judged.shares if s.part == "file") < 1


def test_no_false_alarm_over_seeds_and_architectures():
    """The small version of benchmarks/false_alarms.py."""
    runs = list(false_alarms.healthy(2, first=100))
    assert len(runs) >= 8
    assert [(n, s, w, j.reason.text) for n, s, w, j in runs if not j.accepted] == []
