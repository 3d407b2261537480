"""Makes ``import torchvision`` (and so ``import timm``) work beside a torch it was not built for."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path


@functools.cache
def make_torchvision_importable() -> bool:
    """Call before a script's own ``import torchvision`` or ``import timm``; says whether the work-around was needed.

    ``assay.make_torchvision_importable()``; harmless where nothing is wrong, and where torchvision is not installed.

    The trap: package indexes give a CPU build of torch together with a torchvision built for CUDA.
    The library with torchvision's own operators then cannot be loaded, torchvision goes on without
    it, and later dies with "operator torchvision::nms does not exist", because it describes the
    shapes of ``nms`` and ``qnms`` to torch without asking whether they exist.  Declaring the two
    operators first is enough.  They have no implementation then: calling them (or any other of
    torchvision's own operators) still fails and says so; models and transforms do not use them.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or _library_loads(Path(spec.origin).parent):
        return False
    import torch

    needed = False
    for schema in (
        "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    ):
        name = schema.partition("(")[0]
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", schema.removeprefix(name))
            needed = True
    return needed


def _library_loads(folder: Path) -> bool:
    """Whether torchvision's operator library can be loaded into this torch."""
    import torch

    libraries = [p for p in folder.iterdir() if p.name.startswith("_C") and p.suffix in (".so", ".pyd", ".dylib")]
    try:
        for library in libraries:
            torch.ops.load_library(str(library))
    except OSError:
        return False
    return bool(libraries)


make_importable = make_torchvision_importable
