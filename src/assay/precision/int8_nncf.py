"""int8 by NNCF: ONNX files become Q/DQ graphs, OpenVINO IRs get FakeQuantize.

Symmetric per-channel weights, symmetric activations (asymmetric ones in models with attention),
with NNCF's fast bias correction.  Its ranges are read from every calibration sample given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from assay.core.artifact import Artifact
from assay.core.errors import AssayError, EngineFailed, NotAvailable
from assay.core.telemetry import import_untold
from assay.core.tensors import Array
from assay.graph.quiet import quiet
from assay.precision.job import Job, Lowered
from assay.precision.onnx_graph import constants, load_source
from assay.precision.openvino_ir import IrModel, read_ir
from assay.precision.qdq import QdqModel

if TYPE_CHECKING:
    import onnx

_INSTALL = "pip install 'assay[quantize]'"


def lower(job: Job) -> Lowered:
    """Raises BadInput without calibration samples, NotAvailable without nncf, EngineFailed when it fails."""
    nncf = _library()
    calibration = job.needs("nncf")
    how = {"library": "nncf", "version": nncf.__version__, "calibration": calibration.to_json()}
    if job.source.format == "openvino":
        return _lower_ir(job.source, calibration.feeds(job.signature), how)
    graph = load_source(job.source)
    attends = _has_attention(graph)
    quantised = _quantise(graph, calibration.feeds(job.signature), attends)
    return QdqModel(job.source, graph, quantised, how | _settings(attends))


def _lower_ir(source: Artifact, feeds: list[dict[str, Array]], how: dict[str, Any]) -> Lowered:
    model = read_ir(source.path)
    attends = any(op.get_type_name() in ("Softmax", "ScaledDotProductAttention") for op in model.get_ops())
    all_named = {op.get_friendly_name() for op in model.get_ops()}

    def quantise(left_alone: tuple[str, ...]) -> Any:
        names = [name for name in left_alone if name in all_named]
        return _quantise(model.clone(), feeds, attends, names)

    return IrModel(source, quantise, how | _settings(attends))


def _library() -> Any:
    try:
        with quiet(["nncf"]):
            return import_untold("nncf")
    except ImportError as error:
        raise NotAvailable(f"nncf is not installed ({error})", remedy=_INSTALL) from None


def _settings(attends: bool) -> dict[str, Any]:
    return {"model_type": "transformer" if attends else None, "preset": "mixed" if attends else "performance"}


def _has_attention(model: onnx.ModelProto) -> bool:
    """A Softmax whose result is multiplied by another tensor that is no constant."""
    fixed = constants(model)
    soft = {node.output[0] for node in model.graph.node if node.op_type == "Softmax"}
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    return any(soft & set(n.input) and not any(name in fixed for name in n.input) for n in products)


def _quantise(model: Any, feeds: list[dict[str, Array]], attends: bool, left_alone: Sequence[str] = ()) -> Any:
    nncf = _library()
    try:
        with quiet(["nncf"]):
            return nncf.quantize(
                model,
                nncf.Dataset(feeds),
                subset_size=len(feeds),
                model_type=nncf.ModelType.TRANSFORMER if attends else None,
                ignored_scope=nncf.IgnoredScope(names=list(left_alone)) if left_alone else None,
            )
    except AssayError:
        raise
    except Exception as error:  # the library raises whatever its parts raise
        raise EngineFailed(f"nncf could not quantise the model: {error}") from error
