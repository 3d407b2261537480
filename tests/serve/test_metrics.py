"""The metrics page: Triton's names, sums that agree with what was asked, and what Triton does not tell."""

import http.client
import json
import re

import pytest

TRITON = (
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_request_duration_us",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us",
    "nv_inference_compute_output_duration_us",
    "nv_inference_pending_request_count",
)
SAMPLE = re.compile(r'^([a-z_]+)\{((?:[a-z]+="[^"]*",?)*)\} ([0-9.e+-]+)$')


def get(port, path="/metrics", method="GET", body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body)
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read().decode()
    connection.close()
    return found


def samples(port):
    found = {}
    for line in get(port)[2].splitlines():
        if not line.startswith("#"):
            match = SAMPLE.match(line)
            assert match, line
            found[match[1], match[2]] = float(match[3])
    return found


def test_counts_durations_drops_and_predictions(running, null):
    with running({"model": [{"source": str(null), "name": "null"}]}) as server:

        def infer(rows=2, **parameters):
            x = {"name": "x", "shape": [rows, 4], "datatype": "FP32", "data": [1] * (4 * rows)}
            body = json.dumps({"inputs": [x], "parameters": parameters})
            return get(server.port, "/v2/models/null/infer", "POST", body)[0]

        assert [infer() for _ in range(20)] == [200] * 20
        assert infer(timeout=1) == 503
        assert infer(rows=1000) == 400
        found = samples(server.metrics_port)
        label = 'model="null",version="1"'
        assert found["nv_inference_request_success", label] == 20
        assert found["nv_inference_count", label] == 40
        assert found["nv_inference_exec_count", label] == 20
        assert found["nv_inference_request_failure", f'{label},reason="REJECTED"'] == 1
        assert found["nv_inference_request_failure", f'{label},reason="OTHER"'] == 1
        assert found["nv_inference_pending_request_count", label] == 0
        total, queue, infer_us = (
            found[f"nv_inference_{n}_duration_us", label] for n in ("request", "queue", "compute_infer")
        )
        assert total >= queue + infer_us > 0
        assert found["assay_dropped_requests_total", f'{label},reason="rejected"'] == 1
        assert found["assay_batches_total", f'{label},size="2"'] == 20
        actual = found["assay_batch_seconds_actual", f'{label},size="2"']
        assert 0 < actual < 1
        assert found["assay_batch_seconds_predicted", f'{label},size="2"'] > 0


def test_the_format_and_the_names(server):
    status, headers, text = get(server.metrics_port)
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    for name in TRITON:
        assert f"# HELP {name} " in text
        assert f"# TYPE {name} " in text
        assert f'{name}{{model="null",version="1"' in text


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/", "GET", 404), ("/metrics", "POST", 405), ("/v2", "GET", 404)]
)
def test_nothing_else_is_there(server, path, method, status):
    assert get(server.metrics_port, path, method)[0] == status
