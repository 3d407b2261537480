"""tritonclient (sync, callback, stream, aio), unmodified, against a server in this process."""

import asyncio
import queue
import threading

import grpc
import numpy as np
import pytest
import tritonclient.grpc as client
import tritonclient.grpc.aio as aio
from grpc_servers import null_session, repository, serving
from tritonclient.utils import InferenceServerException

from assay.core.tensors import Signature, TensorSpec

X = np.arange(8, dtype=np.float32).reshape(2, 4)
MANY = {
    "text": np.array([[b"\x01\x02"], [b"\x03"]], dtype=object),
    "whole": np.array([[5, 6, 7], [8, 9, 10]], np.int32),
    "half": np.array([[0.5, 0], [1.5, 0]], np.float16),
    "flag": np.array([[True, False], [False, True]]),
}
WIRE = {"text": "BYTES", "whole": "INT32", "half": "FP16", "flag": "BOOL"}


@pytest.fixture(scope="module")
def channel(server):
    with client.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as found:
        yield found


def tensor(name, array, datatype="FP32"):
    made = client.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def refused(call, code):
    with pytest.raises(InferenceServerException) as caught:
        call()
    codes = (code,) if isinstance(code, str) else code
    assert caught.value.status() in [f"StatusCode.{c}" for c in codes], caught.value
    return caught.value.message()


# Inference


def test_one_input_one_output(channel):
    found = channel.infer("null", [tensor("x", X)], request_id="a7")
    assert np.array_equal(found.as_numpy("y"), [[0, 0], [4, 4]])
    response = found.get_response()
    assert (response.id, response.model_name, response.model_version) == ("a7", "null", "1")


def test_every_kind_of_tensor(channel, server):
    inputs = [tensor(name, array, WIRE[name]) for name, array in MANY.items()]
    found = channel.infer("many", inputs)
    served = server.repository.lookup("many")
    assert set(served.signature.output_names) == {"sum", "said", "small"}
    # weights 1..4 times the first of every input's row: sum(text bytes), whole, half, flag
    marks = np.array([3 * 1 + 5 * 2 + 0.5 * 3 + 1 * 4, 3 * 1 + 8 * 2 + 1.5 * 3 + 0 * 4])
    assert np.array_equal(found.as_numpy("sum"), marks[:, None])
    assert found.as_numpy("said").tolist() == [[str(m + 1).encode()] * 2 for m in marks]
    assert np.array_equal(found.as_numpy("small"), (marks[:, None] + 2).astype(np.float16))


def test_a_real_model_answers_as_over_rest(channel, server):
    import tritonclient.http as rest

    x = np.random.default_rng(3).standard_normal((3, 3, 32, 32)).astype(np.float32)
    over_grpc = channel.infer("pictures", [tensor("image", x)]).as_numpy("scores")
    given = rest.InferInput("image", list(x.shape), "FP32")
    given.set_data_from_numpy(x)
    with rest.InferenceServerClient(f"127.0.0.1:{server.port}") as other:
        over_rest = other.infer("pictures", [given]).as_numpy("scores")
    assert over_grpc.tobytes() == over_rest.tobytes()
    assert over_grpc.shape == (3, 5)


def test_encoded_pictures(channel):
    import io

    from PIL import Image

    made = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)).save(made, "PNG")
    found = channel.infer("pictures", [tensor("image", np.array([made.getvalue()], dtype=object), "BYTES")])
    assert found.as_numpy("scores").shape == (1, 5)


def test_chosen_outputs_and_classes(channel):
    x = np.ones((1, 3, 32, 32), np.float32)
    asked = [client.InferRequestedOutput("scores", class_count=2)]
    found = channel.infer("pictures", [tensor("image", x)], outputs=asked).as_numpy("scores")
    assert found.shape == (1, 2)
    value, index, label = found[0, 0].decode().split(":")
    plain = channel.infer("pictures", [tensor("image", x)]).as_numpy("scores")[0]
    assert int(index) == plain.argmax()
    assert float(value) == pytest.approx(float(plain.max()), abs=1e-5)
    assert label


def test_callback(channel):
    told = queue.Queue()
    for number in range(5):
        channel.async_infer(
            "null", [tensor("x", X)], lambda result, error: told.put((result, error)), request_id=str(number)
        )
    found = [told.get(timeout=10) for _ in range(5)]
    assert {r.get_response().id for r, _ in found} == set("01234")
    assert all(error is None for _, error in found)


def test_many_clients_get_their_own_rows(channel, server):
    failures = []

    def press(number):
        with client.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as mine:
            for step in range(20):
                value = 100.0 * number + step
                found = mine.infer("null", [tensor("x", np.full((1, 4), value, np.float32))]).as_numpy("y")
                if not (found == value).all():
                    failures.append((number, step, found))

    threads = [threading.Thread(target=press, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests(channel, algorithm):
    found = channel.infer("null", [tensor("x", X)], compression_algorithm=algorithm)
    assert np.array_equal(found.as_numpy("y"), [[0, 0], [4, 4]])


def test_large_tensors_both_ways():
    """8 MB in, 24 MB out: many frames, and more than the client's first window."""
    size = 2_000_000
    signature = Signature((TensorSpec("x", "float32", ("b", size)),), (TensorSpec("y", "float32", ("b", 3 * size)),))
    with (
        serving(repository({"large": null_session(signature)})) as found,
        client.InferenceServerClient(f"127.0.0.1:{found.port}") as channel,
    ):
        for value in (1.0, 2.0):
            y = channel.infer("large", [tensor("x", np.full((1, size), value, np.float32))]).as_numpy("y")
            assert y.shape == (1, 3 * size)
            assert (y == value).all()


# Streams


def test_a_stream_answers_in_order(channel):
    told = queue.Queue()
    channel.start_stream(lambda result, error: told.put((result, error)))
    try:
        for number in range(10):
            x = np.full((1, 4), number, np.float32)
            channel.async_stream_infer("null", [tensor("x", x)], request_id=str(number))
        for number in range(10):
            result, error = told.get(timeout=10)
            assert error is None
            assert result.get_response().id == str(number)
            assert (result.as_numpy("y") == number).all()
            assert result.get_response().parameters["triton_final_response"].bool_param
    finally:
        channel.stop_stream()


def test_an_error_does_not_end_a_stream(channel):
    told = queue.Queue()
    channel.start_stream(lambda result, error: told.put((result, error)))
    try:
        channel.async_stream_infer("nobody", [tensor("x", X)], request_id="first")
        channel.async_stream_infer("null", [tensor("x", X)], request_id="second")
        _, error = told.get(timeout=10)
        assert "unknown model" in str(error)
        result, error = told.get(timeout=10)
        assert error is None
        assert result.get_response().id == "second"
    finally:
        channel.stop_stream()


# asyncio's client


def test_asyncio(server):
    async def use():
        async with aio.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as channel:
            assert await channel.is_server_live()
            given = aio.InferInput("x", [2, 4], "FP32")
            given.set_data_from_numpy(X)
            found = await asyncio.gather(*(channel.infer("null", [given], request_id=str(n)) for n in range(10)))

            async def questions():
                for number in range(3):
                    yield {"model_name": "null", "inputs": [given], "request_id": str(number)}

            streamed = [r.get_response().id async for r, e in channel.stream_infer(questions()) if e is None]
            return [f.get_response().id for f in found], streamed

    found, streamed = asyncio.run(use())
    assert found == [str(n) for n in range(10)]
    assert streamed == ["0", "1", "2"]


# What a server says of itself


def test_health_and_metadata(channel):
    assert channel.is_server_live()
    assert channel.is_server_ready()
    assert channel.is_model_ready("null")
    assert channel.is_model_ready("null", "1")
    assert not channel.is_model_ready("nobody")
    assert not channel.is_model_ready("null", "2")
    assert "system_shared_memory" in channel.get_server_metadata().extensions
    found = channel.get_model_metadata("many", as_json=True)
    assert [(t["name"], t["datatype"], t["shape"]) for t in found["inputs"]][:2] == [
        ("text", "BYTES", ["-1", "1"]),
        ("whole", "INT32", ["-1", "3"]),
    ]


def test_the_standard_health_check(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=10) == b"\x08\x01"


def test_config_is_the_same_as_over_rest(channel, server):
    import json
    import urllib.request

    from google.protobuf import json_format

    from assay.serve.grpc.inference_pb2 import message

    over_grpc = channel.get_model_config("pictures").config
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/v2/models/pictures/config") as answer:
        over_rest = json.load(answer)
    # Nothing of it is lost: every field is in our ModelConfig.
    assert json_format.ParseDict(over_rest, message("ModelConfig")()).SerializeToString(
        deterministic=True
    ) == over_grpc.SerializeToString(deterministic=True)
    assert over_grpc.max_batch_size >= 1


def test_statistics_count(channel):
    def counted():
        (found,) = channel.get_inference_statistics("null").model_stats
        return found.inference_count, found.inference_stats.success.count, found.inference_stats.fail.count

    before = counted()
    channel.infer("null", [tensor("x", X)])
    after = counted()
    assert (after[0] - before[0], after[1] - before[1]) == (2, 1)
    assert channel.get_inference_statistics().model_stats


def test_repository(channel):
    assert {(m.name, m.state) for m in channel.get_model_repository_index().models} >= {("null", "READY")}
    channel.unload_model("null")
    assert not channel.is_model_ready("null")
    refused(lambda: channel.infer("null", [tensor("x", X)]), "NOT_FOUND")
    channel.load_model("null")
    assert channel.is_model_ready("null")
    assert "file:" in refused(
        lambda: channel.load_model("null", config="{}", files={"file:1/m": b"x"}), "INVALID_ARGUMENT"
    )
    assert "nobody" in refused(lambda: channel.load_model("nobody"), "INVALID_ARGUMENT")
    assert "nobody" in refused(lambda: channel.unload_model("nobody"), "NOT_FOUND")


def test_trace_and_log_settings_stay_as_they_are(channel):
    assert channel.get_trace_settings(as_json=True)["settings"]["trace_level"]["value"] == ["OFF"]
    refused(lambda: channel.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]}), "UNIMPLEMENTED")
    refused(lambda: channel.update_trace_settings(settings={"nonsense": ["1"]}), "INVALID_ARGUMENT")
    assert channel.get_log_settings(as_json=True)["settings"]["log_info"]["bool_param"] is True
    refused(lambda: channel.update_log_settings({"log_verbose_level": 3}), "UNIMPLEMENTED")
    assert channel.update_log_settings({"log_info": True}) is not None


# Wrong requests


@pytest.mark.parametrize(
    ("call", "code", "says"),
    [
        (lambda c: c.infer("nobody", [tensor("x", X)]), "NOT_FOUND", "nobody"),
        (lambda c: c.infer("null", [tensor("x", X)], model_version="9"), "NOT_FOUND", "version 9"),
        (lambda c: c.infer("null", [tensor("x", X)], model_version="latest"), "INVALID_ARGUMENT", "latest"),
        (lambda c: c.infer("null", [tensor("z", X)]), "INVALID_ARGUMENT", "z"),
        (lambda c: c.infer("null", []), "INVALID_ARGUMENT", "no inputs"),
        (lambda c: c.infer("null", [tensor("x", X), tensor("x", X)]), "INVALID_ARGUMENT", "twice"),
        (lambda c: c.infer("null", [tensor("x", X[:, :3])]), "INVALID_ARGUMENT", "dim 1"),
        (lambda c: c.infer("null", [tensor("x", X.astype(np.int32), "INT32")]), "INVALID_ARGUMENT", "float32"),
        (
            lambda c: c.infer("null", [tensor("x", X)], outputs=[client.InferRequestedOutput("q")]),
            "INVALID_ARGUMENT",
            "q",
        ),
        (lambda c: c.infer("null", [tensor("x", X)], timeout=-5), "INVALID_ARGUMENT", "timeout"),
        (lambda c: c.get_model_metadata("nobody"), "NOT_FOUND", "nobody"),
        (lambda c: c.get_model_config("nobody"), "NOT_FOUND", "nobody"),
        (lambda c: c.get_inference_statistics("nobody"), "NOT_FOUND", "nobody"),
        (lambda c: c.register_cuda_shared_memory("r", b"", 0, 8), "UNIMPLEMENTED", "CUDA"),
    ],
)
def test_wrong_requests_are_told_what_is_wrong(channel, call, code, says):
    assert says in refused(lambda: call(channel), code)
    assert channel.is_server_live()


def test_a_timeout_of_the_schedule_policy(channel):
    refused(lambda: channel.infer("null", [tensor("x", X)], timeout=1), ("DEADLINE_EXCEEDED", "UNAVAILABLE"))
    assert channel.infer("null", [tensor("x", X)], priority=1, timeout=30_000_000).as_numpy("y") is not None
