"""``assay inspect``: what is in a model file, as lines for people and as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput
from assay.core.units import format_bytes
from assay.graph.describe import GraphDescription, describe
from assay.job.inspection_support import operators_of, program_lines
from assay.job.packed import bundle_folder, whole_bundle
from assay.job.single import file_model


@dataclass(frozen=True)
class Inspection:
    lines: tuple[str, ...]
    data: dict[str, Any]
    warnings: tuple[str, ...] = ()


def inspect_model(path: Path, *, nodes: bool, trust: bool = False) -> Inspection:
    """A model file, or the one in a bundle.

    Raises BadInput for a missing, corrupt or unknown file, and what ``whole_bundle`` does.
    """
    folder = bundle_folder(str(path))
    if folder is None:
        return inspect_file(path, nodes=nodes)
    bundle = whole_bundle(folder, trust=trust)
    assert bundle.artifact is not None
    found = inspect_file(bundle.artifact.path, nodes=nodes)
    about = {"model": bundle.model, "candidate": bundle.candidate.label, "file": str(bundle.artifact.path)}
    line = f"bundle      {bundle.model}, {bundle.candidate.label}; {bundle.artifact.path}"
    return replace(found, lines=(line, *found.lines), data={**found.data, "bundle": about})


def inspect_file(path: Path, *, nodes: bool) -> Inspection:
    """Raises BadInput for a missing, corrupt or unknown file."""
    if path.is_dir():
        raise BadInput(f"{path} is a folder, not a model file, and no bundle")
    if not path.is_file():
        raise BadInput(f"there is no file {path}", remedy="it reads files and bundles; assay export makes a file")
    artifact = file_model(path)
    if artifact.format == "onnx":
        return _onnx(describe(path), nodes)
    if artifact.format == "torchscript":
        return _torchscript(artifact.module, path)
    if artifact.format == "exported":
        return _exported(path)
    if artifact.format == "openvino":
        return _openvino(path)
    size = format_bytes(artifact.size_bytes)
    lines = (
        f"{path}: {artifact.format}, {size}, sha256:{artifact.sha256}",
        "its inside can only be read by its vendor's tools",
    )
    return Inspection(lines, {"artifact": artifact.to_json()})


def _onnx(found: GraphDescription, nodes: bool) -> Inspection:
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in found.opsets.items())
    macs = f"not known: {found.macs_unknown}" if found.macs is None else f"{_count(found.macs)} at batch 1"
    lines = [
        f"format      ONNX, IR version {found.ir_version}, by {found.producer or 'an unnamed producer'}",
        f"opsets      {opsets}",
        *(f"input       {spec}" for spec in found.signature.inputs),
        *(f"output      {spec}" for spec in found.signature.outputs),
        f"parameters  {found.parameters:,} ({format_bytes(found.weight_bytes)})",
        f"MACs        {macs}",
        "operators   " + ", ".join(f"{op} {n}" for op, n in sorted(found.op_counts.items(), key=lambda i: -i[1])),
    ]
    lines += [f"data file   {name}" for name in found.external_data]
    if nodes:
        for node in found.nodes:
            attributes = ", ".join(f"{k}={v}" for k, v in node.attributes.items())
            lines.append(f"{node.op} {node.name}({', '.join(node.inputs)}) -> {', '.join(node.outputs)}")
            lines += [f"    {attributes}"] if attributes else []
            lines += [f"    from {node.source}"] if node.source else []
    operators = operators_of(found.path, found.opsets)
    return Inspection((*lines, *operators.lines()), found.to_json() | operators.to_json(), found.misdeclared)


def _count(macs: int) -> str:
    """Millions, where there are enough of them to be told apart."""
    return f"{macs / 1e6:,.1f} M" if macs >= 10**6 else f"{macs:,}"


def _torchscript(module: Any, path: Path) -> Inspection:
    loaded = module()
    graph, code = str(loaded.graph), str(loaded.code)
    lines = (f"format      TorchScript ({path})", "graph", graph, "code", code)
    return Inspection(lines, {"format": "torchscript", "graph": graph, "code": code})


def _exported(path: Path) -> Inspection:
    import torch

    program = torch.export.load(path)
    graph, code = str(program.graph_signature), program.graph_module.code
    lines, mapping = program_lines(program)
    return Inspection(
        (f"format      exported program ({path})", graph, "code", code, *lines),
        {"format": "exported", "signature": graph, "code": code, "mapping": mapping},
    )


def _openvino(path: Path) -> Inspection:
    from assay.core.engine import OpenOptions
    from assay.job.opening import engine

    found = engine("openvino")
    why = found.unavailable("cpu", "fp32")
    if why:
        raise BadInput(
            f"{path} is an OpenVINO file, and openvino is not installed", remedy="pip install 'assay[openvino]'"
        )
    with found.open(file_model(path), OpenOptions()) as session:
        signature = session.signature
    sizes = [format_bytes(p.stat().st_size) for p in (path, path.with_suffix(".bin")) if p.exists()]
    lines = [f"format      OpenVINO IR, {' + '.join(sizes)}"]
    lines += [f"input       {s}" for s in signature.inputs] + [f"output      {s}" for s in signature.outputs]
    return Inspection(tuple(lines), {"format": "openvino", "signature": signature.to_json()})
