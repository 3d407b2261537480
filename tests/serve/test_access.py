"""Who may ask what: tokens, administration, browsers, TLS."""

import http.client
import json
import ssl
import subprocess

import pytest

from assay.core.errors import BadInput
from assay.job.serve.config import read_token, request_of

ROW = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]})
TOKEN = "a-token-of-some-length"


@pytest.fixture
def ask():
    made = []

    def request(port, method, path, body="", headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        made.append(connection)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    yield request
    for connection in made:
        connection.close()


def test_administration_is_off_unless_asked_for(running, null, ask):
    with running({"model": [{"source": str(null), "name": "null"}]}) as found:
        for path in (
            "/v2/repository/models/null/load",
            "/v2/repository/models/null/unload",
            "/v2/systemsharedmemory/region/a/register",
            "/v2/systemsharedmemory/unregister",
            "/v2/cudasharedmemory/region/a/register",
            "/v2/trace/setting",
            "/v2/logging",
        ):
            status, _, body = ask(found.port, "POST", path, "{}")
            assert (status, "--admin" in json.loads(body)["error"]) == (403, True)
        assert ask(found.port, "GET", "/v2/systemsharedmemory/status")[0] == 403
        assert ask(found.port, "GET", "/v2/models/null/ready")[0] == 200
        memory = {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"shared_memory_region": "r"}}
        status, _, body = ask(found.port, "POST", "/v2/models/null/infer", json.dumps({"inputs": [memory]}))
        assert (status, "--admin" in json.loads(body)["error"]) == (400, True)


def test_administrative_requests_must_not_come_from_a_page(server, ask):
    path = "/v2/repository/models/null/load"

    def status(**headers):
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        return ask(server.port, "POST", path, "{}", named)[0]

    assert status() == 200
    assert status(Content_Type="application/json; charset=utf-8") == 200
    assert status(Content_Type="text/plain") == 415
    assert status(Content_Type="application/x-www-form-urlencoded") == 415
    assert status(Host="evil.example") == 403
    assert status(Host="[no-address") == 403
    assert status(Origin="http://[no-address") == 403
    assert status(Host="localhost:8000") == 200
    assert status(Origin="http://evil.example") == 403
    assert status(Origin=f"http://127.0.0.1:{server.port}") == 200
    assert ask(server.port, "POST", "/v2/models/null/infer", ROW, {"Host": "any.name"})[0] == 200


def test_a_token_opens_and_nothing_else_does(running, null, ask, tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    with running({"model": [{"source": str(null), "name": "null"}], "token_file": str(file)}) as found:
        status, headers, _ = ask(found.port, "POST", "/v2/models/null/infer", ROW)
        assert status == 401
        assert headers["WWW-Authenticate"].startswith("Bearer")
        for wrong in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer", f"Basic {TOKEN}", "Bearer \xff"):
            assert ask(found.port, "GET", "/v2", "", {"Authorization": wrong})[0] == 401
        for scheme in ("Bearer", "bearer"):
            headers = {"Authorization": f"{scheme} {TOKEN}"}
            assert ask(found.port, "POST", "/v2/models/null/infer", ROW, headers)[0] == 200
        assert ask(found.port, "GET", "/v2/health/ready")[0] == 200
        assert ask(found.port, "GET", "/docs")[0] == 200


def test_token_files_are_looked_at(tmp_path):
    file = tmp_path / "token"
    with pytest.raises(BadInput, match="cannot be read"):
        read_token(file)
    file.write_text(TOKEN)
    file.chmod(0o644)
    with pytest.raises(BadInput, match="everybody") as found:
        read_token(file)
    assert found.value.remedy == f"chmod 600 {file}"
    file.chmod(0o600)
    for text in ("short", "two words here", "ünicode-token"):
        file.write_text(text)
        with pytest.raises(BadInput, match="one ASCII word"):
            read_token(file)


def test_a_token_is_never_shown(tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    request = request_of({"model": [{"source": "x.onnx"}], "token_file": str(file)})
    assert request.settings.access.token == TOKEN.encode()
    assert TOKEN not in repr(request)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    try:
        subprocess.run([*command, *names, *files], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return folder


def test_tls(running, null, certificate):
    table = {"tls_cert": str(certificate / "cert.pem"), "tls_key": str(certificate / "key.pem")}
    with running({"model": [{"source": str(null), "name": "null"}], **table}) as found:
        context = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
        connection = http.client.HTTPSConnection("localhost", found.port, timeout=20, context=context)
        big = [{"name": "x", "shape": [8, 4], "datatype": "FP32", "data": [5] * 32}]
        for _ in range(3):
            connection.request("POST", "/v2/models/null/infer", json.dumps({"inputs": big}))
            answer = connection.getresponse()
            assert answer.status == 200
            assert json.loads(answer.read())["outputs"][0]["data"] == [5.0] * 16
        connection.close()
        plain = http.client.HTTPConnection("127.0.0.1", found.port, timeout=20)
        plain.request("GET", "/v2")
        with pytest.raises((http.client.HTTPException, OSError)):
            plain.getresponse()
        plain.close()


def test_a_certificate_that_is_none(running, null, tmp_path):
    (tmp_path / "cert.pem").write_text("nothing")
    table = {"model": [{"source": str(null)}], "tls_cert": str(tmp_path / "cert.pem")}
    with pytest.raises(BadInput, match="certificate"), running(table):
        pass


def test_the_page_loads_nothing_from_elsewhere(server, ask):
    status, headers, body = ask(server.port, "GET", "/docs")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    text = body.decode()
    assert "http://" not in text
    assert "https://" not in text
    assert "src=" not in text
    described = json.loads(ask(server.port, "GET", "/openapi.json")[2])
    assert described["openapi"].startswith("3.1")
    assert {m["name"] for m in described["x-models"] if m["pictures"]} == {"pictures"}
    assert "/v2/models/{model}/infer" in described["paths"]
