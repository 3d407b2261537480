"""The atc line that makes an ``.om`` of an ONNX file, and the AIPP file that puts preprocessing into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput
from assay.core.tensors import Signature

PRECISION_MODES = {"fp32": "must_keep_origin_dtype", "fp16": "force_fp16"}


@dataclass(frozen=True)
class Settings:
    """``batch`` None with a free batch means ``dynamic_batch``, the sizes one file serves."""

    soc_version: str
    precision: str = "fp16"
    batch: int | None = None
    dynamic_batch: tuple[int, ...] = ()
    aipp: Path | None = None
    auto_tune_mode: str | None = None


def atc(onnx: Path, output: Path, signature: Signature, settings: Settings) -> list[str]:
    """The words of the command; ``output`` is without the ``.om`` that atc appends.

    Raises BadInput for a free dim that atc would have to guess.
    """
    words = ["atc", "--framework=5", f"--model={onnx}", f"--output={output}", "--input_format=NCHW"]
    shapes = []
    for spec in signature.inputs:
        fixed = spec.with_batch(settings.batch) if settings.batch is not None else spec
        others = [d for i, d in enumerate(fixed.shape) if isinstance(d, str) and i != spec.batch_axis]
        if others:
            raise BadInput(f"input {spec} has the free dim {others[0]!r} beside the batch; atc needs its size")
        dims = ["-1" if isinstance(d, str) else str(d) for d in fixed.shape]
        if "-1" in dims and not settings.dynamic_batch:
            raise BadInput(f"input {spec} has a free batch; atc needs one size, or a list of them")
        shapes.append(f"{spec.name}:{','.join(dims)}")
    words.append(f"--input_shape={';'.join(shapes)}")
    if settings.batch is None and settings.dynamic_batch:
        words.append(f"--dynamic_batch_size={','.join(map(str, settings.dynamic_batch))}")
    words.append(f"--soc_version={settings.soc_version}")
    words.append(f"--precision_mode={PRECISION_MODES[settings.precision]}")
    if settings.aipp is not None:
        words.append(f"--insert_op_conf={settings.aipp}")
    if settings.auto_tune_mode is not None:
        words.append(f"--auto_tune_mode={settings.auto_tune_mode}")
    return [*words, "--log=error"]


def aipp_config(preprocess: Mapping[str, Any], *, swap_red_and_blue: bool = False) -> str:
    """A static AIPP operator for an image transform (as data): uint8 pixels in, normalised values out.

    AIPP computes ``(pixel - mean_chn - min_chn) * var_reci_chn``; with mean and deviation of values
    in 0..1 that is ``min_chn = 255 * mean`` and ``var_reci_chn = 1 / (255 * std)``.  Resizing and
    cropping stay on the host.  Raises BadInput for a transform that is no image of one or three channels.
    """
    if preprocess.get("kind") != "image" or len(preprocess.get("size", ())) != 2:
        raise BadInput(f"AIPP is written from an image's preprocessing, not from {preprocess.get('kind')!r}")
    mean, std = list(preprocess["mean"]), list(preprocess["std"])
    if len(mean) != len(std) or len(mean) not in (1, 3) or any(s <= 0 for s in std):
        raise BadInput(f"AIPP has one or three channels; mean {mean} and std {std} do not fit")
    height, width = preprocess["size"]
    lines = [
        "aipp_op {",
        "  aipp_mode: static",
        f"  input_format: {'RGB888_U8' if len(mean) == 3 else 'YUV400_U8'}",
        f"  src_image_size_w: {width}",
        f"  src_image_size_h: {height}",
        "  crop: false",
        "  csc_switch: false",
        f"  rbuv_swap_switch: {str(swap_red_and_blue).lower()}",
    ]
    for channel, (m, s) in enumerate(zip(mean, std, strict=True)):
        lines += [
            f"  mean_chn_{channel}: 0",
            f"  min_chn_{channel}: {255 * m:.7g}",
            f"  var_reci_chn_{channel}: {1 / (255 * s):.7g}",
        ]
    return "\n".join([*lines, "}"]) + "\n"
