from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_models as models
import pytest
from onnx import TensorProto, helper

from assay.core.artifact import Artifact, file_artifact
from assay.core.engine import BuildOptions, OpenOptions
from assay.core.errors import BadInput, EngineFailed, NotAvailable, SignatureMismatch, WrongPrecision
from assay.engines.onnx_precision import graph_precision
from assay.engines.onnxruntime import OnnxRuntimeEngine
from assay.engines.onnxruntime_attest import _macs, _Node

ENGINE = OnnxRuntimeEngine()
CPU = "CPUExecutionProvider"
ROW = np.random.default_rng(0).random((1, 2, 6, 6), dtype=np.float32)


@pytest.mark.parametrize("level", ["disable", "all"])
def test_attest_finds_all_arithmetic(tmp_path: Path, level: str) -> None:
    """Fused or not, and with weights the kernels packed for themselves (ConvTranspose, Gemm)."""
    options = OpenOptions(provider_options=(("graph_optimization_level", level),))
    with ENGINE.open(models.mixed(tmp_path / "m.onnx"), options) as session:
        attestation = session.attest()
    assert attestation.shares == {(CPU, "fp32"): 1.0}
    assert list(tmp_path.iterdir()) == [tmp_path / "m.onnx"]  # the profile is gone


def test_attest_tells_nodes_without_names_apart(tmp_path: Path) -> None:
    """864 MACs in fp32 and as many, in a second convolution, in int8."""
    kind = TensorProto.FLOAT
    plain, quantised = models.conv(tmp_path / "c.onnx"), models.quantised_conv(tmp_path / "q.onnx")
    first, second = (onnx.load(str(a.path)).graph for a in (plain, quantised))
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in second.initializer}
    weights |= {"fw": onnx.numpy_helper.to_array(first.initializer[0])}
    nodes = [helper.make_node("Conv", ["x", "fw"], ["z"]), *second.node]
    for node in nodes:
        node.name = ""
    values = (
        [models.value("x", kind, ["batch", 2, 6, 6])],
        [models.value("y", kind, ["batch", 3, 4, 4]), models.value("z", kind, ["batch", 3, 4, 4])],
    )
    artifact = models.save(tmp_path / "both.onnx", nodes, values, weights)
    options = OpenOptions(precision=graph_precision(onnx.load(str(artifact.path))))
    plain_level = (("graph_optimization_level", "extended"),)  # beyond it the plain one's channels are padded
    with ENGINE.open(artifact, replace(options, provider_options=plain_level)) as session:
        shares = session.attest().shares
    assert shares == {(CPU, "fp32"): pytest.approx(0.5), (CPU, "int8"): pytest.approx(0.5)}


@pytest.mark.parametrize(
    ("op", "inputs", "output", "expected"),
    [
        ("Conv", [(1, 3, 16, 16), (8, 3, 3, 3), (8,)], (1, 8, 16, 16), 8 * 256 * 27),
        ("Conv", [(1, 3, 16, 16), (8,)], (1, 8, 16, 16), None),  # packed weight: not told
        ("ConvTranspose", [(1, 8, 14, 14), (8, 4, 2, 2), (4,)], (1, 4, 28, 28), 8 * 196 * 16),
        ("QLinearConv", [(1, 3, 4, 4), (), (), (8, 3, 3, 3), (8,), (8,), (), ()], (1, 8, 2, 2), 32 * 27),
        ("Gemm", [(2, 4), (10,)], (2, 10), 80),  # packed weight, then the bias
        ("FusedMatMul", [(7, 2, 4), (7, 3, 4)], (7, 2, 3), 7 * 2 * 3 * 4),
        ("MatMul", [(2, 4), (4,)], (2,), 8),
        ("MatMulInteger", [(2, 4), (4, 3)], (2, 3), 24),
        ("LSTM", [(5, 2, 3), (1, 16, 3), (1, 16, 4), (1, 32)], (5, 1, 2, 4), 10 * (48 + 64)),
        ("MultiHeadAttention", [(1, 6, 8), (1, 9, 8), (1, 9, 8)], (1, 6, 8), 2 * 6 * 9 * 8),
        ("Relu", [(1, 8)], (1, 8), 0),
    ],
)
def test_products_of_the_profile_by_hand(
    op: str, inputs: list[tuple[int, ...]], output: tuple[int, ...], expected: int | None
) -> None:
    node = _Node("n", op, CPU, tuple(("float", shape) for shape in inputs), (("float", output),))
    assert _macs(node) == expected


def test_a_quantised_graph_opens_as_int8_only_and_attests_it(tmp_path: Path) -> None:
    artifact = models.quantised_conv(tmp_path / "q.onnx")
    with pytest.raises(BadInput, match="computes in int8"):
        ENGINE.open(artifact, OpenOptions(precision="fp32"))
    with ENGINE.open(artifact, OpenOptions(precision="int8")) as session:
        assert session.attest().shares == {(CPU, "int8"): 1.0}
        assert session.run({"x": ROW})["y"].dtype == np.float32


def test_an_fp32_graph_does_not_open_as_anything_else(tmp_path: Path) -> None:
    artifact = models.conv(tmp_path / "c.onnx")
    for precision in ("fp16", "int8", "bf16", "fp64"):
        with pytest.raises(BadInput, match="computes in fp32") as told:
            ENGINE.open(artifact, OpenOptions(precision=precision))
        why = ENGINE.unavailable("cpu", precision)
        assert why is not None and "needs an ONNX file" in why
        for said in (why, told.value.remedy or ""):  # fp64 is nothing that assay quantize makes
            assert ("assay quantize" in said) == (precision != "fp64"), said
    with pytest.raises(NotAvailable, match="GPU"):
        ENGINE.open(artifact, OpenOptions(precision="tf32"))


def test_an_fp16_graph_on_the_cpu_attests_what_really_ran(tmp_path: Path) -> None:
    """The CPU provider widens half precision to float32 around its convolution: said, not hidden."""
    artifact = models.conv(tmp_path / "h.onnx", np.float16)
    with pytest.raises(BadInput, match="computes in fp16"):
        ENGINE.open(artifact, OpenOptions(precision="fp32"))
    with ENGINE.open(artifact, OpenOptions(precision="fp16")) as session:
        assert session.run({"x": ROW.astype(np.float16)})["y"].dtype == np.float16
        attestation = session.attest()
        if attestation.share(CPU, "fp16") == 0:
            with pytest.raises(WrongPrecision, match="fp32 100%"):
                attestation.check(None, "fp16")
        else:
            assert attestation.check(None, "fp16") == []


def test_strings_pass_unchanged_or_are_refused(tmp_path: Path) -> None:
    artifact = models.identity(tmp_path / "s.onnx", TensorProto.STRING)
    with ENGINE.open(artifact, OpenOptions()) as session:
        words = np.array([[b"plain", "grüß".encode(), b""]], dtype=object)
        found = session.run({"x": words})["y"]
        assert found.dtype == object and found.tolist() == words.tolist()
        for lost in (b"\xff\xfe", b"cut\0here"):
            words[0, 1] = lost
            with pytest.raises(SignatureMismatch, match="'x'"):
                session.run({"x": words})


@pytest.mark.parametrize("kind", ["BOOL", "INT8", "UINT16", "INT64", "UINT64", "FLOAT16", "DOUBLE"])
def test_every_other_dtype_passes_unchanged(tmp_path: Path, kind: str) -> None:
    number = getattr(TensorProto, kind)
    given = np.array([[0, 1, 3]]).astype(helper.tensor_dtype_to_np_dtype(number))
    with ENGINE.open(models.identity(tmp_path / "i.onnx", number), OpenOptions()) as session:
        found = session.run({"x": given})["y"]
        assert found.dtype == given.dtype
        np.testing.assert_array_equal(found, given)


def test_bfloat16_tensors_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match="bfloat16"):
        ENGINE.open(models.identity(tmp_path / "b.onnx", TensorProto.BFLOAT16), OpenOptions())


def test_a_weight_that_is_an_output_is_not_handed_out(tmp_path: Path) -> None:
    weight = np.arange(3, dtype=np.float32)
    nodes = [helper.make_node("Identity", ["w"], ["c"]), helper.make_node("Add", ["x", "w"], ["y"])]
    kind = TensorProto.FLOAT
    values = (
        [models.value("x", kind, ["batch", 3])],
        [models.value("c", kind, [3]), models.value("y", kind, ["batch", 3])],
    )
    artifact = models.save(tmp_path / "w.onnx", nodes, values, {"w": weight})
    with ENGINE.open(artifact, OpenOptions()) as session:
        feed = {"x": np.zeros((1, 3), np.float32)}
        session.run(feed)["c"][...] = 99
        found = session.run(feed)
    np.testing.assert_array_equal(found["c"], weight)
    np.testing.assert_array_equal(found["y"], weight[None])


def test_scalars_stay_arrays(tmp_path: Path) -> None:
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)
    kind = TensorProto.FLOAT
    artifact = models.save(
        tmp_path / "s.onnx", [node], ([models.value("x", kind, ["batch", 3])], [models.value("y", kind, [])])
    )
    with ENGINE.open(artifact, OpenOptions()) as session:
        found = session.run({"x": np.ones((2, 3), np.float32)})["y"]
        assert isinstance(found, np.ndarray) and found.shape == () and found == 6
        buffer = np.zeros((), np.float32)
        assert session.run({"x": np.ones((1, 3), np.float32)}, out={"y": buffer})["y"] is buffer
        assert buffer == 3


def with_external_data(folder: Path) -> Path:
    models.conv(folder / "inside.onnx")
    model = onnx.load(str(folder / "inside.onnx"))
    path = folder / "outside.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    (folder / "inside.onnx").unlink()
    return path


def test_build_takes_companions_along_and_keeps_equal_files(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    path = with_external_data(folder)
    artifact = file_artifact(path, "onnx", companions=(folder / "weights.bin",))
    out = tmp_path / "out"
    first = ENGINE.build(artifact, BuildOptions(), out)
    stamps = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    assert sorted(stamps) == ["model.onnx", "weights.bin"]
    second = ENGINE.build(artifact, BuildOptions(), out)
    assert second == first
    assert ENGINE.build(replace(artifact, companions=()), BuildOptions(), out) == first  # found in the graph
    assert {p.name: p.stat().st_mtime_ns for p in out.iterdir()} == stamps
    (folder / "weights.bin").unlink()
    with pytest.raises(BadInput, match=r"weights\.bin"):
        ENGINE.build(replace(artifact, companions=()), BuildOptions(), out)
    shutil.rmtree(folder)
    with ENGINE.open(first, OpenOptions()) as session:
        assert session.attest().share(CPU, "fp32") == 1
    (out / "weights.bin").unlink()
    with pytest.raises(BadInput, match=r"weights\.bin"):
        ENGINE.open(first, OpenOptions())
    with pytest.raises(EngineFailed, match="could not open"):
        ENGINE.open(replace(first, companions=()), OpenOptions())


def test_build_replaces_another_file_and_checks_the_batch(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ENGINE.build(models.conv(tmp_path / "a.onnx"), BuildOptions(), out)
    other = models.mixed(tmp_path / "b.onnx")
    built = ENGINE.build(other, BuildOptions(), out)
    assert built.sha256 == other.sha256 and built.parents == (other.sha256,)
    kind = TensorProto.FLOAT
    fixed = models.save(
        tmp_path / "f.onnx",
        [helper.make_node("Relu", ["x"], ["y"])],
        ([models.value("x", kind, [4, 3])], [models.value("y", kind, [4, 3])]),
    )
    with pytest.raises(BadInput, match="batch size 4; batch 8") as told:
        ENGINE.build(fixed, BuildOptions(batch=8), out)
    assert told.value.remedy == "assay export --batch 8"
    with pytest.raises(BadInput, match="not an ONNX"):
        broken = tmp_path / "x.onnx"
        broken.write_bytes(b"\x00garbage")
        ENGINE.build(file_artifact(broken, "onnx"), BuildOptions(), out)


def test_options_reach_the_library_or_are_refused(tmp_path: Path) -> None:
    artifact = models.conv(tmp_path / "c.onnx")
    with ENGINE.open(artifact, OpenOptions(threads=1)) as session:
        settings = session._workers[0].get_session_options()
        assert settings.intra_op_num_threads == 1
        assert settings.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    with ENGINE.open(artifact, OpenOptions(instances=2, threads=1)) as session:
        settings = session._workers[0].get_session_options()
        assert settings.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    given = OpenOptions(provider_options=(("session.intra_op.allow_spinning", "0"),))
    with ENGINE.open(artifact, given) as session:
        settings = session._workers[0].get_session_options()
        assert settings.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    for key, said in (
        ("graph_optimization_level", "turbo"),
        ("use_tf32", "follows from the precision"),
        ("mlas.enable_gemm_fastmath_arm64_bfloat16", "follows from the precision"),
        ("arena", "has no option 'arena'"),
    ):
        with pytest.raises(BadInput, match=said):
            ENGINE.open(artifact, OpenOptions(provider_options=((key, "turbo"),)))
    with pytest.raises(BadInput, match="no streams"):
        ENGINE.open(artifact, OpenOptions(streams=2))


def test_a_library_error_is_one_line(tmp_path: Path) -> None:
    """Rows that the graph cannot take although the signature allows them."""
    kind = TensorProto.FLOAT
    node = helper.make_node("Reshape", ["x", "s"], ["y"])
    values = ([models.value("x", kind, ["batch", 3])], [models.value("y", kind, [2, 3])])
    artifact = models.save(tmp_path / "r.onnx", [node], values, {"s": np.array([2, 3])})
    with ENGINE.open(artifact, OpenOptions()) as session:
        with pytest.raises(EngineFailed, match="onnxruntime could not run the model") as told:
            session.run({"x": np.ones((3, 3), np.float32)})
        assert "\n" not in str(told.value)
        assert session.run({"x": np.ones((2, 3), np.float32)})["y"].shape == (2, 3)


def test_a_provider_by_name(tmp_path: Path) -> None:
    artifact = models.conv(tmp_path / "conv.onnx")
    engine = OnnxRuntimeEngine()
    named = OpenOptions(provider_options=(("provider", "cpu"),))
    with engine.open(artifact, named) as session:
        attestation = session.attest()
        assert attestation.share("CPUExecutionProvider", "fp32") == 1
        assert "on CPUExecutionProvider" in attestation.how
    for name, error, said in (
        ("tensorrt", BadInput, "runs on cuda"),
        ("openvino", NotAvailable, "has no OpenVINOExecutionProvider"),
        ("cpuu", BadInput, "no provider"),
    ):
        with pytest.raises(error, match=said):
            engine.open(artifact, OpenOptions(provider_options=(("provider", name),)))
    assert "onnxruntime-cann" in (engine.unavailable("npu") or "")


def test_buckets_need_a_batch_dim_with_a_name(tmp_path: Path) -> None:
    from assay.graph.signature import read_signature, store_batch_axes, with_batch_axes

    node = helper.make_node("Relu", ["x"], ["y"])
    values = (
        [models.value("x", TensorProto.FLOAT, [None, 3])],
        [models.value("y", TensorProto.FLOAT, [None, 3])],
    )
    unnamed = models.save(tmp_path / "unnamed.onnx", [node], values)
    model = onnx.load(str(unnamed.path))
    store_batch_axes(model, with_batch_axes(read_signature(unnamed.path), {"x": 0, "y": 0}))
    onnx.save(model, str(unnamed.path))
    with pytest.raises(NotAvailable, match="no name"):
        OnnxRuntimeEngine().open(unnamed, OpenOptions(buckets=(1, 2)))
    fixed = (
        [models.value("x", TensorProto.FLOAT, [2, 3])],
        [models.value("y", TensorProto.FLOAT, [2, 3])],
    )
    static = models.save(tmp_path / "static.onnx", [node], fixed)
    with pytest.raises(BadInput, match="batch size 2"):
        OnnxRuntimeEngine().open(static, OpenOptions(buckets=(1, 2)))


def test_bound_inputs_and_outputs_give_the_same_and_belong_to_the_caller(tmp_path: Path) -> None:
    artifact = models.conv(tmp_path / "conv.onnx")
    bound = OpenOptions(provider_options=(("io_binding", "1"),), instances=2)
    rng = np.random.default_rng(0)
    with ENGINE.open(artifact, OpenOptions()) as plain, ENGINE.open(artifact, bound) as session:
        kept = []
        for rows in (1, 3, 1, *range(2, 12), 3):  # more shapes than are kept
            x = {"x": rng.random((rows, 2, 6, 6), dtype=np.float32)}
            expected, found = plain.run(x)["y"], session.run(x)["y"]
            np.testing.assert_array_equal(found, expected)
            kept.append((found, expected))
        for found, expected in kept:  # later calls wrote nothing into what was returned
            np.testing.assert_array_equal(found, expected)
        assert session.attest().share("CPUExecutionProvider", "fp32") == 1
    with pytest.raises(BadInput, match="io_binding is 'yes'"):
        ENGINE.open(artifact, OpenOptions(provider_options=(("io_binding", "yes"),)))


def test_outputs_of_a_graph_are_fixed_after_the_first_call(tmp_path: Path) -> None:
    """What CUDA graphs need of the binding, as far as the CPU can show it: buffers made once per shape."""
    import onnxruntime

    from assay.engines.onnxruntime_binding import BoundSession

    path = models.conv(tmp_path / "conv.onnx").path
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    bound = BoundSession(session, "cpu", 0, graphs=True)
    rng = np.random.default_rng(0)
    addresses = []
    for rows in (2, 2, 2, 1, 2):
        x = rng.random((rows, 2, 6, 6), dtype=np.float32)
        np.testing.assert_array_equal(bound.run(["y"], {"x": x})[0], session.run(["y"], {"x": x})[0])
        one = bound._bound[((rows, 2, 6, 6),)]
        addresses.append((one.inputs["x"].data_ptr(), one.outputs[0].data_ptr()))
        assert bound._options(one).get_run_config_entry("gpu_graph_id") == one.graph != "-1"
    assert addresses[0] == addresses[1] == addresses[2] == addresses[4] != addresses[3]


def unknown_operators(path: Path) -> Artifact:
    """Two operators that nobody has, one of them twice; the first remembers its line of Python."""
    kind, dims = TensorProto.FLOAT, ["batch", 3]
    nodes = [
        helper.make_node("Wobble", ["x"], ["a"], name="w1", domain="com.acme"),
        helper.make_node("Wobble", ["a"], ["b"], name="w2", domain="com.acme"),
        helper.make_node("Twirl", ["b"], ["c"], name="t1", domain="com.acme"),
        helper.make_node("Relu", ["c"], ["y"], name="fine"),
    ]
    entry = nodes[0].metadata_props.add()
    entry.key = "pkg.torch.onnx.stack_trace"
    entry.value = 'File "/home/user/net.py", line 12, in forward\n    return wobble(x)'
    graph = helper.make_graph(nodes, "g", [models.value("x", kind, dims)], [models.value("y", kind, dims)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))
    return file_artifact(path, "onnx")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_operators_it_does_not_know_are_all_named_with_their_lines(tmp_path: Path, name: str) -> None:
    from assay.core.table import resolve
    from assay.engines import ENGINES

    model = unknown_operators(tmp_path / "acme.onnx")
    engine = resolve(ENGINES, name, "engine")()
    with pytest.raises(EngineFailed) as told:
        engine.build(model, BuildOptions(), tmp_path / "out")
    said = str(told.value)
    assert said.startswith(f"{name} does not know com.acme:Twirl ('t1'); com.acme:Wobble ('w1' from ")
    assert "/home/user/net.py" in said and "12" in said and "'w2'" in said and "fine" not in said
    assert "--custom-op" in (told.value.remedy or "")
    with pytest.raises(EngineFailed, match=r"com\.acme:Wobble"):
        engine.open(model, OpenOptions())


def test_an_operator_without_a_kernel_is_named(tmp_path: Path) -> None:
    """ONNX Runtime's CPU provider knows Abs, and has no bfloat16 one."""
    kind, half = TensorProto.FLOAT, TensorProto.BFLOAT16
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], name="down", to=half),
        helper.make_node("Abs", ["a"], ["b"], name="magnitude"),
        helper.make_node("Cast", ["b"], ["y"], name="up", to=kind),
    ]
    model = models.save(
        tmp_path / "abs.onnx", nodes, ([models.value("x", kind, ["batch", 3])], [models.value("y", kind, ["batch", 3])])
    )
    with pytest.raises(EngineFailed, match=r"no implementation.*Abs \('magnitude'\)"):
        ENGINE.open(model, OpenOptions())


def test_a_processor_has_no_index(tmp_path: Path) -> None:
    artifact = models.conv(tmp_path / "conv.onnx")
    for refused in (
        lambda: ENGINE.open(artifact, OpenOptions(device="cpu:1")),
        lambda: ENGINE.build(artifact, BuildOptions(device="cpu:1"), tmp_path / "out"),
    ):
        with pytest.raises(BadInput, match="no cpu:1") as told:
            refused()
        assert told.value.remedy == "--device cpu"
    with pytest.raises(NotAvailable, match="CUDAExecutionProvider"):  # a kind that is not here at all
        ENGINE.open(artifact, OpenOptions(device="cuda:1"))


def test_a_bound_input_without_dims_keeps_none(tmp_path: Path) -> None:
    """What is bound to a device is copied there with the feed's own shape."""
    import onnxruntime

    from assay.engines.onnxruntime_binding import BoundSession

    kind = TensorProto.FLOAT
    values = [models.value("x", kind, ["batch", 2]), models.value("s", kind, [])]
    nodes = [helper.make_node("Mul", ["x", "s"], ["y"]), helper.make_node("Shape", ["s"], ["rank"])]
    outputs = [models.value("y", kind, ["batch", 2]), models.value("rank", TensorProto.INT64, [0])]
    artifact = models.save(tmp_path / "m.onnx", nodes, (values, outputs))
    inner = onnxruntime.InferenceSession(str(artifact.path), providers=["CPUExecutionProvider"])
    bound = BoundSession(inner, "cpu", 0)
    for factor in (2.0, 3.0):
        feed = {"x": np.ones((3, 2), np.float32), "s": np.array(factor, np.float32)}
        found, shape = bound.run(["y", "rank"], feed)
        np.testing.assert_array_equal(found, np.full((3, 2), factor, np.float32))
        assert shape.shape == (0,)


def test_a_model_whose_free_dim_takes_no_size_that_is_tried_is_not_attested(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["x", "s"], ["r"]), helper.make_node("MatMul", ["r", "w"], ["y"])]
    values = (
        [models.value("x", TensorProto.FLOAT, ["batch", "n"])],
        [models.value("y", TensorProto.FLOAT, ["batch", "m", 4])],
    )
    weights = {"s": np.array([0, -1, 11]), "w": np.ones((11, 4), np.float32)}
    with ENGINE.open(models.save(tmp_path / "t.onnx", nodes, values, weights), OpenOptions()) as session:
        assert session.run({"x": np.ones((2, 22), np.float32)})["y"].shape == (2, 2, 4)
        assert "free dims take none of the sizes" in session.attest().check(None, "fp32")[0]
