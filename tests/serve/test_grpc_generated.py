"""inference_pb2.py: what comes out of inference.proto, beside tritonclient's own, with the protocol's numbers."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_checked_in_file_is_what_is_generated():
    pytest.importorskip("grpc_tools", reason="regenerating needs grpcio-tools (extra dev)")
    done = subprocess.run([sys.executable, ROOT / "scripts" / "protocol", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, f"run scripts/protocol and check in what it wrote {done.stderr}"


@pytest.mark.parametrize("first", ["ours", "tritonclient"])
def test_both_live_in_one_process(first):
    imports = ["from assay.serve.grpc.inference_pb2 import message", "from tritonclient.grpc import service_pb2"]
    lines = imports if first == "ours" else imports[::-1]
    lines += [
        "theirs = service_pb2.ModelInferRequest(model_name='m', raw_input_contents=[b'abc'])",
        "ours = message('ModelInferRequest').FromString(theirs.SerializeToString())",
        "assert ours.model_name == 'm' and ours.raw_input_contents[0] == b'abc'",
        "assert type(ours) is not type(theirs)",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def fields(descriptor):
    """Every field of a message and of those within it: (number, type, repeated?) by path."""
    found = {}
    for field in descriptor.fields:
        found[f"{descriptor.full_name}.{field.name}"] = (field.number, field.type, field.label)
    for nested in descriptor.nested_types:
        found |= fields(nested)
    return found


def enums(file):
    found = {}

    def walk(holder):
        for enum in holder.enum_types_by_name.values():
            found.update({f"{enum.full_name}.{v.name}": v.number for v in enum.values})

    walk(file)
    for message in file.message_types_by_name.values():
        walk(message)
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_names_numbers_and_types_are_the_protocols():
    """Against tritonclient's descriptors: everything we have is theirs; what we leave out is said here."""
    from tritonclient.grpc import model_config_pb2, service_pb2

    from assay.serve.grpc.inference_pb2 import DESCRIPTOR, SERVICE

    theirs = {}
    for file in (service_pb2.DESCRIPTOR, model_config_pb2.DESCRIPTOR):
        for message in file.message_types_by_name.values():
            theirs |= fields(message)
    ours = {}
    for message in DESCRIPTOR.message_types_by_name.values():
        ours |= fields(message)
    assert len(ours) > 200
    assert {k: v for k, v in ours.items() if theirs.get(k) != v} == {}
    their_enums = enums(service_pb2.DESCRIPTOR) | enums(model_config_pb2.DESCRIPTOR)
    assert {k: v for k, v in enums(DESCRIPTOR).items() if their_enums.get(k) != v} == {}
    left_out = {k.split(".")[1] for k in set(theirs) - set(ours)}
    assert left_out <= {
        "BatchInput",
        "BatchOutput",
        "ModelConfig",
        "ModelEnsembling",
        "ModelInstanceGroup",
        "ModelMetrics",
        "ModelOperations",
        "ModelOptimizationPolicy",
        "ModelRateLimiter",
        "ModelRepositoryAgents",
        "ModelSequenceBatching",
    }
    methods = {m.name: (m.input_type.full_name, m.output_type.full_name) for m in SERVICE.methods}
    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert methods == {m.name: (m.input_type.full_name, m.output_type.full_name) for m in service.methods}


def test_every_method_is_served():
    from assay.serve.grpc.calls import INFER, METHODS, SERVICE, STREAM_INFER
    from assay.serve.grpc.inference_pb2 import SERVICE as DESCRIBED

    assert {SERVICE + m.name for m in DESCRIBED.methods} == {*METHODS, INFER, STREAM_INFER}
    for path, method in METHODS.items():
        described = DESCRIBED.methods_by_name[path.removeprefix(SERVICE)]
        assert (described.input_type.name, described.output_type.name) == (method.request, method.response)
