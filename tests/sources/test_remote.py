"""Models on a server: a real HTTP server answers."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from assay.core.errors import AssayError, BadInput, NotAvailable
from assay.core.shapes import parse_shape
from assay.sources import resolve_model
from assay.sources.remote import MOST_BYTES

METADATA = {
    "name": "net",
    "inputs": [
        {"name": "image", "datatype": "FP32", "shape": [-1, 3, -1, 8]},
        {"name": "INPUT__1", "datatype": "BYTES", "shape": [4]},
    ],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}


def serve(folder: Path, content: str, name: str = "net") -> None:
    (folder / "v2" / "models").mkdir(parents=True, exist_ok=True)
    (folder / "v2" / "models" / name).write_text(content)


def test_metadata_gives_the_inputs(options, served) -> None:
    url, folder = served
    serve(folder, json.dumps(METADATA))
    spec = f"{url}/v2/models/net"
    model = resolve_model(spec, options())
    assert [str(s) for s in model.inputs] == ["image:batchx3ximage_dim_2x8:float32", "INPUT__1:4:string"]
    assert (model.artifact.format, model.name, model.artifact.runs_code) == ("remote", "net", False)
    written = json.loads(model.artifact.path.read_text())
    assert written["url"] == spec
    assert written["metadata"]["outputs"][0]["name"] == "y"
    changed = {**METADATA, "versions": ["2"]}
    serve(folder, json.dumps(changed))
    assert resolve_model(spec, options()).artifact.sha256 != model.artifact.sha256


def test_versions(options, served) -> None:
    url, folder = served
    (folder / "v2" / "models" / "net" / "versions").mkdir(parents=True)
    (folder / "v2" / "models" / "net" / "versions" / "3").write_text(json.dumps(METADATA))
    assert resolve_model(f"{url}/v2/models/net/versions/3", options()).name == "net"


def test_shapes_must_fit(options, served) -> None:
    url, folder = served
    serve(folder, json.dumps(METADATA))
    model = resolve_model(f"{url}/v2/models/net", options(shapes=(parse_shape("image:2x3x4x8"),)))
    assert str(model.inputs[0]) == "image:2x3x4x8:float32"
    with pytest.raises(BadInput, match="does not fit"):
        resolve_model(f"{url}/v2/models/net", options(shapes=(parse_shape("image:2x4x4x8"),)))


def test_model_the_server_does_not_have(options, served) -> None:
    url, _ = served
    with pytest.raises(BadInput, match="HTTP 404"):
        resolve_model(f"{url}/v2/models/gone", options())


NO_METADATA = [
    "<html>",
    "[1]",
    "{}",
    '{"inputs": [{"name": "x"}]}',
    '{"inputs": [{"name": "x", "datatype": "FP31", "shape": [1]}]}',
]


@pytest.mark.parametrize("content", NO_METADATA)
def test_answers_that_are_no_metadata(options, served, content: str) -> None:
    url, folder = served
    serve(folder, content)
    with pytest.raises(BadInput, match="answer"):
        resolve_model(f"{url}/v2/models/net", options())


@pytest.mark.parametrize("path", ["/model.onnx", "/v2/models/", "/v2/models/a/b", "/v1/models/net"])
def test_other_urls(options, path: str) -> None:
    with pytest.raises(BadInput, match="not the URL of a served model") as caught:
        resolve_model(f"http://127.0.0.1:9{path}", options())
    assert "/v2/models/NAME" in caught.value.remedy


def test_unreachable(options, tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match=r"http://127\.0\.0\.1:9/v2/models/net cannot be reached") as caught:
        resolve_model("http://127.0.0.1:9/v2/models/net", options())
    assert caught.value.exit_code == 3
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spec", ["grpc://host:1", "grpc://host:1/a/b"])
def test_grpc_url_without_a_name(options, spec: str) -> None:
    with pytest.raises(BadInput, match="not the URL of a served model"):
        resolve_model(spec, options())


def test_grpc_unreachable_or_not_installed(options) -> None:
    installed = importlib.util.find_spec("tritonclient") is not None
    with pytest.raises(NotAvailable, match="cannot be reached" if installed else "not installed here") as caught:
        resolve_model("grpc://127.0.0.1:9/net", options())
    assert installed or "assay[grpc]" in caught.value.remedy


@pytest.mark.parametrize("spec", ["http://[bad/v2/models/net", "grpc://[bad/net", "http://localhost:80a/v2/models/net"])
def test_urls_that_are_none(options, spec: str) -> None:
    with pytest.raises(BadInput, match="is no URL"):
        resolve_model(spec, options())


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"garbage\r\n\r\n", "cannot be reached"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{", "cannot be reached|did not answer with JSON"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000, "did not answer with JSON"),
        (
            b'HTTP/1.1 200 OK\r\n\r\n{"inputs": [{"name": "x", "datatype": "FP32", "shape": [Infinity]}]}',
            "cannot be read",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(MOST_BYTES + 2), "more than a model's metadata"),
    ],
)
def test_servers_that_answer_otherwise(options, answers, answer: bytes, says: str) -> None:
    with pytest.raises(AssayError, match=says):
        resolve_model(f"{answers(answer)}/v2/models/net", options())
