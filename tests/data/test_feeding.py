"""``samples``: from items to arrays that fit the model, or an error that names the item."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.core.dataset import Reader
from assay.core.errors import BadInput
from assay.core.tensors import TensorSpec
from assay.core.transform import FunctionTransform, NullTransform
from assay.data import open_reader, samples, transform_from_json

X = TensorSpec("x", "float32", ("batch", 3))
TOKENS = TensorSpec("tokens", "int64", ("batch", 4))


def sampled(reader: Reader, transform: Any, *inputs: TensorSpec) -> list[Any]:
    return list(samples(reader, transform, inputs))


def test_samples_of_images(image_tree: Path) -> None:
    spec = TensorSpec("pixels", "float32", ("batch", 3, 24, 24))
    transform = transform_from_json({"kind": "image", "size": [24, 24]})
    found = list(samples(open_reader(str(image_tree)), transform, (spec,), 1, 3))
    assert [(s.id, s.target) for s in found] == [("cat/z.jpeg", 0), ("dog/a.png", 1)]
    assert found[0].inputs["pixels"].flags.c_contiguous


def test_a_broken_image_is_named(image_tree: Path) -> None:
    (image_tree / "dog" / "a.png").write_bytes(b"")
    transform = transform_from_json({"kind": "image", "size": [24, 24]})
    with pytest.raises(BadInput, match=r"^dog/a\.png: the file is empty"):
        sampled(open_reader(str(image_tree)), transform, TensorSpec("p", "float32", ("batch", 3, 24, 24)))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (TensorSpec("p", "float32", ("batch", 3, 32, 32)), r"must be 3x32x32, found shape \(3, 24, 24\)"),
        (TensorSpec("p", "float32", ("batch", 1, 24, 24)), "must be 1x24x24"),
        (TensorSpec("p", "float16", ("batch", 3, 24, 24)), "must be float16, found float32"),
        (TensorSpec("p", "float32", ("batch", 3)), "must be 3 without its batch axis"),
        (TensorSpec("p", "float32", ("batch", "s", "s", 24)), r"must be sxsx24"),
    ],
)
def test_samples_that_do_not_fit_are_named(image_tree: Path, spec: TensorSpec, says: str) -> None:
    transform = transform_from_json({"kind": "image", "size": [24, 24]})
    with pytest.raises(BadInput, match=rf"^cat/more/c\.jpg: input 'p' {says}"):
        sampled(open_reader(str(image_tree)), transform, spec)


def test_a_users_transform(image_tree: Path) -> None:
    spec = TensorSpec("size", "int64", ("batch", 1))
    reader = open_reader(str(image_tree))
    good = sampled(reader, FunctionTransform(lambda b: np.array([len(b)]), "length"), spec)
    assert [int(s.inputs["size"][0]) for s in good] == [len(i.content) for i in reader.items()]
    with pytest.raises(BadInput, match=r"c\.jpg: the transform failed with ZeroDivisionError"):
        sampled(reader, FunctionTransform(lambda b: 1 / 0, "broken"), spec)
    with pytest.raises(BadInput, match="the model has 2 inputs"):
        sampled(reader, NullTransform(), X, TOKENS)


def test_named_contents_must_be_the_inputs(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.zeros((5, 3), np.float32))
    reader = open_reader(f"npz:{tmp_path / 'rows.npz'}")
    with pytest.raises(BadInput, match="row000000: the data give the inputs x; the model's are tokens"):
        sampled(reader, NullTransform(), TOKENS)
    assert len(sampled(reader, NullTransform(), X)) == 5
