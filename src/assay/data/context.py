"""What a reader may need to know about the model and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from assay.core.tensors import TensorSpec


@dataclass(frozen=True)
class ReaderContext:
    """``inputs`` are the model's inputs where they are known; ``labels_file`` is ``--labels``.

    ``seed`` and ``count`` are for drawn data (None: the reader's default), and ``ranges`` gives
    their values per input name, both ends included (``--range``).
    """

    inputs: tuple[TensorSpec, ...] | None = None
    labels_file: Path | None = None
    seed: int = 0
    count: int | None = None
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
