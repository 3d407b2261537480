"""Whole files of every kind, and what is done with them once they are damaged."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.artifact import digest_file

ROOT = Path(__file__).parents[2]
LOGS = ROOT / "tests" / "importers" / "fixtures"
POLICY = """\
[numeric]
accept_reference = true
[accuracy]
max_drop = 0.01
[latency]
p99 = "1s"
[[speed_ratio]]
device = "310"
over = "T4"
at_least = 1.2
allow = ["precision"]
"""
NET = """\
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.head = torch.nn.Linear(4, 3)
    def forward(self, x):
        return self.head(self.norm(self.conv(x)).mean((2, 3)))
def net(): return Net()
"""


@dataclass(frozen=True)
class Seed:
    """``content`` goes, damaged, to ``path``; then each of ``cases`` (see worker.py) is given to the tool."""

    content: bytes
    path: Path
    cases: tuple[dict[str, Any], ...]


def command(*words: object) -> dict[str, Any]:
    return {"argv": [str(w) for w in words]}


def call(name: str, path: object) -> dict[str, Any]:
    return {"call": name, "path": str(path)}


def digits_by_mean(folder: Path) -> Path:
    """An ONNX classifier of digits that needs no training (a Conv over the whole picture), and ``pre.py`` beside it."""
    import onnx
    from onnx import helper, numpy_helper
    from sklearn.datasets import load_digits

    digits = load_digits()
    means = np.stack([digits.images[digits.target == c].mean(0) for c in range(10)]).astype(np.float32) / 16
    weights = {"w": means[:, None], "b": (-0.5 * (means**2).sum((1, 2))).astype(np.float32)}
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["c"]), helper.make_node("Flatten", ["c"], ["scores"])],
        "means",
        [value("x", onnx.TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [value("scores", onnx.TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "means.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    (folder / "pre.py").write_text(
        "import numpy as np\ndef unit(image): return (np.asarray(image, dtype=np.float32) / 255)[None]\n"
    )
    (folder / "policy.toml").write_text("[numeric]\naccept_reference = true\n")
    return path


def run_words(model: Path, out: Path) -> list[str]:
    """A whole ``assay run`` of that classifier, in a few seconds."""
    words = f"run {model} --data digits --preprocess {model.parent}/pre.py:unit --engine onnxruntime"
    return [*words.split(), *f"--precision fp32 --quick --batch 1 --policy {model.parent}/policy.toml".split(),
            "--out", str(out)]  # fmt: skip


def enlarger(path: Path) -> Path:
    """An ONNX graph that enlarges pictures twofold."""
    import onnx
    from onnx import helper, numpy_helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear")],
        "enlarge",
        [value("x", onnx.TensorProto.FLOAT, ["batch", 3, "h", "w"])],
        [value("y", onnx.TensorProto.FLOAT, ["batch", 3, "2*h", "2*w"])],
        [numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def onnx_files(folder: Path, finished: Path) -> Sequence[Seed]:
    whole, bad = digits_by_mean(folder / "whole"), folder / "bad.onnx"
    deep = _deeper(folder / "deeper.onnx")
    verify = ("--samples", 2, "--batch", "1,2", "--no-self-check")
    cases = (
        command("inspect", bad, "--nodes"),
        command("verify", bad, bad, *verify),
        command("bench", bad, "--engine", "onnxruntime", "--batch", 1, "--duration", 0.05),
        command("build", bad, "--engine", "onnxruntime", "-o", folder / "built"),
    )
    of_one = (
        command("verify", whole, bad, *verify),
        command("bench", bad, "--engine", "openvino", "--batch", 1, "--duration", 0.05),
    )
    both = [Seed(file.read_bytes(), bad, (case,)) for case in cases for file in (whole, deep)]
    return [*both, *(Seed(whole.read_bytes(), bad, (case,)) for case in of_one)]


def _deeper(path: Path) -> Path:
    """Sub-graphs, a function of the model, several types of attributes."""
    import onnx

    text = """
    <ir_version: 8, opset_import: ["" : 17, "own": 1], metadata_props: ["assay.batch_axes": "{\\"x\\": 0, \\"y\\": 0}"]>
    deeper (float[n, 4] x) => (float[n, 4] y) <float[4, 4] w = {1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}, float[1] s = {2}> {
        m = MatMul (x, w)
        f = own.twice (m)
        c = Constant <value = bool {1}> ()
        y = If (c) <
            then_branch = yes () => (float[n, 4] a) { a = Mul (f, s) },
            else_branch = no () => (float[n, 4] b) { b = Identity (f) }
        >
    }
    <domain: "own", opset_import: ["" : 17]>
    twice (a) => (b) { b = Add (a, a) }
    """
    model = onnx.parser.parse_model(text)
    onnx.save(model, str(path))
    return path


def pictures(folder: Path, finished: Path) -> Sequence[Seed]:
    from PIL import Image
    from sklearn.datasets import load_sample_image

    picture = Image.fromarray(load_sample_image("china.jpg")).resize((61, 47))
    forms: dict[str, tuple[str, dict[str, Any]]] = {
        "a.jpg": ("JPEG", {}), "p.jpg": ("JPEG", {"progressive": True}), "a.png": ("PNG", {}), "a.gif": ("GIF", {}),
        "a.webp": ("WEBP", {}), "a.tiff": ("TIFF", {"compression": "tiff_lzw"}), "a.bmp": ("BMP", {}),
        "cmyk.jpg": ("JPEG", {}),
    }  # fmt: skip
    model = enlarger(folder / "enlarge.onnx")
    seeds = []
    for name, (form, options) in forms.items():
        file = io.BytesIO()
        (picture.convert("CMYK") if name == "cmyk.jpg" else picture).save(file, form, **options)
        bad = folder / f"bad-{name}"
        enlarged = command("predict", model, bad, "--as", "picture", "-o", folder / "out.png")
        seeds += [Seed(file.getvalue(), bad, (case,)) for case in (call("decode", bad), call("decode", bad), enlarged)]
    return seeds


def checkpoints(folder: Path, finished: Path) -> Sequence[Seed]:
    """The frozen ones, since torch writes none twice alike; ``freeze`` makes them."""
    (folder / "net.py").write_text(NET)
    seeds = []
    for file in sorted((Path(__file__).parent / "frozen_checkpoints").iterdir()):
        bad = folder / file.name
        opened = call("load_program" if file.name == "script.pt" else "load_checkpoint", bad)
        seeds.append(Seed(file.read_bytes(), bad, (opened,)))
    return seeds


def data_files(folder: Path, finished: Path) -> Sequence[Seed]:
    """Info and label files, CIFAR's pickles, archives and tables."""
    made = (_prepared, _cifar, _npz, _volumes, _webdataset, _parquet)
    return [seed for make in made for seed in make(folder)]


def _prepared(folder: Path) -> Sequence[Seed]:
    base = folder / "prepared"
    (base / "set").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(4):
        (base / "set" / f"p{i}.bin").write_bytes(rng.random((1, 8, 8), np.float32).tobytes())
    info = "".join(f"{i} ./set/p{i}.bin 8 8\n" for i in range(4)).encode()
    labels = "".join(f"p{i}.bin {i}\n" for i in range(4)).encode()
    (base / "set.info").write_bytes(info)
    (base / "val_label.txt").write_bytes(labels)
    (base / "other.info").write_bytes(info)
    model = digits_by_mean(base)
    bad, bad_labels = base / "bad.info", base / "bad_label.txt"
    labelled = ("--labels", bad_labels)
    return (
        Seed(info, bad, (call("read_all", f"prepared:{bad}"), command("evaluate", model, "--data", f"prepared:{bad}"))),
        Seed(labels, bad_labels, (command("evaluate", model, "--data", f"prepared:{base}/set.info", *labelled),)),
    )  # fmt: skip


def _cifar(folder: Path) -> Sequence[Seed]:
    base = folder / "cifar" / "cifar-10-batches-py"
    base.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(1).integers(0, 256, (3, 3072), np.uint8)
    batch = {b"data": images, b"labels": [3, 8, 0], b"batch_label": b"testing"}
    bad = base / "test_batch"
    return [Seed(pickle.dumps(batch, protocol=p), bad, (call("read_all", f"cifar10:{base}"),)) for p in (0, 2, 4)]


def _npz(folder: Path) -> Sequence[Seed]:
    seeds = []
    arrays: dict[str, Any] = {"x": np.random.default_rng(2).random((4, 1, 8, 8), np.float32), "target": np.arange(4)}
    for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file, bad = io.BytesIO(), folder / "bad.npz"
        with zipfile.ZipFile(file, "w", how) as archive:  # numpy would write the time into it
            for name, array in arrays.items():
                member = io.BytesIO()
                np.save(member, array)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), how)
        seeds.append(Seed(file.getvalue(), bad, (call("read_all", f"npz:{bad}"),)))
    return seeds


def _volumes(folder: Path) -> Sequence[Seed]:
    base = folder / "volumes"
    for side in ("images", "labels"):
        (base / side).mkdir(parents=True, exist_ok=True)
    seeds = []
    for side, dtype in (("images", np.float32), ("labels", np.uint8)):
        np.save(base / side / "a.npy", np.ones((4, 5, 6), dtype))
        content = (base / side / "a.npy").read_bytes()
        seeds.append(Seed(content, base / side / "a.npy", (call("read_all", f"volumes:{base}"),)))
    return seeds


def _webdataset(folder: Path) -> Sequence[Seed]:
    from PIL import Image

    picture, file, bad = io.BytesIO(), io.BytesIO(), folder / "bad.tar"
    Image.new("RGB", (9, 7), (200, 10, 90)).save(picture, "PNG")
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in (
            ("a.png", picture.getvalue()),
            ("a.cls", b"3"),
            ("b.png", picture.getvalue()),
            ("b.json", b'{"label": 1}'),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return [Seed(file.getvalue(), bad, (call("read_all", f"webdataset:{bad}"),))]


def _parquet(folder: Path) -> Sequence[Seed]:
    import pyarrow
    import pyarrow.parquet

    file, bad = io.BytesIO(), folder / "bad.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"image": [b"\x89PNG", b"x"], "label": [1, 2]}), file)
    return [Seed(file.getvalue(), bad, (call("read_all", f"parquet:{bad}"),))]


def logs(folder: Path, finished: Path) -> Sequence[Seed]:
    seeds = []
    for file in sorted(LOGS.iterdir()):
        if file.is_file() and file.stat().st_size < 200_000:
            bad = folder / file.name
            seeds.append(Seed(file.read_bytes(), bad, (command("import", bad, "--out", folder / "imported"),)))
    return seeds


def toml_files(folder: Path, finished: Path) -> Sequence[Seed]:
    bad = folder / "bad.toml"
    contents = [POLICY.encode(), (ROOT / "policies" / "default.toml").read_bytes()]
    return [Seed(content, bad, (command("gate", finished, "--policy", bad),)) for content in contents]


def records(folder: Path, finished: Path) -> Sequence[Seed]:
    """The files of a run folder."""
    run = folder / "run"
    shutil.copytree(finished, run, dirs_exist_ok=True)
    policy = folder / "p.toml"
    policy.write_text("[numeric]\naccept_reference = true\n")
    cases = (
        command("report", run),
        command("gate", run, "--policy", policy),
        command("compare", run, finished, "--allow", "basis"),
        command("runs", folder),
    )
    names = ["records.jsonl", "records.jsonl", "run.json", "verdict.json", "samples/pictures.json"]
    names += [f"samples/{p.name}" for p in sorted((run / "samples").glob("*.gz"))]
    found = [run / name for name in names if (run / name).is_file()]
    return [Seed(path.read_bytes(), path, (case,)) for path in found for case in cases]


def bundles(folder: Path, finished: Path) -> Sequence[Seed]:
    """Files of a bundle; ``reseal`` writes a manifest that fits the damage, so that what lies behind it is reached."""
    bundle = folder / "bundle"
    shutil.copytree(finished / "bundle", bundle, dirs_exist_ok=True)
    files = [p for p in sorted(bundle.rglob("*")) if p.is_file()]
    pinned = command("check", bundle, "--digest", f"sha256:{digest_file(bundle / 'manifest.json')}")
    return [Seed(p.read_bytes(), p, (pinned,)) for p in files]


def resealed(folder: Path, finished: Path) -> Sequence[Seed]:
    seeds = [s for s in bundles(folder, finished) if s.path.name != "manifest.json"]
    bundle = folder / "bundle"
    cases = (command("check", bundle), call("serve_bundle", bundle))
    records = [s for s in seeds if s.path.name == "records.jsonl"]
    replayed = [replace(s, cases=(command("replay", bundle, "--duration", "50ms"),)) for s in records]
    return [*(replace(s, cases=(case,)) for case in cases for s in seeds), *replayed]


def reseal(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    for entry in manifest["files"]:
        path = bundle / entry["path"]
        entry |= {"size_bytes": path.stat().st_size, "sha256": digest_file(path)}
    (bundle / "manifest.json").write_text(json.dumps(manifest))


Make = Callable[[Path, Path], Sequence[Seed]]
"""(an empty folder, a finished run) -> seeds."""
KINDS: dict[str, Make] = {
    "onnx": onnx_files,
    "picture": pictures,
    "checkpoint": checkpoints,
    "data": data_files,
    "log": logs,
    "toml": toml_files,
    "record": records,
    "bundle": bundles,
    "resealed": resealed,
}
