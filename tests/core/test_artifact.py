import hashlib
from dataclasses import replace

import pytest

from assay.core.artifact import Artifact, digest_file, digest_files, digest_json, file_artifact
from assay.core.errors import BadInput


@pytest.fixture
def files(tmp_path):
    (tmp_path / "m.xml").write_bytes(b"graph")
    (tmp_path / "m.bin").write_bytes(b"weights")
    return tmp_path / "m.xml", tmp_path / "m.bin"


def test_digest_of_one_file_is_its_sha256(files):
    assert digest_file(files[0]) == hashlib.sha256(b"graph").hexdigest() == digest_files(files[:1])


def test_companions_count(files):
    made = file_artifact(files[0], "openvino", companions=(files[1],))
    assert made.size_bytes == len(b"graph") + len(b"weights")
    assert not made.runs_code
    files[1].write_bytes(b"Weights")
    assert file_artifact(files[0], "openvino", companions=(files[1],)).sha256 != made.sha256
    assert file_artifact(files[0], "torchscript").runs_code


def test_a_missing_companion_is_named(tmp_path, files):
    with pytest.raises(BadInput, match=r"gone\.bin"):
        file_artifact(files[0], "openvino", companions=(tmp_path / "gone.bin",))


def test_json_round_trip_is_relative_to_the_root(tmp_path, files):
    made = file_artifact(
        files[0], "openvino", parents=("abc",), companions=(files[1],), built_for={"openvino": "2026.4"}
    )
    data = made.to_json(tmp_path)
    assert data["path"] == "m.xml"
    assert data["companions"] == ["m.bin"]
    assert Artifact.from_json(data, tmp_path) == made


def test_digest_json_ignores_key_order_only():
    assert digest_json({"a": 1, "b": [1, 2]}) == digest_json({"b": [1, 2], "a": 1})
    assert digest_json({"a": [1, 2]}) != digest_json({"a": [2, 1]})


def test_the_module_is_no_part_of_its_identity(files):
    made = file_artifact(files[0], "onnx")
    assert replace(made, module=lambda: 1) == made
    assert "module=" not in repr(replace(made, module=lambda: 1))
