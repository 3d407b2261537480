"""``assay quantize`` end to end, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from assay.cli.main import run_cli
from assay.core.errors import BadInput
from assay.job.quantize.calibrating import Sets, split_sets
from assay.job.request import Objects


def quantize(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict]:
    code = run_cli(["quantize", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_int8_on_real_samples_with_a_limit(model, tmp_path, capsys) -> None:
    pre = f"{model.parent}/pre.py:unit"
    common = (str(model), "--data", "digits", "--preprocess", pre, "--method", "ort", "--max-drop", "1%")
    code, found = quantize(capsys, *common, "-o", str(tmp_path / "q"))
    assert code == 0 and found["verdict"]["passed"]
    (record,) = found["records"]
    sets = record["details"]["sets"]
    assert [sets[k]["count"] for k in ("calibration", "control", "evaluation")] == [150, 1197, 450]
    assert len({sets[k]["sha256"] for k in sets}) == 3
    calibrated = record["details"]["how"]["calibration"]
    assert calibrated.pop("sha256") == sets["calibration"]["sha256"]
    assert calibrated == {"source": "digits:calibration", "count": 150, "seed": 0, "synthetic": False}
    assert record["figures"]["accuracy.drop"]["value"] <= 0.01
    assert record["details"]["attestation"]["shares"][0]["precision"] == "int8"
    assert found["opens_as"] == "int8"
    assert (tmp_path / "q" / "model.onnx").is_file()


def test_fp16_needs_no_data(model, tmp_path, capsys) -> None:
    code, found = quantize(capsys, str(model), "--precision", "fp16", "-o", str(tmp_path / "q"))
    assert code == 0 and found["opens_as"] == "fp16" and found["verdict"] is None
    assert any("does not run this file in fp16" in w for w in found["warnings"])  # a CPU has no such kernels


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "needs samples"),
        (("--data", "synthetic"), "random values"),
        (("--precision", "fp32"), "precision to convert to"),
        (("--precision", "int8", "--method", "nccf", "--data", "digits"), "no method"),
        (("--precision", "int8", "--method", "fp16", "--data", "digits"), "does not make int8"),
        (("--precision", "fp16", "--max-drop", "lots"), "not a drop"),
        (("--precision", "fp16", "--max-drop", "1%"), "needs an accuracy"),
        (("--data", "digits", "--calibration", "digits:test"), "share"),
        (("--data", "digits", "--preprocess", "none.py:fn"), "there is no file none.py"),
        (("--data", "digits", "--control", "digits:calibration", "--max-drop", "0.1%"), "share|cannot show"),
    ],
)
def test_what_cannot_be_is_refused(model, tmp_path, capsys, arguments, said) -> None:
    import re

    words = " ".join(arguments)
    pre = ("--preprocess", f"{model.parent}/pre.py:unit") if "digits" in words and "none.py" not in words else ()
    code, found = quantize(capsys, str(model), "-o", str(tmp_path / "q"), *arguments, *pre)
    assert code == 2
    assert re.search(said, found["error"]["message"]), found["error"]


def test_synthetic_calibration_has_to_be_typed(model, tmp_path, capsys) -> None:
    code, found = quantize(
        capsys, str(model), "--calibration", "synthetic", "--calibration-samples", "16", "--method", "ort",
        "-o", str(tmp_path / "q"),
    )  # fmt: skip
    assert code == 0
    assert found["records"][0]["details"]["how"]["calibration"]["synthetic"] is True
    assert "accuracy.drop" not in found["records"][0]["figures"]


def test_one_data_set_is_divided_in_three(model, tmp_path) -> None:
    from assay.graph.signature import read_signature
    from assay.sources import SourceOptions, resolve_model

    found = resolve_model(str(model), SourceOptions(out_dir=tmp_path))
    rng = np.random.default_rng(0)
    path = tmp_path / "rows.npz"
    np.savez(path, x=rng.random((60, 1, 8, 8), dtype=np.float32), target=rng.integers(0, 10, 60))
    signature = read_signature(model)
    splits = [
        split_sets(Sets(f"npz:{path}", calibration_count=20, seed=s), found, signature, Objects()) for s in (0, 0, 1)
    ]
    first = splits[0]
    counts = [len(first.calibration), len(first.control), len(first.evaluation)]
    assert counts == [20, 20, 20]
    ids = [{s.id for s in rows} for rows in (first.calibration, first.control, first.evaluation)]
    assert len(set.union(*ids)) == 60
    assert first.to_json() == splits[1].to_json() != splits[2].to_json()
    with pytest.raises(BadInput, match="share"):
        split_sets(Sets(f"npz:{path}", calibration=f"npz:{path}"), found, signature, Objects())


def test_a_data_set_need_not_fit_into_memory(model, tmp_path, monkeypatch) -> None:
    from assay.graph.signature import read_signature
    from assay.job.quantize import parts
    from assay.job.user_code import user_transform
    from assay.sources import SourceOptions, resolve_model

    found = resolve_model(str(model), SourceOptions(out_dir=tmp_path))
    unit, made = user_transform(f"{model.parent}/pre.py:unit"), []

    def counted(image):
        made.append(1)
        return unit(image)

    whole = split_sets(Sets("digits"), found, read_signature(model), Objects(preprocess=counted))
    monkeypatch.setattr(parts, "HELD_BYTES", 200 * 256)  # of 256 bytes each
    made.clear()
    read = split_sets(Sets("digits"), found, read_signature(model), Objects(preprocess=counted))
    assert len(made) < 200 < len(read.control), "only the calibration was made"
    for name in ("calibration", "control", "evaluation"):
        assert isinstance(getattr(whole, name), tuple)
        assert isinstance(getattr(read, name), tuple) is (name == "calibration")
        assert [s.id for s in getattr(read, name)] == [s.id for s in getattr(whole, name)]
    assert read.to_json() == whole.to_json()
    assert [s.id for s in read.control[3:9:2]] == [s.id for s in whole.control[3:9:2]]
    assert read.control[-1].id == whole.control[-1].id


def test_of_more_samples_than_are_needed_the_seed_draws(model, tmp_path) -> None:
    """The first of a folder are of one class."""
    from assay.graph.signature import read_signature
    from assay.sources import SourceOptions, resolve_model

    found = resolve_model(str(model), SourceOptions(out_dir=tmp_path))
    path = tmp_path / "sorted.npz"
    np.savez(path, x=np.zeros((90, 1, 8, 8), np.float32), target=np.repeat(np.arange(9), 10))
    sets = Sets(None, calibration=f"npz:{path}", calibration_count=30, seed=2)
    split = split_sets(sets, found, read_signature(model), Objects())
    assert len(split.calibration) == 30 and len({s.target for s in split.calibration}) > 5
    assert split.sources["calibration"].endswith("30 drawn by seed 2")
