"""Any iterable as a Reader: forms of elements, batches and single samples, and a fixed order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

from assay.core.dataset import Reader
from assay.core.errors import BadInput
from assay.core.tensors import TensorSpec
from assay.core.transform import NullTransform
from assay.data import from_iterable, samples, transform_from_json

X = TensorSpec("x", "float32", ("batch", 3))
MASK = TensorSpec("mask", "bool", ("batch", 3))
STATE = TensorSpec("state", "float32", (2, "batch", 4), batch_axis=1)
SCALE = TensorSpec("scale", "float32", (1,), batch_axis=None)
ROWS = np.arange(21, dtype=np.float32).reshape(7, 3)
LABELS = np.arange(7) % 3


def taken(iterable: Any, *inputs: TensorSpec) -> list[tuple[Any, Any]]:
    """(first input, target) of every sample."""
    inputs = inputs or (X,)
    reader = from_iterable(iterable, "given", inputs)
    return [(s.inputs[inputs[0].name], s.target) for s in samples(reader, NullTransform(), inputs)]


def assert_rows(found: list[tuple[Any, Any]], targets: Any = LABELS) -> None:
    assert len(found) == 7
    for (row, target), expected, label in zip(found, ROWS, targets, strict=True):
        np.testing.assert_array_equal(row, expected)
        assert target == label


def loader(batch_size: int | None = 3, **options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.from_numpy(ROWS), torch.from_numpy(LABELS)), batch_size=batch_size, **options)


class MapStyle(Dataset[Any]):
    """Has no __iter__ and never raises IndexError."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(ROWS[index % 7]), int(LABELS[index % 7])


@pytest.mark.parametrize(
    "iterable",
    [
        pytest.param(list(zip(ROWS, LABELS, strict=True)), id="list-of-single-samples"),
        pytest.param(list(zip(torch.from_numpy(ROWS), LABELS.tolist(), strict=True)), id="tensors-and-ints"),
        pytest.param([(ROWS[:4], LABELS[:4]), (ROWS[4:], LABELS[4:])], id="batches"),
        pytest.param([(ROWS[:4], LABELS[:4].tolist()), (ROWS[4:], tuple(LABELS[4:]))], id="batches-with-list-targets"),
        pytest.param([(ROWS[i : i + 1], int(LABELS[i])) for i in range(7)], id="batches-of-one-with-plain-targets"),
        pytest.param(loader(), id="dataloader"),
        pytest.param(loader(None), id="dataloader-without-batches"),
        pytest.param(MapStyle(), id="map-style-dataset"),
        pytest.param((pair for pair in zip(ROWS, LABELS, strict=True)), id="generator"),
        pytest.param([{"x": ROWS, "label": LABELS}], id="mapping-with-target"),
        pytest.param([({"x": r}, t) for r, t in zip(ROWS, LABELS, strict=True)], id="mapping-and-target"),
        pytest.param([((r,), t) for r, t in zip(ROWS, LABELS, strict=True)], id="tuple-of-one-input"),
    ],
)
def test_forms_of_elements(iterable: Any) -> None:
    assert_rows(taken(iterable))


@pytest.mark.parametrize(
    "iterable", [list(ROWS), [ROWS[:2], ROWS[2:]], DataLoader(TensorDataset(torch.from_numpy(ROWS)), 3), ROWS]
)
def test_without_targets(iterable: Any) -> None:
    assert_rows(taken(iterable), [None] * 7)


def test_it_is_a_reader() -> None:
    reader = from_iterable(loader(), "loader", (X,))
    assert isinstance(reader, Reader)
    assert reader.name == "loader"
    assert not reader.synthetic
    ids = [i.id for i in reader.items()]
    assert len(set(ids)) == len(ids) == len(reader) == 7
    assert [i.id for i in reader.items(2, 5)] == ids[2:5]
    assert [i.id for i in reader.items(-2)] == ids[-2:]
    assert list(reader.items(3, 3)) == []
    assert list(reader.items(20)) == []


def test_len_before_any_walk_and_generators_are_kept() -> None:
    reader = from_iterable((r for r in ROWS), "generator", (X,))
    assert len(reader) == 7
    assert len(list(reader.items())) == len(list(reader.items())) == 7


def test_several_inputs_and_batch_axes() -> None:
    batch = {
        "x": torch.from_numpy(ROWS[:2]),
        "mask": torch.tensor([[True, False, True]] * 2),
        "state": torch.arange(16, dtype=torch.float32).reshape(2, 2, 4),
        "scale": torch.ones(1),
    }
    inputs = (X, MASK, STATE, SCALE)
    expected_state = batch["state"].numpy()[:, 1]
    for element in ((batch, [5, 6]), {**batch, "target": [5, 6]}, (tuple(batch.values()), [5, 6])):
        found = list(samples(from_iterable([element], "several", inputs), NullTransform(), inputs))
        assert [s.target for s in found] == [5, 6]
        np.testing.assert_array_equal(found[1].inputs["state"], expected_state)
        np.testing.assert_array_equal(found[1].inputs["scale"], [1])
        assert found[1].inputs["mask"].dtype == np.bool_


def test_a_name_of_the_model_is_an_input_and_no_target() -> None:
    label = TensorSpec("label", "int64", ("batch",))
    found = list(samples(from_iterable([{"x": ROWS, "label": LABELS}], "g", (X, label)), NullTransform(), (X, label)))
    assert found[4].inputs["label"] == 1
    assert found[4].target is None


def test_array_targets_stay_arrays() -> None:
    found = taken([(ROWS, np.arange(14.0).reshape(7, 2))])
    np.testing.assert_array_equal(found[3][1], [6, 7])
    assert type(taken([(ROWS, torch.arange(7) / 2)])[1][1]) is float
    assert [t for _, t in taken([(ROWS, list("abcdefg"))])] == list("abcdefg")


def test_bfloat16_keeps_its_bits() -> None:
    spec = TensorSpec("x", "bfloat16", ("batch", 3))
    tensor = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    found = taken([tensor], spec)
    np.testing.assert_array_equal(np.stack([r for r, _ in found]).astype(np.float32), tensor.float().numpy())


def test_other_content_goes_through_the_transform() -> None:
    spec = TensorSpec("x", "float32", ("batch", 3, 8, 8))
    images = [(Image.new("RGB", (10, 10), (i, 0, 0)), i) for i in range(3)]
    reader = from_iterable(images, "pictures", (spec,))
    transform = transform_from_json({"kind": "image", "size": [8, 8], "mean": [0, 0, 0], "std": [1, 1, 1]})
    found = list(samples(reader, transform, (spec,)))
    assert [round(float(s.inputs["x"].max()) * 255) for s in found] == [s.target for s in found] == [0, 1, 2]


# --- refusals ----------------------------------------------------------------


def test_a_shuffling_loader_is_refused() -> None:
    rows = torch.arange(300, dtype=torch.float32).reshape(100, 3)
    shuffled = DataLoader(TensorDataset(rows, torch.arange(100)), batch_size=10, shuffle=True)
    reader = from_iterable(shuffled, "loader", (X,))
    with pytest.raises(BadInput, match=r"another sample . on each pass") as caught:
        list(reader.items())
        list(reader.items())
    assert "shuffle=False" in (caught.value.remedy or "")


def test_random_augmentation_is_refused() -> None:
    generator = np.random.default_rng(0)

    class Noisy(MapStyle):
        def __getitem__(self, index: int) -> Any:
            return (ROWS[index] + generator.random(3)).astype(np.float32), 0

    with pytest.raises(BadInput, match=r"another sample . on each pass"):
        list(from_iterable(Noisy(), "noisy", (X,)).items())


def test_an_iterable_that_shrinks_is_refused() -> None:
    given = [(r, 0) for r in ROWS]
    reader = from_iterable(given, "given", (X,))
    assert len(reader) == 7
    del given[-1]
    with pytest.raises(BadInput, match="gave 7 samples on the first pass and 6"):
        list(reader.items())


@pytest.mark.parametrize(
    ("iterable", "says"),
    [
        ([], "gives no samples"),
        ([(np.zeros((0, 3), np.float32), np.zeros(0))], "gives no samples"),
        (5, "int is not an iterable"),
        ("data", "str is not an iterable"),
        ({"x": ROWS}, "dict is not an iterable"),
        ([(ROWS, LABELS[:5])], r"7 rows of input, but targets \(5,\)"),
        ([(ROWS, 3)], "7 rows of input, but targets"),
        ([(ROWS[None], LABELS)], r"input 'x' has shape \(1, 7, 3\)"),
        ([(np.float32(1), 1)], "input 'x' must be 3"),
        ([(ROWS, LABELS, LABELS)], "has 3 parts"),
        ([{"y": LABELS}], "gives the inputs none; the model's are x"),
        ([{"x": ROWS, "y": LABELS, "label": LABELS}], "several targets"),
        ([({"z": ROWS}, LABELS)], "gives the inputs z"),
        ([((ROWS, ROWS), LABELS)], "for the 1 inputs x"),
        ([(ROWS.astype(np.float64), LABELS)], "must be float32, found float64"),
        ([(ROWS[:, :2], LABELS)], r"must be 3, found shape \(2,\)"),
    ],
)
def test_what_does_not_fit_is_refused(iterable: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        taken(iterable)


@pytest.mark.parametrize(
    ("element", "says"),
    [
        ((ROWS, LABELS), "for the 2 inputs x, mask"),
        (({"x": ROWS, "mask": np.ones((6, 3), bool)}, LABELS), "unequal numbers of rows: x 7, mask 6"),
        (({"x": ROWS, "mask": np.ones(3, bool)}, LABELS), r"'x' is a batch, but 'mask' has shape \(3,\)"),
    ],
)
def test_what_does_not_fit_two_inputs_is_refused(element: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        taken([element], X, MASK)


def test_the_models_inputs_must_be_known() -> None:
    with pytest.raises(BadInput, match="inputs must be known"):
        from_iterable([ROWS], "given", ())


def test_ragged_targets_are_one_per_row() -> None:
    """Boxes of a picture are as many as there are objects."""
    found = taken([(ROWS[:2], [[1, 2], [3]])])
    assert [target for _, target in found] == [[1, 2], [3]]
    with pytest.raises(BadInput, match="2 rows of input, but targets for 3"):
        taken([(ROWS[:2], [[1, 2], [3], []])])
    with pytest.raises(BadInput, match="2 rows of input, but targets of one dict"):
        taken([(ROWS[:2], {"boxes": 1})])


def test_ragged_inputs_are_told() -> None:
    with pytest.raises(BadInput, match="an input that is no array"):
        taken([{"x": [[1.0], [1.0, 2.0]]}])


def test_texts_made_anew_are_the_same_texts() -> None:
    class Texts:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            return {"text": np.array([b"text %d" % index * 100], dtype=object)}

    reader = from_iterable(Texts(), "texts", (TensorSpec("text", "string", ("batch", 1)),))
    kept = list(reader.items())
    assert [i.content["text"][0] for i in reader.items()] == [i.content["text"][0] for i in kept]
