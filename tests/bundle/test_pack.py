import errno
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from assay.bundle.contents import read_bundle
from assay.bundle.goldens import read_goldens
from assay.bundle.manifest import NAME, manifest_digest, verify_manifest, write_manifest
from assay.bundle.pack import pack
from assay.core.artifact import Artifact, file_artifact
from assay.core.engine import Candidate, OpenOptions
from assay.core.errors import BadInput, StorageFailed
from assay.core.record import Record, read_records

from .conftest import contents_for, write_model


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_bundle_holds_everything_needed(bundle, contents):
    assert files(bundle) == [
        "bundle.json",
        "goldens.json",
        "goldens.npz",
        "labels.json",
        "manifest.json",
        "model/small.onnx",
        "preprocess.json",
        "records.jsonl",
        "signature.json",
        "verdict.json",
    ]
    assert verify_manifest(bundle) == []
    read = read_bundle(bundle)
    assert read.model == "small" and read.labels == contents.labels and read.preprocess == {"kind": "none"}
    assert read.candidate.digest == contents.candidate.digest
    assert read.signature == contents.signature and read.verdict == contents.verdict
    assert read.artifact.path == bundle / "model" / "small.onnx" and read.code == ()
    assert read_records(bundle / "records.jsonl")[0][0].to_json() == contents.records[0].to_json()
    goldens = read_goldens(bundle, read.signature)
    for (feed, outputs), (stored_feed, stored) in zip(contents.goldens, goldens.pairs, strict=True):
        assert (feed["x"] == stored_feed["x"]).all() and (outputs["scores"] == stored["scores"]).all()
    assert (goldens.max_relative_rms, goldens.source) == (1e-5, "a test's own limit")


def test_nothing_but_the_bundle_is_left_beside_it(bundle):
    assert [p.name for p in bundle.parent.iterdir()] == ["bundle"]


def test_equal_contents_give_equal_files_but_for_the_time(contents, tmp_path):
    one, two = pack(contents, tmp_path / "one"), pack(contents, tmp_path / "two")
    assert files(one) == files(two)
    assert all((one / f).read_bytes() == (two / f).read_bytes() for f in files(one) if f != NAME)


def test_external_data_travels_beside_its_graph(tmp_path):
    artifact = write_model(tmp_path / "small.onnx", external=True)
    bundle = pack(contents_for(artifact), tmp_path / "bundle")
    assert {"model/small.onnx", "model/weights.bin"} <= set(files(bundle))
    assert read_bundle(bundle).artifact.companions == (bundle / "model" / "weights.bin",)


def test_an_older_bundle_is_replaced(bundle, contents):
    before = manifest_digest(bundle)
    assert pack(replace(contents, labels=None), bundle) == bundle
    assert manifest_digest(bundle) != before
    assert "labels.json" not in files(bundle) and verify_manifest(bundle) == []
    assert [p.name for p in bundle.parent.iterdir()] == ["bundle"]


def test_an_empty_folder_is_used(contents, tmp_path):
    (tmp_path / "out").mkdir()
    assert verify_manifest(pack(contents, tmp_path / "out")) == []


def test_what_is_no_bundle_is_left_alone(contents, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    run = tmp_path / "run"
    run.mkdir()
    (run / "records.jsonl").write_text("")
    write_manifest(run, {"schema": "assay.run/1"})
    for folder in (mine, run, mine / "thesis.txt"):
        with pytest.raises(BadInput):
            pack(contents, folder)
    assert (mine / "thesis.txt").read_text() == "years of work"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "run"]


def test_a_bundle_needs_goldens_and_a_tolerance(contents, tmp_path):
    outputs = {**contents.goldens[0][1], "scores": np.full((1, 4), np.nan, np.float32)}
    for change in (
        {"goldens": ()},
        {"goldens": ((contents.goldens[0][0], outputs),)},
        {"tolerance": {}},
    ):
        with pytest.raises(BadInput):
            pack(replace(contents, **change), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_engine_file_that_changed_or_went_is_refused(tmp_path):
    artifact = write_model(tmp_path / "small.onnx")
    contents = contents_for(artifact)
    with artifact.path.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BadInput, match="no longer the file that was measured"):
        pack(contents, tmp_path / "out")
    artifact.path.unlink()
    with pytest.raises(BadInput, match="is gone"):
        pack(contents, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_companion_outside_the_folder_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    artifact = write_model(tmp_path / "model" / "small.onnx")
    (tmp_path / "elsewhere.bin").write_bytes(b"0")
    contents = contents_for(artifact)
    odd = file_artifact(artifact.path, "onnx", companions=(tmp_path / "elsewhere.bin",))
    contents = replace(contents, candidate=replace(contents.candidate, artifact=odd))
    with pytest.raises(BadInput, match="outside its folder"):
        pack(contents, tmp_path / "out")


def from_source(contents, path, **more):
    artifact = Artifact(path, "source", "c" * 64, built_for={"torch": "2.13"})
    candidate = Candidate(artifact, "torch", "2.13", OpenOptions(), "a processor")
    return replace(contents, candidate=candidate, runs_code=("net.py",), **more)


def test_a_model_without_an_engine_file_travels_as_a_recipe(contents, tmp_path):
    bundle = pack(from_source(contents, tmp_path / "gone"), tmp_path / "out")
    read = read_bundle(bundle)
    assert read.artifact is None and read.recipe == {"model": "small", "command": "assay run small.onnx"}
    assert read.candidate.artifact.format == "source"
    with pytest.raises(BadInput, match="recipe"):
        pack(from_source(contents, tmp_path / "gone", command=""), tmp_path / "two")


def test_the_files_a_source_came_from_are_named_as_code(contents, tmp_path):
    (tmp_path / "source.json").write_text("{}")
    bundle = pack(from_source(contents, tmp_path / "source.json", recipe={"command": "x"}), tmp_path / "out")
    read = read_bundle(bundle)
    assert read.recipe == {"command": "x"} and read.code == ("net.py",)
    assert read.artifact.path == bundle / "model" / "source.json"
    compiled = pack(replace(contents, runs_code=("net.py",)), tmp_path / "compiled")
    assert read_bundle(compiled).code == ()
    assert read_bundle(compiled).runs_code == ("net.py",)


def test_a_full_disk_leaves_nothing(contents, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(StorageFailed, match="No space left"):
        pack(contents, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_replacement_keeps_the_older_bundle(bundle, contents, monkeypatch):
    before = manifest_digest(bundle)
    rename = type(bundle).rename

    def fails_once(self, target):
        if self.parent != bundle.parent and str(target) == str(bundle) and self.name == bundle.name:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(type(bundle), "rename", fails_once)
    with pytest.raises(StorageFailed, match="Input/output"):
        pack(contents, bundle)
    assert manifest_digest(bundle) == before and verify_manifest(bundle) == []


def test_the_remains_of_a_killed_pack_are_cleared(contents, tmp_path):
    (tmp_path / ".out.assay-pack-abc" / "out").mkdir(parents=True)
    (tmp_path / ".out.notes").write_text("mine")
    pack(contents, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".out.notes", "out"]


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("candidate"),
        lambda d: d.update(artifact=None),
        lambda d: d.update(artifact=[]),
        lambda d: d["artifact"].update(path="../small.onnx"),
        lambda d: d["artifact"].update(path="/etc/passwd"),
        lambda d: d["artifact"].update(path="model"),
        lambda d: d["artifact"].update(companions=["../../x"]),
        lambda d: d["artifact"].update(format="pickle"),
        lambda d: d["artifact"].update(sha256="0" * 64),
        lambda d: d["candidate"]["options"].update(precision="fp32000"),
        lambda d: d["candidate"]["options"].update(threads=7),
        lambda d: d["candidate"].update(engine="openvino"),
        lambda d: d.update(environment=3),
        lambda d: d.update(runs_code=None),
    ],
)
def test_a_malformed_description_is_bad_input(bundle, change):
    data = json.loads((bundle / "bundle.json").read_text())
    change(data)
    (bundle / "bundle.json").write_text(json.dumps(data))
    with pytest.raises(BadInput):
        read_bundle(bundle)


@pytest.mark.parametrize(("name", "text"), [("labels.json", "{}"), ("verdict.json", "[]"), ("signature.json", "{}")])
def test_a_malformed_file_beside_it_is_bad_input(bundle, name, text):
    (bundle / name).write_text(text)
    with pytest.raises(BadInput):
        read_bundle(bundle)


def test_a_run_folder_is_no_bundle(tmp_path):
    (tmp_path / "records.jsonl").write_text("")
    write_manifest(tmp_path, {"schema": "assay.run/1"})
    with pytest.raises(BadInput) as caught:
        read_bundle(tmp_path)
    assert str(tmp_path / "bundle") in caught.value.remedy


def test_records_are_written_as_their_own_file_has_them(contents, tmp_path):
    """A number that is not finite has a name there, and an array its values."""
    record = Record("verify", {}, details={"worst": float("nan"), "rows": np.arange(3)})
    bundle = pack(replace(contents, records=(record,)), tmp_path / "bundle")
    (found,), _ = read_records(bundle / "records.jsonl")
    assert found.details == {"worst": "nan", "rows": [0, 1, 2]}


def test_files_behind_links_keep_their_names(tmp_path):
    """As caches lay them out: what the engine file names beside itself is a link to a file of another name."""
    for name in ("stored", "seen"):
        (tmp_path / name).mkdir()
    artifact = write_model(tmp_path / "stored" / "small.onnx", external=True)
    seen = []
    for index, path in enumerate((artifact.path, *artifact.companions)):
        moved = path.rename(path.with_name(f"blob{index}"))
        seen.append(tmp_path / "seen" / path.name)
        seen[-1].symlink_to(moved)
    linked = file_artifact(seen[0], "onnx", companions=(seen[1],))
    before = contents_for(write_model(tmp_path / "small.onnx"))
    contents = replace(before, candidate=replace(before.candidate, artifact=linked))
    bundle = pack(contents, tmp_path / "bundle")
    assert {"model/small.onnx", "model/weights.bin"} <= set(files(bundle))


def test_a_name_that_is_no_utf8_is_kept_and_can_be_read(contents, tmp_path):
    command = "assay run odd\udcff.onnx"
    bundle = pack(replace(contents, command=command), tmp_path / "bundle")
    assert verify_manifest(bundle) == []
    assert read_bundle(bundle).command == command
