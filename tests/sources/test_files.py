"""Files used as they are: TorchScript, exported programs, ONNX, OpenVINO IR, vendors' engines."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from assay.core.errors import BadInput, NotAvailable, SignatureMismatch
from assay.core.shapes import parse_shape
from assay.sources import resolve_model
from assay.sources.archive import kind_of


class Mixed(nn.Module):
    """Two inputs, the second by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, *, scale: torch.Tensor) -> torch.Tensor:
        return self.fc(x) * scale


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "net.pt"
    torch.jit.script(nn.Sequential(nn.Linear(4, 3)).eval()).save(str(path))
    return path


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "net.pt2"
    rows = torch.export.Dim("rows")
    example = (torch.zeros(2, 4),), {"scale": torch.zeros(2, 3)}
    exported = torch.export.export(Mixed().eval(), *example, dynamic_shapes={"x": {0: rows}, "scale": {0: rows}})
    torch.export.save(exported, path)
    return path


def test_content_decides(script: Path, program: Path, tmp_path: Path) -> None:
    torch.save({}, tmp_path / "c.pt")
    assert kind_of(script) == "torchscript"
    assert kind_of(program) == "exported"
    assert kind_of(tmp_path / "c.pt") == "checkpoint"
    package = tmp_path / "p.pt2"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("p/data/aotinductor/model/x.so", b"")
    assert kind_of(package) == "aoti"
    renamed = program.rename(tmp_path / "renamed.pt")
    assert kind_of(renamed) == "exported"


def test_zip_that_is_something_else(options, tmp_path: Path) -> None:
    path = tmp_path / "z.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(BadInput, match=r"neither a checkpoint.*readme\.txt"):
        resolve_model(str(path), options())


@pytest.mark.parametrize("name", ["n.pt2", "n.pt"])
def test_cut_short_archive(options, tmp_path: Path, program: Path, script: Path, name: str) -> None:
    whole = program if name == "n.pt2" else script
    path = tmp_path / name
    path.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(BadInput, match="damaged or cut short"):
        resolve_model(str(path), options())


def test_damaged_inside(options, tmp_path: Path, script: Path, program: Path) -> None:
    for whole, lost in ((script, "data.pkl"), (program, "model.json")):
        path = tmp_path / f"lost{whole.suffix}"
        with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
            for entry in source.infolist():
                if not entry.filename.endswith(lost):
                    target.writestr(entry, source.read(entry))
        with pytest.raises(BadInput, match=r"readable|neither|damaged"):
            resolve_model(str(path), options())


def test_torchscript(options, script: Path) -> None:
    model = resolve_model(str(script), options(shapes=(parse_shape("batchx4"),)))
    assert (model.artifact.format, model.name, model.runs_code) == ("torchscript", "net", (str(script),))
    assert model.artifact.sha256 == hashlib.sha256(script.read_bytes()).hexdigest()
    assert [str(s) for s in model.inputs] == ["input:batchx4:float32"]
    assert model.artifact.module()(torch.zeros(2, 4)).shape == (2, 3)
    assert resolve_model(str(script), options()).inputs is None


def test_torchscript_shapes_that_do_not_fit(options, script: Path) -> None:
    with pytest.raises(BadInput, match=r"takes 1 inputs \(input\); 2 shapes"):
        resolve_model(str(script), options(shapes=(parse_shape("1x4"), parse_shape("1x4"))))
    with pytest.raises(BadInput, match="does not accept input:batchx5"):
        resolve_model(str(script), options(shapes=(parse_shape("batchx5"),)))


def test_exported_program(options, program: Path) -> None:
    model = resolve_model(str(program), options())
    assert (model.artifact.format, model.artifact.runs_code) == ("exported", True)
    assert [str(s) for s in model.inputs] == ["x:batchx4:float32", "scale:batchx3:float32"]
    module = model.artifact.module()
    assert module.eval() is module
    assert module(torch.zeros(5, 4), torch.ones(5, 3)).shape == (5, 3)


def test_exported_program_with_plain_inputs(options, tmp_path: Path) -> None:
    path = tmp_path / "plain.pt2"
    torch.export.save(torch.export.export(nn.Linear(4, 3).eval(), (torch.zeros(2, 4),)), path)
    model = resolve_model(str(path), options())
    assert [str(s) for s in model.inputs] == ["input:2x4:float32"]
    module = model.artifact.module()
    assert module.eval() is module
    assert module(torch.zeros(2, 4)).shape == (2, 3)


def test_exported_shapes_must_fit(options, program: Path) -> None:
    fixed = resolve_model(str(program), options(shapes=(parse_shape("x:8x4"),)))
    assert str(fixed.inputs[0]) == "x:8x4:float32"
    with pytest.raises(SignatureMismatch, match="does not fit the model, whose input is x:batchx4"):
        resolve_model(str(program), options(shapes=(parse_shape("x:8x5"),)))


def test_compiled_package(options, tmp_path: Path) -> None:
    path = tmp_path / "p.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("p/data/aotinductor/model/x.so", b"")
    model = resolve_model(str(path), options(shapes=(parse_shape("x:1x4"),)))
    assert (model.artifact.format, model.runs_code) == ("aoti", (str(path),))
    assert str(model.inputs[0]) == "x:1x4:float32"
    with pytest.raises(NotAvailable, match="cannot be opened here"):
        model.artifact.module()


def onnx_model(weights: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 32])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    onnx.save(onnx_model(np.ones((64, 32), np.float32)), path)
    return path


@pytest.fixture
def external(tmp_path: Path) -> Path:
    path = tmp_path / "big.onnx"
    onnx.save(
        onnx_model(np.ones((64, 32), np.float32)),
        path,
        save_as_external_data=True,
        location="big.data",
        size_threshold=0,
    )
    return path


def test_onnx(options, onnx_file: Path) -> None:
    model = resolve_model(str(onnx_file), options())
    assert (model.artifact.format, model.name, model.runs_code) == ("onnx", "m", ())
    assert [str(s) for s in model.inputs] == ["x:batchx64:float32"]
    assert model.artifact.module is None


def test_onnx_external_data_is_a_companion(options, external: Path) -> None:
    model = resolve_model(str(external), options())
    assert model.artifact.companions == (external.with_name("big.data"),)
    data = external.with_name("big.data")
    changed = bytearray(data.read_bytes())
    changed[0] ^= 1
    data.write_bytes(changed)
    assert resolve_model(str(external), options()).artifact.sha256 != model.artifact.sha256


def test_onnx_external_data_missing_or_short(options, external: Path) -> None:
    data = external.with_name("big.data")
    whole = data.read_bytes()
    data.write_bytes(whole[:100])
    with pytest.raises(BadInput, match=r"big\.data"):
        resolve_model(str(external), options())
    data.unlink()
    with pytest.raises(BadInput, match=r"big\.data"):
        resolve_model(str(external), options())


@pytest.mark.parametrize("location", ["../secret.data", "/etc/passwd", "link.data"])
def test_onnx_external_data_outside_the_folder(options, tmp_path: Path, external: Path, location: str) -> None:
    secret = tmp_path.parent / f"secret-{tmp_path.name}.data"
    secret.write_bytes(b"0" * 10_000)
    (tmp_path / "link.data").symlink_to(secret)
    model = onnx.load(external, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    external.write_bytes(model.SerializeToString())
    with pytest.raises(BadInput, match="outside"):
        resolve_model(str(external), options())


@pytest.mark.parametrize("keep", [0, 1, 20, 0.5, 0.99])
def test_onnx_cut_short(options, onnx_file: Path, keep: float) -> None:
    data = onnx_file.read_bytes()
    onnx_file.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(BadInput, match=r"m\.onnx"):
        resolve_model(str(onnx_file), options())


def test_onnx_cut_exactly_after_its_graph(options, onnx_file: Path) -> None:
    model = onnx.load(onnx_file)
    del model.opset_import[:]
    onnx_file.write_bytes(model.SerializeToString())
    with pytest.raises(BadInput, match="checker"):
        resolve_model(str(onnx_file), options())


def test_onnx_text_file(options, tmp_path: Path) -> None:
    path = tmp_path / "t.onnx"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\n")
    with pytest.raises(BadInput, match=r"t\.onnx"):
        resolve_model(str(path), options())


@pytest.mark.parametrize("shape", ["x:1x65", "x:1x64x1", "x:batchx64:float16", "z:1x64"])
def test_onnx_shape_that_does_not_fit(options, onnx_file: Path, shape: str) -> None:
    with pytest.raises(BadInput, match="x:batchx64:float32"):
        resolve_model(str(onnx_file), options(shapes=(parse_shape(shape),)))


def test_onnx_shape_fixes_the_batch(options, onnx_file: Path) -> None:
    assert str(resolve_model(str(onnx_file), options(shapes=(parse_shape("4x64"),))).inputs[0]) == "x:4x64:float32"


@pytest.fixture
def ir(tmp_path: Path, onnx_file: Path) -> Path:
    openvino = pytest.importorskip("openvino")
    path = tmp_path / "ir.xml"
    openvino.save_model(openvino.convert_model(onnx_file), path, compress_to_fp16=False)
    return path


def test_openvino(options, ir: Path) -> None:
    model = resolve_model(str(ir), options())
    assert (model.artifact.format, model.name) == ("openvino", "ir")
    assert model.artifact.companions == (ir.with_suffix(".bin"),)
    assert [str(s) for s in model.inputs] == ["x:batchx64:float32"]


def test_openvino_without_its_weights(options, ir: Path) -> None:
    weights = ir.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:50])
    with pytest.raises(BadInput, match="cut short"):
        resolve_model(str(ir), options())
    weights.unlink()
    with pytest.raises(BadInput, match=r"needs its weights, ir\.bin"):
        resolve_model(str(ir), options())


@pytest.mark.parametrize("text", ["", "not xml", "<net><layers>", "<html></html>", "<net><layers/></net>"])
def test_openvino_damaged(options, tmp_path: Path, text: str) -> None:
    path = tmp_path / "d.xml"
    path.write_text(text)
    path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(BadInput, match=r"d\.xml"):
        resolve_model(str(path), options())


@pytest.mark.parametrize(("name", "format"), [("m.plan", "tensorrt"), ("m.om", "ascend")])
def test_engine_files(options, tmp_path: Path, name: str, format: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    with pytest.raises(BadInput, match="is empty"):
        resolve_model(str(path), options())
    path.write_bytes(b"engine")
    model = resolve_model(str(path), options())
    assert (model.artifact.format, model.inputs, model.runs_code) == (format, None, (str(path),))
    assert model.artifact.runs_code


@pytest.mark.parametrize(
    "xml",
    [
        '<?xml version="1.0" encoding="foo"?><net><layers/></net>',
        '<net><layers><layer type="Const"><data offset="abc" size="1"/></layer></layers></net>',
        '<net><layers><layer type="Parameter" name="x"><data shape="²,3" element_type="x32"/></layer></layers></net>',
    ],
)
def test_xml_that_is_damaged(options, tmp_path: Path, xml: str) -> None:
    (tmp_path / "m.xml").write_text(xml, encoding="utf-8")
    (tmp_path / "m.bin").write_bytes(b"1234")
    with pytest.raises(BadInput, match=r"m\.xml"):
        resolve_model(str(tmp_path / "m.xml"), options())
