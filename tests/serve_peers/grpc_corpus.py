"""gRPC calls to replay against two servers of the models of ``models.py``: (method, request message)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tests.serve_peers.corpus import GOOD, ODD, ROW, X, arrays, elements


@dataclass(frozen=True)
class Call:
    """``numbers`` False leaves values uncompared (times, counts); a stream's requests are sent in their order."""

    name: str
    kind: str
    method: str
    request: Any
    numbers: bool = True


def calls() -> Iterator[Call]:
    from tritonclient.grpc import service_pb2 as pb

    yield from _plain(pb)
    yield from _good(pb)
    yield from _odd(pb)


def infer(pb: Any, model: str, inputs: Any, raw: Any = (), **more: Any) -> Any:
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=list(raw), **more)
    request.inputs.extend(inputs)
    return request


def tensor(pb: Any, name: str = "x", datatype: str = "FP32", shape: Any = (1, 16), **contents: Any) -> Any:
    made = pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=list(shape))
    for field, values in contents.items():
        getattr(made.contents, field).extend(values)
    return made


def wanted(pb: Any, name: str, **parameters: int) -> Any:
    made = pb.ModelInferRequest.InferRequestedOutputTensor(name=name)
    for key, value in parameters.items():
        made.parameters[key].int64_param = value
    return made


def _plain(pb: Any) -> Iterator[Call]:
    yield Call("live", GOOD, "ServerLive", pb.ServerLiveRequest())
    yield Call("ready", GOOD, "ServerReady", pb.ServerReadyRequest())
    for name in ("small", "pair", "id_BYTES"):
        yield Call(f"{name} ready", GOOD, "ModelReady", pb.ModelReadyRequest(name=name))
        yield Call(f"{name} metadata", GOOD, "ModelMetadata", pb.ModelMetadataRequest(name=name))
    yield Call("metadata of a version", GOOD, "ModelMetadata", pb.ModelMetadataRequest(name="small", version="1"))
    yield Call("statistics", GOOD, "ModelStatistics", pb.ModelStatisticsRequest(name="small"), numbers=False)
    yield Call("index", GOOD, "RepositoryIndex", pb.RepositoryIndexRequest(ready=True), numbers=False)
    for method, request in (
        ("ModelReady", pb.ModelReadyRequest(name="nobody")),
        ("ModelReady", pb.ModelReadyRequest(name="small", version="9")),
        ("ModelMetadata", pb.ModelMetadataRequest(name="nobody")),
        ("ModelMetadata", pb.ModelMetadataRequest(name="small", version="9")),
        ("ModelConfig", pb.ModelConfigRequest(name="nobody")),
        ("ModelStatistics", pb.ModelStatisticsRequest(name="nobody")),
    ):
        yield Call(f"{method} of {request.name} {request.version}".strip(), ODD, method, request)


def _good(pb: Any) -> Iterator[Call]:
    raw = [X.tobytes()]
    yield Call("raw", GOOD, "ModelInfer", infer(pb, "small", [tensor(pb)], raw))
    yield Call("typed", GOOD, "ModelInfer", infer(pb, "small", [tensor(pb, fp32_contents=ROW)]))
    yield Call("id and version", GOOD, "ModelInfer", infer(pb, "small", [tensor(pb)], raw, id="é7", model_version="1"))
    rows = np.concatenate([X, X[:, ::-1], X])
    yield Call("three rows", GOOD, "ModelInfer", infer(pb, "small", [tensor(pb, shape=(3, 16))], [rows.tobytes()]))
    for names in (("best",), ("scores",), ("best", "scores")):
        outputs = [wanted(pb, name) for name in names]
        yield Call(
            f"outputs {' '.join(names)}", GOOD, "ModelInfer", infer(pb, "small", [tensor(pb)], raw, outputs=outputs)
        )
    for count in (1, 3):
        outputs = [wanted(pb, "scores", classification=count)]
        yield Call(
            f"classification {count}", GOOD, "ModelInfer", infer(pb, "small", [tensor(pb)], raw, outputs=outputs)
        )
    pair = [tensor(pb, "a"), tensor(pb, "b")]
    yield Call("two inputs", GOOD, "ModelInfer", infer(pb, "pair", pair, raw * 2))
    yield Call(
        "two inputs the other way round", GOOD, "ModelInfer", infer(pb, "pair", pair[::-1], [rows[1:2].tobytes(), *raw])
    )
    fields = {"BOOL": "bool_contents", "BYTES": "bytes_contents", "FP32": "fp32_contents", "FP64": "fp64_contents"}
    fields |= {"INT8": "int_contents", "INT64": "int64_contents", "UINT8": "uint_contents", "UINT64": "uint64_contents"}
    for datatype, array in arrays().items():
        content = elements(array) if datatype == "BYTES" else array.tobytes()
        given = tensor(pb, "x", datatype, array.shape)
        yield Call(f"{datatype} raw", GOOD, "ModelInfer", infer(pb, f"id_{datatype}", [given], [content]))
        if datatype in fields:
            typed = tensor(pb, "x", datatype, array.shape, **{fields[datatype]: array.ravel().tolist()})
            yield Call(f"{datatype} typed", GOOD, "ModelInfer", infer(pb, f"id_{datatype}", [typed]))
    scheduled = infer(pb, "small", [tensor(pb)], raw)
    scheduled.parameters["timeout"].int64_param = 9_000_000
    scheduled.parameters["priority"].int64_param = 0
    yield Call("timeout and priority", GOOD, "ModelInfer", scheduled)


def _odd(pb: Any) -> Iterator[Call]:
    raw = [X.tobytes()]
    for name, request in (
        ("unknown model", infer(pb, "nobody", [tensor(pb)], raw)),
        ("unknown version", infer(pb, "small", [tensor(pb)], raw, model_version="9")),
        ("a version that is no number", infer(pb, "small", [tensor(pb)], raw, model_version="new")),
        ("no inputs", infer(pb, "small", [])),
        ("one input of two", infer(pb, "pair", [tensor(pb, "a")], raw)),
        ("an unknown input", infer(pb, "small", [tensor(pb, "z")], raw)),
        ("an input twice", infer(pb, "small", [tensor(pb), tensor(pb)], raw * 2)),
        ("an unknown output", infer(pb, "small", [tensor(pb)], raw, outputs=[wanted(pb, "z")])),
        ("another datatype", infer(pb, "small", [tensor(pb, datatype="INT32")], raw)),
        ("a datatype that is none", infer(pb, "small", [tensor(pb, datatype="FLOAT")], raw)),
        ("raw too short", infer(pb, "small", [tensor(pb)], [raw[0][:-4]])),
        ("raw too long", infer(pb, "small", [tensor(pb)], [raw[0] + b"\0"])),
        ("raw missing", infer(pb, "small", [tensor(pb)])),
        ("raw of more inputs than there are", infer(pb, "small", [tensor(pb)], raw * 2)),
        ("raw and typed", infer(pb, "small", [tensor(pb, fp32_contents=ROW)], raw)),
        ("typed of another type", infer(pb, "small", [tensor(pb, int64_contents=[1] * 16)])),
        ("typed too few", infer(pb, "small", [tensor(pb, fp32_contents=ROW[:3])])),
        ("typed too many", infer(pb, "small", [tensor(pb, fp32_contents=ROW * 2)])),
        ("typed in two fields", infer(pb, "small", [tensor(pb, fp32_contents=ROW, int64_contents=[1])])),
        ("a dim too few", infer(pb, "small", [tensor(pb, shape=(16,))], raw)),
        ("a dim too small", infer(pb, "small", [tensor(pb, shape=(2, 8))], raw)),
        ("a zero dim", infer(pb, "small", [tensor(pb, shape=(0, 16))], [b""])),
        ("a negative dim", infer(pb, "small", [tensor(pb, shape=(-1, 16))], raw)),
        ("no dims", infer(pb, "small", [tensor(pb, shape=())], raw)),
        ("more rows than the batch takes", infer(pb, "small", [tensor(pb, shape=(9, 16))], [raw[0] * 9])),
        ("BYTES whose length lies", infer(pb, "id_BYTES", [tensor(pb, "x", "BYTES", (1, 3))], [b"\x09\0\0\0abc"])),
        ("FP16 typed", infer(pb, "id_FP16", [tensor(pb, "x", "FP16", (1, 3), fp32_contents=[1, 2, 3])])),
        ("a number beyond INT8", infer(pb, "id_INT8", [tensor(pb, "x", "INT8", (1, 3), int_contents=[200, 1, 2])])),
    ):
        yield Call(name, ODD, "ModelInfer", request)
    region = tensor(pb)
    region.parameters["shared_memory_region"].string_param = "nobody"
    region.parameters["shared_memory_byte_size"].int64_param = 64
    yield Call("shared memory nobody registered", ODD, "ModelInfer", infer(pb, "small", [region]))
    load = pb.RepositoryModelLoadRequest(model_name="small")
    load.parameters["file:1/model.py"].bytes_param = b"print(1)"
    yield Call("load with a file", ODD, "RepositoryModelLoad", load)
    path = pb.SystemSharedMemoryRegisterRequest(name="r", key="/../etc/passwd", byte_size=64)
    yield Call("shared memory of a path", ODD, "SystemSharedMemoryRegister", path)
