"""What replicas need travels to them: model files with what lies beside them, users' code, bundles."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tests.serve_peers.models import bundles
from tests.serve_peers.triton import free_ports

from assay.bundle.manifest import manifest_digest
from assay.cli.main import run_cli
from assay.core.errors import AssayError, BadInput
from assay.job.serve.options import Serving
from assay.scale.ray_asked import look_at
from assay.scale.ray_files import files_of, moved, sent

ROOT = Path(__file__).parents[2]
SIZE = 8


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles(tmp_path_factory.mktemp("models"))["small"]


@pytest.fixture
def place(tmp_path: Path, packed: Path) -> Path:
    """net.onnx with its weights in a folder below it, a transform, a picture, a bundle."""
    folder = tmp_path / "place"
    (folder / "weights").mkdir(parents=True)
    weights = np.random.default_rng(0).integers(-4, 5, (3 * SIZE * SIZE, 4)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["scores"])]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 4]),
    ]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    apart = {"save_as_external_data": True, "location": "weights/net.data", "size_threshold": 0}
    onnx.save(made, folder / "net.onnx", **apart)
    (folder / "pre.py").write_text(
        "import io\nimport numpy as np\nfrom PIL import Image\n\n\ndef plain(content):\n"
        "    pixels = np.asarray(Image.open(io.BytesIO(content)), np.float32)\n"
        "    return np.ascontiguousarray(pixels.transpose(2, 0, 1))\n"
    )
    Image.fromarray(np.arange(SIZE * SIZE * 3, dtype=np.uint8).reshape(SIZE, SIZE, 3)).save(folder / "picture.png")
    shutil.copytree(packed, folder / "bundle")
    return folder


def names(text: str | Path) -> list[str]:
    files = files_of(str(text))
    assert files is not None
    return sorted(files.read())


def test_a_graph_travels_with_its_weights(place: Path) -> None:
    assert names(place / "net.onnx") == ["net.onnx", "weights/net.data"]
    (place / "net.xml").write_text("<net/>")
    (place / "net.bin").write_bytes(b"w")
    assert names(place / "net.xml") == ["net.bin", "net.xml"]


def test_an_engine_file_travels_with_the_note_of_what_it_was_built_for(place: Path) -> None:
    (place / "net.plan").write_bytes(b"plan")
    assert names(place / "net.plan") == ["net.plan"]
    (place / "build.json").write_text("{}")
    assert names(place / "net.plan") == ["build.json", "net.plan"]


def test_code_is_one_file_and_of_a_run_its_bundle_is_enough(place: Path, tmp_path: Path) -> None:
    assert names(f"{place}/pre.py:plain") == ["pre.py"]
    (tmp_path / "run" / "artifacts").mkdir(parents=True)
    shutil.copytree(place / "bundle", tmp_path / "run" / "bundle")
    assert names(tmp_path / "run") == names(place / "bundle")
    assert "manifest.json" in names(place / "bundle")


@pytest.mark.parametrize("text", ["timm:resnet18", "http://127.0.0.1:1/v2/models/a", "absent.onnx", "absent.py:net"])
def test_what_is_no_file_here_stays_a_name(text: str) -> None:
    assert files_of(text) is None


def test_weights_that_are_missing_are_told_before_anything_travels(place: Path) -> None:
    (place / "weights" / "net.data").unlink()
    with pytest.raises(BadInput, match=r"needs the file 'weights/net\.data'"):
        files_of(str(place / "net.onnx"))


def test_files_arrive_as_they_were_sent(place: Path, tmp_path: Path) -> None:
    asked = Serving(f"{place}/net.onnx", preprocess=f"{place}/pre.py:plain"), Serving(str(place / "bundle"))
    on_their_way = sent(asked, lambda contents: contents)
    assert set(on_their_way) == {f"{place}/net.onnx", f"{place}/pre.py:plain", str(place / "bundle")}
    digest = manifest_digest(place / "bundle")
    place.rename(tmp_path / "gone")
    places = {t: s.placed(tmp_path / str(i), itself) for i, (t, s) in enumerate(on_their_way.items())}
    there = [moved(model, places) for model in asked]
    assert there[0].source.startswith(str(tmp_path)) and there[0].source.endswith("/net.onnx")
    assert there[0].preprocess is not None and there[0].preprocess.endswith("/pre.py:plain")
    assert manifest_digest(Path(there[1].source)) == digest
    (original,) = onnx.load(tmp_path / "gone" / "net.onnx").graph.initializer
    (arrived,) = onnx.load(there[0].source).graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(original), numpy_helper.to_array(arrived))


def itself(contents: Any) -> Any:
    return contents


def other_bytes(contents: Any) -> Any:
    return {name: content[::-1].copy() for name, content in contents.items()}


def one_more(contents: Any) -> Any:
    return {**contents, "more.so": np.zeros(3, np.uint8)}


@pytest.mark.parametrize("on_the_way", [other_bytes, one_more])
def test_a_file_that_arrives_as_another_one_is_refused(
    place: Path, tmp_path: Path, on_the_way: Callable[[Any], Any]
) -> None:
    ((_, one),) = sent((Serving(f"{place}/net.onnx"),), itself).items()
    with pytest.raises(BadInput, match="did not arrive as it was sent"):
        one.placed(tmp_path / "there", on_the_way)


def test_code_on_a_shared_disk_stays_beside_what_it_imports(place: Path, tmp_path: Path) -> None:
    spec = f"{place}/pre.py:plain"
    ((_, one),) = sent((Serving("timm:resnet18", preprocess=spec),), itself).items()
    assert one.placed(tmp_path / "there", itself) == spec
    (place / "pre.py").write_text("another = 1\n")
    assert one.placed(tmp_path / "there", itself) == f"{tmp_path}/there/pre.py:plain"


def test_a_disk_that_is_full_there_is_said(place: Path, tmp_path: Path) -> None:
    ((_, one),) = sent((Serving(f"{place}/net.onnx"),), itself).items()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AssayError, match="cannot be written"):
        one.placed(tmp_path / "file", itself)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["absent.onnx"], "there is no file absent.onnx"),
        (["PLACE/net.onnx", "--preprocess", "absent.py:fn"], "there is no file absent.py"),
        (["PLACE/net.onnx", "--preprocess", "PLACE/pre.py"], "does not name a function"),
        (["PLACE/net.onnx", "--preprocess", "PLACE/pre.py:"], "does not name a function"),
        (["PLACE/net.onnx", "--precision", "nonsense"], "there is no precision named 'nonsense'"),
        (["PLACE/net.onnx", "--precision", "tf32", "--engine", "openvino"], "openvino has no precision 'tf32'"),
        (["PLACE/net.onnx", "--engine", "nonsense"], "there is no engine named 'nonsense'"),
        (["PLACE/net.onnx", "--device", "nonsense"], "there is no kind of device named 'nonsense'"),
        (["PLACE/net.onnx", "--policy", "nonsense"], "there is no batching policy named 'nonsense'"),
        (["PLACE/net.onnx", "--digest", "1" * 64], "--digest pins a bundle"),
        (["PLACE/net.onnx", "--shadow", "a=net"], "there is no model to shadow named 'a'"),
        (["PLACE/net.onnx", "PLACE/net.onnx"], "two models would be called 'net'"),
        (["PLACE/net.onnx", "--triton-config", "PLACE/weights"], "Is a directory"),
        (["PLACE/net.onnx", "--triton-config", "PLACE/pre.py"], "is not expected here"),
        (["PLACE/pre.py"], "needs the name of a model in it; there are: plain"),
        (["PLACE/bundle", "--precision", "bf16"], "a bundle is opened as it was proved"),
        (["PLACE/bundle", "--digest", "1" * 64], "is not the bundle that was pinned"),
    ],
)
def test_what_is_wrong_is_said_before_ray_is_asked(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    given = [word.replace("PLACE", str(place)) for word in words]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)  # whoever imports it fails, with exit code 3
        assert run_cli(["serve", "--ray", "auto", *given]) == 2
        assert says in " ".join(capsys.readouterr().err.split())
        assert run_cli(["serve", "--ray", "auto", str(place / "net.onnx")]) == 3


@pytest.mark.parametrize(
    ("name", "old", "says"),
    [
        ("net.pt", False, "is a checkpoint"),
        ("net.pth", True, "is a checkpoint"),
        ("net.safetensors", False, "holds weights and does not say of which architecture"),
    ],
)
def test_weights_alone_are_said_before_ray_is_asked(tmp_path: Path, name: str, old: bool, says: str) -> None:
    import torch

    path = tmp_path / name
    torch.save(torch.nn.Linear(2, 2).state_dict(), path, _use_new_zipfile_serialization=not old)
    with pytest.raises(BadInput, match=says) as raised:
        look_at(Serving(str(path)))
    assert f"assay export {path} --arch" in (raised.value.remedy or "")


def test_what_only_opening_it_tells_is_left_to_the_replicas(place: Path, tmp_path: Path) -> None:
    import torch

    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "script.pt")
    look_at(Serving(str(tmp_path / "module.pt"), trust=True))
    look_at(Serving(str(tmp_path / "script.pt")))
    look_at(Serving(f"{place}/pre.py:plain", precision="bf16", device="cuda:7", preprocess=f"{place}/pre.py:plain"))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'assay[ray]'")
def test_replicas_serve_files_that_are_gone_from_where_they_were_sent(place: Path) -> None:
    (port,) = free_ports(1)
    script = Path(__file__).with_name("ray_files_scenario.py")
    command = [sys.executable, str(script), str(place), str(port)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=ROOT, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["replicas"] == {"RUNNING": 2}
    assert not found["there"]
    assert found["config"][1]["parameters"]["model"] == {"string_value": f"{place}/net.onnx"}, "not the replica's copy"
    pixels = np.arange(SIZE * SIZE * 3, dtype=np.float32).reshape(SIZE, SIZE, 3).transpose(2, 0, 1)
    (weights,) = onnx.load(place.with_name("place-elsewhere") / "net.onnx").graph.initializer
    scores = pixels.reshape(1, -1) @ numpy_helper.to_array(weights)
    best = int(scores.argmax())
    for status, answer in found["pictures"]:
        assert status == 200, answer
        assert answer["predictions"][0]["class"] == best, answer
    assert found["bundle"][0] == 200
