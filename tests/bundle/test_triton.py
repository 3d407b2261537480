"""``pack --layout triton``, against Triton's own protobuf and by a real Triton server where it is installed."""

import json
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
from tests.serve_peers import triton as peer

from assay.bundle.contents import read_bundle
from assay.bundle.goldens import read_goldens
from assay.bundle.layouts import LAYOUTS, LayoutOptions, Trust, copy_bundle
from assay.bundle.manifest import manifest_digest
from assay.bundle.pack import pack
from assay.bundle.triton import write_repository
from assay.bundle.triton_backends import native_for
from assay.bundle.triton_config import batches, text_format
from assay.core.artifact import Artifact, digest_files, file_artifact
from assay.core.engine import BuildOptions, OpenOptions
from assay.core.errors import BadInput, NotAvailable, UntrustedCode
from assay.core.table import resolve
from assay.core.tensors import Signature, TensorSpec
from assay.data.image import INTERPOLATIONS
from assay.engines import ENGINES

from .conftest import contents_for, write_model

GREY = {"kind": "image", "size": [4, 4], "crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bilinear"}
GREY |= {"mean": [0.5], "std": [0.25], "channels": 1}


def parsed(folder):
    """config.pbtxt by Triton's own message, refusing fields it does not know."""
    text_protobuf = pytest.importorskip("google.protobuf.text_format")
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    return text_protobuf.Parse((folder / "config.pbtxt").read_text(), messages.ModelConfig())


def kind_of(message, field):
    return message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number[getattr(message, field)].name


def test_the_layouts_are_the_two_that_are_documented():
    assert set(LAYOUTS) == {"assay", "triton"}


def test_a_copy_has_the_same_digest_and_takes_no_options(bundle, tmp_path):
    laid = copy_bundle(bundle, tmp_path / "copy", LayoutOptions())
    assert manifest_digest(laid.folder) == manifest_digest(bundle)
    with pytest.raises(BadInput, match="exists already"):
        copy_bundle(bundle, tmp_path / "copy", LayoutOptions())
    with pytest.raises(BadInput, match="for Triton"):
        copy_bundle(bundle, tmp_path / "other", LayoutOptions(pictures=True))
    for lay, options in ((copy_bundle, LayoutOptions()), (write_repository, LayoutOptions(name="inside"))):
        with pytest.raises(BadInput, match="inside the bundle"):
            lay(bundle, bundle / "model" / "copy", options)
    (bundle / "labels.json").write_text("[]")
    with pytest.raises(BadInput, match="not whole"):
        copy_bundle(bundle, tmp_path / "broken", LayoutOptions())
    assert not (tmp_path / "broken").exists() and not (tmp_path / "broken.part").exists()


def test_onnx_for_tritons_onnxruntime(bundle, tmp_path):
    laid = write_repository(bundle, tmp_path / "repository", LayoutOptions(max_batch=16, delay_us=500, instances=2))
    config = parsed(laid.folder)
    assert (config.name, config.backend, config.max_batch_size) == ("small", "onnxruntime", 16)
    assert [(i.name, kind_of(i, "data_type"), list(i.dims)) for i in config.input] == [("x", "TYPE_FP32", [16])]
    scores, best = config.output
    assert (scores.name, list(scores.dims), scores.label_filename) == ("scores", [4], "labels.txt")
    assert (best.name, kind_of(best, "data_type"), list(best.dims)) == ("best", "TYPE_INT64", [1])
    assert best.HasField("reshape") and list(best.reshape.shape) == []
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    (group,) = config.instance_group
    assert (group.count, kind_of(group, "kind")) == (2, "KIND_CPU")
    assert config.parameters["intra_op_thread_count"].string_value == "1"
    assert (laid.folder / "labels.txt").read_text().splitlines() == ["zero", "one", "zwei", "三"]
    model = read_bundle(bundle).artifact.path
    assert (laid.folder / "1" / "model.onnx").read_bytes() == model.read_bytes()


def test_the_warm_up_is_real_data(bundle, tmp_path):
    laid = write_repository(bundle, tmp_path, LayoutOptions(max_batch=4))
    config = parsed(laid.folder)
    assert [w.batch_size for w in config.model_warmup] == [1, 4]
    for warmup in config.model_warmup:
        entry = warmup.inputs["x"]
        assert list(entry.dims) == [16] and entry.input_data_file == "input0"
    golden = read_goldens(bundle, read_bundle(bundle).signature).pairs[0][0]["x"]
    assert (laid.folder / "warmup" / "input0").read_bytes() == golden[0].tobytes()


def test_openvino_gets_both_files_and_its_settings(tmp_path):
    pytest.importorskip("openvino")
    built = resolve(ENGINES, "openvino", "engine")().build(
        write_model(tmp_path / "small.onnx"), BuildOptions(), tmp_path / "ir"
    )
    contents = contents_for(built, "openvino")
    laid = write_repository(pack(contents, tmp_path / "bundle"), tmp_path / "r", LayoutOptions())
    config = parsed(laid.folder)
    assert config.backend == "openvino"
    assert config.parameters["INFERENCE_NUM_THREADS"].string_value == "1"
    assert "HINT_BF16" not in config.parameters and "precision fp32" in laid.notes[0]
    assert digest_files((laid.folder / "1" / "model.xml", laid.folder / "1" / "model.bin")) == built.sha256
    half = native_for("openvino").settings(OpenOptions(precision="bf16", streams=2))["parameters"]
    assert {k: v["string_value"] for k, v in half.items()} == {"HINT_BF16": "YES", "NUM_STREAMS": "2"}


def test_a_graph_level_is_said_in_tritons_numbers():
    """The README of its onnxruntime backend: -1 is basic, 1 extended, 2 none of them; without a level, all."""
    found = {}
    for level in ("all", "basic", "extended", "disable"):
        options = OpenOptions(provider_options=(("graph_optimization_level", level),))
        found[level] = native_for("onnx").settings(options)["optimization"]["graph"]["level"]
    assert found == {"all": 0, "basic": -1, "extended": 1, "disable": 2}


@pytest.mark.parametrize("level", ["basic", "all"])
def test_the_python_variant_opens_with_the_bundles_options(artifact, monkeypatch, level):
    from assay.bundle import triton_model

    library = pytest.importorskip("onnxruntime")
    seen = []

    class Spy:
        def __getattr__(self, name):
            return getattr(library, name)

        def InferenceSession(self, path, settings, **more):
            entry = settings.get_session_config_entry("session.dynamic_block_base")
            seen.append((settings.graph_optimization_level, entry))
            return library.InferenceSession(path, settings, **more)

    given = {"graph_optimization_level": level, "session.dynamic_block_base": "4", "io_binding": "0"}
    options = {"threads": 1, "device": "cpu", "precision": "fp32", "provider_options": given}
    monkeypatch.setattr(triton_model.importlib, "import_module", lambda name: Spy())
    run = triton_model._onnxruntime(artifact.path, options, ["x"], ["scores"])
    assert run({"x": np.zeros((1, 16), np.float32)})[0].shape == (1, 4)
    wanted = {"basic": "ORT_ENABLE_BASIC", "all": "ORT_ENABLE_ALL"}[level]
    assert seen == [(getattr(library.GraphOptimizationLevel, wanted), "4")]


def test_the_python_variant_refuses_a_provider_it_has_not(contents, tmp_path):
    options = replace(contents.candidate.options, provider_options=(("provider", "openvino"),))
    other = replace(contents, candidate=replace(contents.candidate, options=options))
    with pytest.raises(NotAvailable, match="no openvino inside ONNX Runtime"):
        write_repository(pack(other, tmp_path / "bundle"), tmp_path / "r", LayoutOptions(backend="python"))


@pytest.mark.parametrize(
    ("format", "device", "field", "file", "names"),
    [
        ("tensorrt", "cuda:1", "tensorrt", "model.plan", ("x", "scores", "best")),
        ("torchscript", "cpu", "pytorch", "model.pt", ("INPUT__0", "OUTPUT__0", "OUTPUT__1")),
        ("aoti", "cpu", "torch_aoti", "model.pt2", ("INPUT__0", "OUTPUT__0", "OUTPUT__1")),
    ],
)
def test_files_that_need_a_device_or_torch(contents, tmp_path, format, device, field, file, names):
    """The file is a stand-in: what is checked is the configuration and its place."""
    given = tmp_path / f"stand-in.{format}"
    given.write_bytes(b"not a model")
    candidate = contents.candidate
    options = replace(candidate.options, device=device, provider_options=(("some", "option"),))
    stand_in = replace(candidate, artifact=file_artifact(given, format), options=options)
    bundle = pack(replace(contents, candidate=stand_in), tmp_path / "bundle")
    with pytest.raises(UntrustedCode, match=r"laid out for Triton, runs code: stand-in\.\w+$"):
        write_repository(bundle, tmp_path / "r", LayoutOptions())
    assert not (tmp_path / "r" / "small").exists()
    laid = write_repository(bundle, tmp_path / "r", LayoutOptions(), Trust(given=True))
    assert "has no setting for: some=option" in laid.notes[0]
    config = parsed(laid.folder)
    assert field in (config.backend, config.platform)
    assert (laid.folder / "1" / file).read_bytes() == b"not a model"
    assert tuple(t.name for t in (*config.input, *config.output)) == names
    if device != "cpu":
        (group,) = config.instance_group
        assert kind_of(group, "kind") == "KIND_GPU" and list(group.gpus) == [1]
    assert set(config.model_warmup[0].inputs) == {names[0]}


def with_options(contents, **options):
    given = replace(contents.candidate.options, provider_options=tuple(options.items()))
    return replace(contents, candidate=replace(contents.candidate, options=given))


def test_options_that_a_layout_carries_take_trust_and_those_it_leaves_out_do_not(contents, tmp_path):
    known = Trust(harmless=lambda engine: {"session.intra_op.allow_spinning"})
    given = {"session.intra_op.allow_spinning": "0", "session.optimized_model_filepath": "elsewhere.onnx"}
    bundle = pack(with_options(contents, **given), tmp_path / "bundle")
    python = LayoutOptions(backend="python")
    with pytest.raises(UntrustedCode, match=r"inside it: session\.optimized_model_filepath=else") as caught:
        write_repository(bundle, tmp_path / "out", python, known)
    assert manifest_digest(bundle) in caught.value.remedy and "--trust" in caught.value.remedy
    with pytest.raises(UntrustedCode, match=r"allow_spinning=0, session\.optimized"):  # no list: nothing is harmless
        write_repository(bundle, tmp_path / "out", python)
    assert not any((tmp_path / "out").rglob("*"))
    native = write_repository(bundle, tmp_path / "native", LayoutOptions())
    assert "no setting for: session.intra_op.allow_spinning=0, session.optimized_model_filepath" in native.notes[0]
    assert "elsewhere.onnx" not in json.dumps(str(parsed(native.folder)))
    assert write_repository(bundle, tmp_path / "python", python, Trust(given=True)).folder.is_dir()
    assert manifest_digest(copy_bundle(bundle, tmp_path / "copy", LayoutOptions()).folder)
    few = pack(with_options(contents, **{"session.intra_op.allow_spinning": "0"}), tmp_path / "few")
    assert write_repository(few, tmp_path / "few-python", python, known).folder.is_dir()


def test_options_that_become_an_accelerators_take_trust(contents, tmp_path):
    """ONNX Runtime's TensorRT provider: Triton's own backend gets every option, paths of libraries too."""
    known = Trust(harmless=lambda engine: {"provider"})
    given = {"provider": "tensorrt", "trt_extra_plugin_lib_paths": "/tmp/their.so"}
    bundle = pack(with_options(contents, **given), tmp_path / "bundle")
    with pytest.raises(UntrustedCode, match=r"inside it: trt_extra_plugin_lib_paths=/tmp/their\.so$"):
        write_repository(bundle, tmp_path / "r", LayoutOptions(), known)
    laid = write_repository(bundle, tmp_path / "r", LayoutOptions(), Trust(given=True))
    (accelerator,) = parsed(laid.folder).optimization.execution_accelerators.gpu_execution_accelerator
    assert dict(accelerator.parameters) == {"trt_extra_plugin_lib_paths": "/tmp/their.so"}


def test_external_data_stays_beside_the_model(tmp_path):
    bundle = pack(contents_for(write_model(tmp_path / "small.onnx", external=True)), tmp_path / "bundle")
    laid = write_repository(bundle, tmp_path / "r", LayoutOptions())
    assert (laid.folder / "1" / "weights.bin").is_file()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        (LayoutOptions(name="../out"), BadInput, "name of a model's folder"),
        (LayoutOptions(backend="pyton"), BadInput, "native or python"),
        (LayoutOptions(pictures=True), BadInput, "Python backend"),
        (LayoutOptions(backend="python", pictures=True), BadInput, "does not say how pictures"),
    ],
)
def test_what_cannot_be_packed_leaves_nothing(bundle, tmp_path, options, error, says):
    with pytest.raises(error, match=says):
        write_repository(bundle, tmp_path / "r", options)
    assert not (tmp_path / "r").exists() or not any((tmp_path / "r").iterdir())


def test_a_format_without_a_backend_says_so(contents, tmp_path):
    given = tmp_path / "stand-in.om"
    given.write_bytes(b"not a model")
    candidate = replace(contents.candidate, artifact=file_artifact(given, "ascend"))
    bundle = pack(replace(contents, candidate=candidate), tmp_path / "bundle")
    for backend in ("native", "python"):
        with pytest.raises(NotAvailable, match="ascend"):
            write_repository(bundle, tmp_path / "r", LayoutOptions(backend=backend))


def test_a_second_model_joins_a_repository_and_none_is_overwritten(bundle, tmp_path):
    write_repository(bundle, tmp_path / "r", LayoutOptions(name="a"))
    write_repository(bundle, tmp_path / "r", LayoutOptions(name="b"))
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == ["a", "b"]
    with pytest.raises(BadInput, match="exists already"):
        write_repository(bundle, tmp_path / "r", LayoutOptions(name="a"))


def signature(*shapes, axis=0):
    specs = tuple(TensorSpec(f"t{i}", "float32", shape, axis) for i, shape in enumerate(shapes))
    return Signature(specs, (TensorSpec("y", "float32", ("n", 2), 0),))


def test_only_a_free_first_axis_is_batched():
    assert batches(signature(("n", 3), ("n", 4)))
    assert not batches(signature((4, 3)))
    assert not batches(signature(("n", 3), (4, 3)))
    assert not batches(signature((3, "n"), axis=1))
    assert not batches(Signature((TensorSpec("x", "float32", ("n",), 0),), (TensorSpec("y", "float32", (), None),)))


@pytest.mark.parametrize("text", ['plain "quoted" \\ back', "Umlaut ä 三", "line\nbreak", ""])
def test_texts_survive_the_text_format(text):
    text_protobuf = pytest.importorskip("google.protobuf.text_format")
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    written = text_format({"name": text, "parameters": {text or "k": {"string_value": text}}})
    config = text_protobuf.Parse(written, messages.ModelConfig())
    assert config.name == text and config.parameters[text or "k"].string_value == text


# Pictures: what the copied file does against what assay does


def pictures():
    import io

    from PIL import Image

    rng = np.random.default_rng(0)
    found = []
    for (height, width), mode, format in (
        ((40, 60), "RGB", "JPEG"),
        ((61, 33), "L", "JPEG"),
        ((17, 90), "RGBA", "PNG"),
        ((24, 24), "P", "PNG"),
        ((7, 5), "RGB", "PNG"),
    ):
        smooth = np.kron(rng.integers(0, 256, (8, 8, 4), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))
        image = Image.fromarray(smooth[:height, :width]).convert(mode)
        out = io.BytesIO()
        image.save(out, format)
        found.append(out.getvalue())
    return found


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [[16, 16], [12, 20]])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_copied_preprocessing_has_the_bits_of_ours(crop_mode, size, channels):
    from assay.bundle.triton_images import transform_of
    from assay.data import transform_from_json

    given = pictures()
    for interpolation in INTERPOLATIONS:
        data = {"kind": "image", "size": size, "crop_mode": crop_mode, "interpolation": interpolation}
        data |= {"crop_pct": 0.9, "channels": channels, "mean": [0.48] * channels, "std": [0.22] * channels}
        ours, theirs = transform_from_json(data), transform_of(json.loads(json.dumps(data)))
        for encoded in given:
            np.testing.assert_array_equal(theirs(encoded), ours(encoded))


@pytest.mark.parametrize("settings", [{}, {"white": 255}, {"order": "BGR"}, {"channels": 1, "white": 255.0}])
def test_the_copied_pixels_have_the_bits_of_ours(settings):
    from assay.bundle.triton_images import transform_of
    from assay.data import transform_from_json

    data = {"kind": "pixels", **settings}
    for encoded in pictures():
        np.testing.assert_array_equal(transform_of(data)(encoded), transform_from_json(data)(encoded))


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\xff\xd8\xff\xe0 broken"])
def test_what_is_no_picture_is_said(content):
    from assay.bundle.triton_images import transform_of

    with pytest.raises(ValueError, match="not a whole picture"):
        transform_of(GREY)(content)
    with pytest.raises(ValueError, match="cannot be done here"):
        transform_of({"kind": "function"})


# A real Triton


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Real Triton with three models of its Python backend: ONNX Runtime, OpenVINO, and pictures."""
    if reason := peer.missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("triton")
    repository = folder / "repository"
    artifact = write_model(folder / "small.onnx")
    bundle = pack(contents_for(artifact), folder / "onnx")
    write_repository(bundle, repository, LayoutOptions(backend="python", name="onnx", delay_us=2000))
    bundles = {"onnx": bundle}
    if resolve(ENGINES, "openvino", "engine")().unavailable() is None:
        built = resolve(ENGINES, "openvino", "engine")().build(artifact, BuildOptions(), folder / "ir")
        bundles["openvino"] = pack(contents_for(built, "openvino"), folder / "openvino")
        options = LayoutOptions(backend="python", name="openvino", instances=2)
        write_repository(bundles["openvino"], repository, options)
    bundles["pictures"] = pack(picture_contents(folder), folder / "pictures")
    options = LayoutOptions(backend="python", name="pictures", pictures=True)
    write_repository(bundles["pictures"], repository, options)
    with peer.triton(repository, folder / "log") as running:
        yield running, bundles


def picture_contents(folder):
    from onnx import TensorProto, helper, save_model

    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["pixels"])],
        "flat",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 4, 4])],
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 16])],
    )
    path = folder / "flat.onnx"
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    from assay.bundle.contents import BundleContents
    from assay.core.engine import Candidate

    artifact: Artifact = file_artifact(path, "onnx")
    engine = resolve(ENGINES, "onnxruntime", "engine")()
    candidate = Candidate(artifact, "onnxruntime", engine.version(), OpenOptions(threads=1), "a processor")
    feed = {"image": np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)}
    with engine.open(artifact, candidate.options) as session:
        goldens = ((feed, session.run(feed)),)
        known = session.signature
    tolerance = {"max_relative_rms": 0.0, "source": "a test's own limit"}
    return BundleContents("flat", candidate, known, goldens, tolerance, preprocess=GREY)


def infer(running, model, inputs):
    body = {"inputs": inputs}
    request = urllib.request.Request(f"{running.url}/v2/models/{model}/infer", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=20) as answer:
        return {o["name"]: o for o in json.load(answer)["outputs"]}


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_triton_answers_with_the_goldens(served, engine):
    running, bundles = served
    if engine not in bundles:
        pytest.skip("openvino is not installed")
    bundle = read_bundle(bundles[engine])
    for feed, outputs in read_goldens(bundle.folder, bundle.signature).pairs:
        inputs = [{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": feed["x"].ravel().tolist()}]
        found = infer(running, engine, inputs)
        np.testing.assert_array_equal(np.float32(found["scores"]["data"]), outputs["scores"].ravel())
        assert found["best"]["data"] == outputs["best"].tolist()


def test_rows_of_several_requests_come_back_to_their_owners(served):
    from concurrent.futures import ThreadPoolExecutor

    running, bundles = served
    rng = np.random.default_rng(5)
    feeds = [rng.standard_normal((n, 16)).astype(np.float32) for n in (1, 3, 2, 1, 4, 1, 1, 2) * 4]
    bundle = read_bundle(bundles["onnx"])

    def ask(x):
        inputs = [{"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}]
        return np.float32(infer(running, "onnx", inputs)["scores"]["data"]).reshape(len(x), 4)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, feeds))
    with resolve(ENGINES, "onnxruntime", "engine")().open(bundle.artifact, OpenOptions(threads=1)) as session:
        for x, answer in zip(feeds, answers, strict=True):
            np.testing.assert_allclose(answer, session.run({"x": x})["scores"], rtol=1e-5, atol=1e-6)
    with urllib.request.urlopen(f"{running.url}/v2/models/onnx/stats", timeout=20) as answer:
        (stats,) = json.load(answer)["model_stats"]
    assert stats["execution_count"] < stats["inference_count"]


def test_pictures_are_decoded_as_the_bundle_says_and_one_bad_one_fails_alone(served):
    from assay.data import transform_from_json

    running, _ = served
    client = pytest.importorskip("tritonclient.http")
    ours = transform_from_json(GREY)
    with client.InferenceServerClient(running.url.removeprefix("http://")) as http:
        for encoded in pictures():
            given = client.InferInput("image", [1, 1], "BYTES")
            given.set_data_from_numpy(np.array([[encoded]], dtype=object))
            found = http.infer("pictures", [given]).as_numpy("pixels")
            np.testing.assert_array_equal(found, ours(encoded).reshape(1, 16))
        given = client.InferInput("image", [1, 1], "BYTES")
        given.set_data_from_numpy(np.array([[b"no picture"]], dtype=object))
        with pytest.raises(client.InferenceServerException, match="not a whole picture"):
            http.infer("pictures", [given])


def test_a_changed_bundle_is_not_loaded(tmp_path):
    if reason := peer.missing():
        pytest.skip(reason)
    bundle = pack(contents_for(write_model(tmp_path / "small.onnx")), tmp_path / "bundle")
    laid = write_repository(bundle, tmp_path / "r", LayoutOptions(backend="python"))
    path = laid.folder / "1" / "bundle" / "labels.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(RuntimeError), peer.triton(tmp_path / "r", tmp_path / "log"):
        pass
    assert "labels.json is not the file this bundle was packed with" in (tmp_path / "log").read_text()
