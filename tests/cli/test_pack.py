"""``assay pack`` from the command line: whom it takes a bundle's word for."""

from dataclasses import replace

import pytest
from tests.bundle.conftest import contents_for, write_model

from assay.bundle.manifest import manifest_digest
from assay.bundle.pack import pack
from assay.cli.main import run_cli

PYTHON = ("--layout", "triton", "--backend", "python")


@pytest.fixture
def bundle(tmp_path):
    contents = contents_for(write_model(tmp_path / "small.onnx"))
    given = (("session.intra_op.allow_spinning", "0"), ("session.optimized_model_filepath", "theirs.onnx"))
    options = replace(contents.candidate.options, provider_options=given)
    return pack(replace(contents, candidate=replace(contents.candidate, options=options)), tmp_path / "bundle")


def said(capsys, *arguments):
    """(exit code, stdout, stderr)"""
    code = run_cli(["pack", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_strangers_options_need_trust_or_the_digest(bundle, tmp_path, capsys):
    out = tmp_path / "out"
    code, _, error = said(capsys, bundle, "-o", out, *PYTHON)
    assert code == 2
    assert "session.optimized_model_filepath=theirs.onnx" in error and "allow_spinning" not in error
    assert f"--digest {manifest_digest(bundle)}" in error and "Traceback" not in error
    assert not out.exists()
    code, _, error = said(capsys, bundle, "-o", out, *PYTHON, "--digest", "sha256:" + 64 * "0")
    assert (code, manifest_digest(bundle) in error) == (2, True)
    code, _, error = said(capsys, bundle, "-o", out, *PYTHON, "--digest", "sha256:0")
    assert (code, "is not a digest" in error) == (2, True)
    assert not out.exists()
    assert said(capsys, bundle, "-o", out, *PYTHON, "--digest", manifest_digest(bundle))[0] == 0
    assert said(capsys, bundle, "-o", tmp_path / "trusted", *PYTHON, "--trust")[0] == 0


def test_a_copy_needs_none(bundle, tmp_path, capsys):
    """Nothing is opened, and whoever opens the copy is asked."""
    assert said(capsys, bundle, "-o", tmp_path / "out")[0] == 0
    assert manifest_digest(tmp_path / "out") == manifest_digest(bundle)


def test_a_backend_that_leaves_them_out_needs_none_and_says_what_is_lost(bundle, tmp_path, capsys):
    code, _, error = said(capsys, bundle, "-o", tmp_path / "out", "--layout", "triton")
    assert code == 0, error
    assert "has no setting for: session.intra_op.allow_spinning=0, session.optimized_model_filepath" in error
    lines = (tmp_path / "out" / "small" / "config.pbtxt").read_text().splitlines()
    assert [line for line in lines if "theirs" in line and not line.startswith("#")] == []
