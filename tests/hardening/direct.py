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


def serve_bundle(spec: str) -> None:
    """A bundle opened as the server opens it: its digests, warm-up, golden inputs and decoder."""
    from assay.job.serve.config import request_of
    from assay.job.serve.loading import Models

    models = Models(request_of({"model": [{"source": spec}]}), lambda event, about: None)
    for name in models.names():
        for version in models.versions(name):
            parts = models.open(name, version)
            parts.queue.close(0.0)
            parts.release()


def serve_model(spec: str) -> None:
    """A MODEL opened as the server opens it."""
    serve_bundle(spec)


def decode_alone(path: str) -> None:
    """A picture as it is read from a data set."""
    from assay.data.image import ImageSettings, ImageTransform

    ImageTransform(ImageSettings((32, 32)))(Path(path).read_bytes())


def decode_served(path: str) -> None:
    """A picture as it comes in a request."""
    from assay.data.image import ImageSettings, ImageTransform
    from assay.job.serve.pictures import Pictures

    Pictures(ImageTransform(ImageSettings((32, 32))), 50_000_000)(Path(path).read_bytes())


def read_rows(path: str) -> None:
    """The predictions of a run."""
    from assay.measure.predictions import read_predictions

    read_predictions(Path(path))


def read_raw(path: str) -> None:
    """Raw values as a Record names them."""
    _raw(Path(path).parent, Path(path).name, path)


def read_raw_outside(path: str) -> None:
    _raw(Path(path).parent / "run", f"../{Path(path).name}", path)


def _raw(root: Path, name: str, path: str) -> None:
    from assay.core.artifact import digest_file
    from assay.core.record import RawSamples
    from assay.measure.raw import load_raw

    load_raw(root, RawSamples(name, digest_file(Path(path)), "s"))


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
