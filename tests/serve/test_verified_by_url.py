"""A running server as one side of ``assay verify``: the same model, and another one under the same name."""

import json

import pytest

from assay.cli.main import run_cli


@pytest.mark.parametrize(("seed", "code", "word"), [(0, 0, "equal to the reference"), (1, 1, "wrong")])
def test_a_server_is_compared_with_its_file(running, support, classifier, tmp_path, capsys, seed, code, word):
    support.pack_classifier(tmp_path / "reference" / "bundle", seed)
    file = tmp_path / "reference" / f"classifier-{seed}.onnx"
    with running({"model": [{"source": str(classifier), "name": "pictures"}]}) as server:
        url = f"http://127.0.0.1:{server.port}/v2/models/pictures"
        assert run_cli(["verify", str(file), url, "--samples", "8"]) == code
    told = capsys.readouterr()
    assert word in told.out
    assert "a server does not say what it ran" in told.out + told.err
    assert ("judged as fp32" in told.err) is (code == 1)
    assert "second build" not in told.out, "a running server is not built here"
    assert "compare   8 samples at batch 1, 2, 8: " in told.err


def test_a_server_in_bf16_is_judged_by_bf16(running, support, classifier, tmp_path, capsys):
    """Nobody can see what a server runs; the user says it."""
    support.pack_classifier(tmp_path / "reference" / "bundle", 0)
    with running({"model": [{"source": str(classifier), "name": "pictures"}]}) as server:
        url = f"http://127.0.0.1:{server.port}/v2/models/pictures"
        asked = ["verify", str(tmp_path / "reference" / "classifier-0.onnx"), url, "--samples", "8", "--json"]
        limits = []
        for precision in ("fp32", "bf16"):
            assert run_cli([*asked, "--precision", precision]) == 0
            (record,) = json.loads(capsys.readouterr().out)["records"]
            assert record["subject"]["precision"] == precision
            limits.append(record["details"]["tolerance"]["max_relative_rms"])
    assert limits[1] > 100 * limits[0]
