from dataclasses import replace
from pathlib import Path

import pytest

from assay.core.artifact import Artifact
from assay.core.engine import Attestation, Candidate, OpenOptions
from assay.core.errors import WrongPrecision

ARTIFACT = Artifact(Path("m.onnx"), "onnx", "ab" * 32)
CANDIDATE = Candidate(ARTIFACT, "onnxruntime", "1.31.0", OpenOptions(), "some cpu")


def test_open_options_round_trip():
    options = OpenOptions("bf16", "cuda:1", (1, 8), 4, 2, 3, (("a", "b"),))
    assert OpenOptions.from_json(options.to_json()) == options


def test_whatever_changes_the_model_that_runs_changes_the_digest():
    others = [
        replace(CANDIDATE, artifact=replace(ARTIFACT, sha256="cd" * 32)),
        replace(CANDIDATE, engine="openvino"),
        replace(CANDIDATE, engine_version="1.30.0"),
        replace(CANDIDATE, device_name="another cpu"),
        replace(CANDIDATE, options=OpenOptions(precision="bf16")),
        replace(CANDIDATE, options=OpenOptions(threads=1)),
        replace(CANDIDATE, options=OpenOptions(streams=2)),
        replace(CANDIDATE, options=OpenOptions(buckets=(1,))),
    ]
    assert len({CANDIDATE.digest, *(c.digest for c in others)}) == len(others) + 1


def test_where_the_file_lies_does_not():
    assert replace(CANDIDATE, artifact=replace(ARTIFACT, path=Path("/else/m.onnx"))).digest == CANDIDATE.digest


def test_label_and_subject():
    assert CANDIDATE.label == "onnxruntime fp32"
    assert replace(CANDIDATE, options=OpenOptions(threads=2, streams=1)).label == "onnxruntime fp32 2t 1s"
    subject = CANDIDATE.subject("net", 8)
    assert subject["candidate"] == CANDIDATE.digest
    assert (subject["model"], subject["batch"], subject["precision"]) == ("net", 8, "fp32")


def test_attestation():
    mixed = Attestation({("cpu", "bf16"): 0.8, ("cpu", "fp32"): 0.2}, "profile")
    assert mixed.share(None, "bf16") == 0.8
    assert mixed.check("cpu", "bf16") == ["only 80% of the arithmetic ran as asked (bf16)"]
    assert Attestation({("cpu", "bf16"): 0.95, ("cpu", "fp32"): 0.05}).check(None, "bf16") == []
    with pytest.raises(WrongPrecision, match=r"asked for cuda/bf16, but what ran was cpu/bf16 80%"):
        mixed.check("cuda", "bf16")
    assert "could not be attested" in Attestation().check(None, "fp32")[0]
    assert mixed.to_json()["shares"][0] == {"provider": "cpu", "precision": "bf16", "share": 0.8}


@pytest.mark.parametrize(
    "wrong", [{"device": 5}, {"threads": "4"}, {"buckets": 8}, {"buckets": ["8"]}, {"provider_options": {"level": 1}}]
)
def test_options_of_a_wrong_kind_are_told_where_they_are_read(wrong):
    with pytest.raises(TypeError):
        OpenOptions.from_json({**OpenOptions().to_json(), **wrong})
