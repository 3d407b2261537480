"""A bundle, or the run folder around it, wherever a MODEL is asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.bundle.contents import Bundle, BundleContents
from assay.bundle.manifest import manifest_digest
from assay.bundle.pack import pack
from assay.cli.main import run_cli
from assay.core.artifact import file_artifact
from assay.core.engine import BuildOptions, Candidate, OpenOptions
from assay.core.errors import AssayError, BadInput, UntrustedCode
from assay.engines.onnxruntime import OnnxRuntimeEngine
from assay.engines.openvino import OpenVinoEngine
from assay.graph.signature import read_signature
from assay.job.bench.many import _key, bench_many
from assay.job.bench.one import Bench
from assay.job.bench.pair import Against
from assay.job.compare_two import Pair, compare_two
from assay.job.open_request import OpenRequest
from assay.job.packed import bundle_folder, refuse_other, whole_bundle
from assay.job.progress import Silent
from assay.job.single import Wanted, prepare
from assay.sources import SourceOptions


@pytest.fixture(scope="module")
def run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with its bundle."""
    artifact, engine = file_artifact(model, "onnx"), OnnxRuntimeEngine()
    candidate = Candidate(artifact, "onnxruntime", engine.version(), OpenOptions(threads=1), "a processor")
    feed = {"x": np.full((1, 1, 8, 8), 0.5, np.float32)}
    with engine.open(artifact, candidate.options) as session:
        goldens = ((feed, session.run(feed)),)
    labels = tuple(f"digit {i}" for i in range(10))
    contents = BundleContents(
        "means", candidate, read_signature(model), goldens, {"max_relative_rms": 1e-5, "source": "test"}, labels=labels
    )
    folder = tmp_path_factory.mktemp("run")
    (folder / "manifest.json").write_text("{}")  # a run folder has one of its own
    pack(contents, folder / "bundle")
    return folder


def test_both_folders_name_the_bundle(run: Path, model: Path) -> None:
    assert bundle_folder(str(run)) == bundle_folder(str(run / "bundle")) == run / "bundle"
    assert bundle_folder(str(model)) is None
    assert bundle_folder(str(model.parent)) is None
    assert bundle_folder("timm:resnet18") is None


def test_it_is_opened_as_it_was_packed(run: Path, tmp_path: Path) -> None:
    ready = prepare(Wanted(str(run)), SourceOptions(out_dir=tmp_path))
    assert ready.candidate.options == OpenOptions(threads=1)
    assert ready.candidate.artifact.path.is_relative_to(run / "bundle")
    assert ready.model.labels is not None
    assert ready.model.labels[3] == "digit 3"
    with pytest.raises(BadInput, match="is for onnxruntime fp32 1t on cpu, not openvino"):
        prepare(Wanted(str(run), engine="openvino"), SourceOptions(out_dir=tmp_path))


@pytest.mark.parametrize("other", [{"precision": "bf16"}, {"device": "cuda"}, {"device": "cpu:1"}])
def test_what_it_was_not_proved_with_is_refused(run: Path, tmp_path: Path, other: dict[str, Any]) -> None:
    prepare(Wanted(str(run), opened=OpenRequest(threads=1)), SourceOptions(out_dir=tmp_path))
    ((name, value),) = other.items()
    with pytest.raises(BadInput, match=f"onnxruntime fp32 1t on cpu, not {name} {value}: a bundle is opened as"):
        prepare(Wanted(str(run), opened=OpenRequest(**other)), SourceOptions(out_dir=tmp_path))


@pytest.mark.parametrize(
    ("proved", "said"),
    [
        (None, "is for onnxruntime fp32 on cpu with all cores, not threads 2: a bundle"),
        (1, "is for onnxruntime fp32 on cpu with 1 thread, not threads 2: a bundle"),
        (3, "is for onnxruntime fp32 on cpu with 3 threads, not threads 2: a bundle"),
    ],
)
def test_how_many_threads_it_was_proved_with_is_said(run: Path, proved: int | None, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        refuse_other(proved_with(run, threads=proved), None, OpenRequest(threads=2))
    refuse_other(proved_with(run, threads=2), None, OpenRequest(threads=2))


def proved_with(run: Path, **options: Any) -> Bundle:
    """The bundle as if it had been proved with these options."""
    bundle = whole_bundle(run / "bundle")
    return replace(bundle, candidate=replace(bundle.candidate, options=OpenOptions(**options)))


@pytest.mark.parametrize(
    ("proved", "asked", "same"),
    [
        ("cpu", "cpu:0", True),
        ("cuda", "cuda:0", True),
        ("cuda:0", "cuda", True),
        ("cuda:1", "cuda:1", True),
        ("cuda:1", "cuda", False),
        ("cuda", "cuda:1", False),
        ("cuda:0", "gpu:0", False),
    ],
)
def test_a_device_is_the_same_however_it_is_spelled(run: Path, proved: str, asked: str, same: bool) -> None:
    bundle, wanted = proved_with(run, device=proved), OpenRequest(device=asked)
    if same:
        refuse_other(bundle, None, wanted)
        return
    with pytest.raises(BadInput, match=f"on {proved}, not device {asked}: a bundle is opened as it was proved"):
        refuse_other(bundle, None, wanted)


def test_what_is_no_device_is_told_of_a_bundle_too(run: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="'cpu:x' is not a device"):
        prepare(Wanted(str(run), opened=OpenRequest(device="cpu:x")), SourceOptions(out_dir=tmp_path))


def test_no_verb_ignores_what_it_was_asked(run: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = str(run / "bundle")
    for command in (
        ["bench", bundle, "--threads", "2"],
        ["verify", str(model), bundle, "--precision", "bf16"],
        ["evaluate", bundle, "--data", "digits", "--device", "cuda"],
        ["serve", bundle, "--precision", "bf16"],
    ):
        assert run_cli(command) == 2
        assert "a bundle is opened as it was proved" in capsys.readouterr().err


def test_evaluate_scores_it(run: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transform = f"{model.parent / 'pre.py'}:unit"
    scored = []
    for given in (model, run):
        more = ["--data", "digits", "--preprocess", transform, "--limit", "200", "--trust", "--json"]
        assert run_cli(["evaluate", str(given), *more]) == 0
        (record,) = json.loads(capsys.readouterr().out)["records"]
        scored.append(record["figures"]["accuracy.top1"]["value"])
    assert scored[0] == scored[1] > 0.8


def test_one_that_was_tampered_with_is_refused(run: Path, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "bundle"
    shutil.copytree(run / "bundle", other)
    file = next(p for p in other.rglob("*.onnx"))
    file.chmod(0o644)
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(AssayError, match="is not whole"):
        prepare(Wanted(str(other)), SourceOptions(out_dir=tmp_path / "out"))


def test_a_digest_pins_the_manifest(run: Path, tmp_path: Path) -> None:
    digest = manifest_digest(run / "bundle")
    bare = digest.removeprefix("sha256:").upper()
    for given in (digest, bare):
        assert prepare(Wanted(str(run)), SourceOptions(out_dir=tmp_path, sha256=given)).model.name == "means"
    other = "0" * 64
    with pytest.raises(BadInput, match=f"is not the bundle that was pinned: its manifest is {digest}"):
        prepare(Wanted(str(run)), SourceOptions(out_dir=tmp_path, sha256=other))
    with pytest.raises(BadInput, match="is not a digest"):
        whole_bundle(run / "bundle", digest="abc")


def test_a_pinned_bundle_may_run_its_code_and_a_strangers_may_not(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bundle, "code", property(lambda self: ("a plan",)))
    with pytest.raises(UntrustedCode, match="runs code: a plan"):
        whole_bundle(run / "bundle")
    assert whole_bundle(run / "bundle", trust=True).model == "means"
    assert whole_bundle(run / "bundle", digest=manifest_digest(run / "bundle")).model == "means"


def test_serve_refuses_another_bundle_than_the_pinned_one(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pinned = ["--digest", "1" * 64, "--http-port", "0", "--no-grpc", "--no-metrics"]
    assert run_cli(["serve", str(run / "bundle"), *pinned]) == 2
    assert "is not the bundle that was pinned" in capsys.readouterr().err
    assert run_cli(["serve", str(next(run.rglob("*.onnx"))), *pinned]) == 2
    assert "--digest pins a bundle" in capsys.readouterr().err


def test_a_run_that_chose_nothing_has_no_bundle_to_open(run: Path, tmp_path: Path) -> None:
    from assay.bundle.manifest import write_manifest

    folder = tmp_path / "tuned"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    write_manifest(folder, {"schema": "assay.run/1"})
    with pytest.raises(BadInput, match="has no bundle: no configuration was chosen"):
        prepare(Wanted(str(folder)), SourceOptions(out_dir=tmp_path / "out"))


def test_speeds_kept_of_a_bundle_are_not_those_of_the_next_one(run: Path, tmp_path: Path) -> None:
    import shutil

    (tmp_path / "w.pt").write_bytes(b"one")
    shutil.copytree(run, tmp_path / "run")
    source, asked = SourceOptions(out_dir=tmp_path, weights=str(tmp_path / "w.pt")), Bench(str(tmp_path / "run"))
    keys = [_key(asked, source), _key(asked, source)]
    manifest = tmp_path / "run" / "bundle" / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_text(manifest.read_text() + "\n")
    keys.append(_key(asked, source))
    (tmp_path / "w.pt").write_bytes(b"others")
    keys.append(_key(asked, source))
    assert keys[0] == keys[1] and len(set(keys)) == 3


def test_a_ratio_to_another_model_is_not_that_to_the_next_one_of_its_name(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(model.read_bytes())
    asked, source = Bench(str(model), against=Against(str(other))), SourceOptions(out_dir=tmp_path)
    before = _key(asked, source)
    assert _key(asked, source) == before
    other.write_bytes(model.read_bytes() + b"more")
    assert _key(asked, source) != before


@pytest.fixture(scope="module")
def half(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that was proved in bf16 under OpenVINO."""
    engine = OpenVinoEngine()
    if why := engine.unavailable("cpu", "bf16"):
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("half")
    built = engine.build(file_artifact(model, "onnx"), BuildOptions(precision="bf16"), folder / "built")
    candidate = Candidate(built, "openvino", engine.version(), OpenOptions(precision="bf16"), "a processor")
    feed = {"x": np.full((1, 1, 8, 8), 0.5, np.float32)}
    with engine.open(built, candidate.options) as session:
        goldens = ((feed, session.run(feed)),)
    tolerance = {"max_relative_rms": 1e-1, "source": "test"}
    pack(BundleContents("means", candidate, read_signature(model), goldens, tolerance), folder / "bundle")
    return folder / "bundle"


def test_verify_judges_a_bundle_by_the_precision_it_was_proved_in(half: Path, model: Path, tmp_path: Path) -> None:
    pair = Pair(str(model), str(half), None, None, None, None, (2,), 4)
    found = compare_two(pair, SourceOptions(out_dir=tmp_path / "work"), Silent())
    assert found.verdict.passed
    assert "bf16" in found.text


def test_diagnose_judges_a_bundle_by_the_precision_it_was_proved_in(
    half: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["diagnose", str(model), str(half), "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)["records"]
    last = record["details"]["stages"][-1]
    assert last["name"] == "candidate: openvino bf16"
    assert last["due"] > 1e-4


def of_the(bundle: Path, model: Path, picture: Path) -> list[list[str]]:
    """Every verb that takes a bundle for a MODEL, in each place where it does."""
    data = ["--data", "digits", "--preprocess", f"{model.parent / 'pre.py'}:unit", "--limit", "20", "--trust"]
    return [
        ["verify", str(model), str(bundle)],
        ["diagnose", str(model), str(bundle)],
        ["bench", str(bundle), "--batch", "1", "--duration", "50ms"],
        ["evaluate", str(bundle), *data],
        ["predict", str(bundle), str(picture)],
    ]


@pytest.mark.parametrize("given", [["--precision", "fp32"], ["--precision", "bf16"], ["--device", "cpu:0"], []])
def test_a_precision_that_is_typed_is_asked_for_though_it_is_the_default(
    half: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str]
) -> None:
    picture = tmp_path / "digit.npy"
    np.save(picture, np.full((1, 8, 8), 0.5, np.float32))
    for command in of_the(half, model, picture):
        code, told = run_cli([*command, *given]), capsys.readouterr().err
        if "fp32" in given:
            assert code == 2, command
            assert "is for openvino bf16 on cpu, not precision fp32: a bundle is opened as it was proved" in told
        else:
            assert code == 0, (command, told)


@pytest.mark.parametrize(
    "more",
    [
        ["serve", "BUNDLE", "--precision", "fp32", "--http-port", "0", "--no-grpc", "--no-metrics"],
        ["bench", "MODEL", "--against", "BUNDLE", "--against-precision", "fp32", "--batch", "1"],
        ["bench", "BUNDLE", "--threads", "1"],
    ],
)
def test_what_is_typed_of_a_bundle_is_refused_there_too(
    half: Path, model: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    names = {"BUNDLE": str(half), "MODEL": str(model)}
    assert run_cli([names.get(word, word) for word in more]) == 2
    with_threads = " with all cores" if "--threads" in more else ""
    assert f"is for openvino bf16 on cpu{with_threads}, not " in capsys.readouterr().err


def test_python_refuses_it_too(half: Path, run: Path, model: Path) -> None:
    import assay

    feed = {"x": np.ones((1, 1, 8, 8), np.float32)}
    for asked in ({}, {"precision": "bf16"}, {"device": "cpu"}):
        with assay.open(half, **asked) as session:
            assert session.run(feed)["scores"].shape == (1, 10)
    for asked in ({"precision": "fp32"}, {"device": "cuda"}):
        with pytest.raises(BadInput, match="a bundle is opened as it was proved"):
            assay.open(half, **asked)
    with assay.open(model) as session, assay.open(run, precision="fp32") as packed:
        np.testing.assert_array_equal(session.run(feed)["scores"], packed.run(feed)["scores"])


def test_the_help_tells_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("verify", "diagnose", "bench", "evaluate", "predict"):
        assert run_cli([verb, "--help"]) == 0
        told = " ".join(capsys.readouterr().out.split())
        assert "--precision TEXT [default: fp32; of a bundle: as it was proved]" in told
        assert "--device TEXT [default: cpu; of a bundle: as it was proved]" in told


def test_a_figure_that_was_measured_is_not_measured_again_because_fp32_is_typed(model: Path, tmp_path: Path) -> None:
    source = SourceOptions(out_dir=tmp_path)
    keys = {_key(Bench(str(model), precision=p, device=d), source) for p in (None, "fp32") for d in (None, "cpu")}
    assert len(keys) == 1
    assert _key(Bench(str(model), precision="bf16"), source) not in keys


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def done(self, text: str) -> None:
        self.said.append(text)


def test_figures_of_a_bundle_are_no_answer_about_another_precision(
    half: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", str(half), "--duration", "50ms", "--batch", "1", "--out", str(tmp_path / "out")]
    assert run_cli(command) == 0
    for other in (["--precision", "fp32"], ["--device", "cuda"], ["--threads", "2"], ["--engine", "onnxruntime"]):
        capsys.readouterr()
        assert run_cli([*command, *other]) == 2
        told = capsys.readouterr()
        assert "a bundle is opened as it was proved" in told.err
        assert "latency" not in told.out
    asked = Bench(str(half), batches=(1,), duration_s=0.05)
    for same in ({}, {"precision": "bf16"}, {"device": "cpu:0"}, {"engine": "openvino"}):
        notes = Notes()
        (found,) = bench_many(
            [str(half)], replace(asked, **same), SourceOptions(out_dir=Path()), notes, tmp_path / "out"
        )
        assert notes.said == ["measured before"]
        assert found.subject["precision"] == "bf16"


def test_a_bundle_of_many_is_refused_before_the_others_are_measured(half: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is for openvino bf16 on cpu, not precision fp32"):
        bench_many(
            [str(model), str(half)],
            Bench("", precision="fp32"),
            SourceOptions(out_dir=Path()),
            Silent(),
            tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()


def test_a_bundle_that_could_not_be_measured_goes_by_its_own_precision(half: Path, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "bundle"
    shutil.copytree(half, other)
    file = next(p for p in other.rglob("*.bin"))
    file.chmod(0o644)
    file.write_bytes(file.read_bytes() + b"x")
    (found,) = bench_many([str(other)], Bench("", batches=(1,)), SourceOptions(out_dir=Path()), Silent())
    assert found.status == "failed" and "is not whole" in str(found.reason)
    assert {n: found.subject[n] for n in ("engine", "precision", "device")} == {
        "engine": "openvino", "precision": "bf16", "device": "cpu"
    }  # fmt: skip
    (other / "manifest.json").chmod(0o644)
    (other / "manifest.json").write_text("{")
    (found,) = bench_many([str(other)], Bench("", batches=(1,)), SourceOptions(out_dir=Path()), Silent())
    assert (found.status, found.subject["precision"]) == ("failed", None)


@pytest.mark.parametrize("which", ["", "bundle"])
def test_inspect_opens_it(run: Path, which: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["inspect", str(run / which), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["inspect"]
    assert found["bundle"]["candidate"] == "onnxruntime fp32 1t"
    assert found["bundle"]["file"].startswith(str(run / "bundle"))
    assert found["opsets"]


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_run_starts_from_a_model(
    run: Path, tmp_path: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["run", str(run / "bundle"), "--out", str(tmp_path / "out"), *more]) == 2
    assert "is a bundle or a run's folder, and this starts from a model" in capsys.readouterr().err


def test_no_plan_is_made_for_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["run", str(tmp_path / "net.onnx"), "--dry-run"]) == 2
    assert "there is no file" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["timm:resnet18", "http://127.0.0.1:9/v2/models/net", "net.py:make"])
def test_inspect_opens_files_and_runs_nothing(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("raise SystemExit('it ran')\n")
    assert run_cli(["inspect", what]) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.py"]
