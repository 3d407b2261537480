"""``assay serve --ray``: what it refuses, and a node lost under load; how files travel: test_ray_files.py."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.serve_peers.models import bundles
from tests.serve_peers.triton import free_ports

from assay.core.errors import BadInput, NotAvailable
from assay.job.serve.config import request_of
from assay.scale.ray_replica import HOP_BY_HOP
from assay.scale.ray_serve import RayPlan, RayServe, _with_threads, parse_replicas

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return bundles(tmp_path_factory.mktemp("models"))["small"]


def silent(event, about):
    pass


@pytest.mark.parametrize(("text", "found"), [("1", (1, 1)), ("3", (3, 3)), ("1:8", (1, 8))])
def test_replicas_are_a_number_or_a_range(text, found):
    assert parse_replicas(text) == found


@pytest.mark.parametrize("text", ["", "x", "1:", ":2", "1:2:3", "1.5"])
def test_what_is_no_number_of_replicas(text):
    with pytest.raises(BadInput, match="number of replicas"):
        parse_replicas(text)


@pytest.mark.parametrize("plan", [(0, 1), (3, 2), (-1, -1)])
def test_a_plan_without_replicas(plan):
    with pytest.raises(BadInput, match="at least one"):
        RayPlan(None, *plan)


def test_a_range_is_scaled_by_load_and_a_number_is_fixed():
    assert RayPlan(None, 2, 2).autoscaling() == {"num_replicas": 2}
    scaling = RayPlan(None, 1, 8, ongoing=5).autoscaling()["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"], scaling["target_ongoing_requests"]) == (1, 8, 5)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"watch": "."}, "--watch"),
        ({"http_port": False}, "REST"),
        ({"admin": True}, "--admin"),
    ],
)
def test_what_a_replica_cannot_do_is_said_before_ray_is_started(bundle, table, says):
    models = [] if "watch" in table else [{"source": str(bundle)}]
    with pytest.raises(BadInput, match=says):
        RayServe(request_of({"model": models, **table}), RayPlan(), silent)


def test_a_cluster_that_is_not_there(bundle):
    (port,) = free_ports(1)
    service = RayServe(request_of({"model": [{"source": str(bundle)}]}), RayPlan(f"127.0.0.1:{port}"), silent)
    with pytest.raises(NotAvailable, match="nothing answers"), service.serving():
        pass


def test_engines_have_the_cores_of_their_replica(bundle):
    (model,) = request_of({"model": [{"source": str(bundle)}]}).models
    assert _with_threads(model, 3).batching.threads == 3
    (told,) = request_of({"model": [{"source": str(bundle), "threads": 2}]}).models
    assert _with_threads(told, 3).batching.threads == 2


def test_headers_of_one_connection_stay_on_it():
    assert {"connection", "transfer-encoding", "host"} <= HOP_BY_HOP
    assert not {"content-type", "inference-header-content-length", "retry-after"} & HOP_BY_HOP


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'assay[ray]'")
def test_a_node_is_lost_under_load_and_the_service_goes_on(bundle):
    (port,) = free_ports(1)
    command = [sys.executable, str(Path(__file__).with_name("ray_serve_scenario.py")), str(bundle), str(port), "1.5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["events"] == ["listening", "ready", "stopped"]
    status, answer = found["good"]
    assert status == 200 and [o["name"] for o in answer["outputs"]] == ["scores", "best"]
    assert found["bad"][0] == 400 and "must be 16" in found["bad"][1]["error"]
    assert found["metadata"][1]["name"] == "small"
    answered, failed = found["before"]
    assert answered > 10 and failed == 0
    answered, failed = found["after"]
    assert answered > 10 and failed == 0, found
    assert found["meanwhile"][1] <= 50, "only what was under way on the lost node may fail"
