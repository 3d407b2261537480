"""The forms of --data that read files or draw, and how they refuse what cannot be right."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.core.dataset import Reader
from assay.core.errors import BadInput, NotAvailable, UnknownName
from assay.core.tensors import TensorSpec
from assay.core.transform import NullTransform
from assay.data import READERS, ReaderContext, open_reader, samples, transform_from_json
from assay.data.digits import split_indices

ELSEWHERE = {"parquet"}  # needs pyarrow: test_more_readers.py
X = TensorSpec("x", "float32", ("batch", 3))
TOKENS = TensorSpec("tokens", "int64", ("batch", 4))


@pytest.fixture
def npz_file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.npz"
    np.savez(path, x=np.arange(15, dtype=np.float32).reshape(5, 3), target=np.arange(5))
    return path


@pytest.fixture
def flat_folder(tmp_path: Path, zoo: dict[str, bytes]) -> Path:
    root = tmp_path / "flat"
    root.mkdir()
    for name in ("b_2.JPEG", "a_1.JPEG", "c_3.png"):
        (root / name).write_bytes(zoo["tiny"])
    return root


def write_sets(root: Path, zoo: dict[str, bytes]) -> dict[str, str]:
    """Small sets for the readers of test_more_readers.py, and how to name them."""
    records = np.random.default_rng(0).integers(0, 10, (4, 3073), dtype=np.uint8)
    (root / "test_batch.bin").write_bytes(records.tobytes())
    for folder in ("pairs/lr", "pairs/hr", "volumes/images", "volumes/labels", "set"):
        (root / folder).mkdir(parents=True)
    with tarfile.open(root / "a.tar", "w") as tar:
        for name in "pqr":
            for side in ("lr", "hr"):
                (root / "pairs" / side / f"{name}.png").write_bytes(zoo["tiny"])
            tar.add(root / "pairs" / "lr" / f"{name}.png", f"{name}.png")
            np.save(root / "volumes" / "images" / f"{name}.npy", np.ones((3, 4, 5)))
            np.save(root / "volumes" / "labels" / f"{name}.npy", np.ones((3, 4, 5), np.uint8))
            (root / "set" / f"{name}_1.bin").write_bytes(bytes(4 * 12))
    (root / "set" / "set.info").write_text("0 p_1.bin 2 2\n1 q_1.bin 2 2\n2 r_1.bin 2 2\n")
    return {
        "cifar10": f"cifar10:{root}",
        "pairs": f"pairs:{root / 'pairs'}",
        "prepared": f"prepared:{root / 'set' / 'set.info'}",
        "volumes": f"volumes:{root / 'volumes'}",
        "webdataset": f"webdataset:{root}/a.tar",
    }


@pytest.fixture
def every_reader(
    image_tree: Path, flat_folder: Path, npz_file: Path, tmp_path: Path, zoo: dict[str, bytes]
) -> dict[str, Reader]:
    labels = tmp_path / "val_label.txt"
    labels.write_text("a_1.JPEG 7\nb_2.JPEG 0\nc_3.JPEG 3\n")
    specs = {
        "digits": "digits",
        "flat": f"flat:{flat_folder}",
        "imagefolder": f"imagefolder:{image_tree}",
        "npz": f"npz:{npz_file}",
        "synthetic": "synthetic:5",
        **write_sets(tmp_path, zoo),
    }
    assert set(specs) | ELSEWHERE == set(READERS), "a new reader belongs into this test"
    contexts = {n: ReaderContext(inputs=(X,), labels_file=None if n == "prepared" else labels) for n in specs}
    return {n: open_reader(s, contexts[n]) for n, s in specs.items()}


@pytest.mark.parametrize("form", [f for f in READERS if f not in ELSEWHERE])
def test_what_every_reader_promises(form: str, every_reader: dict[str, Reader]) -> None:
    reader = every_reader[form]
    assert isinstance(reader, Reader)
    count = min(len(reader), 20)
    whole = list(reader.items())
    assert len(whole) == len(reader) > 0
    assert len({i.id for i in whole}) == len(whole)
    again = list(reader.items(1, count))
    assert [i.id for i in again] == [i.id for i in whole[1:count]]
    for one, other in zip(again, whole[1:count], strict=True):
        assert _bytes(one.target) == _bytes(other.target)
        assert np.all(_bytes(one.content) == _bytes(other.content))
    assert list(reader.items(len(reader))) == []
    assert [i.id for i in reader.items(-2)] == [i.id for i in whole[-2:]]
    assert reader.synthetic is (form == "synthetic")
    if reader.preprocess is not None:
        assert transform_from_json(reader.preprocess)(whole[0].content).dtype == np.float32


def _bytes(content: Any) -> bytes:
    if isinstance(content, dict):
        return b"".join(np.ascontiguousarray(v).tobytes() for v in content.values())
    if content is None:
        return b""
    return content if isinstance(content, bytes) else np.ascontiguousarray(content).tobytes()


# --- names -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "says", "remedy"),
    [
        ("digit", "no data form named 'digit'", "digits"),
        ("imagfolder:x", "no data form", "imagefolder"),
        ("some/where", "no folder some/where", "existing folder"),
        ("pictures.zip", "no folder", "digits"),
        ("imagefolder", "needs a folder", "imagefolder:DIR"),
        ("imagefolder:nowhere", "no folder nowhere", None),
        ("flat:nowhere", "no folder nowhere", None),
        ("npz", "needs a file", "npz:FILE"),
        ("npz:nowhere.npz", "no file nowhere.npz", None),
        ("digits:tests", "no split", "test"),
        ("synthetic:many", "not a number", "synthetic:64"),
        ("synthetic:0", "not a number", "synthetic:64"),
    ],
)
def test_what_cannot_be_right_is_refused(spec: str, says: str, remedy: str | None) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        open_reader(spec, ReaderContext(inputs=(X,)))
    assert remedy is None or remedy in (caught.value.remedy or "")


def test_a_file_in_place_of_a_folder(npz_file: Path) -> None:
    with pytest.raises(BadInput, match="is a file") as caught:
        open_reader(str(npz_file))
    assert caught.value.remedy == f"--data npz:{npz_file}"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"kind": "images", "size": [3, 3]}, "no transform kind named 'images'"),
        ({"kind": "assay.data.image:image_transform"}, "no transform kind"),
        ({"kind": "function", "name": "mine"}, "user's own function"),
        ({"size": [3, 3]}, "has a kind"),
    ],
)
def test_unknown_transforms_are_refused(data: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        transform_from_json(data)


def test_the_null_transform_is_rebuilt() -> None:
    transform = transform_from_json(NullTransform().to_json())
    np.testing.assert_array_equal(transform(np.ones(3)), np.ones(3))


# --- imagefolder -------------------------------------------------------------


def test_imagefolder_order_labels_and_targets(image_tree: Path, zoo: dict[str, bytes]) -> None:
    reader = open_reader(str(image_tree))
    assert reader.labels == ("cat", "dog")
    assert [(i.id, i.target) for i in reader.items()] == [
        ("cat/more/c.jpg", 0),
        ("cat/z.jpeg", 0),
        ("dog/a.png", 1),
        ("dog/b.JPG", 1),
    ]
    assert next(reader.items(3)).content == zoo["420"]


def test_imagefolder_refuses_folders_that_say_nothing(tmp_path: Path, zoo: dict[str, bytes]) -> None:
    with pytest.raises(BadInput, match="is empty") as caught:
        open_reader(str(tmp_path))
    assert "one folder per class" in (caught.value.remedy or "")
    (tmp_path / "a.jpg").write_bytes(zoo["420"])
    with pytest.raises(BadInput, match="1 images but no class folders") as caught:
        open_reader(str(tmp_path))
    assert "flat:" in (caught.value.remedy or "")
    (tmp_path / "cat").mkdir()
    with pytest.raises(BadInput, match="no images below"):
        open_reader(str(tmp_path))
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "a.jpg").write_bytes(zoo["420"])


def test_imagefolder_counts_class_folders_without_images(tmp_path: Path, zoo: dict[str, bytes]) -> None:
    """They are said, and the classes behind them keep their numbers."""
    for name in ("ant", "bee", "cat"):
        (tmp_path / name).mkdir()
    (tmp_path / "ant" / "notes.txt").write_text("none yet")
    (tmp_path / "cat" / "a.jpg").write_bytes(zoo["420"])
    reader = open_reader(str(tmp_path))
    assert reader.labels == ("ant", "bee", "cat")
    assert [(i.id, i.target) for i in reader.items()] == [("cat/a.jpg", 2)]
    (said,) = reader.warnings
    assert "2 of 3 class folders" in said and "ant, bee" in said
    (tmp_path / "ant" / "b.jpg").write_bytes(zoo["420"])
    (tmp_path / "bee" / "b.jpg").write_bytes(zoo["420"])
    assert open_reader(str(tmp_path)).warnings == ()


def test_a_file_that_vanished_is_named(image_tree: Path) -> None:
    reader = open_reader(str(image_tree))
    (image_tree / "dog" / "a.png").unlink()
    with pytest.raises(BadInput, match=r"a\.png: cannot be read"):
        list(reader.items())


# --- flat --------------------------------------------------------------------


def flat(folder: Path, text: str) -> Reader:
    labels = folder.parent / "labels.txt"
    labels.write_text(text)
    return open_reader(f"flat:{folder}", ReaderContext(labels_file=labels))


def test_flat_matches_by_the_text_before_the_first_dot(flat_folder: Path) -> None:
    reader = flat(flat_folder, "b_2.bin 0\n\na_1.JPEG.bin 7\nsome/dir/c_3.png   3\n")
    assert [(i.id, i.target) for i in reader.items()] == [("a_1.JPEG", 7), ("b_2.JPEG", 0), ("c_3.png", 3)]
    assert reader.labels is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a_1.JPEG 7\nb_2.JPEG 0\n", "1 images in .* have no label .*: c_3.png"),
        ("a_1.J 7\nb_2.J 0\nc_3.J 1\nd_4.J 1\n", "1 labels in .* have no image .*: d_4"),
        ("a_1.JPEG seven\n", r"labels\.txt:1: .* is not"),
        ("a_1.JPEG\n", r"labels\.txt:1"),
        ("a_1.JPEG 7\na_1.png 8\n", r"labels\.txt:2: a_1 is labelled 7 and 8"),
        ("\n\n", "holds no labels"),
    ],
)
def test_flat_refuses_labels_that_do_not_match(flat_folder: Path, text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        flat(flat_folder, text)


def test_flat_needs_labels(flat_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="needs a label file") as caught:
        open_reader(f"flat:{flat_folder}")
    assert "--labels FILE" in (caught.value.remedy or "")
    (flat_folder / "val_label.txt").write_text("a_1.JPEG 7\n")
    with pytest.raises(BadInput) as caught:
        open_reader(f"flat:{flat_folder}")
    assert caught.value.remedy == f"--labels {flat_folder / 'val_label.txt'}"
    with pytest.raises(BadInput, match="no label file"):
        open_reader(f"flat:{flat_folder}", ReaderContext(labels_file=tmp_path / "none.txt"))


def test_flat_refuses_two_files_with_one_key(flat_folder: Path, zoo: dict[str, bytes]) -> None:
    (flat_folder / "a_1.png").write_bytes(zoo["tiny"])
    with pytest.raises(BadInput, match=r"a_1\.JPEG and a_1\.png .* share the key 'a_1'"):
        flat(flat_folder, "a_1.JPEG 7\nb_2.JPEG 0\nc_3.JPEG 3\n")


# --- npz ---------------------------------------------------------------------


def test_npz_gives_rows_along_each_batch_axis(tmp_path: Path) -> None:
    state = TensorSpec("state", "float32", (2, "batch", 4), batch_axis=1)
    scale = TensorSpec("scale", "float32", (1,), batch_axis=None)
    arrays = {
        "x": np.arange(9, dtype=np.float32).reshape(3, 3),
        "state": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "scale": np.array([2], np.float32),
        "y": np.arange(6).reshape(3, 2),
    }
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    inputs = (X, state, scale)
    reader = open_reader(f"npz:{path}", ReaderContext(inputs=inputs))
    found = list(samples(reader, NullTransform(), inputs))
    assert len(found) == len(reader) == 3
    np.testing.assert_array_equal(found[1].inputs["state"], arrays["state"][:, 1])
    np.testing.assert_array_equal(found[1].inputs["scale"], arrays["scale"])
    np.testing.assert_array_equal(found[2].target, [4, 5])


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"image": np.zeros((2, 3), np.float32)}, "holds the arrays image; the model's inputs are x"),
        ({"target": np.zeros(3)}, "targets only"),
        ({"x": np.zeros((2, 3), np.float32), "extra": np.zeros(2)}, "holds the arrays x, extra"),
        ({"x": np.zeros((2, 3), np.float32), "y": np.zeros(3)}, "unequal numbers of rows: x 2, the targets 3"),
        ({"x": np.zeros((2, 3), np.float32), "y": np.zeros(2), "label": np.zeros(2)}, "several arrays of targets"),
        ({"x": np.zeros((2, 3), np.float32), "y": np.float32(1)}, "a single number"),
        ({"x": np.zeros((0, 3), np.float32)}, "holds no rows"),
        ({"x": np.float32(0)}, "without the batch axis"),
        ({}, "holds no arrays"),
        ({"x": np.array([object()])}, "without pickled objects"),
    ],
)
def test_npz_refuses_what_does_not_fit(tmp_path: Path, arrays: dict[str, Any], says: str) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(BadInput, match=says):
        open_reader(f"npz:{path}", ReaderContext(inputs=(X,)))


def test_npz_refuses_other_files(tmp_path: Path, npz_file: Path) -> None:
    broken = tmp_path / "broken.npz"
    broken.write_bytes(npz_file.read_bytes()[:-200])
    single = tmp_path / "single.npz"
    with single.open("wb") as file:
        np.save(file, np.zeros(3))
    empty = tmp_path / "empty.npz"
    empty.write_bytes(b"")
    text = tmp_path / "text.npz"
    text.write_text("hello")
    for path, says in (
        (broken, "not a readable"),
        (single, "one unnamed"),
        (empty, "not a read"),
        (text, "not a read"),
    ):
        with pytest.raises(BadInput, match=says):
            open_reader(f"npz:{path}", ReaderContext(inputs=(X,)))


# --- digits ------------------------------------------------------------------


def test_the_splits_of_digits_are_fixed_disjoint_and_stratified() -> None:
    splits = {s: open_reader(f"digits:{s}") for s in ("test", "train", "calibration")}
    assert {s: len(r) for s, r in splits.items()} == {"test": 450, "train": 1197, "calibration": 150}
    ids = {s: [i.id for i in r.items()] for s, r in splits.items()}
    assert len({i for part in ids.values() for i in part}) == 1797
    assert [i.id for i in open_reader("digits", ReaderContext(seed=99)).items()] == ids["test"]
    # Written down on purpose: results of different releases are compared on these very samples.
    assert ids["test"][:4] == ["digits/0009", "digits/0011", "digits/0013", "digits/0015"]
    for reader in splits.values():
        counts = np.bincount([i.target for i in reader.items()], minlength=10)
        assert counts.min() >= 0.9 * len(reader) / 10
        assert counts.max() <= 1.1 * len(reader) / 10


def test_digits_are_what_scikit_learn_has() -> None:
    from sklearn.datasets import load_digits

    data = load_digits()
    reader = open_reader("digits")
    assert reader.labels == tuple("0123456789")
    for item in reader.items(0, 20):
        index = int(item.id.split("/")[1])
        assert item.content.dtype == np.uint8
        np.testing.assert_allclose(item.content, data.images[index] * 255 / 16, atol=0.5)
        assert item.target == data.target[index]
        assert isinstance(item.target, int)


def test_digits_as_the_demo_model_sees_them() -> None:
    reader = open_reader("digits")
    assert reader.preprocess is not None
    spec = TensorSpec("input", "float32", ("batch", 1, 32, 32))
    sample = next(samples(reader, transform_from_json(reader.preprocess), (spec,)))
    assert sample.inputs["input"].shape == (1, 32, 32)
    assert sample.inputs["input"].min() == -1
    assert sample.inputs["input"].max() > 0.8


def test_an_uneven_class_is_divided_in_proportion() -> None:
    targets = np.array([0] * 900 + [1] * 100)
    splits = split_indices(targets)
    assert len(splits["test"]) == 450
    assert sum(i >= 900 for i in splits["test"]) == 45


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(NotAvailable) as caught:
        open_reader("digits")
    assert caught.value.remedy == "pip install 'assay[data]'"


# --- synthetic ---------------------------------------------------------------


def test_synthetic_is_seeded_by_sample() -> None:
    context = ReaderContext(inputs=(X, TOKENS), seed=3, ranges={"tokens": (5, 900)})
    reader = open_reader("synthetic:6", context)
    assert [i.target for i in reader.items()] == [None] * 6
    fourth = list(reader.items())[3].content
    np.testing.assert_array_equal(fourth["x"], next(reader.items(3)).content["x"])
    np.testing.assert_array_equal(
        fourth["tokens"], next(open_reader("synthetic:6", context).items(3)).content["tokens"]
    )
    other = open_reader("synthetic:6", ReaderContext(inputs=(X, TOKENS), seed=4))
    assert not np.array_equal(fourth["x"], next(other.items(3)).content["x"])
    assert not np.array_equal(fourth["x"], next(reader.items(4)).content["x"])


def test_synthetic_counts() -> None:
    assert len(open_reader("synthetic", ReaderContext(inputs=(X,)))) == 64
    assert len(open_reader("synthetic", ReaderContext(inputs=(X,), count=7))) == 7
    assert len(open_reader("synthetic:9", ReaderContext(inputs=(X,), count=7))) == 9


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int32", "uint64", "float16", "bfloat16", "float32", "float64"]
)
def test_synthetic_fits_every_dtype(dtype: str) -> None:
    spec = TensorSpec("v", dtype, ("batch", 50))
    reader = open_reader("synthetic:8", ReaderContext(inputs=(spec,)))
    found = np.stack([s.inputs["v"] for s in samples(reader, NullTransform(), (spec,))]).astype(np.float64)
    assert len(np.unique(found)) > 1
    if dtype == "uint8":
        assert found.max() > 200
    elif dtype in ("int32", "uint64"):
        assert set(np.unique(found)) == {0, 1}
        assert "--range v:LOW..HIGH" in reader.notes[0]  # type: ignore[attr-defined]
    elif "float" in dtype:
        assert abs(found.mean()) < 0.25
        assert 0.8 < found.std() < 1.2
    ranged = open_reader("synthetic:8", ReaderContext(inputs=(spec,), ranges={"v": (0, 1)}))
    drawn = np.stack([i.content["v"] for i in ranged.items()]).astype(np.float64)
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_synthetic_ranges_include_both_ends() -> None:
    reader = open_reader("synthetic:50", ReaderContext(inputs=(TOKENS,), ranges={"tokens": (3, 5)}))
    assert set(np.concatenate([i.content["tokens"] for i in reader.items()])) == {3, 4, 5}


@pytest.mark.parametrize(
    ("spec", "ranges", "says"),
    [
        (TensorSpec("v", "string", ("batch",)), {}, "strings"),
        (TensorSpec("v", "float32", ("batch", "height")), {}, "free sizes"),
        (TensorSpec("v", "uint8", ("batch", 3)), {"v": (0, 256)}, "does not fit into uint8"),
        (TensorSpec("v", "int64", ("batch", 3)), {"v": (0, 1.5)}, "fractions"),
        (TensorSpec("v", "int64", ("batch", 3)), {"v": (5, 1)}, "empty"),
        (TensorSpec("v", "bool", ("batch", 3)), {"v": (0, 2)}, "does not fit into bool"),
        (TensorSpec("v", "int64", ("batch", 3)), {"w": (0, 1)}, "no input named 'w'"),
    ],
)
def test_synthetic_refuses_what_cannot_be_drawn(spec: TensorSpec, ranges: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        open_reader("synthetic", ReaderContext(inputs=(spec,), ranges=ranges))


def test_synthetic_needs_shapes() -> None:
    with pytest.raises(BadInput, match="input shapes") as caught:
        open_reader("synthetic")
    assert "--shape" in (caught.value.remedy or "")


def test_unknown_names_have_their_own_error() -> None:
    with pytest.raises(UnknownName):
        open_reader("digitss")


@pytest.mark.parametrize("form", ["", "imagefolder:", "npz:", "parquet:", "prepared:", "webdataset:"])
def test_the_home_of_nobody(form: str) -> None:
    with pytest.raises(BadInput, match="nosuchuser") as caught:
        open_reader(f"{form}~nosuchuser/x.y")
    assert caught.value.remedy == "write the whole path"


def test_a_pattern_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is no pattern"):
        open_reader(f"webdataset:{tmp_path}/**a.tar")


def test_names_that_are_not_utf8_are_told_at_once(image_tree: Path, zoo: dict[str, bytes]) -> None:
    """Results are kept by these names, as text."""
    import os

    try:
        with open(os.fsencode(image_tree / "cat") + b"/\xff.png", "wb") as file:
            file.write(zoo["tiny"])
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(BadInput, match="not UTF-8") as caught:
        open_reader(str(image_tree))
    assert caught.value.remedy == "rename the file"


def test_npz_with_something_else_inside(npz_file: Path) -> None:
    import zipfile

    with zipfile.ZipFile(npz_file, "a") as archive:
        archive.writestr("README.txt", "hello")
    with pytest.raises(BadInput, match=r"no array: README\.txt"):
        open_reader(f"npz:{npz_file}")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"kind": "image", "size": [224.0, 224]}, "two positive whole numbers"),
        ({"kind": "image", "size": [float("inf"), 224]}, "two positive whole numbers"),
        ({"kind": "image", "size": [8, 8], "channels": {}}, "channels must be"),
        ({"kind": "pixels", "channels": {}}, "channels must be"),
        ({"kind": "pixels", "white": float("inf")}, "white must be"),
    ],
)
def test_descriptions_of_other_kinds_are_refused(data: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        transform_from_json(data)


def test_synthetic_refuses_more_than_can_be_counted() -> None:
    with pytest.raises(BadInput, match="not a number of samples"):
        open_reader("synthetic:99999999999999999999", ReaderContext(inputs=(X,)))


@pytest.mark.parametrize(("dtype", "span"), [("float16", (0.0, 1e6)), ("float64", (-1.7e308, 1.7e308))])
def test_synthetic_ranges_fit_floats_too(dtype: str, span: tuple[float, float]) -> None:
    with pytest.raises(BadInput, match="does not fit into"):
        open_reader("synthetic", ReaderContext(inputs=(TensorSpec("x", dtype, ("b", 3)),), ranges={"x": span}))


@pytest.mark.parametrize("name", ["a\0b.bin", "/a\0b.bin", "x" * 5000 + ".bin"])
def test_what_can_be_no_file_name_is_told_with_its_line(name: str, tmp_path: Path) -> None:
    """Of a NUL in it, exists() says False; the next one who asks for its size is told otherwise."""
    (tmp_path / "set.info").write_text(f"0 {name} 8 8\n")
    with pytest.raises(BadInput, match=r"set\.info:1: .* is no file name"):
        open_reader(f"prepared:{tmp_path / 'set.info'}")
