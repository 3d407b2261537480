"""Transform: from what a reader yields (bytes, an array) to one model input.

A transform that ships in a bundle must be *data*: ``to_json`` describes it fully and
the table of ``data/`` rebuilds it.  A user's own function has no such description and
travels by reference only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from assay.core.tensors import Array


@runtime_checkable
class Transform(Protocol):
    """One item in, one array without batch axis out."""

    def __call__(self, item: Any) -> Array: ...

    def to_json(self) -> Mapping[str, Any]:
        """``{"kind": <table key>, ...}``, enough to rebuild it elsewhere."""
        ...


class NullTransform:
    """Gives back the array it was given: for data that already are model inputs."""

    def __call__(self, item: Any) -> Array:
        return np.asarray(item, order="C")

    def to_json(self) -> Mapping[str, Any]:
        return {"kind": "none"}


class FunctionTransform:
    """A user's own function; it is named in reports and does not travel in bundles.

    ``code`` is the sha256 of the file it stands in, where that is known: what it gave is only as good as that.
    """

    def __init__(self, function: Callable[[Any], Any], name: str, code: str | None = None) -> None:
        self.function = function
        self._name = name
        self._code = code

    def __call__(self, item: Any) -> Array:
        return np.asarray(self.function(item), order="C")

    def to_json(self) -> Mapping[str, Any]:
        about = {"kind": "function", "name": self._name}
        return about if self._code is None else {**about, "sha256": self._code}
