"""The trtexec line that builds what ``TensorRtEngine.build`` builds, per major version.

* 8.6 ignores ``--explicitBatch``, which 10.0 took away with ``--workspace`` and ``--buildOnly``.
* 10 added ``--bf16`` and ``--stronglyTyped``.
* 11.0 took the precision flags away: there the precision lives in the ONNX file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from assay.core.errors import BadInput
from assay.core.tensors import Signature
from assay.core.units import Bytes

KNOWN = (8, 10, 11)


@dataclass(frozen=True)
class Profile:
    """Smallest, usual and largest batch of a plan with a free batch."""

    smallest: int = 1
    usual: int = 8
    largest: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.smallest <= self.usual <= self.largest:
            raise BadInput(
                f"min {self.smallest}, opt {self.usual} and max {self.largest} do not nest",
                remedy="give min <= opt <= max",
            )

    def shapes(self, signature: Signature) -> dict[str, tuple[tuple[int, ...], ...]]:
        """Per input with a free dim: its shape at the three batch sizes.  Raises BadInput for other free dims."""
        found = {}
        for spec in signature.inputs:
            if spec.is_static:
                continue
            others = [d for i, d in enumerate(spec.shape) if isinstance(d, str) and i != spec.batch_axis]
            if others:
                sized = replace(spec, shape=tuple("SIZE" if d in others else d for d in spec.shape))
                raise BadInput(
                    f"input {spec} has the free dim {others[0]!r} beside the batch; give it a size",
                    remedy=f"assay export MODEL --shape {sized}",
                )
            found[spec.name] = tuple(
                tuple(int(d) for d in spec.with_batch(b).shape) for b in (self.smallest, self.usual, self.largest)
            )
        return found


@dataclass(frozen=True)
class Settings:
    """What a build is told; ``strongly_typed`` is chosen by version 11 whatever is asked."""

    precision: str = "fp32"
    workspace_bytes: Bytes = 4 << 30
    profile: Profile = Profile()
    best: bool = False
    strongly_typed: bool = False
    version_compatible: bool = False
    timing_cache: str | None = None

    @property
    def flags(self) -> tuple[str, ...]:
        """Names of the BuilderFlags a weakly typed network needs; TF32 is handled apart, being on by default."""
        if self.best:
            return ("FP16", "BF16", "INT8")
        # A quantised graph says itself which layers are int8; the others may then run in fp16.
        return {"fp16": ("FP16",), "bf16": ("BF16",), "int8": ("INT8", "FP16")}.get(self.precision, ())


def trtexec(onnx: Path, plan: Path, signature: Signature, settings: Settings, major: int) -> list[str]:
    """The words of the command; ``signature`` is the file's own, whose fixed shapes trtexec refuses to be told again.

    Raises BadInput for a version that is not known or lacks the precision.
    """
    if major not in KNOWN:
        raise BadInput(f"the flags of trtexec {major} are not known; known: {', '.join(map(str, KNOWN))}")
    words = ["trtexec", f"--onnx={onnx}", f"--saveEngine={plan}", "--skipInference"]
    words.append(f"--memPoolSize=workspace:{settings.workspace_bytes >> 20}M")
    typed = settings.strongly_typed or major >= 11
    if not typed:
        if settings.precision == "bf16" and major < 10:
            raise BadInput("TensorRT 8 has no bf16", remedy="--precision fp16")
        words += ["--best"] if settings.best else [f"--{flag.lower()}" for flag in settings.flags]
    elif major < 11:
        words.append("--stronglyTyped")
    if settings.precision == "fp32" and not settings.best:
        words.append("--noTF32")
    words += _shape_words(settings.profile.shapes(signature))
    if settings.version_compatible:
        words.append("--versionCompatible")
    if settings.timing_cache:
        words.append(f"--timingCacheFile={settings.timing_cache}")
    return words


def _shape_words(shapes: Mapping[str, tuple[tuple[int, ...], ...]]) -> list[str]:
    if not shapes:
        return []
    words = []
    for index, flag in enumerate(("min", "opt", "max")):
        texts = [f"{name}:{'x'.join(map(str, three[index]))}" for name, three in shapes.items()]
        words.append(f"--{flag}Shapes={','.join(texts)}")
    return words
