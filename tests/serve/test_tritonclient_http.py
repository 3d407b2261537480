"""The unmodified client people have: tritonclient, sync and aio."""

import asyncio

import numpy as np
import pytest

http = pytest.importorskip("tritonclient.http")
aio = pytest.importorskip("tritonclient.http.aio")
shared = pytest.importorskip("tritonclient.utils.shared_memory")

X = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def client(server):
    with http.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=4) as found:
        yield found


def given(x=X, binary=True):
    made = http.InferInput("image", x.shape, "FP32")
    made.set_data_from_numpy(x, binary_data=binary)
    return [made]


@pytest.fixture(scope="module")
def expected(client):
    return client.infer("pictures", given()).as_numpy("scores")


def test_health_metadata_and_configuration(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("pictures", "1")
    assert not client.is_model_ready("pictures", "2")
    assert not client.is_model_ready("nobody")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("pictures")
    assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 32, 32]}]
    config = client.get_model_config("pictures")
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (8, [3, 32, 32])
    assert "dynamic_batching" in config


def test_the_configuration_is_tritons_own_message(client):
    config_pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    json_format = pytest.importorskip("google.protobuf.json_format")
    config = json_format.ParseDict(client.get_model_config("many"), config_pb2.ModelConfig())
    assert config.input[0].data_type == config_pb2.TYPE_STRING


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_every_combination_of_forms_gives_the_same_bits(client, expected, binary_in, binary_out):
    outputs = [http.InferRequestedOutput("scores", binary_data=binary_out)]
    found = client.infer("pictures", given(binary=binary_in), outputs=outputs, request_id="n1")
    assert np.array_equal(found.as_numpy("scores"), expected)
    assert found.get_response()["id"] == "n1"


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests(client, expected, algorithm):
    found = client.infer(
        "pictures", given(), request_compression_algorithm=algorithm, response_compression_algorithm=algorithm
    )
    assert np.array_equal(found.as_numpy("scores"), expected)


def test_async_requests_merged_or_not_are_bit_equal_row_by_row(client, expected):
    handles = [client.async_infer("pictures", given(X[n % 3 : n % 3 + 1])) for n in range(30)]
    for number, handle in enumerate(handles):
        found = handle.get_result().as_numpy("scores")
        np.testing.assert_allclose(found, expected[number % 3 : number % 3 + 1], rtol=1e-5, atol=1e-6)


def test_aio(server, expected):
    async def many():
        async with aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            asked = aio.InferInput("image", X.shape, "FP32")
            asked.set_data_from_numpy(X)
            return await asyncio.gather(*(client.infer("pictures", [asked]) for _ in range(20)))

    for found in asyncio.run(many()):
        assert np.array_equal(found.as_numpy("scores"), expected)


def test_classes(client):
    asked = [http.InferRequestedOutput("scores", class_count=2)]
    found = client.infer("pictures", given(), outputs=asked).as_numpy("scores")
    assert found.shape == (3, 2)
    assert len(found[0, 0].split(b":")) == 3


def test_statistics_count_requests_rows_and_executions(client):
    def read():
        (found,) = client.get_inference_statistics("pictures", "1")["model_stats"]
        return found

    before = read()
    client.infer("pictures", given())
    with pytest.raises(http.InferenceServerException):
        client.infer("pictures", given(X[:, :, :31]))
    after = read()
    assert after["inference_count"] - before["inference_count"] == 3
    assert after["execution_count"] - before["execution_count"] == 1
    for phase, count in {"success": 1, "fail": 1, "queue": 1, "compute_infer": 1}.items():
        stats = (before["inference_stats"][phase], after["inference_stats"][phase])
        assert stats[1]["count"] - stats[0]["count"] == count
        # What is over in microseconds runs where it came in and does not wait at all.
        assert stats[1]["ns"] >= stats[0]["ns"] + (phase != "queue")
    assert after["last_inference"] >= before["last_inference"]
    assert {b["batch_size"] for b in after["batch_stats"]} >= {3}


def test_repository(client):
    index = client.get_model_repository_index()
    assert {"name": "pictures", "version": "1", "state": "READY"} in index
    client.unload_model("null")
    assert not client.is_model_ready("null")
    with pytest.raises(http.InferenceServerException, match="no available versions"):
        client.get_model_metadata("null")
    client.load_model("null")
    assert client.is_model_ready("null")
    with pytest.raises(http.InferenceServerException, match="nobody"):
        client.load_model("nobody")
    with pytest.raises(http.InferenceServerException, match="file: overrides"):
        client.load_model("null", config="{}", files={"file:1/model.onnx": b"x"})
    with pytest.raises(http.InferenceServerException, match="config override"):
        client.load_model("null", config='{"max_batch_size": 99}')


def test_system_shared_memory(client, expected):
    into = shared.create_shared_memory_region("in", "/assay-test-in", X.nbytes)
    out = shared.create_shared_memory_region("out", "/assay-test-out", expected.nbytes)
    try:
        shared.set_shared_memory_region(into, [X])
        client.register_system_shared_memory("in", "/assay-test-in", X.nbytes)
        client.register_system_shared_memory("out", "/assay-test-out", expected.nbytes)
        assert {r["name"] for r in client.get_system_shared_memory_status()} == {"in", "out"}
        asked = http.InferInput("image", X.shape, "FP32")
        asked.set_shared_memory("in", X.nbytes)
        output = http.InferRequestedOutput("scores")
        output.set_shared_memory("out", expected.nbytes)
        client.infer("pictures", [asked], outputs=[output])
        assert np.array_equal(shared.get_contents_as_numpy(out, np.float32, list(expected.shape)), expected)
        output.set_shared_memory("out", expected.nbytes - 4)
        with pytest.raises(http.InferenceServerException, match="bytes"):
            client.infer("pictures", [asked], outputs=[output])
        asked.set_shared_memory("in", X.nbytes, offset=4)
        with pytest.raises(http.InferenceServerException, match="Invalid offset"):
            client.infer("pictures", [asked])
    finally:
        client.unregister_system_shared_memory()
        shared.destroy_shared_memory_region(into)
        shared.destroy_shared_memory_region(out)
    assert client.get_system_shared_memory_status() == []


def test_regions_that_cannot_be(client):
    for key in ("/../etc/passwd", "/no-such-object-anywhere", ""):
        with pytest.raises(http.InferenceServerException):
            client.register_system_shared_memory("bad", key, 16)
    with pytest.raises(http.InferenceServerException, match="CUDA"):
        client.register_cuda_shared_memory("cuda", b"aGFuZGxl", 0, 16)
