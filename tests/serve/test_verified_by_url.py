"""A running server as one side of ``assay verify``: the same model, and another one under the same name."""

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
    assert "second build" not in told.out, "a running server is not built here"
    assert "compare   8 samples at batch 1, 2, 8: " in told.err
