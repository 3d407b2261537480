"""Going up, changing what is served under load, and going down: nothing that was accepted is lost."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from assay.core.errors import AssayError, BadInput
from assay.core.tensors import TensorSpec
from assay.serve.repository import Repository
from assay.serve.server import Server
from assay.serve.settings import ServeSettings

ROW = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [7, 2, 3, 4]}]})
INFER = "/v2/models/null/infer"


def call(port, method="POST", path=INFER, body=ROW, connection=None):
    own = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    own.request(method, path, body)
    answer = own.getresponse()
    found = answer.status, answer.read()
    if connection is None:
        own.close()
    return found


def until(holds, within_s=20):
    ends = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.02)
    return found


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=20).close()
    except ConnectionRefusedError:
        return True
    return False


class Pressure:
    """Clients that ask without pause; every answer that is not 200 is kept."""

    def __init__(self, port, clients=4):
        self.wrong = []
        self.done = 0
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._press) for _ in range(clients)]

    def _press(self):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        while not self._stop.is_set():
            status, body = call(self._port, connection=connection)
            self.done += 1
            if status != 200 or json.loads(body)["outputs"][0]["data"] != [7.0, 7.0]:
                self.wrong.append((status, body))
        connection.close()

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_reloading_under_load_loses_nothing(running, null):
    with running({"model": [{"source": str(null), "name": "null"}], "admin": True}) as server:
        first = server.repository.lookup("null")
        with Pressure(server.port) as pressure:
            for _ in range(40):
                status, body = call(server.port, path="/v2/repository/models/null/load", body="{}")
                assert status == 200, body
            until(lambda: pressure.done > 50)
        assert pressure.wrong == []
        assert server.repository.lookup("null") is not first
        assert not first.ready
        until(lambda: not any(t.name == "drain-null" for t in threading.enumerate()))
        stats = server.repository.statistics("null")["model_stats"][0]
        assert stats["inference_count"] == pressure.done, "statistics go on over a reload"


def test_a_broken_version_is_refused_and_the_old_one_stays(running, null, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(null, bundle)
    with running({"model": [{"source": str(bundle), "name": "null"}], "admin": True}) as server:
        whole = (bundle / "signature.json").read_text()
        (bundle / "signature.json").write_text(whole.replace("float32", "float64"))
        status, body = call(server.port, path="/v2/repository/models/null/load", body="{}")
        assert status == 400
        assert "not whole" in json.loads(body)["error"]
        assert call(server.port)[0] == 200
        (found,) = json.loads(call(server.port, path="/v2/repository/index", body="")[1])
        assert found["state"] == "READY"
        assert "not whole" in found["reason"]
        assert ("refused", ["1"]) in [(e, a.get("still_served")) for e, a in server.events]
        (bundle / "signature.json").write_text(whole)
        assert call(server.port, path="/v2/repository/models/null/load", body="{}")[0] == 200


def test_goldens_that_are_not_reproduced_are_refused(tmp_path, running, support):
    from assay.bundle.goldens import ARRAYS
    from assay.bundle.manifest import write_manifest

    one, other = (support.pack_classifier(tmp_path / str(seed), seed) for seed in (0, 1))
    for name in (ARRAYS, "goldens.json"):
        shutil.copy(other / name, one / name)
    write_manifest(one)
    with pytest.raises(BadInput, match="golden outputs are not reproduced"), running({"model": [{"source": str(one)}]}):
        pass


def test_a_watched_folder_is_followed(running, null, tmp_path, support):
    watch = tmp_path / "models"
    watch.mkdir()
    shutil.copytree(null, watch / "null")
    (watch / "no bundle").mkdir()
    with running({"watch": str(watch), "watch_every": 0.05}) as server:
        assert call(server.port)[0] == 200
        with Pressure(server.port) as pressure:
            first = server.repository.lookup("null")
            inputs, outputs = [TensorSpec("x", "float32", ("b", 4))], [TensorSpec("y", "float32", ("b", 2))]
            support.pack_null(tmp_path / "next", inputs, outputs)
            (tmp_path / "next" / "verdict.json").unlink(missing_ok=True)
            shutil.move(watch / "null", tmp_path / "old")
            shutil.move(tmp_path / "next", watch / "null")
            shutil.copytree(null, watch / "versions" / "3")
            shutil.copytree(null, watch / "versions" / "12")
            until(lambda: "versions" in {m.name for m in server.repository.served()})
            del first
        # The folder was gone for a moment, which unloads; what is there when it is looked at again is served.
        assert all(status in (200, 404) for status, _ in pressure.wrong)
        until(lambda: call(server.port)[0] == 200)
        assert call(server.port, "GET", "/v2/models/versions/versions/12/ready", "")[0] == 200
        assert call(server.port, "GET", "/v2/models/versions/versions/3/ready", "")[0] == 400
        shutil.rmtree(watch / "versions")
        until(lambda: call(server.port, "GET", "/v2/models/versions", "")[0] == 404)
        assert call(server.port)[0] == 200


def test_what_cannot_be_served_is_said_before_anything_listens_for_long(running, tmp_path):
    (tmp_path / "empty").mkdir()
    for source, words in ((tmp_path / "empty", "no bundle"), (tmp_path / "none.onnx", "none.onnx")):
        with pytest.raises(AssayError, match=words), running({"model": [{"source": str(source)}]}):
            pass


def test_two_models_of_one_name_are_refused(running, null):
    with pytest.raises(BadInput, match="two models"), running({"model": [{"source": str(null)}] * 2}):
        pass


# A process of its own


@contextlib.contextmanager
def process(*arguments, log):
    command = [sys.executable, "-m", "assay.cli.main", "serve", *map(str, arguments)]
    ports = ["--http-port", "0", "--metrics-port", "0", "--no-grpc", "--log", "json"]
    with log.open("w") as stream:
        made = subprocess.Popen([*command, *ports], stderr=stream, stdout=subprocess.DEVNULL)
    try:
        yield made
    finally:
        made.kill()
        made.wait()


def said(log, event):
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return next((line for line in lines if line["event"] == event), None)


def test_sigterm_finishes_what_was_begun_and_exits_with_0(null, tmp_path):
    log = tmp_path / "log"
    with process(null, "--name", "null", log=log) as server:
        until(lambda: server.poll() is not None or said(log, "ready"))
        port = said(log, "listening")["http_port"]
        slow = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        slow.putrequest("POST", INFER)
        slow.putheader("Content-Length", str(len(ROW)))
        slow.endheaders(ROW[:20].encode())
        idle = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        assert call(port, connection=idle)[0] == 200
        os.kill(server.pid, signal.SIGTERM)
        until(lambda: said(log, "draining"))
        until(lambda: refused(port))
        slow.send(ROW[20:].encode())
        answer = slow.getresponse()
        assert answer.status == 200
        assert answer.headers["Connection"] == "close"
        assert server.wait(20) == 0
        assert said(log, "stopped")["drained"] is True
        slow.close()
        idle.close()


def test_not_ready_is_said_while_it_still_answers(running, null):
    with running({"model": [{"source": str(null), "name": "null"}]}) as server:
        assert call(server.port, "GET", "/v2/health/ready", "")[0] == 200
        server.repository.stopping = True
        assert call(server.port, "GET", "/v2/health/ready", "")[0] == 503
        assert call(server.port, "GET", "/v2/health/live", "")[0] == 200
        assert call(server.port)[0] == 200
        server.repository.stopping = False


def test_an_abandoned_request_does_not_keep_the_server_up(null, tmp_path):
    log = tmp_path / "log"
    with process(null, "--name", "null", "--drain", "300ms", log=log) as server:
        until(lambda: server.poll() is not None or said(log, "ready"))
        port = said(log, "listening")["http_port"]
        slow = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        slow.putrequest("POST", INFER)
        slow.putheader("Content-Length", str(len(ROW)))
        slow.endheaders(ROW[:20].encode())
        assert call(port)[0] == 200  # what came before it on another connection was read
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait(20) == 0
        assert said(log, "stopped")["drained"] is False
        slow.close()


def test_the_heavy_libraries_of_others_are_not_imported(null):
    code = (
        "import sys, threading\n"
        "from assay.job.serve.config import request_of\n"
        "from assay.job.serve.run import Serve\n"
        f"table = {{'model': [{{'source': {str(null)!r}}}], 'http_port': 0, 'metrics_port': 0, 'grpc_port': False}}\n"
        "def heard(event, about):\n"
        "    if event == 'ready': serve.server.stop()\n"
        "serve = Serve(request_of(table), heard)\n"
        "assert serve.run(signals=False)\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'openvino', 'sklearn', 'scipy', 'ray', 'grpc', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_without_uvloop_it_is_served_by_asyncios_own_loop(running, null, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with running({"model": [{"source": str(null), "name": "null"}], "grpc_port": 0}) as server:
        assert type(server.serve.server._loop).__module__.startswith("asyncio")
        with Pressure(server.port) as pressure:
            until(lambda: pressure.done > 100)
        assert pressure.wrong == []


def test_a_missing_parser_is_said_with_what_to_install(running, null, monkeypatch):
    from assay.serve.http import listener

    monkeypatch.setattr(listener.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AssayError, match="httptools") as found, running({"model": [{"source": str(null)}]}):
        pass
    assert found.value.remedy == "pip install 'assay[serve]'"


def test_open_administration_is_warned_of(running, null):
    with running({"model": [{"source": str(null)}], "admin": True, "host": "0.0.0.0"}) as server:
        assert any("--token-file" in about["message"] for event, about in server.events if event == "warning")


def test_port_in_use_is_said(running, null):
    with running({"model": [{"source": str(null), "name": "null"}]}) as server:
        table = {"model": [{"source": str(null)}], "http_port": server.port}
        with pytest.raises(AssayError, match="cannot listen on"), running(table):
            pass


def test_a_stop_while_models_are_loaded_is_no_failure():
    loading, loaded = threading.Event(), threading.Event()
    models = Repository(Nothing())
    server = Server(models, ServeSettings(http_port=0, grpc_port=None, metrics_port=None), lambda event, about: None)

    def begin():
        loading.set()
        assert loaded.wait(20)
        models.load("late")

    def stop():
        assert loading.wait(20)
        server.stop()
        until(lambda: models.closing)
        loaded.set()

    stopping = threading.Thread(target=stop)
    stopping.start()
    assert server.run(begin, signals=False)
    stopping.join(20)


class Nothing:
    """A loader of one model that is never opened."""

    def names(self):
        return ["late"]
