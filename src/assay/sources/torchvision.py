"""``torchvision:NAME[?arg=value&…]``: models of the torchvision library."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInput, NotAvailable, UnknownName
from assay.core.tensors import TensorSpec
from assay.sources.arguments import call_builder, split_arguments
from assay.sources.fetch import reachable
from assay.sources.options import Architecture, SourceOptions
from assay.sources.seeding import seeded
from assay.sources.torchvision_ops import make_importable

if TYPE_CHECKING:
    from torch import nn

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, torchvision's default


def open_source(spec: str, options: SourceOptions) -> Architecture:
    """Build ``torchvision:NAME`` with its default weights where they are cached, unless ``--weights``.

    ``?weights=IMAGENET1K_V1`` (or DEFAULT, or ``pretrained=true``) insists on them and may download;
    ``?weights=none`` does without.  Raises BadInput for an unknown name or wrong argument, or a model
    that takes lists of images; NotAvailable when torchvision or insisted-on weights cannot be had.
    """
    models = import_models()
    name, arguments = split_arguments(spec.partition(":")[2])
    _check_name(models, name)
    family = models.get_model_builder(name).__module__.removeprefix("torchvision.models.").partition(".")[0]
    if family == "detection":
        raise BadInput(
            f"torchvision:{name} takes lists of images of different sizes, not tensors",
            remedy="wrap what is to be deployed in a module of your own and give FILE.py:NAME",
        )
    entry, words, warning = _weights(models, name, arguments, options)
    call = {**arguments, "weights": entry}
    if family == "segmentation" and entry is None:  # else its backbone would be downloaded all the same
        call.setdefault("weights_backbone", None)
    with seeded(options.seed):
        module = call_builder(lambda **kw: models.get_model(name, **kw), call, f"torchvision:{name}")
    described = entry or _default_entry(models, name)
    inputs, preprocess = _data(described)
    labels = tuple(described.meta["categories"]) if described is not None and "categories" in described.meta else None
    if "num_classes" in arguments:
        labels = None
    return Architecture(
        name=name,
        spec=spec,
        identity={"builder": "torchvision", "name": name, "arguments": arguments},
        module=module,
        weights=words,
        inputs=inputs,
        preprocess=preprocess,
        labels=labels,
        warnings=(warning,) if warning else (),
    )


def create(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """``create_model("torchvision:NAME", …)``: torchvision's own ``get_model`` with those arguments."""
    models = import_models()
    plain, more = split_arguments(name)
    _check_name(models, plain)
    call = {"weights": None, **more, **arguments}
    module: nn.Module = call_builder(lambda **kw: models.get_model(plain, **kw), call, f"torchvision:{plain}")
    return module


def list_names() -> list[str]:
    names: list[str] = import_models().list_models()
    return names


def import_models() -> Any:
    """``torchvision.models``.  Raises NotAvailable with the command that installs it."""
    try:
        make_importable()
        from torchvision import models
    except ModuleNotFoundError as error:
        raise NotAvailable(
            f"torchvision is not installed here (no module {error.name})", remedy='pip install "assay[timm]"'
        ) from error
    return models


def _check_name(models: Any, name: str) -> None:
    if name not in models.list_models():
        raise UnknownName("torchvision model", name, models.list_models())


def _default_entry(models: Any, name: str) -> Any:
    """The weights entry that is the default for ``name``, or None: some models have none."""
    entries = list(models.get_model_weights(name))
    return models.get_model_weights(name).DEFAULT if entries else None


def _weights(
    models: Any, name: str, arguments: dict[str, Any], options: SourceOptions
) -> tuple[Any, str | None, str | None]:
    """The weights entry to load (or None), how that reads in a report, and a warning.

    Takes ``weights`` and ``pretrained`` out of ``arguments``.
    """
    without = arguments.get("weights", "") is None  # "?weights=none"
    asked = arguments.pop("weights", None)
    insisted = arguments.pop("pretrained", None)
    if insisted is not None and not isinstance(insisted, bool):
        remedy = f"torchvision:{name}?pretrained=true"
        raise BadInput(f"pretrained={insisted!r} is neither true nor false", remedy=remedy)
    if (asked is not None and insisted is False) or (without and insisted is True):
        raise BadInput(f"torchvision:{name}: weights and pretrained contradict each other", remedy="give one of them")
    wanted = asked is not None or insisted is True
    if options.weights is not None:
        if wanted:
            raise BadInput("trained weights and --weights ask for two sets of weights", remedy="give one of them")
        return None, None, None
    entries = {e.name: e for e in models.get_model_weights(name)}
    if asked not in (None, "DEFAULT") and asked not in entries:
        raise UnknownName(f"weights entry of torchvision's {name}", str(asked), entries)
    entry = entries[asked] if asked in entries else _default_entry(models, name)
    if entry is None and wanted:
        raise NotAvailable(f"torchvision has no weights for {name}", remedy="give a file with --weights")
    if entry is None or without or insisted is False:
        return None, None, None
    words = f"pretrained, torchvision {entry}"
    if cached_file(entry).is_file():
        return entry, f"{words} (from the cache)", None
    if not wanted:
        hint = f"{entry} is not in the local cache; to download it: torchvision:{name}?weights={entry.name}"
        return None, None, hint
    reason = reachable(entry.url)
    if reason is not None:
        raise NotAvailable(
            f"the weights {entry} are not cached and cannot be fetched: {reason}",
            remedy=f"give a file: torchvision:{name} --weights FILE",
        )
    return entry, words, None


def cached_file(entry: Any) -> Path:
    """Where torch's hub keeps the file of a weights entry, whether or not it is there."""
    import torch

    return Path(torch.hub.get_dir(), "checkpoints", PurePosixPath(entry.url).name)


def _data(entry: Any) -> tuple[tuple[TensorSpec, ...] | None, dict[str, Any] | None]:
    """Inputs and preprocessing from the transform that belongs to a weights entry.

    Without an entry: 224 x 224 with ImageNet's statistics.  Video and optical-flow models give None.
    """
    if entry is None:
        return _image(224, 224 / 256, "center", "bilinear", (_MEAN, _STD))
    transform = entry.transforms()
    kind = type(transform).__name__
    statistics = (getattr(transform, "mean", _MEAN), getattr(transform, "std", _STD))
    interpolation = getattr(getattr(transform, "interpolation", None), "value", "bilinear")
    if kind == "ImageClassification":
        size, resized = transform.crop_size[0], transform.resize_size[0]
        return _image(size, crop_fraction(size, resized), "center", interpolation, statistics)
    if kind == "SemanticSegmentation":
        return _image(transform.resize_size[0], 1.0, "squash", interpolation, statistics)
    return None, None


def crop_fraction(size: int, resized: int) -> float:
    """The fraction that gives ``resized`` back as floor(size / fraction), whatever rounding does."""
    fraction = size / resized
    while math.floor(size / fraction) < resized:
        fraction = math.nextafter(fraction, 0.0)
    return fraction


def _image(
    size: int, crop_pct: float, crop_mode: str, interpolation: str, statistics: tuple[Any, Any]
) -> tuple[tuple[TensorSpec, ...], dict[str, Any]]:
    preprocess = {
        "kind": "image",
        "size": [size, size],
        "crop_pct": crop_pct,
        "crop_mode": crop_mode,
        "interpolation": interpolation,
        "mean": [float(v) for v in statistics[0]],
        "std": [float(v) for v in statistics[1]],
        "channels": 3,
    }
    return (TensorSpec("input", "float32", ("batch", 3, size, size)),), preprocess
