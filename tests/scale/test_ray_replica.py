"""What a replica that cannot serve tells, and how the service ends."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from tests.serve_peers.models import bundles
from tests.serve_peers.triton import free_ports

from assay.core.errors import BadInput, EngineFailed, NotAvailable
from assay.scale.ray_cluster import gone
from assay.scale.ray_replica import CannotServe, failure_in

ROOT = Path(__file__).parents[2]


def handed_on(error, given):
    """As Ray's status has it: its own words, then the traceback."""
    try:
        raise CannotServe.because(error, given)
    except CannotServe as raised:
        return "The deployment failed to start 3 times in a row. Error:\n" + "".join(traceback.format_exception(raised))


def test_what_a_replica_raised_is_told_by_the_names_its_user_gave():
    given = {"/tmp/copy/1": "runs/a", "/tmp/copy/1/net.onnx": "my/net.onnx"}
    error = BadInput("/tmp/copy/1/net.onnx is damaged:\nsecond line", remedy="assay check /tmp/copy/1")
    found = failure_in(handed_on(error, given))
    assert type(found) is BadInput
    assert found.message == "a replica cannot serve: my/net.onnx is damaged:\nsecond line"
    assert found.remedy == "assay check runs/a"


@pytest.mark.parametrize("error", [NotAvailable("no such engine here"), EngineFailed("it did not open")])
def test_what_is_no_bad_input_is_not_available_there(error):
    found = failure_in(handed_on(error, {}))
    assert type(found) is NotAvailable
    assert (found.message, found.remedy) == (f"a replica cannot serve: {error}", None)


@pytest.mark.parametrize(
    "last", ["ModuleNotFoundError: No module named 'assay'", "CannotServe: {", "CannotServe: []", "CannotServe: {}"]
)
def test_of_any_other_error_the_last_line_is_told(last):
    found = failure_in(f"Traceback\n  File x\n{last}\n\n")
    assert type(found) is NotAvailable
    assert last in found.message


def test_without_a_text_nothing_is_told():
    assert failure_in(" \n") is None


def test_a_cluster_is_gone_when_nobody_listens_there():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        place = f"127.0.0.1:{listening.getsockname()[1]}"
        assert not gone(place)
        assert not gone(f"ray://{place}")
    assert gone(place)
    assert not gone(None)
    assert not gone("auto")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'assay[ray]'")
def test_how_the_service_ends(tmp_path):
    (tmp_path / "models").mkdir()
    bundles(tmp_path / "models")
    (port,) = free_ports(1)
    script = Path(__file__).with_name("ray_ending_scenario.py")
    command = [sys.executable, str(script), str(tmp_path), str(tmp_path / "models" / "small.onnx"), str(port)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=ROOT, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    code, message, remedy = found["wrong"]
    assert code == 2
    assert "wrong.py failed while it was loaded" in message and "there_is_no_such_module" in message
    assert remedy == "pip install there_is_no_such_module"
    status, answer = found["slow"]
    assert status == 200, answer  # what was begun is answered
    assert answer["model_name"] == "net"
    assert found["drained"] is True
    first, second, status = found["replaced"]
    assert first is None, "there was none to replace"
    assert "replaces the models of the application 'assay', which this cluster has served since 20" in second["message"]
    assert status == 200
    assert found["left"] == ["another"], "what others serve on the cluster stays"
    assert found["drained without its cluster"] is False
