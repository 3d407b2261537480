"""What ``assay serve --ray`` can find wrong with its models by itself, before it asks a cluster for anything.

No model is opened here, and nothing is asked of this machine's hardware: the replicas may have other.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from assay.core.engine import PRECISIONS
from assay.core.errors import BadInput, UnknownName
from assay.engines.base import DEVICE_KINDS, parse_device
from assay.job.opening import engine
from assay.job.serve.loading import bundles, config_file, configured
from assay.job.serve.opening import bundle_asked, refuse_pin, settings_of
from assay.job.serve.options import Serving
from assay.job.user_code import transform_file
from assay.scale.ray_files import files_of
from assay.serve.triton_config import read_triton_config
from assay.serve.triton_settings import VersionPolicy
from assay.sources import check_spec
from assay.sources.archive import kind_of
from assay.sources.python_file import file_and_name
from assay.sources.registry import is_registered

ARCHIVES = (".pt", ".pth", ".pth.tar")
"""Suffixes of files that may be a checkpoint or a whole model; .safetensors is always the former."""


def look_at(model: Serving) -> None:
    """Raises BadInput or UnknownName for what a replica would only find out in its log; of a bundle also as
    ``bundle_asked`` does."""
    _names(model)
    if model.preprocess is not None:
        transform_file(model.preprocess)
    folder = Path(model.source) if Path(model.source).is_dir() else None
    config = config_file(model, folder)
    said = None if config is None else read_triton_config(config)
    if said is not None:
        model = configured(model, said)
    settings_of(replace(model.batching, preferred=()), model.batching.instances or 1)
    if folder is not None:
        for found in bundles(folder, said.version_policy if said is not None else VersionPolicy()).values():
            bundle_asked(model, found)
    else:
        refuse_pin(model)
        check_spec(model.source)
        _has_a_model(model)
    files_of(model.source)


def _names(model: Serving) -> None:
    """Engine, precision and device by their tables, and the engine's own list of precisions."""
    if model.precision is not None and model.precision not in PRECISIONS:
        raise UnknownName("precision", model.precision, PRECISIONS)
    if model.device is not None and (kind := parse_device(model.device).kind) not in DEVICE_KINDS:
        raise UnknownName("kind of device", kind, DEVICE_KINDS)
    if model.engine is None:
        return
    known = engine(model.engine).precisions
    if model.precision is not None and model.precision not in known:
        raise BadInput(f"{model.engine} has no precision {model.precision!r}; it has: {', '.join(known)}")


def _has_a_model(model: Serving) -> None:
    """Raises BadInput for a FILE.py without the name of a model, and for weights alone."""
    source = model.source
    name = source.lower()
    if is_registered(source):
        return
    if name.endswith(".py"):
        file_and_name(source)
    remedy = (
        f"assay export {source} --arch timm:NAME -o model.onnx   (or torchvision:NAME, FILE.py:NAME), and serve that"
    )
    if name.endswith(".safetensors"):
        raise BadInput(f"{source} holds weights and does not say of which architecture", remedy=remedy)
    # Trusted, it may be a whole module: only opening it tells.
    if name.endswith(ARCHIVES) and not model.trust and kind_of(Path(source)) == "checkpoint":
        raise BadInput(
            f"{source} is a checkpoint: weights, which do not say of which architecture, or a pickled module, which "
            "runs code when it is opened",
            remedy=f"{remedy}; for a module that you trust: --trust",
        )
