"""Regions by themselves, and tensors through them with tritonclient."""

import os
import threading
import uuid
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as client
from grpc_servers import null_session, repository, serving
from tritonclient.utils import InferenceServerException, shared_memory

from assay.core.tensors import Signature, TensorSpec
from assay.serve.errors import ServeError
from assay.serve.settings import Access, ServeSettings
from assay.serve.shared_memory import SharedMemoryRegistry

SIGNATURE = Signature(
    (TensorSpec("x", "float32", ("b", 4)), TensorSpec("t", "string", ("b",))),
    (TensorSpec("y", "float32", ("b", 2)), TensorSpec("said", "string", ("b",))),
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "region").write_bytes(bytes(range(256)) * 64)
    return tmp_path


@pytest.fixture
def registry(folder):
    made = SharedMemoryRegistry(folder)
    yield made
    made.close()


def refused(call, code):
    with pytest.raises(ServeError) as caught:
        call()
    assert caught.value.kind.grpc == code
    return caught.value.message


def test_a_view_is_the_objects_own_bytes(registry, folder):
    registry.register("r", "/region", 5000, 1000)
    view = registry.view("r", 10, 4)
    assert bytes(view) == bytes((5010 + i) % 256 for i in range(4))
    view[:] = b"abcd"
    assert (folder / "region").read_bytes()[5010:5014] == b"abcd"
    assert registry.status() == [{"name": "r", "key": "/region", "offset": 5000, "byte_size": 1000}]
    assert registry.status("r") == registry.status()


def test_ranges(registry):
    registry.register("r", "region", 0, 16384)
    assert len(registry.view("r", 0, 16384)) == 16384
    assert len(registry.view("r", 16384, 0)) == 0
    for offset, size in ((0, 16385), (1, 16384), (16385, 0), (-1, 4), (4, -1), (1 << 63, 1), (1, 1 << 63)):
        refused(lambda o=offset, s=size: registry.view("r", o, s), "INVALID_ARGUMENT")
    refused(lambda: registry.view("nobody", 0, 1), "NOT_FOUND")


@pytest.mark.parametrize("range_", [(0, 16385), (16384, 1), (1 << 62, 1), (0, 0), (0, -1), (-4096, 10), (0, 1 << 63)])
def test_a_range_the_object_does_not_have(registry, range_):
    refused(lambda: registry.register("r", "region", *range_), "INVALID_ARGUMENT")
    assert registry.status() == []


@pytest.mark.parametrize(
    "key",
    ["", "/", ".", "..", "/..", "../secret", "/../secret", "a/b", "/a/b", "//region", "re\0gion", "x" * 300, "\ud800"],
)
def test_a_key_is_one_name(registry, key):
    refused(lambda: registry.register("r", key, 0, 8), "INVALID_ARGUMENT")


def test_only_regular_objects(registry, folder):
    (folder / "link").symlink_to(folder / "region")
    (folder / "inner").mkdir()
    os.mkfifo(folder / "pipe")
    for key in ("link", "inner", "pipe", "absent"):
        refused(lambda k=key: registry.register("r", k, 0, 8), "INVALID_ARGUMENT")


def test_a_name_is_registered_once(registry):
    registry.register("r", "region", 0, 8)
    assert "already" in refused(lambda: registry.register("r", "region", 0, 8), "ALREADY_EXISTS")
    refused(lambda: registry.register("", "region", 0, 8), "INVALID_ARGUMENT")
    registry.unregister("nobody")
    registry.unregister("r")
    refused(lambda: registry.view("r", 0, 1), "NOT_FOUND")
    refused(lambda: registry.status("r"), "NOT_FOUND")
    registry.register("r", "region", 8, 8)
    registry.register("s", "region", 16, 8)
    registry.unregister()
    assert registry.status() == []


def test_an_unregistered_region_lives_until_its_views_are_gone(registry):
    registry.register("r", "region", 0, 8)
    view = registry.view("r", 0, 8)
    registry.unregister("r")
    assert bytes(view) == bytes(range(8))
    view[0] = 9
    assert view[0] == 9


def test_an_object_made_smaller_is_noticed(registry, folder):
    registry.register("r", "region", 0, 16384)
    os.truncate(folder / "region", 4096)
    assert "smaller" in refused(lambda: registry.view("r", 0, 8), "INVALID_ARGUMENT")


def test_no_file_stays_open(registry):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(50):
        registry.register(f"r{number}", "region", 0, 8)
        registry.unregister(f"r{number}")
        with pytest.raises(ServeError):
            registry.register("bad", "region", 0, 1 << 40)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_threads_may_register_and_look_at_once(registry):
    registry.register("steady", "region", 0, 8)
    failures = []

    def work(number):
        for _ in range(200):
            try:
                registry.register(f"r{number}", "region", 0, 8)
                if bytes(registry.view("steady", 0, 8)) != bytes(range(8)):
                    failures.append("another content")
                registry.unregister(f"r{number}")
            except ServeError as error:
                failures.append(error.message)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# Through gRPC


@pytest.fixture(scope="module")
def channel():
    settings = ServeSettings(access=Access(admin=True))
    models = repository({"m": null_session(SIGNATURE)})
    memory = SharedMemoryRegistry()
    with (
        serving(models, settings, memory=memory) as front,
        client.InferenceServerClient(f"127.0.0.1:{front.port}") as found,
    ):
        yield found
    memory.close()


@pytest.fixture
def region(channel):
    """A region of 4096 bytes, registered as ``r``."""
    key = f"/assay-test-{uuid.uuid4().hex}"
    handle = shared_memory.create_shared_memory_region("mine", key, 4096)
    channel.register_system_shared_memory("r", key, 4096)
    yield handle
    channel.unregister_system_shared_memory("r")
    shared_memory.destroy_shared_memory_region(handle)


def inputs(text_in_memory=False):
    x = client.InferInput("x", [2, 4], "FP32")
    x.set_shared_memory("r", 32, offset=0)
    t = client.InferInput("t", [2], "BYTES")
    if text_in_memory:
        t.set_shared_memory("r", 10, offset=64)
    else:
        t.set_data_from_numpy(np.array([b"\x01", b"\x02"], dtype=object))
    return [x, t]


def test_inputs_and_outputs_in_shared_memory(channel, region):
    x = np.array([[1, 0, 0, 0], [2, 0, 0, 0]], np.float32)
    shared_memory.set_shared_memory_region(region, [x])
    y = client.InferRequestedOutput("y")
    y.set_shared_memory("r", 100, offset=128)
    found = channel.infer("m", inputs(), outputs=[y, client.InferRequestedOutput("said")])
    # y = 1·x + 2·t, said its text + 1
    got = shared_memory.get_contents_as_numpy(region, np.float32, [2, 2], offset=128)
    assert got.tolist() == [[3, 3], [6, 6]]
    assert found.as_numpy("said").tolist() == [b"4.0", b"7.0"]
    placed = found.get_output("y").parameters
    assert (placed["shared_memory_region"].string_param, placed["shared_memory_offset"].int64_param) == ("r", 128)
    assert placed["shared_memory_byte_size"].int64_param == 16
    # Not a copy made once: the next request sees the next content.
    shared_memory.set_shared_memory_region(region, [x + 10])
    channel.infer("m", inputs(), outputs=[y])
    assert shared_memory.get_contents_as_numpy(region, np.float32, [2, 2], offset=128).tolist() == [[13, 13], [16, 16]]


def test_strings_in_shared_memory(channel, region):
    packed = np.frombuffer(b"\x01\x00\x00\x00\x01" + b"\x01\x00\x00\x00\x02", np.uint8)
    shared_memory.set_shared_memory_region(region, [np.zeros((2, 4), np.float32)])
    shared_memory.set_shared_memory_region(region, [packed], offset=64)
    found = channel.infer("m", inputs(text_in_memory=True))
    assert found.as_numpy("y").tolist() == [[2, 2], [4, 4]]


def test_status_and_registration(channel, region):
    found = channel.get_system_shared_memory_status()
    assert list(found.regions) == ["r"]
    assert found.regions["r"].byte_size == 4096
    for call, code in (
        (lambda: channel.get_system_shared_memory_status("nobody"), "NOT_FOUND"),
        (lambda: channel.register_system_shared_memory("r", "/x", 8), "ALREADY_EXISTS"),
        (lambda: channel.register_system_shared_memory("s", "/assay-nobody", 8), "INVALID_ARGUMENT"),
        (lambda: channel.register_system_shared_memory("s", "/../../etc/passwd", 8), "INVALID_ARGUMENT"),
    ):
        with pytest.raises(InferenceServerException) as caught:
            call()
        assert caught.value.status() == f"StatusCode.{code}"
    channel.unregister_system_shared_memory("nobody")
    assert not channel.get_cuda_shared_memory_status().regions


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda i, o: i.set_shared_memory("nobody", 32), "nobody"),
        (lambda i, o: i.set_shared_memory("r", 16), "byte size"),
        (lambda i, o: i.set_shared_memory("r", 32, offset=4090), "Invalid offset"),
        (lambda i, o: o.set_shared_memory("r", 4, offset=0), "at least 16 bytes"),
        (lambda i, o: o.set_shared_memory("r", 4097), "Invalid offset"),
        (lambda i, o: o.set_shared_memory("nobody", 16), "nobody"),
    ],
)
def test_wrong_ranges_of_requests(channel, region, change, says):
    given = inputs()
    output = client.InferRequestedOutput("y")
    change(given[0], output)
    with pytest.raises(InferenceServerException, match=says) as caught:
        channel.infer("m", given, outputs=[output])
    assert caught.value.status() in ("StatusCode.INVALID_ARGUMENT", "StatusCode.NOT_FOUND")


def test_without_admin_there_is_none():
    with (
        serving(repository({"m": null_session(SIGNATURE)}), memory=SharedMemoryRegistry()) as front,
        client.InferenceServerClient(f"127.0.0.1:{front.port}") as channel,
    ):
        with pytest.raises(InferenceServerException, match="--admin") as caught:
            channel.register_system_shared_memory("r", "/x", 8)
        assert caught.value.status() == "StatusCode.PERMISSION_DENIED"
        with pytest.raises(InferenceServerException, match="--admin"):
            channel.infer("m", inputs())
        assert "system_shared_memory" not in channel.get_server_metadata().extensions
