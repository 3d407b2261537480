"""Whatever is not installed: what does not need it works, and what does says how to install it.

The packages are hidden from Python here (see ``absent/sitecustomize.py``), also from every child process.
``tests/footprint`` does the same in an environment that really lacks them.
"""

import ast
import os
import re
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.footprint.journey import Assay, classifier, one_process, refused, serve, travel

ROOT = Path(__file__).parents[2]
HIDE = Path(__file__).parent / "absent"
TORCH = ("torch", "torchvision", "timm", "onnxscript", "onnxslim", "safetensors", "nncf", "fastervit")
EXTRAS = ("PIL", "pillow", "sklearn", "scikit_learn", "skimage", "scikit_image", "scipy", "simplejpeg", "pyarrow",
          "nibabel", "uvloop", "grpc", "grpcio", "tritonclient", "hpack", "ray")  # fmt: skip


def environment(absent: tuple[str, ...]) -> dict[str, str]:
    paths = os.pathsep.join((str(HIDE), str(ROOT)))
    return {**os.environ, "PYTHONPATH": paths, "ASSAY_ABSENT": ",".join(absent)}


@contextmanager
def without(*absent: str) -> Iterator[Assay]:
    """The command line in one process that cannot import those packages."""
    with one_process(sys.executable, environment(absent)) as assay:
        yield assay


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier(tmp_path_factory.mktemp("model"))


def torchscript(folder: Path) -> Path:
    """An archive with the names that TorchScript's have; nothing looks into it where torch is not installed."""
    path = folder / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py", "version"):
            archive.writestr(f"model/{name}", b"")
    return path


def test_with_nothing_optional_an_onnx_file_goes_all_the_way(model: Path, tmp_path: Path) -> None:
    absent = (*TORCH, *EXTRAS, "openvino")
    with without(*absent) as assay:
        travel(assay, model, tmp_path, "onnxruntime")
        refused(assay, ["export", "timm:resnet18", "-o", tmp_path / "m.onnx"], "'assay[timm]'")
        refused(assay, ["export", "torchvision:resnet18", "-o", tmp_path / "m.onnx"], "'assay[timm]'")
        refused(assay, ["export", torchscript(tmp_path), "--trust", "-o", tmp_path / "m.onnx"], "'assay[torch]'")
        refused(assay, ["bench", model, "--engine", "openvino", "--duration", 0.05], "'assay[openvino]'")
        refused(assay, ["evaluate", model, "--data", "digits"], "'assay[data]'")
        refused(assay, ["models"], "'assay[timm]'")
        refused(assay, ["serve", tmp_path / "run" / "bundle", "--http-port", 0, "--grpc-port", 0], "'assay[grpc]'")
        data = f"npz:{model.parent / 'data.npz'}"
        int8 = ["quantize", model, "--data", data, "--precision", "int8", "-o", tmp_path / "int8"]
        refused(assay, int8, "'assay[quantize]'")
    serve([sys.executable, "-m", "assay.cli.main"], environment(absent), tmp_path / "run" / "bundle")


def test_without_openvino_a_run_that_asks_for_it_too_ends_with_the_rest_done(model: Path, tmp_path: Path) -> None:
    data = f"npz:{model.parent / 'data.npz'}"
    words = ["run", model, "--data", data, "--quick", "--batch", 1, "--engine", "onnxruntime,openvino"]
    words += ["--precision", "fp32", "--policy", model.parent / "policy.toml", "--out", tmp_path / "run"]
    with without("openvino", "nncf") as assay:
        refused(assay, words, "'assay[openvino]'")
        checked = assay(["check", tmp_path / "run" / "bundle"])
        assert checked.code == 0, checked


def test_without_onnxruntime_openvino_serves_and_replays_what_was_made_with_it(model: Path, tmp_path: Path) -> None:
    """A run compares with ONNX Runtime, so it is asked for; whatever another engine can do alone is done."""
    pytest.importorskip("openvino")
    data, run = f"npz:{model.parent / 'data.npz'}", tmp_path / "run"
    policy = model.parent / "policy.toml"
    words = ["run", model, "--data", data, "--quick", "--batch", 1, "--engine", "openvino", "--precision", "fp32"]
    with without() as assay:
        made = assay([*words, "--policy", policy, "--out", run])
        assert made.code == 0, made
    absent = ("onnxruntime", *TORCH)
    with without(*absent) as assay:
        assert assay(["inspect", model]).code == 0
        assert assay(["bench", model, "--engine", "openvino", "--batch", 1, "--duration", 0.1]).code == 0
        assert "100.00 %" in assay(["evaluate", model, "--data", data, "--engine", "openvino"]).text
        assert assay(["build", model, "--engine", "openvino", "-o", tmp_path / "built"]).code == 0
        refused(assay, ["verify", model, model, "--engine", "openvino"], "onnxruntime")
        refused(assay, ["bench", model, "--engine", "onnxruntime", "--duration", 0.05], "onnxruntime")
        refused(assay, [*words, "--out", tmp_path / "second"], "onnxruntime")
        for words in (["report", run], ["gate", run, "--policy", policy], ["check", run / "bundle"], ["doctor"]):
            said = assay(words)
            assert said.code == 0, (words, said)
            assert "could not be examined" not in said.text
        assert assay(["replay", run / "bundle", "--duration", "100ms"]).code in (0, 1)
    serve([sys.executable, "-m", "assay.cli.main"], environment(absent), run / "bundle")


def test_a_library_that_a_core_dependency_needs_is_named(model: Path) -> None:
    with without("google") as assay:  # protobuf, of a broken installation
        said = assay(["inspect", model])
    assert said.code == 3, said
    assert "needs the Python module google" in said.text
    assert "assay doctor" in said.text


@pytest.mark.parametrize(("engine", "device"), [("onnxruntime", "cuda"), ("openvino", "gpu"), ("tensorrt", "cuda")])
def test_without_a_gpu_a_device_that_is_asked_for_is_refused(engine: str, device: str, model: Path) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is an NVIDIA GPU here")
    with without() as assay:
        said = assay(["bench", model, "--engine", engine, "--device", device, "--duration", 0.05])
    assert said.code == 3, said
    assert "assay: " in said.text
    assert "Traceback" not in said.text


POSIX_ONLY = {"fcntl", "grp", "posix", "pwd", "resource", "termios"}


def test_what_only_posix_has_is_imported_where_it_is_used() -> None:
    """At the top of a module it would keep the whole tool from starting elsewhere."""
    found = []
    for path in sorted((ROOT / "src" / "assay").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.relative_to(ROOT)}: {name}" for name in names if name in POSIX_ONLY]
    assert found == []


def test_the_matrix_begins_with_the_oldest_python_that_is_supported() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    for job in workflow["jobs"].values():
        versions = [tuple(map(int, v.split("."))) for v in job["strategy"]["matrix"]["python"]]
        assert versions == sorted(versions)
        assert f">={'.'.join(map(str, versions[0]))}" == needed
    for script in re.findall(r"run: bash (\S+)", (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")):
        assert os.access(ROOT / script, os.R_OK), script
