from __future__ import annotations

import subprocess
import sys

import torch

from assay.sources.torchvision_ops import make_importable


def test_is_idempotent_and_leaves_torchvision_usable() -> None:
    assert make_importable() == make_importable()
    import torchvision

    assert torchvision.models.list_models()
    assert hasattr(torch.ops.torchvision, "nms")


def test_works_after_an_import_has_failed() -> None:
    code = (
        "import contextlib\n"
        "with contextlib.suppress(RuntimeError):\n    import torchvision\n"
        "from assay.sources.torchvision_ops import make_importable as make\n"
        "make(); make.cache_clear(); make()\n"
        "import timm; print(timm.is_model('resnet18'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "True", done.stderr


def test_the_public_name_is_the_same_function() -> None:
    import assay

    assert assay.make_torchvision_importable is make_importable
