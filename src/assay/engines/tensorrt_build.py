"""One plan through TensorRT's Python API.  ``trt`` is the library: versions 8.5 to 11."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay.core.errors import EngineFailed
from assay.core.tensors import Signature
from assay.engines.tensorrt_command import Settings

_LEVELS = {0: "internal error", 1: "error", 2: "warning", 3: "info", 4: "verbose"}


def build_plan(trt: Any, onnx: Path, signature: Signature, settings: Settings, log: Path) -> bytes:
    """``signature`` is the file's own.  Raises EngineFailed naming what the parser refused, or with the builder's
    last error."""
    logger = _logger(trt)
    try:
        builder = trt.Builder(logger)
        network = builder.create_network(_network_flags(trt, settings))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse_from_file(str(onnx)):
            raise EngineFailed(f"tensorrt does not take {onnx}: {_refused(parser, onnx)}", log=str(log))
        config = _config(trt, builder, settings)
        shapes = settings.profile.shapes(signature)
        dynamic = {network.get_input(i).name for i in range(network.num_inputs) if -1 in network.get_input(i).shape}
        if dynamic:
            profile = builder.create_optimization_profile()
            for name in sorted(dynamic):
                profile.set_shape(name, *shapes[name])
            config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise EngineFailed(f"tensorrt could not build {onnx}: {logger.last_error()}", log=str(log))
        if settings.timing_cache:
            Path(settings.timing_cache).write_bytes(bytes(config.get_timing_cache().serialize()))
        return bytes(plan)
    finally:
        log.write_text("\n".join(logger.lines) + "\n")


def _logger(trt: Any) -> Any:
    """The builder's words, kept instead of printed."""

    class Kept(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            self.lines.append(f"[{_LEVELS.get(int(severity), severity)}] {message}")

        def last_error(self) -> str:
            errors = [line for line in self.lines if line.startswith(("[error]", "[internal error]"))]
            return errors[-1] if errors else "it did not say why"

    return Kept()


def _network_flags(trt: Any, settings: Settings) -> int:
    """8 must be told that the batch is a dim like any other; later ones know nothing else."""
    known = trt.NetworkDefinitionCreationFlag
    major = int(str(trt.__version__).partition(".")[0])
    flags = 0
    if major < 10:
        flags |= 1 << int(known.EXPLICIT_BATCH)
    if settings.strongly_typed and major < 11:
        flags |= 1 << int(known.STRONGLY_TYPED)
    return flags


def _config(trt: Any, builder: Any, settings: Settings) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_bytes)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the inspector then tells names and dtypes
    major = int(str(trt.__version__).partition(".")[0])
    if not (settings.strongly_typed or major >= 11):
        for name in settings.flags:
            flag = getattr(trt.BuilderFlag, name, None)
            if flag is None and not settings.best:
                raise EngineFailed(f"tensorrt {trt.__version__} has no {name}")
            if flag is not None:
                config.set_flag(flag)
    if settings.precision == "fp32" and not settings.best:
        config.clear_flag(trt.BuilderFlag.TF32)
    if settings.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if settings.timing_cache:
        path = Path(settings.timing_cache)
        cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return config


def _refused(parser: Any, onnx: Path) -> str:
    """Every error with the node, and the line of Python it was exported from where the file tells."""
    from assay.graph.describe import describe

    sources = {node.name: node.source for node in describe(onnx).nodes}
    texts = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        name = error.node_name() if hasattr(error, "node_name") else ""
        operator = error.node_operator() if hasattr(error, "node_operator") else ""
        where = f" ({sources[name]})" if sources.get(name) else ""
        texts.append(f"{operator} {name}{where}: {error.desc()}".strip())
    return "; ".join(texts) or "the parser did not say why"
