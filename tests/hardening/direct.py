"""What no verb calls alone: reading data and checkpoints to their end.  Each raises an AssayError or succeeds."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path


def read_all(spec: str) -> None:
    """Every item of what ``--data`` names, and what its own preprocessing makes of it."""
    from assay import data

    reader = data.open_reader(spec)
    transform = data.transform_from_json(reader.preprocess) if reader.preprocess else None
    for item in reader.items():
        if transform is not None:
            transform(item.content)


def decode(path: str) -> None:
    """A picture by the fast path and by Pillow: the same bits wherever both decode it.

    libjpeg passes over rubbish between two segments where Pillow gives up; the pixels are whole then.
    """
    import numpy as np

    from assay.core.errors import BadInput
    from assay.data.image import ImageSettings, ImageTransform

    content = Path(path).read_bytes()
    made = ImageTransform(ImageSettings((32, 32)))(content)
    assert np.isfinite(made).all()
    try:
        plain = ImageTransform(ImageSettings((32, 32)), fast=False)(content)
    except BadInput:
        return
    assert np.array_equal(made, plain), "the fast path gives other bits than Pillow"


def load_checkpoint(spec: str) -> None:
    """Weights for the architecture of ``net.py`` beside them."""
    from assay.sources import SourceOptions, resolve_model

    with tempfile.TemporaryDirectory() as folder:
        options = SourceOptions(arch=f"{Path(spec).parent / 'net.py'}:Net", out_dir=Path(folder))
        model = resolve_model(spec, options)
        assert model.artifact.module is not None
        model.artifact.module()


def load_program(spec: str) -> None:
    """TorchScript or an exported program."""
    from assay.sources import SourceOptions, resolve_model

    with tempfile.TemporaryDirectory() as folder:
        model = resolve_model(spec, SourceOptions(trust=True, out_dir=Path(folder)))
        assert model.artifact.module is not None
        model.artifact.module()


def read_log(spec: str) -> None:
    from assay.core.record import read_records

    read_records(Path(spec))


def crash(_: str) -> None:
    """What a library that fails in C does; the harness must see it."""
    os.abort()


def grow(_: str) -> None:
    """2.5 GB, a little at a time."""
    held = []
    for _step in range(25):
        held.append(b"x" * 10**8)
        time.sleep(0.05)
