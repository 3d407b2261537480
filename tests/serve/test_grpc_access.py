"""Who is let in, and how a server lets go: TLS, the token, cancelling, draining."""

import shutil
import subprocess
import threading
import time

import grpc
import numpy as np
import pytest
import tritonclient.grpc as client
from grpc_servers import RawClient, grpc_message, infer_message, null_session, repository, serving
from tritonclient.utils import InferenceServerException

from assay.batching.settings import BatcherSettings
from assay.core.tensors import Signature, TensorSpec
from assay.engines.null import NullSession
from assay.serve.server import tls_context
from assay.serve.settings import Access, Limits, ServeSettings

SIGNATURE = Signature((TensorSpec("x", "float32", ("b", 4)),), (TensorSpec("y", "float32", ("b", 2)),))
INFER = "/inference.GRPCInferenceService/ModelInfer"
TOKEN = b"a-long-secret"


class Held(NullSession):
    """Answers when it is told to; ``entered`` counts the batches that were begun."""

    def __init__(self):
        super().__init__(SIGNATURE, 1)
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.batches = 0

    def run(self, feed, out=None, spans=None):
        self.batches += 1
        self.entered.release()
        assert self.gate.wait(20)
        return super().run(feed, out, spans)


def tensor(value=1.0):
    made = client.InferInput("x", [1, 4], "FP32")
    made.set_data_from_numpy(np.full((1, 4), value, np.float32))
    return made


def refused(call, code):
    with pytest.raises(InferenceServerException) as caught:
        call()
    assert caught.value.status() == f"StatusCode.{code}", caught.value


# The token


@pytest.fixture(scope="module")
def guarded():
    settings = ServeSettings(access=Access(token=TOKEN))
    with serving(repository({"m": null_session(SIGNATURE)}), settings) as front:
        yield front


def test_with_the_token(guarded):
    bearer = {"authorization": f"Bearer {TOKEN.decode()}"}
    with client.InferenceServerClient(f"127.0.0.1:{guarded.port}") as channel:
        assert channel.infer("m", [tensor(5)], headers=bearer).as_numpy("y").tolist() == [[5, 5]]
        assert channel.get_model_metadata("m", headers=bearer).name == "m"


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {"authorization": "Bearer another"},
        {"authorization": "Bearer"},
        {"authorization": TOKEN.decode()},
        {"authorization": f"Basic {TOKEN.decode()}"},
        {"authorization": f"Bearer {TOKEN.decode()}x"},
        {"x-authorization": f"Bearer {TOKEN.decode()}"},
    ],
)
def test_without_the_token(guarded, headers):
    with client.InferenceServerClient(f"127.0.0.1:{guarded.port}") as channel:
        assert channel.is_server_live(), "health is open"
        assert channel.is_server_ready()
        refused(lambda: channel.infer("m", [tensor()], headers=headers), "UNAUTHENTICATED")
        refused(lambda: channel.get_model_metadata("m", headers=headers), "UNAUTHENTICATED")
        refused(lambda: channel.get_server_metadata(headers=headers), "UNAUTHENTICATED")
    with RawClient(guarded.port) as raw:
        raw.call(1, "/inference.GRPCInferenceService/ModelStreamInfer")
        assert raw.trailers(1)["grpc-status"] == "16"
    assert guarded.server.memory.used == 0


def test_a_refused_upload_is_stopped(guarded):
    """The answer comes before the tensor is there, and the client is told to send no more of it."""
    with RawClient(guarded.port) as raw:
        raw.send(1, 0x4, 1, raw.headers(INFER))
        assert raw.trailers(1)["grpc-status"] == "16"
        assert raw.until(3, 1)[3] == bytes(4)


def test_settings_are_read_but_not_changed_without_admin():
    with (
        serving(repository({"m": null_session(SIGNATURE)})) as front,
        client.InferenceServerClient(f"127.0.0.1:{front.port}") as channel,
    ):
        assert channel.get_trace_settings(as_json=True)["settings"]["trace_level"]["value"] == ["OFF"]
        assert channel.get_log_settings(as_json=True)["settings"]["log_info"]["bool_param"] is True
        refused(lambda: channel.update_trace_settings(settings={"trace_level": ["OFF"]}), "PERMISSION_DENIED")
        refused(lambda: channel.update_log_settings({"log_info": True}), "PERMISSION_DENIED")
        refused(lambda: channel.load_model("m"), "PERMISSION_DENIED")
        refused(lambda: channel.unload_model("m"), "PERMISSION_DENIED")


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("making a certificate needs the openssl command")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    more = ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert]
    subprocess.run([*command.split(), *more], check=True, capture_output=True)
    return cert, key


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_tls(certificate, loop):
    cert, key = certificate
    context = tls_context(Access(certificate=cert, key=key))
    size = 200_000
    wide = Signature((TensorSpec("x", "float32", ("b", size)),), (TensorSpec("y", "float32", ("b", size)),))
    with serving(repository({"m": null_session(wide)}), loop=loop, tls=context) as front:
        with client.InferenceServerClient(f"localhost:{front.port}", ssl=True, root_certificates=str(cert)) as channel:
            x = client.InferInput("x", [1, size], "FP32")
            x.set_data_from_numpy(np.full((1, size), 3, np.float32))
            for _ in range(3):
                assert (channel.infer("m", [x]).as_numpy("y") == 3).all()
        with client.InferenceServerClient(f"localhost:{front.port}") as plain:
            refused(lambda: plain.infer("m", [x]), "UNAVAILABLE")


# Cancelling


def test_a_cancelled_call_is_not_run():
    session = Held()
    models = repository({"m": session}, BatcherSettings(max_batch=1))
    with serving(models) as front, client.InferenceServerClient(f"127.0.0.1:{front.port}") as channel:
        first = threading.Thread(target=lambda: channel.infer("m", [tensor()]))
        first.start()
        assert session.entered.acquire(timeout=10)
        told, ended = [], threading.Event()

        def done(result, error):
            told.append(error)
            ended.set()

        second = channel.async_infer("m", [tensor()], done)
        served = models.lookup("m")
        assert waited(lambda: served.pending == 1)
        second.cancel()
        assert ended.wait(10)
        assert waited(lambda: served.pending == 0)
        session.gate.set()
        first.join(10)
        assert session.batches == 1
        assert waited(lambda: front.server.memory.used == 0)
        assert served.statistics.totals()["failures"]["CANCELED"] == 1


def test_a_client_that_vanishes_cancels_its_calls():
    session = Held()
    models = repository({"m": session}, BatcherSettings(max_batch=1))
    with serving(models) as front:
        served = models.lookup("m")
        with RawClient(front.port) as raw:
            for stream in (1, 3, 5):
                raw.send(1, 0x4, stream, raw.headers(INFER))
                raw.send(0, 0x1, stream, grpc_message(infer_message(model_name="m")))
            assert session.entered.acquire(timeout=10)
            assert waited(lambda: served.pending == 2)
        assert waited(lambda: served.pending == 0)
        session.gate.set()
        assert waited(lambda: front.server.memory.used == 0)
        assert session.batches == 1


def test_a_deadline_passes_in_the_queue():
    session = Held()
    models = repository({"m": session}, BatcherSettings(max_batch=1, policy="eager"))
    with serving(models) as front, RawClient(front.port) as raw:
        raw.call(1, INFER, infer_message(model_name="m"))
        assert session.entered.acquire(timeout=10)
        raw.call(3, INFER, infer_message(model_name="m"), grpc_timeout="20m")
        timer = threading.Timer(0.2, session.gate.set)
        timer.start()
        ends = {}
        while len(ends) < 2:
            kind, flags, stream, payload = raw.frame()
            if kind == 1:
                fields = dict(raw.decoder.decode(payload))
                if flags & 1:
                    ends[stream] = fields["grpc-status"]
        assert ends == {1: "0", 3: "4"}
        assert session.batches == 1


def test_an_engine_that_hangs():
    session = Held()
    settings = ServeSettings(limits=Limits(request_s=0.05))
    with (
        serving(repository({"m": session}), settings) as front,
        client.InferenceServerClient(f"127.0.0.1:{front.port}") as channel,
    ):
        refused(lambda: channel.infer("m", [tensor()]), "DEADLINE_EXCEEDED")
        assert front.server.memory.used > 0, "the engine still reads the request"
        session.gate.set()
        assert waited(lambda: front.server.memory.used == 0)


# Draining


def test_what_was_begun_is_finished():
    session = Held()
    models = repository({"m": session}, BatcherSettings(max_batch=1))
    with serving(models) as front:
        channel = grpc.insecure_channel(f"127.0.0.1:{front.port}")
        infer = channel.unary_unary(INFER)
        flying = infer.future(infer_message(model_name="m"), timeout=20)
        assert session.entered.acquire(timeout=10)
        front.server.loop.call_soon_threadsafe(front.server.stop_accepting)
        assert waited(lambda: all(c._draining for c in front.server._connections))
        with pytest.raises(grpc.RpcError) as caught:
            infer(infer_message(model_name="m"), timeout=5)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        session.gate.set()
        assert flying.result(timeout=10)
        assert waited(lambda: front.server.connections == 0)
        channel.close()


def waited(condition, within_s=10.0):
    until = time.monotonic() + within_s
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


def test_an_answer_that_cannot_be_written_is_an_error_and_not_silence():
    """A model's name that is no text, as a folder's may be: protobuf has no string for it."""
    models = repository({"caf\udce9": null_session(SIGNATURE)})
    with serving(models) as front, RawClient(front.port) as raw:
        raw.call(1, "/inference.GRPCInferenceService/RepositoryIndex")
        assert raw.trailers(1)["grpc-status"] == "13"
        assert len(front.errors) == 1
        front.errors.clear()
