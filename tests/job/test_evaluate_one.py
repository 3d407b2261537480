"""``assay evaluate`` (also ``--from-dumps``), ``assay prepare`` and ``assay predict``, on small models."""

from __future__ import annotations

import gzip
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from assay.cli.main import run_cli
from assay.core.errors import BadInput, StorageFailed
from assay.data.dumps import write_dumps
from assay.job.evaluate.dumps import Dumps, evaluate_dumps
from assay.job.evaluate.one import Evaluation, evaluate_one
from assay.job.predict_one import Prediction, predict_one
from assay.job.prepare_set import Preparation, prepare_set
from assay.job.progress import Silent
from assay.sources import SourceOptions

RNG = np.random.default_rng(4)
WEIGHTS = RNG.standard_normal((6, 4)).astype(np.float32)


def save(path: Path, nodes: list[Any], ends: tuple[Any, Any], constants: dict[str, Any]) -> str:
    tensors = [onnx.numpy_helper.from_array(v, n) for n, v in constants.items()]
    graph = helper.make_graph(nodes, "g", [ends[0]], [ends[1]], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


def value(name: str, *shape: Any) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


@pytest.fixture
def linear(tmp_path: Path) -> str:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return save(tmp_path / "linear.onnx", [node], (value("x", "n", 6), value("y", "n", 4)), {"w": WEIGHTS})


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    x = RNG.standard_normal((150, 6)).astype(np.float32)
    y = (x @ WEIGHTS).argmax(1)
    y[:30] = (y[:30] + 1) % 4
    np.savez(tmp_path / "rows.npz", x=x, target=y)
    return tmp_path / "rows.npz"


def source(tmp_path: Path) -> SourceOptions:
    return SourceOptions(out_dir=tmp_path / "work")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_classifier(engine: str, linear: str, rows: Path, tmp_path: Path) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    out = tmp_path / "out"
    asked = Evaluation(linear, f"npz:{rows}", engine=engine, batch=8, out=out)
    found = evaluate_one(asked, source(tmp_path), Silent())
    record = found.record
    assert record.value("accuracy.top1") == pytest.approx(0.8)
    assert record.details["counts"] == {"read": 150, "scored": 150, "failed": 0}
    assert record.subject["instances"] >= 1
    assert found.rates is not None
    assert found.rates.samples == 150
    lines = gzip.decompress((out / "predictions.jsonl.gz").read_bytes()).decode().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [f"row{i:06d}" for i in range(150)]
    assert (out / "perf_vision_batchsize_8_device_0.txt").read_text().startswith("[e2e] throughputRate: ")
    again = evaluate_one(asked, source(tmp_path), Silent())
    assert again.rates is None
    assert again.record.figures == record.figures
    with pytest.raises(BadInput, match=r"another evaluation .*batch was 8, is now 4"):
        evaluate_one(Evaluation(linear, f"npz:{rows}", engine=engine, batch=4, out=out), source(tmp_path), Silent())


def test_predictions_alone(linear: str, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "p.jsonl.gz"
    assert run_cli(["evaluate", linear, "--data", f"npz:{rows}", "--limit", "20", "-o", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["records"][0]["details"]["counts"]["scored"] == 20
    assert result["records"][0]["details"]["bottleneck"]["stage"] in ("read", "preprocess", "infer")
    assert len(gzip.decompress(out.read_bytes()).splitlines()) == 20
    assert sorted(p.name for p in tmp_path.glob("p.*")) == ["p.jsonl.gz"]


def test_dumps_of_an_evaluation_score_the_same(linear: str, rows: Path, tmp_path: Path) -> None:
    asked = Evaluation(linear, f"npz:{rows}", dumps=tmp_path / "dumps")
    record = evaluate_one(asked, source(tmp_path), Silent()).record
    targets = np.load(rows)["target"]
    (tmp_path / "labels.txt").write_text("".join(f"row{i:06d} {t}\n" for i, t in enumerate(targets)))
    again = evaluate_dumps(Dumps(str(tmp_path / "dumps"), tmp_path / "labels.txt"))
    assert again.figures == record.figures


def test_dumps_of_one_name_do_not_replace_each_other(tmp_path: Path) -> None:
    """As pictures in the folders of their classes often have them."""
    from assay.job.evaluate.through import _dumping

    dump = _dumping(lambda ids, outputs, targets: [], tmp_path / "dumps")
    dump(["a/1.png", "a/2.png"], {"y": np.zeros((2, 3), np.float32)}, [0, 0])
    dump(["a/1.png"], {"y": np.zeros((1, 3), np.float32)}, [0])  # once more, after its batch failed
    before = (tmp_path / "dumps" / "1_0.bin").read_bytes()
    with pytest.raises(BadInput, match=r"a/1.png and b/1.png would both be dumped as 1"):
        dump(["b/1.png"], {"y": np.ones((1, 3), np.float32)}, [1])
    assert (tmp_path / "dumps" / "1_0.bin").read_bytes() == before


@pytest.fixture
def enlarger(tmp_path: Path) -> str:
    """Twice as large by repeating pixels."""
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], mode="nearest", nearest_mode="floor",
                            coordinate_transformation_mode="asymmetric")  # fmt: skip
    ends = (value("x", "n", 3, "h", "w"), value("y", "n", 3, "h2", "w2"))
    return save(tmp_path / "enlarger.onnx", [node], ends, {"s": np.array([1, 1, 2, 2], np.float32)})


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for side in ("lr", "hr"):
        (tmp_path / "pairs" / side).mkdir(parents=True)
    for name, (h, w) in (("a", (12, 9)), ("b", (8, 15)), ("c", (8, 15))):
        small = RNG.integers(0, 256, (h, w, 3), dtype=np.uint8)
        Image.fromarray(small).save(tmp_path / "pairs" / "lr" / f"{name}.png")
        Image.fromarray(small.repeat(2, 0).repeat(2, 1)).save(tmp_path / "pairs" / "hr" / f"{name}.png")
    return tmp_path / "pairs"


def test_super_resolution(enlarger: str, pairs: Path, tmp_path: Path) -> None:
    asked = Evaluation(enlarger, f"pairs:{pairs}", batch=2)
    record = evaluate_one(asked, source(tmp_path), Silent()).record
    assert record.conditions["task"] == "super_resolution"
    assert record.value("psnr") == 100
    assert record.value("ssim") == pytest.approx(1)
    bicubic = record.value("psnr.bicubic")
    assert bicubic is not None
    assert bicubic < 40
    out = tmp_path / "large.png"
    (made,) = predict_one(Prediction(enlarger, (pairs / "lr" / "a.png",), out=out), source(tmp_path), Silent())
    assert (made.kind, made.size) == ("picture", (18, 24))
    np.testing.assert_array_equal(np.asarray(Image.open(out)), np.asarray(Image.open(pairs / "hr" / "a.png")))


def test_volumes_larger_than_the_model(tmp_path: Path) -> None:
    """A 1×1×1 convolution on fixed 4×4×4 windows is the same as on the whole volume."""
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    ends = (value("x", 1, 1, 4, 4, 4), value("y", 1, 2, 4, 4, 4))
    kernel = np.array([-1, 1], np.float32).reshape(2, 1, 1, 1, 1)
    model = save(tmp_path / "seg.onnx", [node], ends, {"w": kernel})
    for side in ("images", "labels"):
        (tmp_path / "v" / side).mkdir(parents=True)
    for name, sizes in (("a", (9, 4, 6)), ("b", (3, 7, 5))):
        volume = RNG.standard_normal(sizes).astype(np.float32)
        np.save(tmp_path / "v" / "images" / f"{name}.npy", volume)
        np.save(tmp_path / "v" / "labels" / f"{name}.npy", (volume > 0).astype(np.uint8))
    record = evaluate_one(Evaluation(model, f"volumes:{tmp_path / 'v'}"), source(tmp_path), Silent()).record
    assert record.conditions["task"] == "segmentation"
    assert record.value("dice") == 1
    assert record.value("pixel_accuracy") == 1


def test_classes_are_ranked(linear: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = RNG.standard_normal(6).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    assert run_cli(["predict", linear, str(tmp_path / "x.npy"), "--top", "2", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["predictions"]
    scores = np.exp(x @ WEIGHTS) / np.exp(x @ WEIGHTS).sum()
    best = np.argsort(-scores)[:2]
    assert [r["class"] for r in one["ranked"]] == best.tolist()
    np.testing.assert_allclose([r["probability"] for r in one["ranked"]], scores[best], rtol=1e-5)


def test_a_mask_is_laid_over_the_picture(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    kernel = np.array([[0.5, 0, 0], [1, 0, 0]], np.float32).reshape(2, 3, 1, 1)
    bias = np.array([0, -0.25], np.float32)
    node.input.append("b")
    ends = (value("x", "n", 3, "h", "w"), value("y", "n", 2, "h", "w"))
    model = save(tmp_path / "mask.onnx", [node], ends, {"w": kernel, "b": bias})
    picture = np.zeros((10, 8, 3), np.uint8)
    picture[:, 4:, 0] = 255
    Image.fromarray(picture).save(tmp_path / "p.png")
    asked = Prediction(model, (tmp_path / "p.png",), out=tmp_path / "masks")
    (made,) = predict_one(asked, source(tmp_path), Silent())
    assert made.shares == {0: 0.5, 1: 0.5}
    overlay = np.asarray(Image.open(tmp_path / "masks" / "p.png"))
    assert (overlay[:, :4] == 0).all()
    assert (overlay[:, 4:] == np.rint([0.5 * 255 + 0.5 * 230, 0.5 * 159, 0])).all()


def test_where_two_masks_differ_is_drawn(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[2:6, 2:6] = 255
    Image.fromarray(pixels).save(tmp_path / "p.png")
    ends = (value("x", "n", 3, 8, 8), value("y", "n", 2, 8, 8))
    kernel = np.stack([np.zeros((3, 1, 1)), np.ones((3, 1, 1))]).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"])
    models = [
        save(tmp_path / f"{name}.onnx", [node], ends, {"w": kernel, "b": np.array([0, bias], np.float32)})
        for name, bias in (("white", -1.0), ("all", 1.0))
    ]
    asked = Prediction(models[1], (tmp_path / "p.png",), out=tmp_path / "masks", against=models[0])
    (made,) = predict_one(asked, source(tmp_path), Silent())
    assert made.differing == pytest.approx(48 / 64)
    found = np.asarray(Image.open(tmp_path / "masks" / "p-difference.png"))
    assert tuple(found[0, 0]) == (0, 114, 178)
    assert tuple(found[3, 3]) == (150, 150, 150)
    assert (tmp_path / "masks" / "p.png").is_file()


def test_a_mask_over_a_volume_against_torchscript(tmp_path: Path) -> None:
    """Which has no shape of its own: it takes the candidate's."""
    import torch

    kernel = np.ones((1, 1, 1, 1, 1), np.float32)
    ends = (value("x", "n", 1, 4, 6, 5), value("y", "n", 1, 4, 6, 5))
    model = save(tmp_path / "m.onnx", [helper.make_node("Conv", ["x", "w"], ["y"])], ends, {"w": kernel})
    module = torch.nn.Conv3d(1, 1, 1, bias=False)
    torch.nn.init.ones_(module.weight)
    torch.jit.script(module.eval()).save(str(tmp_path / "m.pt"))
    volume = np.where(np.arange(120).reshape(4, 6, 5) < 90, -1.0, np.arange(120).reshape(4, 6, 5)).astype(np.float32)
    np.save(tmp_path / "v.npy", volume)
    asked = Prediction(model, (tmp_path / "v.npy",), out=tmp_path / "v.png", against=str(tmp_path / "m.pt"))
    (made,) = predict_one(asked, source(tmp_path), Silent())
    assert made.differing == 0 and made.shares == {0: 0.75, 1: 0.25}
    picture = np.asarray(Image.open(tmp_path / "v.png"))
    assert picture.shape == (6, 5, 3)
    assert picture[0, 0].tolist() != picture[-1, -1].tolist()  # grey levels of the slice below the mask


def test_predict_refuses(linear: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no file"):
        predict_one(Prediction(linear, (tmp_path / "none.png",)), source(tmp_path), Silent())
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    with pytest.raises(BadInput, match="does not say how pictures are preprocessed"):
        predict_one(Prediction(linear, (tmp_path / "p.png",)), source(tmp_path), Silent())
    with pytest.raises(BadInput, match="2 inputs do not fit into"):
        two = (tmp_path / "p.png", tmp_path / "p.png")
        predict_one(Prediction(linear, two, out=tmp_path / "a.png"), source(tmp_path), Silent())


@pytest.mark.parametrize("out", [".", "p.png", "../here"])
def test_a_picture_does_not_replace_its_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Image.new("RGB", (4, 4), (9, 9, 9)).save(folder / "p.png")
    before = (folder / "p.png").read_bytes()
    with pytest.raises(BadInput, match="is an input, which its picture would replace"):
        predict_one(Prediction("none.onnx", (Path("p.png"),), out=Path(out)), source(tmp_path), Silent())
    assert (folder / "p.png").read_bytes() == before


def test_two_inputs_of_one_name_do_not_share_a_picture(tmp_path: Path) -> None:
    inputs = tuple(tmp_path / name for name in ("a/cat.jpg", "b/cat.jpg"))
    for path in inputs:
        path.parent.mkdir()
        Image.new("RGB", (4, 4)).save(path)
    with pytest.raises(BadInput, match=r"a/cat.jpg and .*b/cat.jpg would both become"):
        predict_one(Prediction("none.onnx", inputs, out=tmp_path / "out"), source(tmp_path), Silent())


def test_scores_that_are_no_numbers_have_no_ranks(linear: str, tmp_path: Path) -> None:
    for odd in (np.inf, np.nan):
        x = np.zeros(6, np.float32)
        x[0] = odd
        np.save(tmp_path / "x.npy", x)
        with pytest.raises(BadInput, match="NaN or infinite"):
            predict_one(Prediction(linear, (tmp_path / "x.npy",)), source(tmp_path), Silent())


# --- prepare -----------------------------------------------------------------


def test_a_prepared_set_gives_what_the_data_gave(tmp_path: Path) -> None:
    from assay.data import ReaderContext, open_reader, transform_from_json

    out = tmp_path / "set"
    found = prepare_set(Preparation("digits", out), source(tmp_path), Silent())
    digits = open_reader("digits")
    assert (found.written, found.failures, found.drawn_from) == (len(digits), (), None)
    assert found.info.read_text().splitlines()[:2] == [
        "0 ./prep_dataset/0009.bin 32 32",
        "1 ./prep_dataset/0011.bin 32 32",
    ]
    assert json.loads((out / "prepared.json").read_text())["drawn"] is None
    assert digits.preprocess is not None
    transform = transform_from_json(digits.preprocess)
    prepared = open_reader(f"prepared:{found.info}", ReaderContext())
    for one, other in zip(digits.items(), prepared.items(), strict=True):
        np.testing.assert_array_equal(transform(one.content), other.content["input"])
        assert one.target == other.target
    with pytest.raises(BadInput, match="exists and is not empty"):
        prepare_set(Preparation("digits", out), source(tmp_path), Silent())
    assert not list(tmp_path.glob(".set*"))


def test_the_folder_one_is_in_is_not_put_in_place_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    for out in (Path(), Path("../empty")):
        with pytest.raises(BadInput, match="is the folder you are in"):
            prepare_set(Preparation("digits", out, limit=3), source(tmp_path), Silent())
    assert Path.cwd().is_dir()
    assert prepare_set(Preparation("digits", Path("prepared"), limit=3), source(tmp_path), Silent()).written == 3


@pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
def test_a_model_that_only_says_how_pictures_are_prepared_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, pictures = tmp_path / "here", tmp_path / "pictures" / "a"
    here.mkdir()
    pictures.mkdir(parents=True)
    Image.new("RGB", (40, 30), (200, 10, 90)).save(pictures / "p.png")
    monkeypatch.chdir(here)
    asked = Preparation(f"imagefolder:{pictures.parent}", tmp_path / "out", model="timm:test_resnet")
    assert prepare_set(asked, SourceOptions(), Silent()).written == 1
    assert list(here.iterdir()) == []


def test_pictures_are_indexed_by_suffix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, name in (("a", "x.jpg"), ("a", "y.png"), ("b", "x.jpg"), ("b", "z.png")):
        (tmp_path / "d" / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (7, 5)).save(tmp_path / "d" / folder / name)
    (tmp_path / "d" / "b" / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    arguments = ["prepare", "--data", str(tmp_path / "d"), "--mode", "jpg", "-o", str(tmp_path / "out")]
    assert run_cli(arguments) == 2
    assert "b/torn.jpg" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run_cli([*arguments, "--max-failures", "1"]) == 0
    assert (tmp_path / "out" / "prep_jpg.info").read_text().splitlines() == [
        "0 ./prep_dataset/x.jpg 7 5",
        "1 ./prep_dataset/b_x.jpg 7 5",
        "0 ./prep_dataset/y.png 7 5",
        "1 ./prep_dataset/z.png 7 5",
    ]
    assert (tmp_path / "out" / "val_label.txt").read_text().splitlines() == [
        "x.jpg 0",
        "y.png 0",
        "b_x.jpg 1",
        "z.png 1",
    ]
    about = json.loads((tmp_path / "out" / "prepared.json").read_text())
    assert about["counts"] == {"read": 5, "written": 4, "failed": 1}


# --- dumps -------------------------------------------------------------------


@pytest.fixture
def dumped(tmp_path: Path) -> Path:
    """Ten samples of four classes; sample 3 is lost, 4 has all scores equal."""
    (tmp_path / "dumps").mkdir()
    scores = np.eye(4, dtype=np.float32)[np.arange(10) % 4]
    scores[4] = 0.25
    kept = [i for i in range(10) if i != 3]
    write_dumps(tmp_path / "dumps", [f"val_{i}" for i in kept], {"y": scores[kept]}, "txt")
    (tmp_path / "val_label.txt").write_text("".join(f"val_{i}.JPEG {i % 4}\n" for i in range(10)))
    return tmp_path


def test_lost_files_and_ties_count_as_wrong(dumped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = dumped / "result.json"
    arguments = ["evaluate", "--from-dumps", str(dumped / "dumps"), "--labels", str(dumped / "val_label.txt")]
    assert run_cli([*arguments, "-o", str(result)]) == 0
    assert "1 of 10 samples have no dump and count as wrong: val_3" in capsys.readouterr().err
    assert json.loads(result.read_text()) == {
        "title": "Overall statistical evaluation",
        "value": [
            {"key": "Number of images", "value": "10"},
            {"key": "Number of classes", "value": "4"},
            {"key": "Top1 accuracy", "value": "80.0%"},
            {"key": "Top2 accuracy", "value": "80.0%"},
            {"key": "Top3 accuracy", "value": "80.0%"},
            {"key": "Top4 accuracy", "value": "90.0%"},
        ],
    }


def test_a_background_class_shifts_the_labels(tmp_path: Path) -> None:
    (tmp_path / "dumps").mkdir()
    scores = np.zeros((2, 1001), np.float32)
    scores[0, 8] = scores[1, 10] = 1
    write_dumps(tmp_path / "dumps", ["a", "b"], {"y": scores}, "bin")
    (tmp_path / "labels.txt").write_text("a.jpg 7\nb.jpg 7\n")
    record = evaluate_dumps(Dumps(str(tmp_path / "dumps"), tmp_path / "labels.txt"))
    assert record.value("accuracy.top1") == 0.5
    assert "shifted by one" in record.warnings[0]


def test_dumps_that_cannot_be_right(dumped: Path) -> None:
    labels = dumped / "val_label.txt"
    (dumped / "dumps" / "other_0.txt").write_text("1 2 3 4")
    with pytest.raises(BadInput, match=r"1 dumps in .* have no label: other"):
        evaluate_dumps(Dumps(str(dumped / "dumps"), labels))
    (dumped / "dumps" / "other_0.txt").unlink()
    (dumped / "dumps" / "val_9_0.txt").write_text("1 2 3")
    with pytest.raises(BadInput, match=r"val_9_0\.txt holds 3 scores, others 4"):
        evaluate_dumps(Dumps(str(dumped / "dumps"), labels))
    assert run_cli(["evaluate", "--from-dumps", str(dumped / "dumps")]) == 2
    (dumped / "dumps" / "val_9_0.txt").write_text("1 2 3 4")
    with pytest.raises(StorageFailed, match="cannot write"):
        evaluate_dumps(Dumps(str(dumped / "dumps"), labels, result=dumped / "dumps"))
    assert run_cli(["evaluate"]) == 2


def digest_of(model: str, rows: Path, tmp_path: Path, **settings: Any) -> str:
    found = evaluate_one(Evaluation(model, f"npz:{rows}", **settings), source(tmp_path), Silent()).record
    return str(found.details["samples_sha256"])


def test_the_digest_of_the_evaluation_set(linear: str, rows: Path, tmp_path: Path) -> None:
    """The same for every engine, batch size and run that was gone on with; another one for other samples."""
    whole = digest_of(linear, rows, tmp_path)
    assert len(whole) == 64
    assert digest_of(linear, rows, tmp_path, engine="openvino", batch=7) == whole
    assert digest_of(linear, rows, tmp_path, limit=100) != whole
    out = tmp_path / "kept"
    assert digest_of(linear, rows, tmp_path, out=out) == whole
    assert digest_of(linear, rows, tmp_path, out=out) == whole, "every shard was finished before"
    arrays = dict(np.load(rows))
    arrays["x"][-1] += 1
    np.savez(tmp_path / "moved.npz", **arrays)
    assert digest_of(linear, tmp_path / "moved.npz", tmp_path) != whole
