"""The gRPC transport of remote models, through ``tritonclient``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from assay.core.errors import BadInput, EngineFailed, NotAvailable
from assay.core.tensors import Array, Feed, Signature
from assay.engines.base import first_line
from assay.engines.remote_wire import WIRE_NAMES, from_bytes, signature_of

if TYPE_CHECKING:
    from assay.engines.remote import Address

_INSTALL = "pip install 'assay[grpc]'"


class GrpcConnection:
    """One channel.  Tensors go as raw bytes, so every datatype of the protocol passes unchanged."""

    def __init__(self, address: Address) -> None:
        try:
            import tritonclient.grpc as client
        except (ImportError, RuntimeError):  # RuntimeError: installed without its gRPC part
            raise NotAvailable("tritonclient, which speaks gRPC, is not installed", remedy=_INSTALL) from None
        from tritonclient.utils import InferenceServerException

        self._client = client
        self._error = InferenceServerException
        self._address = address
        self._channel = client.InferenceServerClient(address.place, ssl=address.tls)

    def signature(self) -> Signature:
        answer = self._asked(
            lambda: self._channel.get_model_metadata(
                self._address.model, self._address.version, client_timeout=self._address.timeout_s
            )
        )
        return signature_of(
            {
                "name": answer.name,
                "inputs": [_tensor(t) for t in answer.inputs],
                "outputs": [_tensor(t) for t in answer.outputs],
            }
        )

    def infer(self, signature: Signature, feed: Feed) -> list[Array]:
        inputs = []
        for spec in signature.inputs:
            array = feed[spec.name]
            tensor = self._client.InferInput(spec.name, list(array.shape), WIRE_NAMES[spec.dtype])
            try:
                tensor.set_data_from_numpy(array)
            except self._error:
                if spec.dtype != "bfloat16":
                    raise
                # Clients before 26.06 take bfloat16 as float32 and cut it down again: exact both ways.
                tensor.set_data_from_numpy(array.astype(np.float32))
            inputs.append(tensor)
        outputs = [self._client.InferRequestedOutput(name) for name in signature.output_names]
        answer = self._asked(
            lambda: self._channel.infer(
                self._address.model,
                inputs,
                model_version=self._address.version,
                outputs=outputs,
                client_timeout=self._address.timeout_s,
            )
        )
        return _ordered(signature, answer.get_response())

    def close(self) -> None:
        self._channel.close()

    def _asked(self, call: Any) -> Any:
        try:
            return call()
        except self._error as error:
            kind = BadInput if "NOT_FOUND" in str(error.status()) else EngineFailed  # as over HTTP
            raise kind(f"the server at {self._address.place} answered: {first_line(error)}") from error


def _tensor(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _ordered(signature: Signature, response: Any) -> list[Array]:
    raw = dict(zip([t.name for t in response.outputs], response.raw_output_contents, strict=False))
    shapes = {t.name: (t.datatype, list(t.shape)) for t in response.outputs}
    arrays = []
    for spec in signature.outputs:
        if spec.name not in raw:
            raise EngineFailed(f"the server sent no raw output {spec.name!r}, only: {', '.join(raw) or 'none'}")
        datatype, shape = shapes[spec.name]
        if datatype != WIRE_NAMES[spec.dtype]:
            raise EngineFailed(f"the server sent {spec.name!r} as {datatype}; its metadata says {spec.dtype}")
        arrays.append(from_bytes(raw[spec.name], spec.dtype, shape))
    return arrays
