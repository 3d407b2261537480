from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from assay.core.errors import BadInput, StorageFailed
from assay.graph.check import problems
from assay.graph.external_data import companions, onnx_artifact, save_model, weight_bytes
from assay.graph.feeds import draw_feed
from assay.graph.signature import load_model, read_signature


def wide() -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.arange(64 * 64, dtype=np.float32).reshape(64, 64), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def split(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "wide.onnx"
    save_model(wide(), path, threshold_bytes=1000)
    yield path


def test_above_the_threshold_weights_lie_beside_the_model(split: Path, run) -> None:
    assert companions(split) == (split.with_name("wide.onnx.data"),)
    assert split.stat().st_size < 1000 < split.with_name("wide.onnx.data").stat().st_size
    assert sorted(p.name for p in split.parent.iterdir()) == ["wide.onnx", "wide.onnx.data"]
    assert problems(split) == ()
    feed = draw_feed(read_signature(split), 2)
    whole = split.with_name("whole.onnx")
    assert save_model(wide(), whole) == ()
    np.testing.assert_array_equal(run(split, feed)["y"], run(whole, feed)["y"])


def test_saving_leaves_the_model_whole(tmp_path: Path) -> None:
    proto = wide()
    save_model(proto, tmp_path / "a.onnx", threshold_bytes=0)
    assert weight_bytes(proto) == 64 * 64 * 4
    assert proto == wide()


def test_loading_with_and_without_the_weights(split: Path) -> None:
    assert weight_bytes(load_model(split, external_data=True)) == 64 * 64 * 4
    assert not load_model(split).graph.initializer[0].raw_data


def test_the_digest_covers_the_companion(split: Path) -> None:
    before = onnx_artifact(split, parents=("p",))
    assert before.format == "onnx" and before.parents == ("p",) and len(before.companions) == 1
    data = split.with_name("wide.onnx.data")
    data.write_bytes(data.read_bytes()[:-1] + b"\x01")
    assert onnx_artifact(split).sha256 != before.sha256


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname", "sub/../../outside.bin"])
def test_locations_outside_the_folder_are_refused(split: Path, location: str) -> None:
    proto = onnx.load_model(str(split), load_external_data=False)
    (split.parent.parent / "outside.bin").write_bytes(bytes(64 * 64 * 4))
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    split.write_bytes(proto.SerializeToString())
    with pytest.raises(BadInput, match="outside its own folder"):
        companions(split)


def test_a_link_out_of_the_folder_is_refused(split: Path) -> None:
    data = split.with_name("wide.onnx.data")
    target = split.parent.parent / "elsewhere.bin"
    target.write_bytes(data.read_bytes())
    data.unlink()
    data.symlink_to(target)
    with pytest.raises(BadInput, match="outside its own folder"):
        companions(split)


def test_missing_and_short_companions(split: Path) -> None:
    data = split.with_name("wide.onnx.data")
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(BadInput, match="damaged"):
        companions(split)
    data.unlink()
    with pytest.raises(BadInput, match="not there"):
        onnx_artifact(split)
    with pytest.raises(BadInput, match="cannot be read"):
        load_model(split, external_data=True)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="could not be written"):
        save_model(wide(), tmp_path / "file" / "a.onnx")
