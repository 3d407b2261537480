"""``timm:NAME[?arg=value&…]``: models of the timm library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Pretrained:
    """Whether to ask timm for trained weights, from where, and how that reads in a report."""

    wanted: bool
    words: str | None = None
    overlay: Mapping[str, Any] | None = None
    warning: str | None = None


def open_source(spec: str, options: SourceOptions) -> Architecture:
    """Build ``timm:NAME`` with trained weights where they are cached, unless ``--weights`` are given.

    ``?pretrained=true`` insists on them (and may download), ``?pretrained=false`` does without.
    Raises BadInput for an unknown name (near ones suggested) or a wrong argument, NotAvailable when
    timm or insisted-on weights cannot be had.
    """
    timm = import_timm()
    name, arguments = split_arguments(spec.partition(":")[2])
    _check_name(timm, name)
    asked = arguments.pop("pretrained", None)
    pretrained = _pretrained(timm, name, asked, options)
    call = dict(arguments)
    if pretrained.wanted:
        call |= {"pretrained": True}
        if pretrained.overlay:
            call |= {"pretrained_cfg_overlay": dict(pretrained.overlay)}
    with seeded(options.seed):
        module = call_builder(lambda **kw: timm.create_model(name, **kw), call, f"timm:{name}")
    inputs, preprocess = _data(timm, module, arguments)
    return Architecture(
        name=PurePosixPath(name).name,
        spec=spec,
        identity={"builder": "timm", "name": name, "arguments": arguments},
        module=module,
        weights=pretrained.words,
        inputs=inputs,
        preprocess=preprocess,
        labels=_labels(module),
        warnings=(pretrained.warning,) if pretrained.warning else (),
    )


def create(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """``create_model("timm:NAME", …)``: timm's own ``create_model`` with those arguments."""
    timm = import_timm()
    plain, more = split_arguments(name)
    _check_name(timm, plain)
    call = {**more, **arguments}
    module: nn.Module = call_builder(lambda **kw: timm.create_model(plain, **kw), call, f"timm:{plain}")
    return module


def list_names() -> list[str]:
    names: list[str] = import_timm().list_models()
    return names


def import_timm() -> Any:
    """The timm library.  Raises NotAvailable with the command that installs it."""
    try:
        make_importable()
        import timm
    except ModuleNotFoundError as error:
        raise NotAvailable(
            f"timm is not installed here (no module {error.name})", remedy='pip install "assay[timm]"'
        ) from error
    return timm


def _check_name(timm: Any, name: str) -> None:
    if ":" in name or "/" in name:  # hf-hub:… and local-dir:…, which timm resolves by itself
        kind, _, place = name.partition(":")
        reason = None if kind == "local-dir" else reachable(f"https://huggingface.co/{place}/resolve/main/config.json")
        if reason is not None:
            raise NotAvailable(f"timm:{name} cannot be fetched: {reason}", remedy="fetch it and use timm:local-dir:DIR")
        return
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise UnknownName("timm model", name, timm.list_models())
    tag = name.partition(".")[2]
    tags = [n.partition(".")[2] for n in timm.list_pretrained(f"{architecture}.*") if n.startswith(f"{architecture}.")]
    if tag and tag not in tags:
        raise UnknownName(f"weight tag of timm's {architecture}", tag, tags)


def _pretrained(timm: Any, name: str, asked: Any, options: SourceOptions) -> Pretrained:
    if asked not in (None, True, False):
        raise BadInput(f"pretrained={asked!r} is neither true nor false", remedy=f"timm:{name}?pretrained=true")
    asked = None if asked is None else bool(asked)  # 0 and 1 are equal to False and True, and not the same
    if options.weights is not None:
        if asked:
            raise BadInput("pretrained=true and --weights ask for two sets of weights", remedy="give one of them")
        return Pretrained(False)
    if asked is False:
        return Pretrained(False)
    if ":" in name or "/" in name:
        return Pretrained(True, f"pretrained, {name}")
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        if asked:
            raise NotAvailable(f"timm has no pretrained weights for {name}", remedy="give a file with --weights")
        return Pretrained(False)
    where = config.hf_hub_id or config.url or config.architecture
    found = cached_file(config)
    if found is not None:
        return Pretrained(True, f"pretrained, {where} (from the cache)", {"file": str(found)})
    if not asked:
        hint = (
            f"pretrained weights of {where} are not in the local cache; to download them: timm:{name}?pretrained=true"
        )
        return Pretrained(False, warning=hint)
    url = f"https://huggingface.co/{config.hf_hub_id}/resolve/main/config.json" if config.hf_hub_id else config.url
    reason = reachable(url)
    if reason is not None:
        raise NotAvailable(
            f"the pretrained weights of timm:{name} are not cached and cannot be fetched: {reason}",
            remedy=f"give a file: timm:{name} --weights FILE",
        )
    return Pretrained(True, f"pretrained, {where}")


def cached_file(config: Any) -> Path | None:
    """The weights file of a timm configuration if it lies on this machine; nothing is fetched."""
    if config.file and Path(config.file).is_file():
        return Path(config.file)
    if config.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        repository = config.hf_hub_id.partition("@")[0]
        for name in (config.hf_hub_filename, *_HUB_FILES):
            found = try_to_load_from_cache(repository, name) if name else None
            if isinstance(found, str):
                return Path(found)
    if config.url:
        import torch

        path = Path(torch.hub.get_dir(), "checkpoints", PurePosixPath(config.url).name)
        if path.is_file():
            return path
    return None


def _data(
    timm: Any, module: nn.Module, arguments: Mapping[str, Any]
) -> tuple[tuple[TensorSpec, ...] | None, dict[str, Any] | None]:
    """Inputs and preprocessing from the model's configuration and the arguments that change them."""
    if not hasattr(module, "pretrained_cfg"):
        return None, None
    config = timm.data.resolve_model_data_config(module)
    channels, height, width = config["input_size"]
    channels = int(arguments.get("in_chans", channels))
    size = arguments.get("img_size")
    if size is not None:
        height, width = size if isinstance(size, tuple) else (size, size)
    spec = TensorSpec("input", "float32", ("batch", channels, int(height), int(width)))
    mean, std = ([float(v) for v in _per_channel(config[k], channels)] for k in ("mean", "std"))
    preprocess = {
        "kind": "image",
        "size": [int(height), int(width)],
        "crop_pct": float(config["crop_pct"]),
        "crop_mode": str(config["crop_mode"]),
        "interpolation": str(config["interpolation"]),
        "mean": mean,
        "std": std,
        "channels": channels,
    }
    return (spec,), preprocess


def _per_channel(values: Any, channels: int) -> list[float]:
    """The configured values, or their average for every channel when the number of channels differs."""
    given = [float(v) for v in values]
    return given if len(given) == channels else [sum(given) / len(given)] * channels


def _labels(module: nn.Module) -> tuple[str, ...] | None:
    """ImageNet's class names, where timm knows that the model's classes are those."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    if not getattr(module, "num_classes", 0) or not hasattr(module, "pretrained_cfg"):
        return None
    subset = infer_imagenet_subset(module)
    if not subset:
        return None
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(i) for i in range(info.num_classes()))
