"""Another ONNX file in a bundle's place: the model exported anew, another model, and files that cannot stand there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from assay.bundle.contents import BundleContents, read_bundle
from assay.bundle.goldens import Goldens, read_goldens
from assay.bundle.manifest import write_manifest
from assay.bundle.pack import pack
from assay.cli.main import run_cli
from assay.core.artifact import Artifact, file_artifact
from assay.core.engine import BuildOptions, Candidate, OpenOptions
from assay.core.errors import BadInput, NotAvailable, SignatureMismatch
from assay.core.record import Figure, Record
from assay.core.tensors import Signature, TensorSpec
from assay.engines.null import NullEngine, null_artifact
from assay.graph.external_data import onnx_artifact
from assay.graph.signature import load_model
from assay.job.opening import engine
from assay.job.replay.other_file import read_other
from assay.job.replay.same_model import GoldenSession

THEN, NOW = 13, 18
"""HardSwish is an operator of its own since opset 14: the two files are different graphs."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """One PyTorch network as two opsets."""
    import warnings

    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3), nn.Hardswish(), nn.Flatten(), nn.Linear(144, 3))
    folder = tmp_path_factory.mktemp("exported")
    names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"]}
    names["dynamic_axes"] = {"x": {0: "batch"}, "y": {0: "batch"}}
    net, feed = nn.Sequential(*layers).eval(), (torch.zeros(1, 1, 8, 8),)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # the quick exporter is the older one
        for opset in (THEN, NOW):
            path = str(folder / f"opset-{opset}.onnx")
            torch.onnx.export(net, feed, path, dynamo=False, opset_version=opset, **names)
    return {opset: folder / f"opset-{opset}.onnx" for opset in (THEN, NOW)}


def packed(source: Path, out: Path, name: str, precision: str = "fp32", limit: float = 1e-5) -> Path:
    """A bundle of ``source`` on an engine, with one measurement that no machine is slower than."""
    options, found = OpenOptions(precision, threads=1), engine(name)
    given = onnx_artifact(source)
    artifact = given if name == "onnxruntime" else found.build(given, BuildOptions(precision), out.parent / "built")
    candidate = Candidate(artifact, name, found.version(), options, "cpu")
    feeds = [{"x": np.random.default_rng(seed).random((3, 1, 8, 8), np.float32)} for seed in (0, 1)]
    with found.open(artifact, options) as session:
        signature = session.signature
        goldens = tuple((feed, session.run(feed)) for feed in feeds)
    exported = {"model": "net", "artifact": given.sha256, "format": "onnx"}
    records = (
        Record("export", exported, details={"opset_obtained": THEN}),
        Record(
            "measure",
            candidate.subject("net", 2),
            figures={"latency.p50": Figure(3600.0, "s", low=3500.0, high=3700.0, confidence=0.95)},
            conditions={"scenario": "latency", "batch": 2},
        ),
    )
    tolerance = {"max_relative_rms": limit, "source": "a test's own limit"}
    return pack(BundleContents("net", candidate, signature, goldens, tolerance, records=records), out)


@pytest.fixture(scope="module")
def bundle(exported: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(exported[THEN], tmp_path_factory.mktemp("packed") / "bundle", "onnxruntime")


def replayed(bundle: Path, model: Path, folder: Path) -> tuple[int, dict[str, Any]]:
    file = folder / "result.json"
    code = run_cli(["replay", str(bundle), "--model", str(model), "--duration", "0.2s", f"--json={file}"])
    return code, json.loads(file.read_text())


def states(result: dict[str, Any]) -> dict[str, str]:
    return {step["name"]: step["state"] for step in result["replay"]["check"]["steps"]}


def saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, str(path))
    return path


def scaled(source: Path, path: Path, factor: float) -> Path:
    """The same graph, its convolution's weights times ``factor``."""
    model = load_model(source)
    weights = next(t for t in model.graph.initializer if len(t.dims) == 4)
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(factor), weights.name))
    return saved(model, path)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_another_opset_is_told_compared_and_measured(exported: dict[int, Path], tmp_path: Path, name: str) -> None:
    if engine(name).unavailable("cpu", "fp32"):
        pytest.skip(f"{name} is not installed")
    own = packed(exported[THEN], tmp_path / "bundle", name)
    code, result = replayed(own, exported[NOW], tmp_path)
    assert code == 0
    found = states(result)
    assert found["goldens"] == found["the golden outputs against the file"] == "passed"
    assert found["the file on the bundle's engine"] == "passed"
    changes = result["replay"]["changes"]
    assert f"model: opset {THEN} then, {NOW} now" in changes
    if name == "onnxruntime":  # a compiled file no longer has its graph
        assert "model: nodes 5 then, 4 now" in changes
    given, packed_as = file_artifact(exported[NOW], "onnx"), read_bundle(own).candidate
    assert f"model: digest {file_artifact(exported[THEN], 'onnx').short} then, {given.short} now" in changes
    for record in result["records"]:  # nothing of the new file goes by the bundle's name
        assert (record["kind"], record["status"], record["details"]["model"]) == ("replay", "ok", str(exported[NOW]))
        assert record["subject"]["candidate"] == result["replay"]["model"]["candidate"] != packed_as.digest
        assert record["subject"]["artifact"] != packed_as.artifact.sha256
        assert (record["subject"]["engine"], record["subject"]["threads"], record["subject"]["batch"]) == (name, 1, 2)
    assert result["replay"]["model"]["sha256"] == given.sha256
    (move,) = result["replay"]["moves"]
    assert move["state"] in ("better", "not shown")


def test_a_model_with_other_weights_is_told_and_not_measured(
    bundle: Path, exported: dict[int, Path], tmp_path: Path
) -> None:
    code, result = replayed(bundle, scaled(exported[NOW], tmp_path / "other.onnx", 1.5), tmp_path)
    assert code == 1
    assert states(result)["goldens"] == "failed"
    assert result["records"] == []
    assert f"model: opset {THEN} then, {NOW} now" in result["replay"]["changes"]
    assert "did not pass its check" in result["replay"]["not_checked"][0]


def test_what_a_wide_limit_lets_through_is_found_against_the_truth(exported: dict[int, Path], tmp_path: Path) -> None:
    """As bf16's limit is: wide enough for weights that are off by one part in a hundred."""
    own = packed(exported[THEN], tmp_path / "bundle", "onnxruntime", limit=0.05)
    code, result = replayed(own, scaled(exported[NOW], tmp_path / "other.onnx", 1.01), tmp_path)
    found = states(result)
    assert (code, found["goldens"], found["the golden outputs against the file"]) == (1, "passed", "failed")
    assert found["the file on the bundle's engine"] == "passed"
    assert result["records"] == []


def test_the_bundles_own_file_is_told_as_such(bundle: Path, exported: dict[int, Path], tmp_path: Path) -> None:
    code, result = replayed(bundle, exported[THEN], tmp_path)
    assert code == 0
    assert not any(change.startswith("model:") for change in result["replay"]["changes"])
    assert "the very file that the bundle was made from" in json.dumps(result["replay"]["check"])


def renamed(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.output[:] = ["z" if name == "y" else name for name in node.output]
    model.graph.output[0].name = "z"


def fixed(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (renamed, "the outputs were y, here they are z"),
        (fixed, "input x:batchx1x8x8:float32 then, x:2x1x8x8:float32 now"),
    ],
)
def test_another_signature_is_refused_with_the_difference(
    bundle: Path,
    exported: dict[int, Path],
    tmp_path: Path,
    change: Callable[[onnx.ModelProto], None],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = load_model(exported[NOW])
    change(model)
    path = saved(model, tmp_path / "other.onnx")
    assert run_cli(["replay", str(bundle), "--model", str(path)]) == 2
    told = capsys.readouterr().err
    assert f"{path} does not fit the bundle: {said}" in told
    assert "assay export" in told


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cut.onnx", None, "cut.onnx"),
        ("empty.onnx", b"", "is empty"),
        ("text.onnx", b"not a model", "is not an ONNX file"),
        ("net.py", b"", "an ONNX file takes the place"),
        ("none.onnx", "none", "there is no such file"),
        ("dir.onnx", "folder", "dir.onnx is a folder"),
    ],
)
def test_files_that_are_no_model_are_told(
    bundle: Path,
    exported: dict[int, Path],
    tmp_path: Path,
    name: str,
    content: bytes | str | None,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content != "none":
        path.write_bytes(exported[NOW].read_bytes()[:1500] if content is None else content)  # type: ignore[arg-type]
    assert run_cli(["replay", str(bundle), "--model", str(path)]) == 2
    assert said in capsys.readouterr().err


def weights_of(bundle: Path) -> Path:
    artifact = read_bundle(bundle).artifact
    assert artifact is not None
    return artifact.path


def damaged(bundle: Path) -> None:
    with weights_of(bundle).open("ab") as file:
        file.write(b"more")


def lost(bundle: Path) -> None:
    weights_of(bundle).unlink()


def refusing(bundle: Path) -> None:
    """Another one is packed there, which asks for an option that no build of the engine has."""
    found = read_bundle(bundle)
    goldens = read_goldens(bundle, found.signature)
    options = replace(found.candidate.options, provider_options=(("no_such_option", "1"),))
    assert found.artifact is not None
    candidate = replace(found.candidate, artifact=found.artifact, options=options)
    tolerance = {"max_relative_rms": 1e-5, "source": "a test's own limit"}
    made = pack(
        BundleContents("net", candidate, found.signature, goldens.pairs, tolerance), bundle.with_name("refusing")
    )
    shutil.rmtree(bundle)
    made.rename(bundle)


def whole(bundle: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "words", "why"),
    [
        (damaged, [], "the bundle did not pass its check; FILE was not run"),
        (lost, [], "the bundle did not pass its check; FILE was not run"),
        (whole, ["--digest", "1" * 64], "the bundle did not pass its check; FILE was not run"),
        (refusing, ["--trust"], "the bundle's own file cannot be opened here either; FILE was not checked"),
    ],
)
def test_a_file_is_not_blamed_for_its_bundle(
    bundle: Path,
    exported: dict[int, Path],
    tmp_path: Path,
    change: Callable[[Path], None],
    words: list[str],
    why: str,
) -> None:
    own, out = tmp_path / "bundle", tmp_path / "result.json"
    shutil.copytree(bundle, own)
    change(own)
    assert run_cli(["replay", str(own), "--model", str(exported[NOW]), f"--json={out}", *words]) == 1
    result = json.loads(out.read_text())
    assert result["replay"]["not_checked"] == [f"speed: {why.replace('FILE', str(exported[NOW]))}"]
    assert "stood in the place" not in json.dumps(result["replay"]["check"])
    assert ("the bundle's own file" in states(result)) is (change is refusing)


def test_a_file_that_alone_cannot_be_opened_is_named(
    bundle: Path, exported: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.core.errors import EngineFailed
    from assay.job.replay import other_file

    opened = other_file.open_packed

    def only_the_bundles(artifact: Artifact, options: OpenOptions, name: str) -> Any:
        if artifact.path == exported[NOW]:
            raise EngineFailed("an operator that this engine has not")
        return opened(artifact, options, name)

    monkeypatch.setattr(other_file, "open_packed", only_the_bundles)
    code, result = replayed(bundle, exported[NOW], tmp_path)
    assert code == 1
    assert result["replay"]["not_checked"] == [f"speed: {exported[NOW]} did not pass its check"]
    assert states(result)["open"] == "failed" and "the bundle's own file" not in states(result)


def test_a_suffix_may_be_in_capitals(bundle: Path, exported: dict[int, Path], tmp_path: Path) -> None:
    capitals = tmp_path / "UP.ONNX"
    shutil.copy(exported[NOW], capitals)
    code, result = replayed(bundle, capitals, tmp_path)
    assert code == 0
    assert states(result)["the file on the bundle's engine"] == "passed"


def quantised(path: Path) -> Path:
    """x[batch,1,8,8] flattened, times a matrix, both through QuantizeLinear and DequantizeLinear."""
    value = helper.make_tensor_value_info
    weights = np.random.default_rng(3).integers(-100, 100, (64, 3)).astype(np.int8)
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("QuantizeLinear", ["flat", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["m"]),
        helper.make_node("MatMul", ["d", "m"], ["y"]),
    ]
    constants = {"w": weights, "s": np.float32(0.01), "z": np.int8(0)}
    graph = helper.make_graph(
        nodes,
        "quantised",
        [value("x", onnx.TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [value("y", onnx.TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    return saved(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_an_int8_bundle_takes_a_quantised_file_and_no_other(
    exported: dict[int, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = quantised(tmp_path / "first.onnx")
    own = packed(first, tmp_path / "bundle", "onnxruntime", "int8")
    assert run_cli(["replay", str(own), "--model", str(exported[NOW])]) == 2
    told = capsys.readouterr().err
    assert "computes in fp32, the file that the bundle was made from in int8" in told
    assert f"assay quantize {exported[NOW]} --precision int8 --data DATA" in told
    model = load_model(first)
    model.producer_name = "another exporter"
    code, result = replayed(own, saved(model, tmp_path / "second.onnx"), tmp_path)
    assert code == 0
    assert states(result)["the file on the bundle's engine"] == "passed"
    assert "model: producer not said then, another exporter now" in result["replay"]["changes"]


def test_a_quantised_file_is_not_put_in_the_place_of_another(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = quantised(tmp_path / "quantised.onnx")
    assert run_cli(["replay", str(bundle), "--model", str(path)]) == 2
    told = capsys.readouterr().err
    assert "computes in int8, the file that the bundle was made from in fp32" in told
    assert f"assay verify {bundle} {path} --precision int8" in told


def test_an_engine_that_reads_no_onnx_is_told(
    exported: dict[int, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signature = Signature(
        (TensorSpec("x", "float32", ("batch", 1, 8, 8)),), (TensorSpec("y", "float32", ("batch", 3)),)
    )
    artifact, null = null_artifact(signature, tmp_path / "model.json"), NullEngine()
    feed = {"x": np.ones((2, 1, 8, 8), np.float32)}
    with null.open(artifact, OpenOptions()) as session:
        goldens = ((feed, session.run(feed)),)
    candidate = Candidate(artifact, "null", null.version(), OpenOptions(), "cpu")
    contents = BundleContents("net", candidate, signature, goldens, {"max_relative_rms": 1e-5, "source": "a test"})
    own = pack(contents, tmp_path / "bundle")
    assert run_cli(["replay", str(own), "--model", str(exported[NOW])]) == 2
    assert "proved with null fp32, which reads null and no ONNX" in capsys.readouterr().err


def test_a_bundle_that_is_not_whole_opens_no_model(
    bundle: Path, exported: dict[int, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    (broken / "goldens.json").write_text((broken / "goldens.json").read_text() + " ")
    assert run_cli(["replay", str(broken), "--model", str(exported[NOW])]) == 1
    said = capsys.readouterr().out
    assert "nothing was opened" in said
    assert "stood in the place" not in said


@pytest.mark.parametrize(("error", "code"), [(NotAvailable("not here"), 3), (BadInput("odd"), 1)])
def test_a_comparison_that_cannot_be_made_is_no_pass(
    bundle: Path,
    exported: dict[int, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
) -> None:
    from assay.job.replay import same_model

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(same_model, "arithmetic_of", fails)
    assert run_cli(["replay", str(bundle), "--model", str(exported[NOW]), "--duration", "0.2s"]) == code
    assert "could not be compared" in capsys.readouterr().out


def test_a_file_that_cannot_be_built_has_failed(exported: dict[int, Path], tmp_path: Path) -> None:
    """A compiler that died on it: the file is no bad input, and did not hold."""
    from assay.core.errors import ChildFailed, EngineFailed
    from assay.job.replay import other_file

    own = packed(exported[THEN], tmp_path / "bundle", "onnxruntime")
    other = other_file.OtherFile(own, exported[NOW], read_other(exported[NOW]), tmp_path)
    compiled = Artifact(tmp_path / "model.plan", "tensorrt", "0" * 64)

    def died(*_: object) -> None:
        raise ChildFailed("signal SIGSEGV")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(other_file, "build_in_folder", died)
        with pytest.raises(EngineFailed, match=r"onnxruntime could not build .*SIGSEGV"):
            other.open(compiled, OpenOptions(), "onnxruntime")
    assert other.candidate is None


def test_the_file_goes_along_with_another_version(
    bundle: Path, exported: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.job.replay import overlay

    asked: list[list[str]] = []
    monkeypatch.setattr(overlay, "install", lambda *_: None)
    monkeypatch.setattr(overlay, "check_imports", lambda *_: None)
    monkeypatch.setattr(overlay, "run_with", lambda folder, arguments, environ: asked.append(arguments) or 0)
    monkeypatch.chdir(exported[NOW].parent)
    words = ["replay", str(bundle), "--with", "onnxruntime==1.22.0", "--model"]
    assert run_cli([*words, exported[NOW].name]) == 0
    assert asked[0][asked[0].index("--model") + 1] == str(exported[NOW].resolve())
    assert run_cli([*words, str(tmp_path / "none.onnx")]) == 2
    assert len(asked) == 1


def test_stored_outputs_belong_to_stored_inputs_alone(bundle: Path) -> None:
    found = read_bundle(bundle)
    goldens: Goldens = read_goldens(bundle, found.signature)
    with GoldenSession(found.signature, goldens) as session:
        for feed, outputs in goldens.pairs:
            assert np.array_equal(session.run(feed)["y"], outputs["y"])
        with pytest.raises(SignatureMismatch, match="golden inputs only"):
            session.run({"x": np.zeros((1, 1, 8, 8), np.float32)})


def test_every_kind_of_evidence_of_a_case_is_held_against(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A confirming run before a choosing one, and one of each: two of a kind may be of one process."""
    from assay.job.replay import one

    own = tmp_path / "bundle"
    shutil.copytree(bundle, own)
    lines = [json.loads(line) for line in (own / "records.jsonl").read_text().splitlines()]
    (measure,) = (line for line in lines if line["kind"] == "measure")
    more = [{**measure, "id": "b"}, {**measure, "id": "c", "kind": "confirm"}]
    (own / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, *more]))
    write_manifest(own)
    held: list[list[str]] = []

    def measured(_: object, __: object, recorded: list[tuple[Record, ...]], ___: object) -> list[Record]:
        held.extend([record.id for record in case] for case in recorded)
        return [Record("replay", {}, conditions=c[0].conditions, status="failed", reason="not now") for c in recorded]

    monkeypatch.setattr(one, "_measure_again", measured)
    run_cli(["replay", str(own)])
    assert held == [["c", measure["id"]]]
