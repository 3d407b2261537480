"""Stage: the model becomes an ONNX file, checked against PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay.core.artifact import Artifact, digest_file, digest_json
from assay.core.errors import BadInput
from assay.core.record import Figure, Record
from assay.core.tensors import Signature
from assay.export.export import export_model
from assay.export.options import ExportOptions
from assay.graph.rounding import rounding_depth
from assay.graph.signature import read_signature
from assay.graph.user_file import is_user_function
from assay.job.context import Context, Exported
from assay.job.folder import Saved
from assay.job.keys import stage_key
from assay.job.opening import OnnxRunner, engine_for, precision_of

NO_EXPORT = {"onnx", "openvino", "tensorrt", "ascend", "remote", "aoti", "null"}


def export(ctx: Context) -> Exported:
    """Export, or take the file as it is when it needs no export."""
    if ctx.model.artifact.format in NO_EXPORT:
        return _as_it_is(ctx)
    source = ctx.model.artifact.sha256
    key = stage_key("export", ctx.environment, source, digest_json(_options(ctx)), *_code(ctx.request.export))
    ctx.progress.stage("export", "PyTorch to ONNX, compared with PyTorch")
    saved = ctx.folder.finished("export", key)
    if saved is None:
        saved = _export(ctx, key)
        ctx.progress.done(saved.result["summary"])
    else:
        ctx.done(saved.result["summary"], unchanged=True)
    for text in saved.result["warnings"]:
        ctx.warn(text)
    artifact = Artifact.from_json(saved.result["artifact"], ctx.folder.path)
    result = saved.result
    return Exported(artifact, Signature.from_json(result["signature"]), result["depth"], result["precision"])


def _code(options: ExportOptions) -> list[str]:
    """Digests of the user's own files that make the graph: translations of operators, and passes."""
    passes = [Path(name.rpartition(":")[0]) for name in options.passes if is_user_function(name)]
    files = [*([options.custom_ops] if options.custom_ops else []), *passes]
    return [digest_file(file) for file in files if file.is_file()]  # what is missing, the export says


def _options(ctx: Context) -> dict[str, Any]:
    options = ctx.request.export
    return {name: str(getattr(options, name)) for name in options.__dataclass_fields__}


def _export(ctx: Context, key: str) -> Saved:
    out = ctx.folder.artifacts / "model.onnx"
    runner = OnnxRunner()
    try:
        made = export_model(ctx.model, ctx.request.export, out, runner)
    finally:
        runner.close()
    figures = {
        "export.seconds": Figure(made.seconds, "s"),
        "artifact.bytes": Figure(made.artifact.size_bytes, "B"),
        "numeric.max_abs": Figure(max(m.max_abs for m in made.comparison.values()), "absolute"),
    }
    record = Record(
        kind="export",
        subject={"model": ctx.model.name, "artifact": made.artifact.sha256, "format": "onnx"},
        figures=figures,
        conditions={"options": _options(ctx), "exporter": made.exporter},
        environment=ctx.environment,
        warnings=made.warnings,
        details={
            "signature": made.signature.to_json(),
            "opset_asked": made.opset_asked,
            "opset_obtained": made.opset_obtained,
            "notes": list(made.notes),
            "free_dims": [p.to_json() for p in made.proofs],
            "passes": [p.to_json() for p in made.passes],
            "comparison": {name: m.to_json() for name, m in made.comparison.items()},
        },
    )
    result = {
        "artifact": made.artifact.to_json(ctx.folder.path),
        "signature": made.signature.to_json(),
        "depth": rounding_depth(made.artifact.path),
        "precision": precision_of(made.artifact.path),
        "warnings": list(made.warnings),
        "summary": f"opset {made.opset_obtained} by the {made.exporter} exporter, {made.signature}",
    }
    return ctx.folder.save("export", key, result, [record])


def _as_it_is(ctx: Context) -> Exported:
    artifact = ctx.model.artifact
    if artifact.format == "onnx":
        path = artifact.path
        return Exported(artifact, read_signature(path), rounding_depth(path), precision_of(path))
    if ctx.model.inputs is None and artifact.format not in ("openvino", "remote"):
        engine_for(artifact)
        raise BadInput(f"the inputs of {artifact.path.name} are not known", remedy="--shape NAME:1x3x224x224")
    from assay.core.engine import OpenOptions

    with engine_for(artifact).open(artifact, OpenOptions(device=ctx.request.device)) as session:
        return Exported(None, session.signature, 0)
