"""The same gRPC calls to a real Triton and to assay serve: code and message must be the same, but for a list."""

import pytest
from tests.serve_peers.corpus import GOOD
from tests.serve_peers.differences import GRPC_INTENDED

grpc = pytest.importorskip("grpc")
pytest.importorskip("tritonclient.grpc")
from tests.serve_peers.grpc_corpus import calls  # noqa: E402

ALL = {call.name: call for call in calls()}


@pytest.fixture(scope="module")
def stubs(both):
    from tritonclient.grpc import service_pb2_grpc

    there, reason, here = both
    with grpc.insecure_channel(here.grpc_address) as channel:
        ours = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        if there is None:
            yield None, reason, ours
            return
        with grpc.insecure_channel(there.grpc_address) as other:
            yield service_pb2_grpc.GRPCInferenceServiceStub(other), "", ours


def answer(stub, call):
    """(code, message or what the error says)."""
    try:
        return "OK", getattr(stub, call.method)(call.request, timeout=20)
    except grpc.RpcError as error:
        return error.code().name, error.details()


def meaning(call, found):
    code, message = found
    if code != "OK":
        return code
    if call.method == "ModelInfer":
        outputs = {o.name: (o.datatype, list(o.shape)) for o in message.outputs}
        contents = dict(zip((o.name for o in message.outputs), message.raw_output_contents, strict=True))
        assert len(outputs) == len(message.outputs)
        return code, message.model_name, message.model_version, message.id, outputs, contents
    if call.method == "ModelMetadata":
        message.platform = ""
    if call.method == "ModelStatistics":
        (stats,) = message.model_stats
        return code, stats.name, stats.version, sorted(f.name for f, _ in stats.inference_stats.ListFields())
    return code, message.SerializeToString(deterministic=True)


@pytest.mark.parametrize("name", ALL)
def test_the_answers_are_the_same_or_listed(stubs, name):
    theirs, reason, ours = stubs
    call = ALL[name]
    found = answer(ours, call)
    assert found[0] not in ("UNKNOWN", "INTERNAL", "CANCELLED"), found
    if call.kind == GOOD:
        assert found[0] == "OK", found
    if theirs is None:
        pytest.skip(reason)
    expected = answer(theirs, call)
    equal = meaning(call, expected) == meaning(call, found)
    if name in GRPC_INTENDED:
        assert not equal, f"{name}: listed as a difference, but there is none any more"
    else:
        assert equal, f"Triton: {expected}\nassay: {found}"


def test_no_valid_call_is_among_the_differences():
    assert {name for name in GRPC_INTENDED if ALL[name].kind == GOOD} == set()
    assert set(GRPC_INTENDED) <= set(ALL)
