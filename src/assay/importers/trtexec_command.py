"""What a tool's command line says about the run: model, batch, precision, flags.  Shared by several importers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

_SHAPES = re.compile(r"--(?:shapes|optShapes)=(\S+)")
_INFERENCE_SHAPE = re.compile(r"Input(?:\(s\)|s)? inference shapes?\s*:\s*(\S+?)\s*=\s*(\d{1,6})x", re.I)
_FILE = re.compile(r"--(?:onnx|loadEngine|uff|model|deploy)=(\S+)")
_OPTION = re.compile(r"(?<![\w-])-{1,2}(?:om_path|om-model|om_model|model)[= ]+(\S+)")
_SHORT_OPTION = re.compile(  # -m of other commands is a module, a mode or a message
    r"(?:(?<![\w-])-m[= ]+(?=\S+\.(?:onnx|om|engine|plan|trt|xml|uff|pt|pth)\b)"
    r"|\bperf_(?:analyzer|client)\s[^|;]*?-m[= ]+)(\S+)",
    re.I,
)
_PRECISIONS = ("best", "fp16", "bf16", "int8", "fp8", "int4")
_STEM_NOISE = re.compile(r"(?:[._-](?:bs\d+|batch\d+|b\d+|tuned|aipp|fp16|fp32|int8|engine|sim|simplified))+$", re.I)


@dataclass(frozen=True)
class Command:
    """A trtexec command; every part is None where it is not said."""

    text: str | None = None
    model: str | None = None
    batch: int | None = None
    implicit_batch: int | None = None
    precision: str | None = None
    streams: int | None = None
    no_transfers: bool = False


def parse_trtexec(text: str) -> Command:
    """The command in a log's framing line or in a text, and the shapes the log lists."""
    match = re.search(r"trtexec(?:\.exe)?\s+(-.*)", text.replace("\\\n", " "))
    line = match[1].strip() if match else None
    implicit = _number(re.search(r"--batch=(\d{1,6})(?!\d)", line)) if line else None
    listed = _INFERENCE_SHAPE.findall(text)
    batch = implicit or (_batch_of_shapes(line) if line else None)
    if batch is None and listed:
        batch = _common(int(n) for _, n in listed)
    return Command(
        text=line,
        model=model_in(line) if line else None,
        batch=batch,
        implicit_batch=implicit,
        precision=_precision(line) if line else None,
        streams=_number(re.search(r"--(?:infStreams|streams)=(\d{1,6})(?!\d)", line)) if line else None,
        no_transfers=bool(line and re.search(r"--noDataTransfers\b", line)),
    )


def model_in(line: str) -> str | None:
    """The model's name from a ``--onnx=`` or ``-om_path=`` path, without batch and tuning marks."""
    match = _FILE.search(line) or _OPTION.search(line) or _SHORT_OPTION.search(line)
    return model_name(match[1]) if match else None


def model_name(path: str) -> str | None:
    """``./resnet50_bs16.om`` -> ``resnet50``."""
    name = PurePosixPath(path.strip("'\"`").replace("\\", "/")).name
    stem = re.sub(r"\.(?:onnx|om|engine|plan|trt|xml|uff|pt|pth|prototxt)$", "", name, flags=re.I)
    return _STEM_NOISE.sub("", stem) or None


def batch_in_name(name: str) -> int | None:
    """``resnet50_bs16``, ``perf_vision_batchsize_4_device_0`` -> the batch size."""
    match = re.search(r"(?:^|[._-])(?:bs|batch[_-]?size|batch)[_-]?(\d{1,5})(?![\dx])", name, re.I)
    return _number(match)


def _batch_of_shapes(line: str) -> int | None:
    match = _SHAPES.search(line)
    if match is None:
        return None
    firsts = re.findall(r"(?:^|[:,'\"])(\d{1,6})(?=x|,|'|\"|$)", match[1])
    return _common(int(n) for n in firsts)


def _common(values: object) -> int | None:
    """The one value all inputs share, above zero; None where they differ."""
    distinct = set(values)  # type: ignore[call-overload]
    only = distinct.pop() if len(distinct) == 1 else None
    return only if only else None


def _precision(line: str) -> str | None:
    flags = [name for name in _PRECISIONS if re.search(rf"--{name}(?![A-Za-z0-9])", line)]
    if flags:
        return flags[0] if "best" in flags else "+".join(flags)
    if "--onnx=" in line and "--stronglyTyped" not in line:
        return "fp32"
    return None


def _number(match: re.Match[str] | None) -> int | None:
    value = int(match[1]) if match else 0
    return value or None
