"""A gRPC server in a thread of this process around models made on the spot, and raw HTTP/2 to ask it with."""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import hpack
import numpy as np

from assay.batching.batcher import DynamicBatcher
from assay.batching.settings import BatcherSettings
from assay.engines.null import NullSession
from assay.serve.grpc.frames import PREFACE, header
from assay.serve.grpc.inference_pb2 import message
from assay.serve.grpc.server import GrpcServer
from assay.serve.models import ModelParts
from assay.serve.repository import Repository
from assay.serve.settings import ServeSettings


class Loader:
    """``sessions``: name -> Session or a function that makes one."""

    def __init__(self, sessions, settings=None):
        self.sessions = sessions
        self.settings = settings or BatcherSettings(max_batch=4)

    def names(self):
        return list(self.sessions)

    def versions(self, name):
        return {"1": "key"}

    def open(self, name, version):
        session = self.sessions[name]
        session = session() if callable(session) else session
        queue = DynamicBatcher(session, self.settings)
        queue.start()
        return ModelParts(
            name, version, queue.signature, queue, session.close, max_batch=self.settings.max_batch, platform="test"
        )


def null_session(signature):
    return lambda: NullSession(signature, 1)


def repository(sessions, settings=None):
    made = Repository(Loader(sessions, settings))
    for name in sessions:
        made.load(name)
    return made


class Front:
    def __init__(self, port, server, errors):
        self.port = port
        self.server = server
        self.errors = errors


@contextlib.contextmanager
def serving(models, settings=None, *, loop="uvloop", tls=None, memory=None, shadow=None):
    """The port of a running GrpcServer.  ``errors`` holds what nobody expected; the models are closed after it."""
    settings = settings or ServeSettings()
    errors, ready, found = [], threading.Event(), {}

    async def main():
        stop = asyncio.Event()
        server = GrpcServer(models, settings, executor, memory, shadow, errors.append)
        found["port"] = await server.start("127.0.0.1", 0, tls)
        found.update(server=server, stop=stop, loop=asyncio.get_running_loop())
        ready.set()
        await stop.wait()
        server.stop_accepting()
        found["drained"] = await server.drained(2.0)

    def run():
        if loop == "uvloop":
            import uvloop

            uvloop.run(main())
        else:
            asyncio.run(main())

    with ThreadPoolExecutor(2) as executor:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert ready.wait(10)
        try:
            yield Front(found["port"], found["server"], errors)
        finally:
            found["loop"].call_soon_threadsafe(found["stop"].set)
            thread.join(10)
            models.drain_s = 2.0
            models.close()
    assert errors == [], errors


class RawClient:
    """HTTP/2 by hand: frames out, frames in."""

    def __init__(self, port, greet=True):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.left = b""
        if greet:
            self.socket.sendall(PREFACE + header(0, 4, 0, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, kind, flags, stream, payload=b""):
        self.socket.sendall(header(len(payload), kind, flags, stream) + payload)

    def headers(self, path="/inference.GRPCInferenceService/ServerLive", **more):
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "x",
            "te": "trailers",
            "content-type": "application/grpc",
        }
        fields.update({k.replace("_", "-"): v for k, v in more.items() if k != "method"})
        if "method" in more:
            fields[":method"] = more["method"]
        return self.encoder.encode(list(fields.items()))

    def call(self, stream, path="/inference.GRPCInferenceService/ServerLive", content=b"", **more):
        """A whole unary call."""
        self.send(1, 0x4, stream, self.headers(path, **more))
        self.send(0, 0x1, stream, grpc_message(content))

    def frame(self):
        """The next frame as (kind, flags, stream, payload), or None at the end."""
        while len(self.left) < 9 or len(self.left) < 9 + int.from_bytes(self.left[:3], "big"):
            try:
                got = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not got:
                return None
            self.left += got
        size = int.from_bytes(self.left[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", self.left[3:9])
        payload, self.left = self.left[9 : 9 + size], self.left[9 + size :]
        return kind, flags, stream & 0x7FFFFFFF, payload

    def until(self, kind, stream=None):
        """The next frame of a kind (of a stream); what comes before is passed over."""
        while (found := self.frame()) is not None:
            if found[0] == 1 and (kind != 1 or stream not in (None, found[2])):
                self.decoder.decode(found[3])  # the table must see every block
            if found[0] == kind and stream in (None, found[2]):
                return found
        return None

    def trailers(self, stream):
        """The headers a stream ends with."""
        while (found := self.until(1, stream)) is not None:
            fields = dict(self.decoder.decode(found[3]))
            if found[1] & 1:
                return fields
        return None

    def goaway(self):
        """The code of the GOAWAY that ends this connection."""
        found = self.until(7)
        return None if found is None else struct.unpack(">I", found[3][4:8])[0]


def grpc_message(content, flag=0):
    return bytes((flag,)) + len(content).to_bytes(4, "big") + content


def infer_message(value=3.0, **changes):
    made = message("ModelInferRequest")(model_name="null", id="i")
    made.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    made.raw_input_contents.append(np.full(4, value, np.float32).tobytes())
    for name, value in changes.items():
        setattr(made, name, value)
    return made.SerializeToString()


def until(holds):
    """Wait for what another thread does; fails after ten seconds."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
