"""CIFAR-10, pairs, volumes, WebDataset, Parquet and prepared sets: what they give and what they refuse."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assay.core.dataset import Reader
from assay.core.errors import BadInput, NotAvailable
from assay.core.tensors import TensorSpec
from assay.data import ReaderContext, open_reader, samples, transform_from_json

RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (6, 3072), dtype=np.uint8)
LABELS = [3, 8, 0, 6, 9, 1]


# --- cifar10 -----------------------------------------------------------------


def cifar(folder: Path, batch: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test_batch").write_bytes(batch if isinstance(batch, bytes) else pickle.dumps(batch, protocol=2))
    return folder


def python2(array: Any, labels: list[int]) -> bytes:
    """Written as Python 2 wrote the original files: byte strings, the old module's name."""
    data = array.tobytes()
    text = b"(dp0\nS'data'\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    text += b"(I1\n(I%d\nI%d\ntcnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\n" % array.shape
    text += b"T" + len(data).to_bytes(4, "little") + data + b"tb"
    text += b"sS'labels'\n(l" + b"".join(b"I%d\na" % v for v in labels) + b"s."
    return text


@pytest.mark.parametrize("old", [False, True])
def test_cifar10_pickles(old: bool, tmp_path: Path) -> None:
    batch = python2(IMAGES, LABELS) if old else {b"data": IMAGES, b"labels": LABELS, b"batch_label": b"testing"}
    reader = open_reader(f"cifar10:{cifar(tmp_path / 'cifar-10-batches-py', batch).parent}")
    found = list(reader.items())
    assert [i.target for i in found] == LABELS
    assert found[2].id == "test/00002"
    np.testing.assert_array_equal(found[2].content, IMAGES[2].reshape(3, 32, 32).transpose(1, 2, 0))
    assert reader.labels is not None
    assert reader.labels[found[0].target] == "cat"
    spec = TensorSpec("x", "float32", ("batch", 3, 32, 32))
    assert reader.preprocess is not None
    sample = next(samples(reader, transform_from_json(reader.preprocess), (spec,)))
    expected = (IMAGES[0].reshape(3, 32, 32)[0, 0, 0] / np.float32(255) - np.float32(0.4914)) / np.float32(0.2470)
    assert sample.inputs["x"][0, 0, 0] == expected


def test_cifar10_binary_and_splits(tmp_path: Path) -> None:
    rows = np.concatenate([np.array(LABELS, np.uint8)[:, None], IMAGES], axis=1)
    for number in range(1, 6):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(rows[number - 1 : number + 1].tobytes())
    reader = open_reader(f"cifar10:{tmp_path}:train")
    assert [i.target for i in reader.items()] == [3, 8, 8, 0, 0, 6, 6, 9, 9, 1]
    np.testing.assert_array_equal(next(reader.items(9)).content, IMAGES[5].reshape(3, 32, 32).transpose(1, 2, 0))
    with pytest.raises(BadInput, match="no CIFAR-10 test images"):
        open_reader(f"cifar10:{tmp_path}")


class Evil:
    ran = False

    def __reduce__(self) -> Any:
        return _run, ()


def _run() -> None:
    Evil.ran = True


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({b"data": Evil(), b"labels": []}),
        b"cos\nsystem\n(S'true'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'tobytes'\ntR.",
    ],
)
def test_a_pickle_never_runs_anything(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"which has no place in such a file"):
        open_reader(f"cifar10:{cifar(tmp_path, content)}")
    assert not Evil.ran


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        (b"not a pickle", "not a readable pickle"),
        (pickle.dumps({b"data": IMAGES})[:-900], "not a readable pickle"),
        ([1, 2], "holds a list"),
        ({b"data": IMAGES, b"fine_labels": LABELS}, "CIFAR-100"),
        ({b"data": IMAGES.astype(np.float32), b"labels": LABELS}, "not uint8"),
        ({b"data": IMAGES[:, :100], b"labels": LABELS}, "no array 'data'"),
        ({b"data": IMAGES, b"labels": LABELS[:3]}, "6 images and no list"),
        ({b"data": IMAGES, b"labels": [10] * 6}, "not 0 … 9"),
    ],
)
def test_cifar10_refuses_other_pickles(batch: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=says):
        open_reader(f"cifar10:{cifar(tmp_path, batch)}")


def test_cifar10_refuses_other_binaries(tmp_path: Path) -> None:
    for content, says in ((b"", "0 bytes"), (bytes(3074), "3074 bytes"), (bytes([11]) + bytes(3072), "not 0 … 9")):
        (tmp_path / "test_batch.bin").write_bytes(content)
        with pytest.raises(BadInput, match=says):
            open_reader(f"cifar10:{tmp_path}")


# --- pairs -------------------------------------------------------------------


@pytest.fixture
def pair_folder(tmp_path: Path, zoo: dict[str, bytes]) -> Path:
    for side in ("lr", "hr"):
        (tmp_path / side).mkdir()
    (tmp_path / "lr" / "a.png").write_bytes(zoo["tiny"])
    (tmp_path / "hr" / "a.jpg").write_bytes(zoo["420"])
    (tmp_path / "lr" / "b.png").write_bytes(zoo["tiny"])
    (tmp_path / "hr" / "b.png").write_bytes(zoo["noise-png"])
    return tmp_path


def test_pairs(pair_folder: Path, zoo: dict[str, bytes], decoded_as_timm: Callable[..., Any]) -> None:
    reader = open_reader(f"pairs:{pair_folder}")
    first, second = reader.items()
    assert (first.id, second.id) == ("a.png", "b.png")
    original = decoded_as_timm(zoo["420"], "RGB")
    np.testing.assert_array_equal(first.target["original"], np.asarray(original))
    enlarged = decoded_as_timm(zoo["tiny"], "RGB").resize(original.size, Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(first.target["bicubic"], np.asarray(enlarged))
    small = np.asarray(decoded_as_timm(zoo["tiny"], "RGB"))
    assert reader.preprocess is not None
    unit = transform_from_json(reader.preprocess)(first.content)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, small.transpose(2, 0, 1) / 255, atol=1e-7)
    other = open_reader(f"pairs:{pair_folder}?white=255&order=BGR")
    assert other.preprocess is not None
    raw = transform_from_json(other.preprocess)(first.content)
    np.testing.assert_array_equal(raw, small[:, :, ::-1].transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("query", "says"),
    [("white=much", "not a number"), ("white=0", "positive"), ("order=GRB", "RGB or BGR"), ("colour=1", "unknown")],
)
def test_pairs_refuse_settings(query: str, says: str, pair_folder: Path) -> None:
    with pytest.raises(BadInput, match=says):
        open_reader(f"pairs:{pair_folder}?{query}")


def test_pairs_refuse_what_does_not_match(pair_folder: Path, zoo: dict[str, bytes]) -> None:
    (pair_folder / "hr" / "c.png").write_bytes(zoo["tiny"])
    with pytest.raises(BadInput, match=r"1 files in .*hr have no counterpart in .*lr: c\.png"):
        open_reader(f"pairs:{pair_folder}")
    (pair_folder / "hr" / "c.png").unlink()
    (pair_folder / "lr" / "b.jpg").write_bytes(zoo["420"])
    with pytest.raises(BadInput, match="same name before the dot"):
        open_reader(f"pairs:{pair_folder}")
    (pair_folder / "lr" / "b.jpg").unlink()
    (pair_folder / "hr" / "a.jpg").write_bytes(zoo["420"][:500])
    with pytest.raises(BadInput, match=r"a\.jpg: not a whole image"):
        list(open_reader(f"pairs:{pair_folder}").items())
    with pytest.raises(BadInput, match=r"no folder .*lr"):
        open_reader(f"pairs:{pair_folder / 'lr'}")


# --- volumes -----------------------------------------------------------------

VOLUME = RNG.standard_normal((4, 6, 5)).astype(np.float32)
MASK = RNG.integers(0, 3, (4, 6, 5))


@pytest.fixture
def volume_folder(tmp_path: Path) -> Path:
    for side in ("images", "labels"):
        (tmp_path / side).mkdir()
    np.save(tmp_path / "images" / "a.npy", VOLUME)
    np.save(tmp_path / "labels" / "a.npy", MASK.astype(np.uint8))
    np.savez(tmp_path / "images" / "b.npz", image=np.stack([VOLUME, -VOLUME]), spacing=np.ones(3))
    np.savez(tmp_path / "labels" / "b.npz", MASK.astype(np.float64))
    return tmp_path


def test_volumes(volume_folder: Path) -> None:
    reader = open_reader(f"volumes:{volume_folder}")
    one, two = reader.items()
    assert (one.id, two.id) == ("a.npy", "b.npz")
    np.testing.assert_array_equal(one.content, VOLUME[None])
    np.testing.assert_array_equal(two.content, np.stack([VOLUME, -VOLUME]))
    np.testing.assert_array_equal(two.target, MASK)
    assert two.target.dtype == np.int64
    spec = TensorSpec("x", "float32", ("batch", 1, 4, 6, 5))
    assert reader.preprocess is not None
    found = next(samples(reader, transform_from_json(reader.preprocess), (spec,)))
    np.testing.assert_array_equal(found.inputs["x"], VOLUME[None])


@pytest.mark.parametrize(
    ("side", "array", "says"),
    [
        ("labels", MASK + 0.5, "not class numbers"),
        ("labels", MASK - 1, "not class numbers"),
        ("labels", MASK[:2], "its labels"),
        ("labels", MASK[0, 0], "two or three dims"),
        ("images", VOLUME * np.nan, "not finite"),
        ("images", VOLUME.astype(str), "not numbers"),
        ("images", np.array([{}]), "not a readable volume"),
    ],
)
def test_volumes_refuse(side: str, array: Any, says: str, volume_folder: Path) -> None:
    np.save(volume_folder / side / "a.npy", array)
    with pytest.raises(BadInput, match=says):
        list(open_reader(f"volumes:{volume_folder}").items())


def test_volumes_refuse_a_torn_file(volume_folder: Path) -> None:
    path = volume_folder / "images" / "b.npz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match=r"b\.npz is not a readable volume"):
        list(open_reader(f"volumes:{volume_folder}").items())


def test_nifti(volume_folder: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    for side, array in (("images", np.moveaxis(np.stack([VOLUME, -VOLUME]), 0, -1)), ("labels", MASK.astype(np.int16))):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), volume_folder / side / "c.nii.gz")
    *_, third = open_reader(f"volumes:{volume_folder}").items()
    np.testing.assert_array_equal(third.content, np.stack([VOLUME, -VOLUME]))
    np.testing.assert_array_equal(third.target, MASK)


def test_nifti_without_nibabel(volume_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("images", "labels"):
        (volume_folder / side / "c.nii").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(NotAvailable, match="nibabel") as caught:
        open_reader(f"volumes:{volume_folder}")
    assert caught.value.remedy == "pip install nibabel"


# --- webdataset --------------------------------------------------------------


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path: Path, zoo: dict[str, bytes]) -> Path:
    write_tar(
        tmp_path / "val-08.tar",
        {"x/a.jpg": zoo["420"], "x/a.cls": b"7", "x/b.json": b'{"label": 2}', "x/b.seg.PNG": zoo["tiny"]},
    )
    write_tar(tmp_path / "val-09.tar", {"c.cls": b"0\n", "c.txt": b"hello", "c.jpeg": zoo["444"]})
    write_tar(tmp_path / "val-10.tar", {"d.jpg": zoo["420"]})
    return tmp_path


def test_webdataset(shards: Path, zoo: dict[str, bytes]) -> None:
    reader = open_reader(f"webdataset:{shards}/val-{{08..10}}.tar")
    found = list(reader.items())
    assert [(i.id, i.target) for i in found] == [
        ("val-08.tar/x/a", 7),
        ("val-08.tar/x/b", 2),
        ("val-09.tar/c", 0),
        ("val-10.tar/d", None),
    ]
    assert [i.content for i in found] == [zoo["420"], zoo["tiny"], zoo["444"], zoo["420"]]
    assert [i.id for i in open_reader(f"webdataset:{shards}/val-*.tar").items(2, 3)] == ["val-09.tar/c"]
    assert len(open_reader(f"webdataset:{shards}/val-08.tar")) == 2


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("val-{08..11}.tar", "1 of 4 shards are missing"),
        ("val-{3..1}.tar", "range .* is empty"),
        ("nothing-*.tar", "no file"),
        ("none.tar", "no file"),
    ],
)
def test_webdataset_patterns(pattern: str, says: str, shards: Path) -> None:
    with pytest.raises(BadInput, match=says):
        open_reader(f"webdataset:{shards}/{pattern}")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a.cls": b"seven", "a.jpg": b"1"}, "does not hold a label"),
        ({"a.json": b'{"label": "cat"}', "a.jpg": b"1"}, "whole number"),
        ({"a.cls": b"1", "a.json": b'{"label": 2}', "a.jpg": b"1"}, "labelled 1 and 2"),
        ({"a.jpg": b"1", "b.jpg": b"2", "a.cls": b"3"}, "do not lie together"),
        ({}, "no samples"),
    ],
)
def test_webdataset_refuses(files: dict[str, bytes], says: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", files)
    with pytest.raises(BadInput, match=says):
        open_reader(f"webdataset:{tmp_path}/a.tar")


def test_a_sample_without_image_is_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"a.jpg": b"1", "b.cls": b"3", "c.jpg": b"2", "c.png": b"3"})
    reader = open_reader(f"webdataset:{tmp_path}/a.tar")
    assert len(reader) == 3
    for index, says in ((1, "a.tar/b has 0 images"), (2, "a.tar/c has 2 images")):
        with pytest.raises(BadInput, match=says):
            list(reader.items(index))


def test_webdataset_refuses_torn_and_compressed_shards(tmp_path: Path, zoo: dict[str, bytes]) -> None:
    whole, torn, packed = (tmp_path / n for n in ("whole.tar", "torn.tar", "packed.tar"))
    write_tar(whole, {"a.jpg": zoo["420"], "b.jpg": zoo["444"]})
    torn.write_bytes(whole.read_bytes()[: 512 + len(zoo["420"]) // 2])
    write_tar(packed, {"a.jpg": zoo["420"]}, "w:gz")
    for path in (torn, packed):
        with pytest.raises(BadInput, match=r"not a whole, plain tar|cut off"):
            list(open_reader(f"webdataset:{path}").items())


# --- parquet -----------------------------------------------------------------


def test_parquet(tmp_path: Path, zoo: dict[str, bytes]) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    images = [zoo["420"], zoo["tiny"], zoo["444"], zoo["tall"], zoo["420"]]
    structs = [{"bytes": c, "path": f"{i}.jpg"} for i, c in enumerate(images)]
    pq.write_table(pa.table({"image": structs, "label": [4, 3, 2, 1, 0]}), tmp_path / "a.parquet", row_group_size=2)
    pq.write_table(pa.table({"id": [1], "img": [zoo["bmp"]]}), tmp_path / "b.parquet")
    reader = open_reader(f"parquet:{tmp_path}/*.parquet")
    found = list(reader.items())
    assert [i.content for i in found] == [*images, zoo["bmp"]]
    assert [i.target for i in found] == [4, 3, 2, 1, 0, None]
    assert [i.id for i in reader.items(3, 6)] == ["a.parquet/00000003", "a.parquet/00000004", "b.parquet/00000000"]
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "c.parquet")
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), tmp_path / "d.parquet")
    pq.write_table(pa.table({"image": [None, b"1"]}), tmp_path / "e.parquet")
    (tmp_path / "f.parquet").write_bytes(b"PAR1 no")
    for name, says in (("c", "has the columns text"), ("d", "holds no rows"), ("f", "not a readable Parquet")):
        with pytest.raises(BadInput, match=says):
            open_reader(f"parquet:{tmp_path}/{name}.parquet")
    with pytest.raises(BadInput, match=r"e\.parquet/00000000 holds no image bytes"):
        list(open_reader(f"parquet:{tmp_path}/e.parquet").items())


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(NotAvailable) as caught:
        open_reader(f"parquet:{tmp_path}/a.parquet")
    assert caught.value.remedy == "pip install pyarrow"


# --- prepared ----------------------------------------------------------------


@pytest.fixture
def prepared_folder(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    for index in range(3):
        (tmp_path / "set" / f"val_{index}.bin").write_bytes(np.full((3, 4, 5), index, "<f4").tobytes())
    (tmp_path / "set.info").write_text("".join(f"{i} ./set/val_{i}.bin 5 4\n" for i in range(3)))
    (tmp_path / "val_label.txt").write_text("val_0.JPEG 5\nval_1.JPEG 6\nval_2.JPEG 7\n")
    return tmp_path


def test_prepared(prepared_folder: Path, zoo: dict[str, bytes]) -> None:
    spec = TensorSpec("image", "float32", ("batch", 3, 4, 5))
    reader: Reader = open_reader(f"prepared:{prepared_folder}/set.info", ReaderContext(inputs=(spec,)))
    found = list(reader.items())
    assert [(i.id, i.target) for i in found] == [("val_0.bin", 5), ("val_1.bin", 6), ("val_2.bin", 7)]
    np.testing.assert_array_equal(found[2].content["image"], np.full((3, 4, 5), 2, np.float32))
    (prepared_folder / "set" / "a b.jpg").write_bytes(zoo["420"])
    (prepared_folder / "jpg.info").write_text("0 set/a b.jpg 201 150\n")
    (prepared_folder / "val_label.txt").unlink()
    (jpg,) = open_reader(f"prepared:{prepared_folder}/jpg.info").items()
    assert (jpg.content, jpg.target) == (zoo["420"], None)


@pytest.mark.parametrize(
    ("info", "says"),
    [
        ("", "lists no files"),
        ("0 ./set/val_0.bin 5\n", "set.info:1: .* is not"),
        ("zero ./set/val_0.bin 5 4\n", "set.info:1"),
        ("0 ./set/val_0.bin 5 4\n1 ./set/val_0.bin 5 4\n", "more than once"),
        ("0 ./set/val_9.bin 5 4\n", "1 files of .* have no label: val_9.bin"),
    ],
)
def test_prepared_refuses(info: str, says: str, prepared_folder: Path) -> None:
    (prepared_folder / "set.info").write_text(info)
    with pytest.raises(BadInput, match=says):
        open_reader(f"prepared:{prepared_folder}/set.info")


def test_prepared_names_the_broken_file(prepared_folder: Path) -> None:
    (prepared_folder / "set" / "val_1.bin").write_bytes(b"\0" * 81)
    (prepared_folder / "set" / "val_2.bin").unlink()
    reader = open_reader(f"prepared:{prepared_folder}/set.info")
    assert next(reader.items(0, 1)).id == "val_0.bin"
    with pytest.raises(BadInput, match=r"val_1\.bin has 81 bytes, which is no float32 picture of 5×4"):
        list(reader.items(1, 2))
    with pytest.raises(BadInput, match=r"val_2\.bin: cannot be read"):
        list(reader.items(2))


def test_grey_pairs(pair_folder: Path) -> None:
    """The original has the channels that the model makes, or nothing could be compared."""
    reader = open_reader(f"pairs:{pair_folder}?channels=1")
    inputs = (TensorSpec("x", "float32", ("batch", 1, "h", "w")),)
    found = list(samples(reader, transform_from_json(reader.preprocess), inputs))
    for sample in found:
        assert sample.target["original"].shape[2] == 1
        assert sample.target["original"].shape == sample.target["bicubic"].shape
    assert found


@pytest.mark.parametrize("query", ["white=", "white=inf", "channels=2"])
def test_pairs_refuse_empty_and_endless_settings(query: str, pair_folder: Path) -> None:
    with pytest.raises(BadInput):
        open_reader(f"pairs:{pair_folder}?{query}")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("side", "array", "says"),
    [
        ("labels", np.array([["a", "b"], ["c", "d"]]), "holds <U1, not class numbers"),
        ("labels", np.full((2, 2), np.nan), "not class numbers"),
        ("images", np.full((2, 2), 1e300), "not as float32"),
    ],
)
def test_volumes_of_other_values(side: str, array: Any, says: str, tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "a.nii.npy", np.zeros((2, 2)))  # no NIfTI, for all its name
    assert next(open_reader(f"volumes:{tmp_path}").items()).content.shape == (1, 2, 2)
    np.save(tmp_path / side / "a.nii.npy", array)
    with pytest.raises(BadInput, match=says):
        list(open_reader(f"volumes:{tmp_path}").items())


def test_a_pickle_that_claims_a_shape_beyond_numbers(tmp_path: Path) -> None:
    class Huge:
        def __reduce__(self) -> Any:
            state = (1, (2**70,), np.dtype("u1"), False, b"abc")
            return (np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), state)

    with pytest.raises(BadInput, match="do not fit"):
        open_reader(f"cifar10:{cifar(tmp_path, pickle.dumps({b'data': Huge(), b'labels': [1]}))}")


def test_cifar10_without_images(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no images"):
        open_reader(f"cifar10:{cifar(tmp_path, pickle.dumps({b'data': IMAGES[:0], b'labels': []}))}")


def test_shards_of_one_name_have_ids_of_their_own(tmp_path: Path, zoo: dict[str, bytes]) -> None:
    for part in ("one", "two"):
        (tmp_path / part).mkdir()
        with tarfile.open(tmp_path / part / "0.tar", "w") as tar:
            info = tarfile.TarInfo("a.png")
            info.size = len(zoo["tiny"])
            tar.addfile(info, io.BytesIO(zoo["tiny"]))
    found = [i.id for i in open_reader(f"webdataset:{tmp_path}/*/0.tar").items()]
    assert found == ["one/0.tar/a", "two/0.tar/a"]
    assert [i.id for i in open_reader(f"webdataset:{tmp_path}/one/0.tar").items()] == ["0.tar/a"]


def test_parquet_files_of_one_name_have_ids_of_their_own(tmp_path: Path, zoo: dict[str, bytes]) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for part in ("one", "two"):
        (tmp_path / part).mkdir()
        pq.write_table(pa.table({"image": [zoo["tiny"]], "label": [1]}), tmp_path / part / "0.parquet")
    found = [i.id for i in open_reader(f"parquet:{tmp_path}/*/0.parquet").items()]
    assert found == ["one/0.parquet/00000000", "two/0.parquet/00000000"]


@pytest.mark.parametrize(
    "files", [{"a.json": b"[" * 200_000}, {"\udcff.png": b"x"}], ids=["nested too deeply", "no UTF-8"]
)
def test_webdataset_refuses_hostile_shards(files: dict[str, bytes], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with pytest.raises(BadInput, match=r"does not hold a label|not UTF-8"):
        open_reader(f"webdataset:{tmp_path / 'a.tar'}")
