"""The same models behind a real Triton and behind assay serve."""

import json
import urllib.request

import pytest
from tests.serve_peers import triton as peer
from tests.serve_peers.models import bundles
from tests.serve_peers.ours import ours

from assay.bundle.layouts import LayoutOptions
from assay.bundle.triton import write_repository


@pytest.fixture(scope="package")
def both(tmp_path_factory):
    """(Triton or None, why there is none, assay serve)."""
    folder = tmp_path_factory.mktemp("peers")
    made = bundles(folder)
    with ours(list(made.values()), folder / "ours.log") as here:
        if reason := peer.missing():
            yield None, reason, here
            return
        for bundle in made.values():
            write_repository(bundle, folder / "repository", LayoutOptions(backend="python"))
        with peer.triton(folder / "repository", folder / "triton.log") as there:
            yield there, "", here


@pytest.fixture(scope="package")
def made(tmp_path_factory):
    return bundles(tmp_path_factory.mktemp("models"))


def ready_models(url):
    """How many models the index of a server calls ready."""
    request = urllib.request.Request(f"{url}/v2/repository/index", b"", method="POST")
    with urllib.request.urlopen(request, timeout=5) as answer:
        return sum(entry.get("state") == "READY" for entry in json.load(answer))
