"""Against a real gRPC server on loopback; needs ``pip install 'assay[grpc]'``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from assay.core.artifact import Artifact, file_artifact
from assay.core.engine import OpenOptions
from assay.core.errors import BadInput, EngineFailed
from assay.engines.remote import RemoteEngine
from assay.engines.remote_wire import WIRE_NAMES, from_bytes, to_bytes

try:
    import tritonclient.grpc  # noqa: F401
except (ImportError, RuntimeError):  # RuntimeError: installed without its gRPC part
    pytest.skip("needs tritonclient: pip install 'assay[grpc]'", allow_module_level=True)

DTYPES = ("float32", "float16", "bfloat16", "int64", "uint8", "bool", "string")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Gives every input ``a_<dtype>`` back, its rows reversed, as ``b_<dtype>``."""
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
        def ModelMetadata(self, request: Any, context: Any) -> Any:
            if request.name != "echo":
                context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {request.name}")
            tensor = service_pb2.ModelMetadataResponse.TensorMetadata
            wires = [(d, WIRE_NAMES[d]) for d in DTYPES]
            return service_pb2.ModelMetadataResponse(
                name="echo",
                inputs=[tensor(name=f"a_{d}", datatype=w, shape=[-1, 2]) for d, w in wires],
                outputs=[tensor(name=f"b_{d}", datatype=w, shape=[-1, 2]) for d, w in wires],
            )

        def ModelInfer(self, request: Any, context: Any) -> Any:
            answer = service_pb2.ModelInferResponse(model_name="echo")
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
                dtype = tensor.name.removeprefix("a_")
                array = from_bytes(raw, dtype, tensor.shape)[::-1]
                answer.outputs.add(name=f"b_{dtype}", datatype=tensor.datatype, shape=tensor.shape)
                answer.raw_output_contents.append(bytes(to_bytes(array)))
            return answer

    server = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
    bound = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield bound
    server.stop(0).wait()


def described(folder: Path, port: int, model: str) -> Artifact:
    path = folder / "remote.json"
    path.write_text(json.dumps({"url": f"grpc://127.0.0.1:{port}", "protocol": "grpc", "model": model}))
    return file_artifact(path, "remote")


def test_every_dtype_comes_back_exact(tmp_path: Path, port: int) -> None:
    feed = {
        f"a_{d}": np.array([[1, 0], [3, 1]]).astype(ml_dtypes.bfloat16 if d == "bfloat16" else d)
        for d in DTYPES
        if d != "string"
    }
    feed["a_bfloat16"][0, 0] = ml_dtypes.bfloat16(0.1)
    feed["a_string"] = np.array([[b"a", b"\xff\0"], [b"", "grüß".encode()]], dtype=object)
    with RemoteEngine().open(described(tmp_path, port, "echo"), OpenOptions(instances=2)) as session:
        assert session.parallelism == 2
        for _ in range(2):
            found = session.run(feed)
    assert len(found) == len(DTYPES)
    for dtype in DTYPES:
        assert found[f"b_{dtype}"].dtype == feed[f"a_{dtype}"].dtype
        assert found[f"b_{dtype}"].tolist() == feed[f"a_{dtype}"][::-1].tolist()


def test_the_servers_own_words_reach_the_caller(tmp_path: Path, port: int) -> None:
    with pytest.raises(BadInput, match="unknown model other"):
        RemoteEngine().open(described(tmp_path, port, "other"), OpenOptions())


def test_nobody_there_is_one_message(tmp_path: Path) -> None:
    artifact = described(tmp_path, 1, "echo")
    with pytest.raises(EngineFailed, match=r"127\.0\.0\.1:1"):
        RemoteEngine().open(artifact, OpenOptions())
