"""int8 by ONNX Runtime's own static quantisation, in Q/DQ form.

Weights int8 per channel, activations uint8 per tensor by their smallest and largest values.
Activations that a quantiser could absorb (Relu) are kept, so that a layer can be put back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from assay.core.errors import EngineFailed
from assay.core.tensors import Array
from assay.graph.external_data import THRESHOLD_BYTES, weight_bytes
from assay.graph.quiet import quiet
from assay.graph.signature import load_model
from assay.precision.job import Job, Lowered
from assay.precision.onnx_graph import load_source
from assay.precision.qdq import QdqModel

if TYPE_CHECKING:
    import onnx


def lower(job: Job) -> Lowered:
    """Raises BadInput without calibration samples or for what is no fp32 ONNX, EngineFailed when the library fails."""
    import onnxruntime

    calibration = job.needs("ort")
    model = load_source(job.source)
    feeds = calibration.feeds(job.signature)
    quantised = _quantise(model, job, iter(feeds))
    how = {
        "library": "onnxruntime.quantization",
        "version": onnxruntime.__version__,
        "format": "QDQ",
        "activations": "uint8 per tensor, min-max",
        "weights": "int8 per channel",
        "calibration": calibration.to_json(),
    }
    return QdqModel(job.source, model, quantised, how)


def _quantise(model: onnx.ModelProto, job: Job, feeds: Iterator[dict[str, Array]]) -> onnx.ModelProto:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Array] | None:
            return next(feeds, None)

    given = onnx.ModelProto()
    given.CopyFrom(model)
    target = job.work / "ort-quantised.onnx"
    settings: dict[str, Any] = {
        "quant_format": QuantFormat.QDQ,
        "per_channel": True,
        "weight_type": QuantType.QInt8,
        "activation_type": QuantType.QUInt8,
        "extra_options": {"QDQKeepRemovableActivations": True},
        "use_external_data_format": weight_bytes(model) > THRESHOLD_BYTES,
    }
    try:
        with quiet(["", "onnxruntime"]):
            quantize_static(given, str(target), Reader(), **settings)
    except Exception as error:  # the library raises whatever its parts raise
        raise EngineFailed(f"onnxruntime could not quantise {job.source.path}: {error}") from error
    return load_model(target, external_data=True)
