from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_models as models
import pytest
from onnx import TensorProto, helper

from assay.core.artifact import Artifact
from assay.core.engine import BuildOptions, OpenOptions
from assay.core.errors import BadInput, NotAvailable, SignatureMismatch
from assay.engines.openvino import OpenVinoEngine, _library

ENGINE = OpenVinoEngine()
CPU = "openvino:CPU"
CAPABILITIES = _library().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
needs_bf16 = pytest.mark.skipif("BF16" not in CAPABILITIES, reason="this processor has no bf16 instructions")
ROW = np.random.default_rng(0).random((1, 2, 6, 6), dtype=np.float32)


def test_fp32_runs_in_fp32_whatever_the_library_would_choose(tmp_path: Path) -> None:
    built = ENGINE.build(models.mixed(tmp_path / "m.onnx"), BuildOptions(), tmp_path / "ir")
    with ENGINE.open(built, OpenOptions(precision="fp32")) as session:
        assert session.attest().shares == {(CPU, "fp32"): 1.0}


@needs_bf16
def test_bf16_runs_in_bf16_from_the_same_file(tmp_path: Path) -> None:
    built = ENGINE.build(models.mixed(tmp_path / "m.onnx"), BuildOptions(precision="bf16"), tmp_path / "ir")
    feed = {"x": np.random.default_rng(0).random((2, 3, 8, 8), dtype=np.float32)}
    with ENGINE.open(built, OpenOptions(precision="bf16")) as session:
        assert session.attest().shares == {(CPU, "bf16"): 1.0}
        coarse = session.run(feed)["y"]
    with ENGINE.open(built, OpenOptions(precision="fp32")) as session:
        fine = session.run(feed)["y"]
    assert coarse.dtype == fine.dtype == np.float32
    assert 0 < np.abs(coarse - fine).max() < 0.05 * np.abs(fine).max()


@needs_bf16
def test_the_trap_is_real_here(tmp_path: Path) -> None:
    """Without the hint this processor runs the fp32 graph in bf16, and the attestation would say so."""
    from assay.engines.openvino_attest import attest_compiled, mac_table
    from assay.engines.openvino_signature import model_signature

    core = _library().Core()
    model = core.read_model(str(models.mixed(tmp_path / "m.onnx").path))
    table = mac_table(model, model_signature(model))
    assert sorted(table.macs.values()) == [10, 40, 4608, 10368, 13824]
    compiled = core.compile_model(model, "CPU")
    assert attest_compiled(compiled, table, CPU).shares == {(CPU, "bf16"): 1.0}


def test_fp16_is_refused_with_the_processors_reason(tmp_path: Path) -> None:
    if "FP16" in CAPABILITIES:
        pytest.skip("this processor has fp16 instructions")
    why = ENGINE.unavailable("cpu", "fp16")
    assert why is not None and "no fp16 arithmetic" in why and "FP32" in why
    artifact = models.conv(tmp_path / "c.onnx")
    with pytest.raises(NotAvailable, match="no fp16 arithmetic"):
        ENGINE.build(artifact, BuildOptions(precision="fp16"), tmp_path / "ir")
    with pytest.raises(NotAvailable, match="no fp16 arithmetic"):
        ENGINE.open(artifact, OpenOptions(precision="fp16"))


def test_a_quantised_graph_runs_in_int8_and_a_plain_one_is_refused(tmp_path: Path) -> None:
    with ENGINE.open(models.quantised_conv(tmp_path / "q.onnx"), OpenOptions(precision="int8")) as session:
        attestation = session.attest()
        assert attestation.shares == {(CPU, "int8"): 1.0}
    with pytest.raises(BadInput, match="not quantised"):
        ENGINE.open(models.conv(tmp_path / "c.onnx"), OpenOptions(precision="int8"))


def test_build_fixes_the_batch_and_leaves_only_the_ir(tmp_path: Path) -> None:
    artifact = models.conv(tmp_path / "c.onnx")
    built = ENGINE.build(artifact, BuildOptions(batch=4), tmp_path / "ir")
    assert sorted(p.name for p in (tmp_path / "ir").iterdir()) == ["model.bin", "model.xml"]
    assert built.parents == (artifact.sha256,) and built.format == "openvino"
    with ENGINE.open(built, OpenOptions()) as session:
        assert session.signature.static_batch == 4
        assert session.run({"x": np.repeat(ROW, 4, 0)})["y"].shape == (4, 3, 4, 4)
        with pytest.raises(SignatureMismatch, match="must be 4"):
            session.run({"x": ROW})
    with pytest.raises(BadInput, match="batch size 4; batch 2"):
        ENGINE.build(built, BuildOptions(batch=2), tmp_path / "again")


@pytest.mark.parametrize("make", [models.mixed, models.quantised_conv])
def test_the_same_file_builds_to_the_same_digest(tmp_path: Path, make: Callable[[Path], Artifact]) -> None:
    """Also later in the life of a process, when the library has numbered other models' parts."""
    artifact = make(tmp_path / "m.onnx")
    first = ENGINE.build(artifact, BuildOptions(), tmp_path / "first")
    ENGINE.build(models.mixed(tmp_path / "other.onnx"), BuildOptions(), tmp_path / "other")
    second = ENGINE.build(artifact, BuildOptions(), tmp_path / "second")
    assert first.sha256 == second.sha256


def test_weights_are_kept_in_full_precision(tmp_path: Path) -> None:
    built = ENGINE.build(models.conv(tmp_path / "c.onnx"), BuildOptions(), tmp_path / "ir")
    assert built.companions[0].stat().st_size >= (3 * 2 * 3 * 3 + 3) * 4


def test_an_ir_from_elsewhere_tells_its_own_signature(tmp_path: Path) -> None:
    built = ENGINE.build(models.mixed(tmp_path / "m.onnx"), BuildOptions(), tmp_path / "ir")
    with ENGINE.open(replace(built, built_for={}), OpenOptions()) as session:
        assert str(session.signature) == "x:batchx3x8x8:float32 -> y:batchx10:float32, g:batchx?:float32"
        assert [s.batch_axis for s in session.signature.outputs] == [0, 0]
    with ENGINE.open(built, OpenOptions()) as session:
        assert str(session.signature) == "x:batchx3x8x8:float32 -> y:batchx10:float32, g:batchxbatch:float32"
    (tmp_path / "ir" / "model.bin").unlink()
    with pytest.raises(BadInput, match=r"model\.bin"):
        ENGINE.open(replace(built, companions=()), OpenOptions())


def test_streams_are_parallelism_and_threads_are_threads(tmp_path: Path) -> None:
    artifact = models.conv(tmp_path / "c.onnx")
    for options in (OpenOptions(streams=2), OpenOptions(instances=2), OpenOptions(streams=2, instances=2)):
        with ENGINE.open(artifact, options) as session:
            assert session.parallelism == 2
    with ENGINE.open(artifact, OpenOptions(threads=1)) as session:
        assert session._opened is not None
        assert session._opened.compiled.get_property("INFERENCE_NUM_THREADS") == 1
        assert session._opened.compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    with pytest.raises(BadInput, match="contradict"):
        ENGINE.open(artifact, OpenOptions(streams=2, instances=3))
    for key in ("INFERENCE_PRECISION_HINT", "EXECUTION_MODE_HINT"):
        with pytest.raises(BadInput, match="follows from the precision"):
            ENGINE.open(artifact, OpenOptions(provider_options=((key, "bf16"),)))


@pytest.mark.parametrize("kind", ["BOOL", "INT8", "UINT16", "INT64", "FLOAT16", "BFLOAT16", "DOUBLE"])
def test_every_dtype_passes_unchanged(tmp_path: Path, kind: str) -> None:
    """Concat, since the library may drop an Identity and its names with it."""
    number = getattr(TensorProto, kind)
    node = helper.make_node("Concat", ["x", "x"], ["y"], axis=1)
    artifact = models.save(
        tmp_path / "c.onnx",
        [node],
        ([models.value("x", number, ["batch", 3])], [models.value("y", number, ["batch", 6])]),
    )
    dtype = ml_dtypes.bfloat16 if kind == "BFLOAT16" else helper.tensor_dtype_to_np_dtype(number)
    given = np.array([[0, 1, 3]]).astype(dtype)
    with ENGINE.open(artifact, OpenOptions()) as session:
        found = session.run({"x": given})["y"]
        assert found.dtype == given.dtype
        np.testing.assert_array_equal(found, np.concatenate([given, given], 1))


def test_an_output_that_is_the_input_keeps_its_name_and_is_a_copy(tmp_path: Path) -> None:
    with ENGINE.open(models.identity(tmp_path / "i.onnx", TensorProto.FLOAT), OpenOptions()) as session:
        given = np.ones((1, 3), np.float32)
        found = session.run({"x": given})
        assert list(found) == ["y"]
        given[...] = 5
        np.testing.assert_array_equal(found["y"], np.ones((1, 3)))


def test_scalars_stay_arrays(tmp_path: Path) -> None:
    kind = TensorProto.FLOAT
    nodes = [helper.make_node("Mul", ["x", "k"], ["p"]), helper.make_node("ReduceSum", ["p"], ["y"], keepdims=0)]
    values = ([models.value("x", kind, ["batch", 3]), models.value("k", kind, [])], [models.value("y", kind, [])])
    with ENGINE.open(models.save(tmp_path / "s.onnx", nodes, values), OpenOptions()) as session:
        found = session.run({"x": np.ones((2, 3), np.float32), "k": np.array(2, np.float32)})["y"]
    assert isinstance(found, np.ndarray) and found.shape == () and found == 12


def test_strings_and_state_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match="text"):
        ENGINE.open(models.identity(tmp_path / "s.onnx", TensorProto.STRING), OpenOptions())
    library = _library()
    ops = library.opset13
    x = ops.parameter([1, 3], library.Type.f32, name="x")
    x.output(0).set_names({"x"})
    remembered = ops.read_value(ops.constant(np.zeros((1, 3), np.float32)), "memory", library.Type.f32, [1, 3])
    total = ops.add(x, remembered)
    total.output(0).set_names({"y"})
    model = library.Model([ops.result(total)], [ops.assign(total, "memory")], [x], "stateful")
    (tmp_path / "ir").mkdir()
    library.save_model(model, str(tmp_path / "ir" / "model.xml"), compress_to_fp16=False)
    built = ENGINE.build(models.conv(tmp_path / "c.onnx"), BuildOptions(), tmp_path / "other")
    with pytest.raises(BadInput, match="keeps state"):
        ENGINE.open(
            replace(
                built,
                path=tmp_path / "ir" / "model.xml",
                companions=(tmp_path / "ir" / "model.bin",),
                built_for={},
            ),
            OpenOptions(),
        )


def test_a_model_with_free_spatial_dims_is_attested(tmp_path: Path) -> None:
    weight = np.ones((3, 2, 3, 3), np.float32)
    kind = TensorProto.FLOAT
    values = ([models.value("x", kind, ["batch", 2, "h", "w"])], [models.value("y", kind, ["batch", 3, None, None])])
    artifact = models.save(tmp_path / "f.onnx", [helper.make_node("Conv", ["x", "w"], ["y"])], values, {"w": weight})
    with ENGINE.open(artifact, OpenOptions()) as session:
        assert session.attest().shares == {(CPU, "fp32"): 1.0}
        assert session.run({"x": ROW})["y"].shape == (1, 3, 4, 4)
        assert session.run({"x": ROW[..., :5]})["y"].shape == (1, 3, 4, 3)


def test_importing_the_library_tells_nobody() -> None:
    """The package's own import would start its statistics sender."""
    script = (
        "import sys; from assay.engines.openvino import OpenVinoEngine as E; "
        "assert E().unavailable() is None, E().unavailable(); "
        "print(sorted(m for m in sys.modules if m.startswith('openvino_telemetry')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_hints_decide_requests(tmp_path: Path) -> None:
    """The library's own choice of streams for a hint; as many requests as it then calls optimal."""
    artifact = models.conv(tmp_path / "conv.onnx")
    x = {"x": np.random.default_rng(0).random((2, 2, 6, 6), dtype=np.float32)}
    found = {}
    for hint in ("LATENCY", "THROUGHPUT"):
        options = OpenOptions(provider_options=(("PERFORMANCE_HINT", hint),))
        with OpenVinoEngine().open(artifact, options) as session:
            found[hint] = session.run(x)["y"]
            assert session.parallelism >= 1
            assert session.attest().share(None, "fp32") == 1
    np.testing.assert_allclose(found["LATENCY"], found["THROUGHPUT"], rtol=1e-5, atol=1e-6)


def test_buckets_are_compiled_with_fixed_shapes(tmp_path: Path) -> None:
    artifact = models.conv(tmp_path / "conv.onnx")
    with OpenVinoEngine().open(artifact, OpenOptions(buckets=(1, 4), streams=2)) as session:
        assert session.buckets == (1, 4) and session.parallelism == 2
        assert session.prove({"x": np.random.default_rng(0).random((4, 2, 6, 6), dtype=np.float32)}).padding_is_harmless
    fixed = OpenVinoEngine().build(artifact, BuildOptions(batch=4), tmp_path / "fixed")
    with pytest.raises(BadInput, match="batch size 4"):
        OpenVinoEngine().open(fixed, OpenOptions(buckets=(1, 4)))


def test_arrays_that_come_again_are_read_again(tmp_path: Path) -> None:
    """The request is told where an input lies only when that changes; what lies there is read at every call."""
    built = ENGINE.build(models.mixed(tmp_path / "m.onnx"), BuildOptions(), tmp_path / "ir")
    rng = np.random.default_rng(1)
    contents = [rng.random((n, 3, 8, 8), dtype=np.float32) for n in (2, 2, 1, 2, 1, 3)]
    with ENGINE.open(built, OpenOptions()) as session:
        expected = [session.run({"x": np.array(x)})["y"] for x in contents]
        place = np.empty((3, 3, 8, 8), np.float32)
        for _ in range(3):
            for x, y in zip(contents, expected, strict=True):
                place[: len(x)] = x
                np.testing.assert_array_equal(session.run({"x": place[: len(x)]})["y"], y)
                # Freed at once, so that the allocator gives its memory to the next one, contiguous or copied.
                np.testing.assert_array_equal(session.run({"x": np.array(x)})["y"], y)
                turned = np.array(x).transpose(0, 1, 3, 2).copy().transpose(0, 1, 3, 2)
                assert not turned.flags.c_contiguous
                np.testing.assert_array_equal(session.run({"x": turned})["y"], y)


def tall(path: Path, factor: int) -> Artifact:
    """x: batch x n -> y: batch x n/factor x 4, for an n that ``factor`` divides."""
    nodes = [helper.make_node("Reshape", ["x", "s"], ["r"]), helper.make_node("MatMul", ["r", "w"], ["y"])]
    values = (
        [models.value("x", TensorProto.FLOAT, ["batch", "n"])],
        [models.value("y", TensorProto.FLOAT, ["batch", "m", 4])],
    )
    return models.save(path, nodes, values, {"s": np.array([0, -1, factor]), "w": np.ones((factor, 4), np.float32)})


@pytest.mark.parametrize("factor", [3, 11])
def test_a_free_dim_that_takes_few_sizes_only(tmp_path: Path, factor: int) -> None:
    """Counting products must not decide whether a model opens; what cannot be counted is said."""
    with ENGINE.open(tall(tmp_path / "t.onnx", factor), OpenOptions()) as session:
        assert session.run({"x": np.ones((2, 5 * factor), np.float32)})["y"].shape == (2, 5, 4)
        attestation = session.attest()
        said = attestation.check(CPU, "fp32")
        if factor == 3:
            assert attestation.shares == {(CPU, "fp32"): 1.0} and said == []
        else:
            assert not attestation.shares and "free dims take none of the sizes" in said[0]
