"""What stands around a model: a canary, Triton's configuration, callers that go away."""

import http.client
import json
import shutil
import socket
import threading
import time

import numpy as np
import pytest

from assay.core.errors import BadInput, UnknownName
from assay.core.record import read_records

IMAGE = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)


def infer(port, name, image=IMAGE):
    tensor = {"name": "image", "shape": list(image.shape), "datatype": "FP32", "data": image.ravel().tolist()}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", f"/v2/models/{name}/infer", json.dumps({"inputs": [tensor]}))
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def until(holds, within_s=20):
    ends = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.02)
    return found


def test_a_canary_compares_and_nobody_waits_for_it(running, support, tmp_path):
    old, new = (support.pack_classifier(tmp_path / str(seed), seed) for seed in (0, 1))
    models = [{"source": str(old), "name": "old"}, {"source": str(new), "name": "new"}]
    out = tmp_path / "seen"
    with running({"model": models, "shadow": ["old=new:1.0"], "shadow_out": str(out)}) as server:
        answers = [infer(server.port, "old") for _ in range(5)]
        assert [status for status, _ in answers] == [200] * 5
        assert {body["model_name"] for _, body in answers} == {"old"}

        def metrics():
            connection = http.client.HTTPConnection("127.0.0.1", server.metrics_port, timeout=20)
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
            connection.close()
            return 'assay_shadow_compared_total{model="old",shadow="new"} 5' in text

        until(metrics)
    (record,), _ = read_records(out / "records.jsonl")
    assert record.subject["reference"] == "old"
    assert record.value("shadow.requests") == 5
    assert record.value("numeric.relative_rms") > 0.1
    (told,) = [about for event, about in server.events if event == "shadow"]
    assert told["model"] == "old"


def test_a_canary_of_an_unknown_model_is_refused(running, classifier):
    with (
        pytest.raises(UnknownName, match="nobody"),
        running({"model": [{"source": str(classifier), "name": "a"}], "shadow": ["a=nobody"]}),
    ):
        pass


CONFIG = """
name: "pictures"
max_batch_size: 6
input [ { name: "image", data_type: TYPE_FP32, dims: [ 3, 32, 32 ] } ]
output [ { name: "scores", data_type: TYPE_FP32, dims: [ 5 ] } ]
dynamic_batching { preferred_batch_size: [ 2, 4 ], max_queue_delay_microseconds: 300 }
instance_group [ { count: 2, kind: KIND_CPU } ]
version_policy: { all { } }
optimization { }
"""


@pytest.fixture
def repository(classifier, tmp_path):
    folder = tmp_path / "models" / "pictures"
    for version in ("1", "2"):
        shutil.copytree(classifier, folder / version)
    (folder / "config.pbtxt").write_text(CONFIG)
    return folder


def test_tritons_configuration_is_read(running, repository):
    with running({"watch": str(repository.parent)}) as server:
        config = server.repository.lookup("pictures").config()
        assert config["max_batch_size"] == 6
        assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 300
        assert config["dynamic_batching"]["preferred_batch_size"] == [2, 4]
        assert config["instance_group"][0]["count"] == 2
        assert server.repository.metadata("pictures")["versions"] == ["1", "2"]
        assert infer(server.port, "pictures/versions/1")[1]["model_version"] == "1"
        assert infer(server.port, "pictures")[1]["model_version"] == "2"
        assert any("optimization" in about.get("message", "") for _, about in server.events)


def test_the_command_line_overrides_it(running, repository):
    with running({"model": [{"source": str(repository), "name": "p", "max_batch": 3}]}) as server:
        config = server.repository.lookup("p").config()
        assert (config["max_batch_size"], config["instance_group"][0]["count"]) == (3, 2)


def test_a_configuration_for_another_model_is_refused(running, repository):
    (repository / "config.pbtxt").write_text(
        CONFIG.replace('"scores", data_type: TYPE_FP32', '"q", data_type: TYPE_FP32')
    )
    with pytest.raises(BadInput, match="output q FP32"), running({"model": [{"source": str(repository)}]}):
        pass


def test_what_an_absent_caller_asked_is_not_run(running, null):
    table = {"model": [{"source": str(null), "name": "null"}], "policy": "delay", "delay": "1500ms"}
    with running(table) as server:
        row = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
        body = json.dumps({"inputs": [row]}).encode()
        head = f"POST /v2/models/null/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head + body)
            until(lambda: server.repository.lookup("null").pending == 1)
        totals = until(lambda: (t := server.repository.lookup("null").statistics.totals())["drops"] and t)
        assert totals["drops"] == {"cancelled": 1}
        assert totals["failures"]["CANCELED"] == 1
        assert totals["executions"] == 0


def test_a_full_queue_refuses_at_once_with_retry_after(running, null):
    table = {"model": [{"source": str(null), "name": "null"}], "policy": "delay", "delay": "1s", "max_queue": 2}
    with running(table) as server:
        row = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
        found = []

        def ask():
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
            connection.request("POST", "/v2/models/null/infer", json.dumps({"inputs": [row]}))
            answer = connection.getresponse()
            found.append((answer.status, answer.headers["Retry-After"], answer.read()))
            connection.close()

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(status for status, _, _ in found) == [200, 200, 503, 503, 503, 503]
        assert all(int(after) >= 1 for status, after, _ in found if status == 503)
