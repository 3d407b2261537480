"""The same requests to a real Triton and to assay serve: status, JSON and bytes must be the same, but for a list."""

import urllib.request

import numpy as np
import pytest
from tests.serve_peers import triton as peer
from tests.serve_peers.conftest import ready_models
from tests.serve_peers.corpus import GOOD, HOSTILE, cases
from tests.serve_peers.differences import CRASHES_TRITON, DISPUTED, INTENDED
from tests.serve_peers.exchange import exchange

from assay.bundle.layouts import LayoutOptions
from assay.bundle.triton import write_repository

ALL = {case.name: case for case in cases()}
MODELS = 11
OWN = ("name", "version", "extensions", "platform")
"""What of the metadata each server says of itself."""


def tensors(answer):
    """Name -> (datatype, shape, values or bytes): outputs in whatever order, since the protocol fixes none."""
    found, start = {}, 0
    for output in answer.document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = ("json", output["data"])
        else:
            values = ("binary", answer.tail[start : start + size])
            start += size
        assert output["name"] not in found
        found[output["name"]] = (output["datatype"], output["shape"], values)
    assert start == len(answer.tail), "bytes that belong to no output"
    return found


def meaning(case, answer):
    """What must be equal: the status, and what of the body the protocol speaks of."""
    if answer.status is None:
        return None
    if answer.status != 200 or case.kind == HOSTILE:
        return answer.status
    document = answer.document
    if isinstance(document, dict) and "outputs" in document and "model_name" in document:
        rest = {k: v for k, v in document.items() if k != "outputs"}
        return answer.status, rest, tensors(answer), answer.headers["content-type"]
    if isinstance(document, dict):
        document = {k: v for k, v in document.items() if case.kind == GOOD and k not in OWN}
    return answer.status, keys(document) if not case.numbers else document


def keys(value):
    """The shape of a document whose values are times and counts."""
    if isinstance(value, dict):
        return {k: keys(v) for k, v in value.items() if k not in ("batch_stats", "response_stats", "memory_usage")}
    if isinstance(value, list):
        return [keys(v) for v in sorted(value, key=lambda v: v["name"] if isinstance(v, dict) else "")]
    return type(value).__name__


def same(one, other):
    """Equal, NaN to NaN and float32 to the number that is nearest to it."""
    if isinstance(one, float) and isinstance(other, float):
        return np.float64(one).tobytes() == np.float64(other).tobytes() or bool(np.float32(one) == np.float32(other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


def test_ready_means_that_every_model_is_there(both):
    _, _, here = both
    with urllib.request.urlopen(f"{here.url}/v2/health/ready", timeout=5) as answer:
        assert answer.status == 200
    assert ready_models(here.url) == MODELS


@pytest.mark.parametrize("name", ALL)
def test_the_answers_are_the_same_or_listed(both, name):
    there, reason, here = both
    case = ALL[name]
    found = exchange(here.http, case.content, timeout_s=case.patience_s, method=case.method)
    assert here.process.poll() is None, here.log.read_text()[-3000:]
    assert (found.status or 400) < 500, f"an error of ours: {found}"
    if case.kind == GOOD:
        assert found.status == 200, found
    if there is None:
        pytest.skip(reason)
    if name in CRASHES_TRITON:
        assert found.status == 400
        return
    expected = exchange(there.http, case.content, timeout_s=case.patience_s, method=case.method)
    equal = same(meaning(case, expected), meaning(case, found))
    if name in INTENDED:
        assert not equal, f"{name}: listed as a difference, but there is none any more"
    else:
        assert equal, f"Triton: {expected}\nassay: {found}"


def test_no_valid_request_is_among_the_differences():
    assert {name for name in INTENDED if ALL[name].kind == GOOD} == DISPUTED
    assert set(INTENDED) <= set(ALL)


def test_triton_dies_of_one_request_where_ours_says_what_is_wrong(both, tmp_path):
    """What makes "it dies" in the list a fact: one request to a Triton of its own."""
    there, reason, here = both
    if there is None:
        pytest.skip(reason)
    (name,) = CRASHES_TRITON
    bundle = next(p for p in here.log.parent.glob("small.bundle"))
    write_repository(bundle, tmp_path / "repository", LayoutOptions(backend="python"))
    with peer.triton(tmp_path / "repository", tmp_path / "log") as victim:
        assert exchange(victim.http, ALL[name].content, timeout_s=5.0).status is None
        assert victim.process.wait(10) != 0
    assert exchange(here.http, ALL[name].content).status == 400
