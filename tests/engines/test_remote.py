from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback_server import ServedModel, serve

from assay.core.artifact import Artifact, file_artifact
from assay.core.engine import OpenOptions
from assay.core.errors import BadInput, EngineFailed, NotAvailable
from assay.core.tensors import Feed, Signature, TensorSpec
from assay.engines.remote import RemoteEngine, read_address
from assay.engines.remote_wire import from_bytes, signature_of, to_bytes

ENGINE = RemoteEngine()
SIGNATURE = Signature(
    (
        TensorSpec("x", "float32", ("batch", 2)),
        TensorSpec("n", "int64", ("batch",)),
        TensorSpec("t", "string", ("batch",)),
    ),
    (
        TensorSpec("sum", "float32", ("batch", 2)),
        TensorSpec("loud", "string", ("batch",)),
        TensorSpec("odd", "bool", ("batch",)),
    ),
)
FEED = {
    "x": np.array([[0.1, -1e-30], [3.0, np.float32(1) / 3]], np.float32),
    "n": np.array([2**53 + 1, -4]),
    "t": np.array([b"a", "grüß".encode()], dtype=object),
}


def compute(feed: Feed) -> dict[str, np.ndarray[Any, Any]]:
    if (feed["n"] == 404).any():
        raise ValueError("404 is not a number this model likes")
    loud = np.array([t + b"!" for t in feed["t"]], dtype=object)
    odd = feed["n"] % 2 == 1
    return {"odd": odd, "loud": loud, "sum": feed["x"] * 2}  # another order than the signature's


MODEL = ServedModel("some/model", SIGNATURE, compute)


def described(folder: Path, url: str, **changes: Any) -> Artifact:
    path = folder / "remote.json"
    path.write_text(json.dumps({"url": url, "protocol": "http", "model": MODEL.name, "version": "1"} | changes))
    return file_artifact(path, "remote")


@contextlib.contextmanager
def named(model: ServedModel) -> Iterator[str]:
    """The server sees the name as it stands in the path: escaped."""
    with serve(replace(model, name="some%2Fmodel")) as url:
        yield url


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("version", ["1", ""])
def test_every_dtype_comes_back_exact(tmp_path: Path, binary: bool, version: str) -> None:
    with named(replace(MODEL, binary=binary)) as url:
        artifact = described(tmp_path, f"{url}/v2/models/ignored", version=version)
        with ENGINE.open(artifact, OpenOptions()) as session:
            assert session.signature == SIGNATURE
            found = session.run(FEED)
            assert list(found) == ["sum", "loud", "odd"]
            np.testing.assert_array_equal(found["sum"], FEED["x"] * 2)
            assert found["loud"].tolist() == [b"a!", "grüß!".encode()]
            assert found["odd"].tolist() == [True, False]
            found["sum"][...] = 0  # writable, and the caller's own
            attestation = session.attest()
            assert not attestation.shares and attestation.how == "remote server: cannot be attested"


def test_bytes_that_are_not_text_need_the_binary_extension(tmp_path: Path) -> None:
    feed = FEED | {"t": np.array([b"\xff\0", b""], dtype=object)}
    with named(MODEL) as url, ENGINE.open(described(tmp_path, url), OpenOptions()) as session:
        assert session.run(feed)["loud"].tolist() == [b"\xff\0!", b"!"]
    with (
        named(replace(MODEL, binary=False)) as url,
        ENGINE.open(described(tmp_path, url), OpenOptions()) as session,
        pytest.raises(BadInput, match="JSON cannot carry"),
    ):
        session.run(feed)


def test_half_precision_needs_the_binary_extension(tmp_path: Path) -> None:
    signature = Signature((TensorSpec("x", "float16", ("batch", 2)),), (TensorSpec("y", "float16", ("batch", 2)),))
    model = ServedModel("h", signature, lambda feed: {"y": feed["x"]})
    given = np.array([[1.5, -2]], np.float16)
    with serve(model) as url, ENGINE.open(described(tmp_path, url, model="h"), OpenOptions()) as session:
        np.testing.assert_array_equal(session.run({"x": given})["y"], given)
    with serve(replace(model, binary=False)) as url, pytest.raises(NotAvailable, match="binary tensor extension"):
        ENGINE.open(described(tmp_path, url, model="h"), OpenOptions())


def test_the_servers_own_words_reach_the_caller(tmp_path: Path) -> None:
    with named(MODEL) as url:
        with ENGINE.open(described(tmp_path, url), OpenOptions()) as session:
            with pytest.raises(EngineFailed, match=r"400 .* 404 is not a number"):
                session.run(FEED | {"n": np.array([404, 1])})
            assert session.run(FEED)["odd"].tolist() == [True, False]
        with pytest.raises(BadInput, match=r"404 .* unknown model"):
            ENGINE.open(described(tmp_path, url, model="other"), OpenOptions())


def test_a_connection_the_server_closed_is_opened_again(tmp_path: Path) -> None:
    with (
        named(replace(MODEL, drop_every=1)) as url,
        ENGINE.open(described(tmp_path, url), OpenOptions(instances=2)) as session,
    ):
        for _ in range(3):
            np.testing.assert_array_equal(session.run(FEED)["sum"], FEED["x"] * 2)


def test_a_server_that_breaks_its_own_metadata_is_told(tmp_path: Path) -> None:
    answers: dict[str, Any] = {
        "only: sum": {"sum": FEED["x"]},
        "'sum' as int64": compute(FEED) | {"sum": FEED["n"]},
    }
    for said, answer in answers.items():
        model = replace(MODEL, compute=lambda feed, answer=answer: answer)
        with (
            named(model) as url,
            ENGINE.open(described(tmp_path, url), OpenOptions()) as session,
            pytest.raises(EngineFailed, match=said),
        ):
            session.run(FEED)


def test_nobody_there_is_one_clear_message(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(EngineFailed, match="did not answer") as told:
            ENGINE.open(described(tmp_path, url), OpenOptions())
    assert told.value.remedy
    with named(replace(MODEL, drop_every=1)) as url:
        session = ENGINE.open(described(tmp_path, url), OpenOptions())
    with session, pytest.raises(EngineFailed):
        session.run(FEED)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"protocol": "carrier pigeon"}, "carrier pigeon"),
        ({"url": "http://"}, "names no host"),
        ({"url": "http://h:port"}, "does not describe"),
        ({"url": 7}, "does not describe"),
    ],
)
def test_descriptions_that_say_too_little(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        ENGINE.open(described(tmp_path, **({"url": "http://localhost:1"} | changes)), OpenOptions())


def test_addresses(tmp_path: Path) -> None:
    found = read_address(described(tmp_path, "grpc://host:9/NAME", protocol="grpc").path, {"timeout_s": "2"})
    assert (found.host, found.port, found.protocol, found.timeout_s) == ("host", 9, "grpc", 2.0)
    assert read_address(described(tmp_path, "host:8000").path, {}).port == 8000
    assert read_address(described(tmp_path, "https://host").path, {}).tls


def test_wire_format_by_hand() -> None:
    assert bytes(to_bytes(np.array([[b"ab"], [b""]], dtype=object))) == b"\x02\0\0\0ab\0\0\0\0"
    assert bytes(to_bytes(np.array([1, 2], np.int16)[::-1])) == b"\x02\0\x01\0"
    found = from_bytes(b"\x00\x3c", "float16", (1, 1))
    assert found.tolist() == [[1.0]] and found.flags.writeable
    with pytest.raises(EngineFailed, match="3 bytes"):
        from_bytes(b"abc", "float32", (1,))
    with pytest.raises(EngineFailed, match="1 strings; 2"):
        from_bytes(b"\x01\0\0\0a", "string", (2,))


def test_metadata_rules() -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [-1, 3, -1]}
    found = signature_of({"inputs": [tensor], "outputs": [{**tensor, "name": "y"}]})
    assert str(found) == "x:batchx3xdim_x_2:float32 -> y:batchx3x?:float32"
    assert found.is_batched
    with pytest.raises(EngineFailed, match="no inputs"):
        signature_of({"name": "m", "inputs": []})
    with pytest.raises(EngineFailed, match="FP8"):
        signature_of({"inputs": [{**tensor, "datatype": "FP8"}], "outputs": [tensor]})


def test_grpc_without_its_client_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tritonclient", None)
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    with pytest.raises(NotAvailable, match="tritonclient") as told:
        ENGINE.open(described(tmp_path, "grpc://127.0.0.1:1", protocol="grpc"), OpenOptions())
    assert told.value.remedy == "pip install 'assay[grpc]'"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"\x05\0\0\0hello\x05\0\0\0wor", "5 bytes and only 3"),
        (b"\x05\0\0\0hello\x05\0\0\0worldx", "1 bytes after the last of 2"),
        (b"\x05\0\0\0hello\x05\0", "1 strings; 2 were announced"),
    ],
)
def test_strings_that_were_cut_are_refused(raw: bytes, said: str) -> None:
    with pytest.raises(EngineFailed, match=said):
        from_bytes(raw, "string", (2,))


def test_a_count_of_strings_is_not_believed_before_they_are_there() -> None:
    with pytest.raises(EngineFailed, match="0 strings; 1000000000000 were announced"):
        from_bytes(b"", "string", (10**12,))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("timeout", "1"), "no option 'timeout'"),
        (("timeout_s", "soon"), "timeout_s is 'soon'"),
        (("timeout_s", "-1"), "timeout_s is '-1'"),
        (("timeout_s", "nan"), "timeout_s is 'nan'"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, option: tuple[str, str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        ENGINE.open(described(tmp_path, "http://localhost:1"), OpenOptions(provider_options=(option,)))


def test_an_ipv6_address_is_told_with_its_brackets(tmp_path: Path) -> None:
    found = read_address(described(tmp_path, "http://[::1]:8000").path, {})
    assert (found.host, found.place) == ("::1", "[::1]:8000")
    assert read_address(described(tmp_path, "http://host:8000").path, {}).place == "host:8000"


def test_an_answer_that_breaks_off_spoils_no_later_call(tmp_path: Path) -> None:
    """The rest of it must not be taken for the next call's answer."""
    signature = Signature((TensorSpec("x", "float32", ("batch",)),), (TensorSpec("y", "float32", ("batch",)),))
    asked = 0

    class Breaking(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, content: dict[str, Any], announced: int = 0) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) + announced))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = bool(announced)

        def do_GET(self) -> None:
            tensors = [{"name": n, "datatype": "FP32", "shape": [-1]} for n in ("x", "y")]
            self.answer({"name": "m", "inputs": tensors[:1], "outputs": tensors[1:]})

        def do_POST(self) -> None:
            nonlocal asked
            asked += 1
            given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"][0]
            self.answer({"outputs": [{**given, "name": "y"}]}, 100 if asked == 1 else 0)

        def log_message(self, *given: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Breaking)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    feed = {"x": np.array([1, 2], np.float32)}
    try:
        artifact = described(tmp_path, f"http://127.0.0.1:{server.server_port}", model="m", version="")
        with ENGINE.open(artifact, OpenOptions()) as session:
            assert session.signature == signature
            with pytest.raises(EngineFailed, match="did not answer: IncompleteRead"):
                session.run(feed)
            np.testing.assert_array_equal(session.run(feed)["y"], feed["x"])
    finally:
        server.shutdown()
        server.server_close()
